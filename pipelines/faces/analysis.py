"""Detection and embedding of faces with a face pack."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.faces.align import arcface_transform
from pipelines.faces.insightface_loader import load_analysis
from pipelines.faces.pack import FacePack
from pipelines.faces.scrfd import detect_faces

STRIDE = 32
"""Both sides of a detector input are multiples of it, pixels."""

MIN_INPUT = 320
"""Longer side of the smallest detector input: 5 to 8 ms on one core."""

RELIABLE_FACE = 20.0
"""Width of a face at the detector's input, pixels, from which on YuNet hardly misses one.

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
    """(5, 2): left eye, right eye, nose, left and right mouth corner (the image's left), x and y each."""


class FaceAnalyzer:
    """A loaded face pack that finds faces in RGB frames and embeds them."""

    def __init__(
        self,
        pack: FacePack,
        det_size: tuple[int, int] | None = None,
        det_thresh: float = 0.6,
        threads: int = 1,
        min_input: int = MIN_INPUT,
    ) -> None:
        """Load the models of a pack.

        Args:
            pack: A detector and a recogniser.
            det_size: (width, height) of the detector's input, into which frames are letterboxed; None chooses it by
                the frame (``detection_size``).
            det_thresh: Least score of a detected face.
            threads: onnxruntime's threads for one operator. 1 gives the same numbers on every machine with that type
                of processor, and leaves the cores to the workers.
            min_input: Longer side of the smallest input that is chosen, pixels.

        Raises:
            WeightsError: The pack lacks a model, or one does not load.
        """
        self.pack = pack
        self.det_size = det_size
        self.min_input = min_input
        self._analysis = load_analysis(pack.root, threads)
        self._analysis.prepare(ctx_id=0, det_thresh=det_thresh, det_size=det_size or (320, 320))
        self._recogniser = self._analysis.models["recognition"]

    def detect(self, frame: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of a frame, best score first.

        A small ``det_size`` misses small faces: see ``detection_size``.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Raises:
            ValueError: The frame is not (H, W, 3) of uint8.
        """
        _check_image(frame)
        height, width = frame.shape[:2]
        detector = self._analysis.det_model
        size = detector.static_input_size or self.det_size  # the detectors of some packs have one fixed size
        size = size or detection_size(width, height, min_side=self.min_input)
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

    def embed(self, image: npt.NDArray[np.uint8], landmarks5: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Embed one face.

        The face is warped to 112 pixels as insightface's ``norm_crop`` does it, but without its scikit-image fit of
        five points, which takes longer than the warp.

        Args:
            image: (H, W, 3) RGB, a frame or an aligned crop.
            landmarks5: (5, 2) of the face, pixels of the image.

        Returns:
            (D,) embedding of unit length.

        Raises:
            ValueError: The image is not (H, W, 3) of uint8, the landmarks coincide, or the embedding is not finite.
        """
        points = np.asarray(landmarks5, np.float32).reshape(5, 2)
        _check_image(image)
        side = self._recogniser.input_size[0]
        aligned = cv2.warpAffine(image, arcface_transform(points, side), (side, side))
        vector = np.asarray(self._recogniser.get_feat(aligned[:, :, ::-1]), np.float64).ravel()
        length = np.linalg.norm(vector)
        if not np.isfinite(length) or length == 0:
            raise ValueError(
                f"face pack {self.pack.name}: embedding of length {length}; landmarks were {points.round(1).tolist()}"
            )
        return (vector / length).astype(np.float32)


def detection_size(width: int, height: int, min_face: float = 60.0, min_side: int = MIN_INPUT) -> tuple[int, int]:
    """Choose the size of the detector's input for a frame.

    The frame is scaled so that a face of ``min_face`` pixels comes to ``RELIABLE_FACE`` pixels. The longer side is at
    least ``min_side``, and the frame is never enlarged beyond that. The sides keep the frame's shape and are rounded up
    to whole ``STRIDE``, so that no time goes into letterbox bars. A larger input is slower, and worse: faces that fill
    more than about 300 pixels of it break up into false ones.

    Args:
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
        min_face: Width of the smallest face to be found, pixels of the frame.
        min_side: Least length of the input's longer side, pixels.

    Returns:
        (width, height) of the input, pixels.
    """
    longer = max(width, height)
    scale = max(min(1.0, RELIABLE_FACE / min_face), min_side / longer)
    sides = (max(1, math.ceil(round(side * scale, 3) / STRIDE)) * STRIDE for side in (width, height))
    return next(sides), next(sides)


def _letterbox(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], float]:
    """Scale a frame into the upper left of a black canvas of ``size`` (width, height); return it with the factor.

    insightface does the same, but on BGR, to which the full frame would have to be converted first.
    """
    height, width = frame.shape[:2]
    if height / width > size[1] / size[0]:
        new_width, new_height = max(1, int(size[1] / (height / width))), size[1]
    else:
        new_width, new_height = size[0], max(1, int(size[0] * (height / width)))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(frame, (new_width, new_height))
    return canvas, new_height / height


def _check_image(image: npt.NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"image of shape {image.shape} and type {image.dtype}: (height, width, 3) of uint8, RGB, is needed"
        )
