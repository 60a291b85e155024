"""Detection and embedding: insightface's ``FaceAnalysis``, the one code path for every pack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
from insightface.app import FaceAnalysis

from pipelines.faces.align import arcface_transform
from pipelines.faces.pack import FacePack
from pipelines.faces.scrfd import detect_faces
from pipelines.faces.weight_cache import WeightsError

STRIDE = 32
"""Detector inputs are whole multiples of it."""

SMALLEST_INPUT = 320
"""Longer side of the smallest detector input: 5 to 8 ms on one core."""

SURE_FACE = 20.0
"""Width of a face at the detector's input, in pixels, from which on YuNet hardly misses one.

Measured on 20 frames of a 1080p crowd, at 10 input sizes, against what it finds at 1280 and 1600 pixels: of faces 8 to
10 pixels wide at the input it finds 33 %, 12 to 16 81 %, 16 to 20 89 %, 20 to 24 94 %, from 24 on 98 %. Landmarks
are off by 7 % of the face's width at 16 pixels (median of 36 frames of 12 people), 4.4 % at 20, 3 % from 64 on.
"""


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
    frame (``detection_size``, with ``smallest_input``). ``threads`` is onnxruntime's for one operator: 1 gives the
    same numbers on every machine with that processor and leaves the cores to the workers.
    """

    def __init__(
        self,
        pack: FacePack,
        det_size: tuple[int, int] | None = None,
        det_thresh: float = 0.6,
        threads: int = 1,
        smallest_input: int = SMALLEST_INPUT,
    ) -> None:
        self.pack = pack
        self.det_size = det_size
        self.smallest_input = smallest_input
        self._analysis = open_analysis(pack.root, threads)
        self._analysis.prepare(ctx_id=0, det_thresh=det_thresh, det_size=det_size or (320, 320))
        self._recogniser = self._analysis.models["recognition"]

    def detect(self, frame: npt.NDArray[np.uint8]) -> list[Detection]:
        """Faces of an RGB frame (H, W, 3), best score first.

        A small ``det_size`` misses small faces: see ``detection_size``. Raises ValueError for a frame of another shape.
        """
        _check(frame)
        height, width = frame.shape[:2]
        detector = self._analysis.det_model
        size = detector.static_input_size or self.det_size  # some packs' detectors know one size alone
        size = size or detection_size(width, height, smallest=self.smallest_input)
        canvas, scale = _letterbox(frame, size)
        boxes, landmarks = detect_faces(detector, canvas)
        return [
            Detection(
                box=(row[:4] / scale).astype(np.float32),
                score=float(row[4]),
                landmarks5=(points / scale).astype(np.float32),
            )
            for row, points in zip(boxes, landmarks, strict=True)
        ]

    def embed(self, picture: npt.NDArray[np.uint8], landmarks5: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Unit embedding (D,) of the face whose five landmarks, in pixels of that RGB picture, are given.

        The picture may be a frame or an aligned crop: the face is warped to 112 pixels as insightface's ``norm_crop``
        does it, whose scikit-image fit of five points takes longer than the warp.
        """
        points = np.asarray(landmarks5, np.float32).reshape(5, 2)
        _check(picture)
        side = self._recogniser.input_size[0]
        aligned = cv2.warpAffine(picture, arcface_transform(points, side), (side, side))
        vector = np.asarray(self._recogniser.get_feat(aligned[:, :, ::-1]), np.float64).ravel()
        length = np.linalg.norm(vector)
        if not np.isfinite(length) or length == 0:
            raise ValueError(
                f"face pack {self.pack.name}: embedding of length {length}; landmarks were {points.round(1).tolist()}"
            )
        return (vector / length).astype(np.float32)


def detection_size(width: int, height: int, min_face: float = 60.0, smallest: int = SMALLEST_INPUT) -> tuple[int, int]:
    """Detector input (width, height) for a frame in which faces of ``min_face`` pixels of width are to be found.

    The frame is scaled so that such a face comes to ``SURE_FACE`` pixels, to a longer side of ``smallest``
    at least, and never enlarged beyond that; both sides are rounded up to whole ``STRIDE``, in the frame's own
    shape, so that no time goes into letterbox bars. A larger input is not only slower: faces that fill more than
    about 300 pixels of it break up into false ones.
    """
    longer = max(width, height)
    scale = max(min(1.0, SURE_FACE / min_face), smallest / longer)
    sides = (max(1, math.ceil(round(side * scale, 3) / STRIDE)) * STRIDE for side in (width, height))
    return next(sides), next(sides)


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
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        raise WeightsError(f"face pack {folder}: insightface cannot load it ({why}); fetch the pack again") from error
    if "recognition" not in analysis.models:
        raise WeightsError(
            f"face pack {folder}: no recogniser among {_onnx_names(folder)}; an ArcFace model (.onnx) is needed"
        )
    if not getattr(analysis.det_model, "use_kps", False):
        raise WeightsError(f"face pack {folder}: the detector gives no landmarks; use an SCRFD with five (`kps`)")
    return analysis


def _onnx_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.onnx"))


def _letterbox(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], float]:
    """The frame in the upper left of a black canvas of that (width, height), and by which factor it was scaled.

    What insightface does too, but on the frame as it is: it would have to be turned to BGR whole for that.
    """
    height, width = frame.shape[:2]
    if height / width > size[1] / size[0]:
        new_width, new_height = max(1, int(size[1] / (height / width))), size[1]
    else:
        new_width, new_height = size[0], max(1, int(size[0] * (height / width)))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(frame, (new_width, new_height))
    return canvas, new_height / height


def _check(picture: npt.NDArray[np.uint8]) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            f"picture of shape {picture.shape} and type {picture.dtype}: (height, width, 3) of uint8, RGB, is needed"
        )
