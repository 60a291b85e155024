"""Settings that all conversions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionConfig:
    """Settings of a conversion, which are part of the step's fingerprint; each data set adds its own.

    Raises:
        ValueError: A setting is out of its range.
    """

    size: int = 512
    """Side of a head-centred crop, pixels; or the longer side of the image if ``crop`` is full."""
    crop: Literal["head", "full"] = "head"
    """head: a square around the head, which always spans the same length in metres; full: the full image, resized."""
    every: int = 1
    """Step between converted frames of a segment: every ``every``-th listed frame, beginning with the first."""
    quality: int = 95
    """Quality of the WebP images, 1 to 100."""
    cameras: tuple[str, ...] = ()
    """Names of the cameras to convert; empty for all."""

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size={self.size}: at least 16 pixels are needed")
        if self.every < 1:
            raise ValueError(f"every={self.every}: 1 converts every frame, 10 each tenth")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}: WebP takes 1 to 100")
