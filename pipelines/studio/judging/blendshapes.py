"""Scores of the 52 named actions by MediaPipe's blendshape network, which never saw a rendered person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.faces.align import invert_transform, transform_points, warp_crop
from pipelines.faces.litert import LiteModel
from pipelines.faces.mesh_detector import face_square, square_transform

Image = NDArray[np.uint8]
LANDMARKS_FILE, BLENDSHAPES_FILE = "face_landmarks_detector.tflite", "face_blendshapes.tflite"
"""Names of the network files: 478 landmarks, and actions from 146 of them."""
_POINTS = (
    "0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103 "
    "105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 "
    "178 181 185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 "
    "311 312 314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 "
    "387 388 389 390 397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477"
)
INPUT_POINTS = np.array([int(point) for point in _POINTS.split()])
"""(146,) landmarks that the network takes, in its order."""
_ACTIONS = (
    "neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight "
    "eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft "
    "eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft "
    "mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight "
    "mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft "
    "mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft "
    "noseSneerRight"
)
ACTIONS = tuple(_ACTIONS.split())
"""Names of the network's outputs, in its order."""


class BlendshapeScorer:
    """The two networks: landmarks with irises, then scores of actions."""

    def __init__(self, folder: Path) -> None:
        """Load the networks.

        Args:
            folder: Folder of both files.

        Raises:
            ValueError: A file is missing.
            WeightsError: A file does not load.
        """
        for name in (LANDMARKS_FILE, BLENDSHAPES_FILE):
            if not (folder / name).is_file():
                raise ValueError(f"{folder}: {name} is missing; name the folder of a kit with --assets")
        self._landmarks, self._scores = LiteModel(folder / LANDMARKS_FILE), LiteModel(folder / BLENDSHAPES_FILE)

    def score(self, crop: Image, mesh: NDArray[np.float32]) -> dict[str, float]:
        """Score the actions of a face.

        Args:
            crop: (S, S, 3) aligned crop.
            mesh: (468, 3) mesh found in the crop, which says where the face is.

        Returns:
            Action → score, 0 to 1.
        """
        to_input = square_transform(*face_square(mesh), self._landmarks.side)
        outputs = self._landmarks.run(warp_crop(crop, to_input, self._landmarks.side))
        points = next(o for o in outputs if o.size == 478 * 3).reshape(478, 3)[:, :2]
        pixels = transform_points(invert_transform(to_input), points)[INPUT_POINTS]
        scores = self._scores.run_tensor(pixels[None].astype(np.float32))[0].ravel()
        return dict(zip(ACTIONS, scores.tolist(), strict=True))
