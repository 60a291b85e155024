"""Settings of the mining steps; each step's fingerprint holds the ones that it reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.media.shots import ShotConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackConfig:
    """How faces are found, followed and kept."""

    samples_per_second: float = 5.0
    """At least so many frames a second of video are looked at; a shot's first frame always is."""
    detector_threshold: float = 0.6
    """Least detector score of a face that is followed."""
    detector_input_px: int = 224
    """Longer side of the smallest picture in which faces are looked for; a frame in which faces of 60 pixels would
    become too small in it gets a larger one (``faces.analysis.detection_size``)."""
    max_gap_s: float = 1.0
    """A face that is not seen for longer ends its track."""
    min_overlap: float = 0.1
    """Least intersection over union of a face with its track's last box."""
    max_jump: float = 1.5
    """Or: most that its centre moved, of the larger box's width."""
    clear_overlap: float = 0.4
    """A face that overlaps its track's last box by this much, and no other, is taken for the same unseen."""
    min_likeness: float = 0.3
    """Of all other pairs: least cosine similarity of the two embeddings."""
    max_scaling: float = 1.8
    """Most that its width changed from one sampled frame to the next, as a ratio."""
    candidates: int = 8
    """Most faces kept of a track, spread over its time."""
    candidate_spacing_s: float = 1.0
    """One is kept for each such stretch of a track: what lies nearer adds little, and costs as much to score."""
    fewest_candidates: int = 3
    """Kept of a track however short it is, where so many were found: a track's embedding is the mean of three."""
    crop_px: int = 512
    """Side of the aligned crop where the frame has the pixels for it."""
    max_upscale: float = 1.5
    """A crop is made smaller than ``crop_px`` rather than enlarged beyond this factor."""
    webp_quality: int = 95
    """Of the stored crop, 1 to 100; 101 is lossless."""
    min_completeness: float = 0.7
    """A face of which less lies inside the frame is cut by the border: its embedding is off by 0.2 and more."""
    min_width_px: float = 16.0
    """A narrower face cannot be scored."""

    def __post_init__(self) -> None:
        kept = ("candidates", "candidate_spacing_s", "fewest_candidates")
        sizes = (*kept, "detector_input_px", "crop_px", "max_upscale", "min_width_px")
        for name in ("samples_per_second", "max_gap_s", "max_jump", *sizes):
            if not getattr(self, name) > 0:
                raise ValueError(f"TrackConfig.{name} is {getattr(self, name)}; it must be positive")
        for name in ("detector_threshold", "min_overlap", "clear_overlap", "min_completeness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"TrackConfig.{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.max_scaling < 1:
            raise ValueError(f"TrackConfig.max_scaling is {self.max_scaling}; it must be at least 1")
        if not 1 <= self.webp_quality <= 101:
            raise ValueError(f"TrackConfig.webp_quality is {self.webp_quality}; it must be from 1 to 101 (lossless)")


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningConfig:
    """Settings of mining as a whole."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    tracks: TrackConfig = field(default_factory=TrackConfig)
    decode_threads: int = 1
    """Of one decoder; changes no result."""
    decode_silence_s: float = 60.0
    """A decoder that gives nothing for so long is stopped."""
    decode_limit_s: float = 1800.0
    """Most that is waited for the decoding of one file in one step."""

    def __post_init__(self) -> None:
        for name in ("decode_threads", "decode_silence_s", "decode_limit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"MiningConfig.{name} is {getattr(self, name)}; it must be positive")


def settings(config: ShotConfig | TrackConfig) -> dict[str, Any]:
    """A config as plain values, for a step's fingerprint."""
    return asdict(config)
