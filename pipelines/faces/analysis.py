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
"""Divisor of both sides of the detector's input, pixels."""

MIN_INPUT = 320
"""Smallest allowed length of the longer side of the detector's input, pixels: 5 to 8 ms on one core."""

RELIABLE_FACE = 20.0
"""Width of a face in the detector's input, in pixels, from which YuNet rarely misses a face.

YuNet is the detector of the embedded pack. It was measured on 20 frames of a 1080p crowd at 10 input sizes; the
reference is the faces that it finds in inputs of 1280 and 1600 pixels. Share of these faces that is found, by the width
of the face in the input:

- 8 to 10 pixels: 33 %
- 12 to 16 pixels: 81 %
- 16 to 20 pixels: 89 %
- 20 to 24 pixels: 94 %
- 24 pixels or more: 98 %

Error of the landmarks, as a share of the face's width (median of 36 frames of 12 people):

- 16 pixels: 7 %
- 20 pixels: 4.4 %
- 64 pixels or more: 3 %
"""


@dataclass(frozen=True, eq=False)
class Detection:
    """One face found in a frame, in pixels of that frame."""

    box: npt.NDArray[np.float32]
    """(4,) left, upper, right and lower edge; the box may reach beyond the frame."""
    score: float
    """Confidence of the detector, 0 to 1."""
    landmarks5: npt.NDArray[np.float32]
    """(5, 2) x and y of left eye, right eye, nose, left and right mouth corner; left is the image's left."""


class FaceAnalyzer:
    """A loaded face pack that finds faces in RGB frames and embeds them."""

    def __init__(
        self,
        pack: FacePack,
        det_size: tuple[int, int] | None = None,
        det_thresh: float = 0.6,
        threads: int = 1,
        min_input: int = MIN_INPUT,
        device: str = "cpu",
    ) -> None:
        """Load the models of a pack.

        Args:
            pack: The pack, which holds a detector and a recogniser.
            det_size: (width, height) of the detector's input, into which frames are letterboxed. If None, it is
                chosen for each frame by ``detection_size``.
            det_thresh: Lowest score of a face that is returned.
            threads: Number of onnxruntime's threads per operator. 1 gives the same results on all machines with the
                same type of processor, and leaves the other cores to other workers.
            min_input: Smallest allowed length of the input's longer side, pixels, if ``det_size`` is None.
            device: Device of the networks, ``cpu`` or ``cuda`` (``device.choose_device``).

        Raises:
            WeightsError: The pack lacks a model, or a model does not load.
            RuntimeError: onnxruntime cannot run the networks on the device.
        """
        self.pack = pack
        self.det_size = det_size
        self.min_input = min_input
        self._analysis = load_analysis(pack.root, threads, device)
        self._analysis.prepare(ctx_id=0, det_thresh=det_thresh, det_size=det_size or (320, 320))
        self._recogniser = self._analysis.models["recognition"]

    def detect(self, frame: npt.NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of a frame, best score first.

        A small ``det_size`` misses small faces; ``detection_size`` gives a size that suits the frame.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Raises:
            ValueError: The frame is not (H, W, 3) of uint8.
        """
        _check_image(frame)
        return self._detect(frame, self.input_size(*frame.shape[1::-1]))

    def detect_area(
        self, frame: npt.NDArray[np.uint8], area: tuple[int, int, int, int], longer_side: int
    ) -> list[Detection]:
        """Find the faces in a part of a frame, best score first.

        Args:
            frame: (H, W, 3) uint8 RGB.
            area: Left, upper, right and lower edge of the part, pixels; the last two are exclusive.
            longer_side: Length to which the longer side of the part is scaled, pixels.

        Returns:
            The faces, in pixels of the frame.

        Raises:
            ValueError: The frame is not (H, W, 3) of uint8, or the area is empty.
        """
        left, top, right, bottom = area
        part = frame[top:bottom, left:right]
        _check_image(part)
        size = self.input_size(right - left, bottom - top, longer_side)
        corner = np.array([left, top], np.float32)
        return [
            Detection(found.box + np.tile(corner, 2), found.score, found.landmarks5 + corner)
            for found in self._detect(part, size)
        ]

    def input_size(self, width: int, height: int, longer_side: int | None = None) -> tuple[int, int]:
        """Return the size (width, height) of the detector's input for an image; its area determines the time taken.

        Args:
            width: Width of the image, pixels.
            height: Height of the image, pixels.
            longer_side: Length to which the image's longer side is scaled, pixels; None for the size that suits a
                frame. The detectors of some packs have one fixed size, which is returned always.
        """
        fixed = self._analysis.det_model.static_input_size or self.det_size
        if fixed:
            return fixed
        if longer_side is None:
            return detection_size(width, height, min_side=self.min_input)
        return _round_up(width, height, longer_side / max(width, height))

    def _detect(self, image: npt.NDArray[np.uint8], size: tuple[int, int]) -> list[Detection]:
        canvas, scale = _letterbox(image, size)
        boxes, landmarks = detect_faces(self._analysis.det_model, canvas)
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

        The face is warped to 112 pixels as in insightface's ``norm_crop``, but the transform is fitted by
        ``arcface_transform``, because insightface's scikit-image fit is slower than the warp.

        Args:
            image: (H, W, 3) RGB, a frame or an aligned crop.
            landmarks5: (5, 2) landmarks of the face, pixels of the image.

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

    The frame is scaled so that a face of ``min_face`` pixels becomes ``RELIABLE_FACE`` pixels wide. The longer side is
    at least ``min_side``; the frame is enlarged only as far as ``min_side`` requires. The input has the frame's aspect
    ratio, with both sides rounded up to multiples of ``STRIDE``, so that little time is spent on letterbox bars. A
    larger input is slower and also less accurate: a face wider than about 300 pixels is detected as several false
    faces.

    Args:
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
        min_face: Width of the smallest face to be found, pixels of the frame.
        min_side: Smallest allowed length of the input's longer side, pixels.

    Returns:
        (width, height) of the input, pixels.
    """
    longer = max(width, height)
    scale = max(min(1.0, RELIABLE_FACE / min_face), min_side / longer)
    return _round_up(width, height, scale)


def _round_up(width: int, height: int, scale: float) -> tuple[int, int]:
    """Scale a size, and round both sides up to multiples of ``STRIDE``."""
    sides = (max(1, math.ceil(round(side * scale, 3) / STRIDE)) * STRIDE for side in (width, height))
    return next(sides), next(sides)


def _letterbox(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], float]:
    """Scale a frame into the upper left corner of a black canvas of ``size`` (width, height).

    insightface does the same, but on BGR, to which the full frame would have to be converted first.

    Returns:
        The canvas, and the scale: pixels of the canvas per pixel of the frame.
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
