"""The settings of NeRSemble's conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.conversion.conversion_config import ConversionConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NersembleConfig(ConversionConfig):
    """Settings of NeRSemble's conversion; ``cameras`` holds serials."""

    frames: int = 12
    """Upper bound on the timesteps of each sequence, evenly spaced; 0 for all that ``every`` leaves."""
    participants: tuple[int, ...] = ()
    """Numbers of the participants to convert; empty for all."""
    sequences: tuple[str, ...] = ()
    """Names of the sequences to convert; empty for all."""
    head_views: int = 6
    """Number of a timestep's images with a face from which the head's pose is found, at least 2."""
    matte: Literal["auto", "model"] = "auto"
    """auto: the benchmark's own mattes where there are any; else the difference to the empty room where there is an
    image of it; else the matting model. model: the matting model."""
    val_every: int = 20
    """One participant in about ``val_every``, by a hash of the number, is in the split val; 0 for none."""
    decode_silence_s: float = 60.0
    """Seconds without a frame after which a video's decoder is stopped."""
    decode_limit_s: float = 1800.0
    """Seconds after which a video's decoder is stopped."""

    def __post_init__(self) -> None:
        ConversionConfig.__post_init__(self)
        if self.frames < 0 or self.val_every < 0:
            raise ValueError(f"frames={self.frames}, val_every={self.val_every}: 0 or more are needed")
        if self.head_views < 2:
            raise ValueError(f"head_views={self.head_views}: a point is triangulated from at least 2 views")
