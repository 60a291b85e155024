"""What the conversion of NeRSemble can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.conversion.config import ConversionConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NersembleConfig(ConversionConfig):
    """Settings; ``cameras`` names serials."""

    frames: int = 12
    """At most so many moments of each sequence, evenly spaced; 0 for all that ``every`` leaves."""
    participants: tuple[int, ...] = ()
    """Whom to convert; all of them where empty."""
    sequences: tuple[str, ...] = ()
    """Which sequences; all of them where empty."""
    head_views: int = 6
    """Landmarks are looked for in a moment's pictures until so many show a face: 2 or more."""
    matte: Literal["auto", "model"] = "auto"
    """auto: the benchmark's own mattes; the matting model held against the empty room where there is a picture of it,
    alone otherwise. model: the matting model alone."""
    val_every: int = 20
    """About one participant in so many, by a hash of the number, is in the split val; 0 for none."""
    decode_silence_s: float = 60.0
    """A video whose decoder gives nothing for so long is given up."""
    decode_limit_s: float = 1800.0
    """Longest waiting for one video."""

    def __post_init__(self) -> None:
        ConversionConfig.__post_init__(self)
        if self.frames < 0 or self.val_every < 0:
            raise ValueError(f"frames={self.frames}, val_every={self.val_every}: 0 or more are needed")
        if self.head_views < 2:
            raise ValueError(f"head_views={self.head_views}: a point is triangulated from 2 views at least")
