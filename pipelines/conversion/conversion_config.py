"""The settings that all conversions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionConfig:
    """Settings of a conversion, part of the step's fingerprint. Each data set adds its own.

    Raises:
        ValueError: A setting is out of its range.
    """

    size: int = 512
    """Pixels a side of a head-centred crop, or of the longer side where ``crop`` is full."""
    crop: Literal["head", "full"] = "head"
    """head: a square round the head, always of the same metres; full: the full image, resized."""
    every: int = 1
    """Each ``every``-th listed frame of a segment is converted, beginning with the first."""
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
