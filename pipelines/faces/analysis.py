"""Detection and embedding: insightface's ``FaceAnalysis``, the one code path for every pack."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from insightface.app import FaceAnalysis
from insightface.app.common import Face

from pipelines.faces.cache import WeightsError
from pipelines.faces.pack import FacePack

STRIDE = 32
"""Detector inputs are whole multiples of it."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One face found in a frame, in pixels of that frame."""

    box: npt.NDArray[np.float32]
    """(4,): left, upper, right, lower edge; may reach beyond the frame."""
    score: float
    landmarks5: npt.NDArray[np.float32]
    """(5, 2): left eye, right eye, nose, left and right mouth corner (the picture's left), x and y each."""


class FaceAnalyzer:
    """A pack, loaded: finds faces in RGB frames and embeds them.

    ``det_size`` is (width, height) of the detector's input; frames are letterboxed into it. None chooses by the
    frame (``detection_size``). ``threads`` is onnxruntime's for one operator: 1 gives the same numbers on every
    machine with that processor and leaves the cores to the workers.
    """

    def __init__(
        self, pack: FacePack, det_size: tuple[int, int] | None = None, det_thresh: float = 0.6, threads: int = 1
    ) -> None:
        self.pack = pack
        self.det_size = det_size
        self._analysis = open_analysis(pack.root, threads)
        self._analysis.prepare(ctx_id=0, det_thresh=det_thresh, det_size=det_size or (320, 320))
        self._recogniser = self._analysis.models["recognition"]

    def detect(self, frame: npt.NDArray[np.uint8]) -> list[Detection]:
        """Faces of an RGB frame (H, W, 3), best score first.

        The rows of a small det_size miss small faces: see ``detection_size``. Raises ValueError for a frame of another shape.
        """
        bgr = _bgr(frame)
        size = self.det_size or detection_size(frame.shape[1], frame.shape[0])
        boxes, landmarks = self._analysis.det_model.detect(bgr, input_size=size)
        if landmarks is None:
            raise WeightsError(
                f"face pack {self.pack.name}: its detector gives no landmarks; use one with five (SCRFD with `kps`)"
            )
        return [
            Detection(box=row[:4].astype(np.float32), score=float(row[4]), landmarks5=points.astype(np.float32))
            for row, points in zip(boxes, landmarks, strict=True)
        ]

    def embed(self, picture: npt.NDArray[np.uint8], landmarks5: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Unit embedding (D,) of the face whose five landmarks, in pixels of that RGB picture, are given.

        The picture may be a frame or an aligned crop: insightface warps the face to 112 pixels itself.
        """
        points = np.asarray(landmarks5, np.float32).reshape(5, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # insightface calls a scikit-image method that is to go
            vector = np.asarray(self._recogniser.get(_bgr(picture), Face(kps=points)), np.float64)
        length = np.linalg.norm(vector)
        if not np.isfinite(length) or length == 0:
            raise ValueError(
                f"face pack {self.pack.name}: embedding of length {length}; landmarks were {points.round(1).tolist()}"
            )
        return (vector / length).astype(np.float32)


def detection_size(width: int, height: int, min_face: int = 40) -> tuple[int, int]:
    """Detector input (width, height) for a frame: large enough for faces of ``min_face`` frame pixels.

    The detectors want about 16 pixels of face width at their input. So the frame's longer side is scaled to
    16 / ``min_face`` of itself, and to 320 at least; never beyond the frame's own size, above 320. Both sides are rounded up to
    ``STRIDE``, in the frame's own shape, so that no time goes into letterbox bars.
    """
    longer = max(width, height)
    scale = min(1.0, max(16 / min_face, 320 / longer)) if longer > 320 else 320 / longer
    return tuple(max(STRIDE, STRIDE * math.ceil(round(side * scale, 3) / STRIDE)) for side in (width, height))  # type: ignore[return-value]


def open_analysis(folder: Path, threads: int = 1) -> FaceAnalysis:
    """insightface's ``FaceAnalysis`` over a folder of ONNX files: detector and recogniser, on CUDA where there is any.

    Raises ``WeightsError`` for a folder that lacks one of the two, or holds a file that does not load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    modules = ["detection", "recognition"]
    try:
        analysis = FaceAnalysis(str(folder), allowed_modules=modules, providers=providers, sess_options=options)
    except AssertionError as error:  # how FaceAnalysis says that it found no detector
        raise WeightsError(
            f"face pack {folder}: no detector among {_onnx_names(folder)}; an SCRFD model (.onnx) is needed"
        ) from error
    except Exception as error:
        raise WeightsError(
            f"face pack {folder}: insightface cannot load it ({type(error).__name__}: {str(error).splitlines()[0][:200]}); "
            f"fetch the pack again"
        ) from error
    if "recognition" not in analysis.models:
        raise WeightsError(
            f"face pack {folder}: no recogniser among {_onnx_names(folder)}; an ArcFace model (.onnx) is needed"
        )
    return analysis


def _onnx_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.onnx"))


def _bgr(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB → BGR: everything of ours is RGB, insightface reads what cv2.imread gives. The one place of the flip."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"picture of shape {picture.shape} and type {picture.dtype}: (height, width, 3) of uint8, RGB, is needed"
        )
    return np.ascontiguousarray(picture[:, :, ::-1])
