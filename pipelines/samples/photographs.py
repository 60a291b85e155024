"""Photographs in installed packages, and the positions of the faces in them.

A photograph is found by its package, its folder and the digest of its bytes, never by its file name, because the file
name may be the name of a person. Nothing is downloaded, and the packages are not imported.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from pipelines.media.image_codec import read_photograph


@dataclass(frozen=True, kw_only=True)
class SamplePhotograph:
    """An image file inside an installed package."""

    package: str
    """Import name of the package."""
    folder: str
    """Folder of the file, relative to the package."""
    sha256: str
    """Hexadecimal digest of the file."""
    licence: str
    """Licence of the photograph."""
    backdrop: int = 0
    """Width of a blurred border that is added to a tight portrait, so that the camera has room to move, pixels."""


@dataclass(frozen=True, kw_only=True)
class SampleFace:
    """One face in a photograph, with the box that YuNet detects, in pixels of the file."""

    person: str
    """Anonymous label of the person."""
    photograph: SamplePhotograph
    """Photograph that shows the face."""
    x: float
    """Centre of the face box, pixels from the left."""
    y: float
    """Centre of the face box, pixels from the top."""
    width: float
    """Width of the face box, pixels."""


_GROUP = SamplePhotograph(
    package="insightface",
    folder="data/images",
    sha256="47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
    licence="test picture of the insightface package; not to be passed on",
)
_GREY = SamplePhotograph(
    package="insightface",
    folder="data/images",
    sha256="8545da294e8c7c79911169c3915fed8528f1960cd0ed99b92453788ca4275083",
    licence="test picture of the insightface package; not to be passed on",
    backdrop=72,
)
_ASTRONAUT = SamplePhotograph(
    package="skimage",
    folder="data",
    sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    licence="public domain (NASA)",
)

SAMPLE_FACES: tuple[SampleFace, ...] = (
    SampleFace(person="photo_person_1", photograph=_ASTRONAUT, x=223, y=120, width=90),
    SampleFace(person="photo_person_2", photograph=_GROUP, x=114, y=333, width=106),
    SampleFace(person="photo_person_3", photograph=_GROUP, x=320, y=215, width=105),
    SampleFace(person="photo_person_4", photograph=_GROUP, x=517, y=340, width=102),
    SampleFace(person="photo_person_5", photograph=_GROUP, x=797, y=414, width=98),
    SampleFace(person="photo_person_6", photograph=_GROUP, x=956, y=131, width=100),
    SampleFace(person="photo_person_7", photograph=_GROUP, x=1173, y=335, width=95),
    SampleFace(person="photo_person_8", photograph=_GREY, x=50, y=60, width=75),
)
"""One face of each person in the photographs."""


def find_photograph(photograph: SamplePhotograph) -> Path:
    """Find the file of a photograph in the installed package.

    Args:
        photograph: The photograph.

    Raises:
        FileNotFoundError: The package is not installed, or no longer contains a file with this digest.
    """
    spec = find_spec(photograph.package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted((Path(location) / photograph.folder).glob("*")):
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == photograph.sha256:
                return path
    raise FileNotFoundError(
        f"sample photograph sha256 {photograph.sha256[:12]}… is not in {photograph.folder} of the package "
        f"{photograph.package!r}: install the pinned versions again (make demo does)"
    )


def load_photograph(photograph: SamplePhotograph) -> np.ndarray:
    """Read a photograph, with a border of ``backdrop`` pixels on each side.

    Args:
        photograph: A photograph from ``SAMPLE_FACES``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: The package is not installed, or no longer contains a file with this digest.
    """
    rgb = read_photograph(find_photograph(photograph))
    return _add_backdrop(rgb, photograph.backdrop) if photograph.backdrop else rgb


def _add_backdrop(rgb: np.ndarray, pixels: int) -> np.ndarray:
    """Extend an image on all sides by a blurred continuation of its edges, with a soft transition."""
    height, width = rgb.shape[:2]
    extended = cv2.copyMakeBorder(rgb, pixels, pixels, pixels, pixels, cv2.BORDER_REPLICATE)
    backdrop = cv2.GaussianBlur(extended, (0, 0), pixels / 4)
    inside = np.zeros(extended.shape[:2], np.float32)
    edge = 6
    inside[pixels + edge : pixels + height - edge, pixels + edge : pixels + width - edge] = 1.0
    inside = cv2.GaussianBlur(inside, (0, 0), edge / 2)[..., None]
    return np.rint(extended * inside + backdrop * (1 - inside)).astype(np.uint8)
