"""The reader of a kit of assets: a folder with ``SHA256SUMS`` whose files are checked when they are read."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUMS = "SHA256SUMS"
"""Name of the file with the digests."""


@dataclass(frozen=True)
class AssetKit:
    """A kit of assets. Files that ``SHA256SUMS`` does not name do not exist for it."""

    root: Path
    """The folder."""
    digests: dict[str, str]
    """Relative path → sha256."""
    _images: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def has(self, path: str) -> bool:
        """Return True if the kit contains a file."""
        return path in self.digests

    def data(self, path: str) -> bytes:
        """Return a file's bytes.

        Args:
            path: Path relative to the kit, with slashes.

        Raises:
            ValueError: The file is missing, or its digest is another.
        """
        if path not in self.digests:
            raise ValueError(f"asset kit {self.root}: {SUMS} names no {path}; name a complete kit with --assets")
        try:
            data = (self.root / path).read_bytes()
        except OSError as error:
            raise ValueError(
                f"asset {self.root / path} cannot be read ({error.strerror}): copy the kit again"
            ) from error
        if hashlib.sha256(data).hexdigest() != self.digests[path]:
            raise ValueError(f"asset {self.root / path} is corrupt or of another version: copy the kit again")
        return data

    def arrays(self, path: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of an npz file by name.

        Raises:
            ValueError: See ``data``; or the file is no npz file.
        """
        try:
            with np.load(io.BytesIO(self.data(path)), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, KeyError, EOFError) as error:
            raise ValueError(f"asset {self.root / path} is no npz file: copy the kit again") from error

    def table(self, path: str) -> Any:
        """Return a JSON file's content."""
        return json.loads(self.data(path))

    def image(self, path: str) -> NDArray[np.uint8]:
        """Return an image (H, W, 4), sRGB and alpha, row 0 on top; it is kept for the next call."""
        if path not in self._images:
            with Image.open(io.BytesIO(self.data(path))) as image:
                self._images[path] = np.asarray(image.convert("RGBA"), np.uint8)
        return self._images[path]

    def require(self, *paths: str) -> None:
        """Check that files exist in the kit.

        Raises:
            ValueError: One is missing.
        """
        for path in paths:
            if path not in self.digests or not (self.root / path).is_file():
                raise ValueError(f"asset kit {self.root} lacks {path}: name a complete kit with --assets")


def open_kit(root: Path) -> AssetKit:
    """Open a kit.

    Args:
        root: The folder, which contains ``SHA256SUMS``.

    Raises:
        ValueError: There is no such file, or one of its lines is wrong or leaves the folder.
    """
    try:
        lines = (root / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"asset folder {root} has no readable {SUMS}: name the folder of a kit with --assets"
        ) from error
    digests = {}
    for number, line in enumerate(lines, 1):
        digest, _, path = line.partition("  ")
        pure = PurePosixPath(path)
        if len(digest) != 64 or not path or pure.is_absolute() or ".." in pure.parts:
            raise ValueError(
                f"{root / SUMS}, line {number}: not a sha256 and a path inside the kit; copy the kit again"
            )
        digests[path] = digest
    return AssetKit(root, digests)
