"""Settings of the conversion of NeRSemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.conversion.conversion_config import ConversionConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NersembleConfig(ConversionConfig):
    """Settings of the conversion of NeRSemble; ``cameras`` holds serial numbers."""

    frames: int = 12
    """Largest number of timesteps per sequence, evenly spaced; 0 for all that ``every`` selects."""
    participants: tuple[int, ...] = ()
    """Numbers of the participants to convert; empty for all."""
    sequences: tuple[str, ...] = ()
    """Names of the sequences to convert; empty for all."""
    head_views: int = 6
    """Number of images with a face from which the head's pose at a timestep is computed, at least 2."""
    matte: Literal["auto", "model"] = "auto"
    """Source of the mattes.

    auto: the benchmark's own mattes if they exist; otherwise the difference from the image of the empty room if it
    exists; otherwise the matting model. model: always the matting model.
    """
    val_every: int = 20
    """Rate of the split val: about one participant in ``val_every`` is in it, by a hash of the number; 0 for none."""
    decode_silence_s: float = 60.0
    """Time without a frame after which the decoder of a video is stopped, seconds."""
    decode_limit_s: float = 1800.0
    """Total waiting time after which the decoder of a video is stopped, seconds."""

    def __post_init__(self) -> None:
        ConversionConfig.__post_init__(self)
        if self.frames < 0 or self.val_every < 0:
            raise ValueError(f"frames={self.frames}, val_every={self.val_every}: 0 or more are needed")
        if self.head_views < 2:
            raise ValueError(f"head_views={self.head_views}: a point is triangulated from at least 2 views")
