"""Following of one person's face through a driver: across cuts, zooms and frames that show others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flows.avatar.photos import FaceAligner, Image, follow_face
from infra.console import CallError
from pipelines.faces.align import Matrix, crop_transform, scale_of, transform_points
from pipelines.faces.analysis import Detection

MAX_STEP = 0.6
"""Distance that a face moves between two frames of a shot at most, in widths of the face."""
MAX_GROWTH = 1.5
"""Factor by which a face grows or shrinks between two frames of a shot at most."""
CHECK_EVERY = 15
"""Number of frames after which the person is recognised again, also if nothing changed."""
MAX_EMBEDDINGS = 8
"""Number of embeddings of the person that are kept: other sides of the same face."""
MAX_ZOOM = 1.6
"""Factor between the face's size and the framing's, from which the framing is renewed."""
MAX_OFFSET = 0.3
"""Distance of the face from the middle of the framing, as a share of its side, from which the framing is renewed."""


class DriverFace:
    """The driving person's face, frame by frame, and the framing of the driver's image."""

    def __init__(self, aligner: FaceAligner, size: int, number: int | None = None) -> None:
        """Start with no person.

        Args:
            aligner: Aligner that detects and embeds faces.
            size: Pixels per side of the driver's image.
            number: Number of the driving face in the first frame that shows a face, from the left, beginning with 1;
                None for the largest.
        """
        self._aligner, self._size, self._number = aligner, size, number
        self._known: list[npt.NDArray[np.float32]] = []
        self._last: Detection | None = None
        self._since_check = 0
        self.framing: Matrix | None = None
        """(2, 3) transform from the frame's pixels to the driver's image; None until a face is seen."""

    def follow(self, image: Image) -> Detection | None:
        """Find the person's face in the next frame, and renew ``framing`` where a cut, pan or zoom requires it.

        Args:
            image: (H, W, 3) RGB frame.

        Returns:
            The face; None if the frame does not show the person.

        Raises:
            CallError: The first frame with a face has fewer faces than ``number``.
        """
        faces = self._aligner.detect_faces(image)
        found = self._first(image, faces) if not self._known else self._next(image, faces)
        self._last = found
        if found is not None and (self.framing is None or self._has_left_framing(found)):
            self.framing = crop_transform(found.landmarks5, self._size)
        return found

    def _first(self, image: Image, faces: list[Detection]) -> Detection | None:
        if self._number is not None and 0 < len(faces) < self._number:
            raise CallError(f"--driver-face {self._number}: the first frame with a face shows {len(faces)}")
        found = faces[self._number - 1] if self._number is not None and faces else follow_face(faces, None)
        if found is not None:
            self._known.append(self._aligner.embed(image, found))
        return found

    def _next(self, image: Image, faces: list[Detection]) -> Detection | None:
        """Return the face that continues the shot; after a cut, or at a check that fails, the most similar one."""
        near = follow_face(faces, self._last) if self._last is not None else None
        self._since_check += 1
        continues = near is not None and self._last is not None and _continues(self._last, near)
        if near is not None and continues and (self._since_check < CHECK_EVERY or self._is_person(image, near)):
            return near
        self._last = None
        ordered = sorted(faces, key=lambda face: -self._similarity(image, face))
        return next((face for face in ordered[:1] if self._is_person(image, face)), None)

    def _is_person(self, image: Image, face: Detection) -> bool:
        """Return True if a face is the person's, and keep its embedding."""
        least = self._aligner.least_similarity
        if least is not None and self._similarity(image, face) < least:
            return False
        self._since_check = 0
        if len(self._known) < MAX_EMBEDDINGS:
            self._known.append(self._aligner.embed(image, face))
        return True

    def _similarity(self, image: Image, face: Detection) -> float:
        return float((np.stack(self._known) @ self._aligner.embed(image, face)).max())

    def _has_left_framing(self, face: Detection) -> bool:
        assert self.framing is not None
        wanted = crop_transform(face.landmarks5, self._size)
        zoom = scale_of(wanted) / scale_of(self.framing)
        offset = transform_points(self.framing, (face.box[:2] + face.box[2:]) / 2) / self._size - 0.5
        return max(zoom, 1 / zoom) > MAX_ZOOM or float(np.abs(offset).max()) > MAX_OFFSET


def _continues(last: Detection, face: Detection) -> bool:
    """Return True if a face can be the next frame's of ``last`` in the same shot."""
    width, before = (float(f.box[2] - f.box[0]) for f in (face, last))
    step = float(np.linalg.norm((face.box[:2] + face.box[2:] - last.box[:2] - last.box[2:]) / 2))
    growth = width / max(before, 1e-6)
    return step <= MAX_STEP * before and 1 / MAX_GROWTH <= growth <= MAX_GROWTH
