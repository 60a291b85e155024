"""Settings of the mining steps; each step's fingerprint holds those that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.media.shots import ShotConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackConfig:
    """Settings of the detection and the tracking of faces, and of the choice of a track's candidates."""

    samples_per_second: float = 5.0
    """Lower bound on the frames per second of video in which faces are detected; a shot's first frame always is one."""
    detector_threshold: float = 0.6
    """Lower bound on the detector score of a face that is followed."""
    detector_input_px: int = 224
    """Longer side of the smallest image in which faces are detected, pixels; a frame in which faces of 60 pixels would
    become too small in it is given a larger one (``faces.analysis.detection_size``)."""
    max_gap_s: float = 1.0
    """A face that is not detected for longer ends its track."""
    min_overlap: float = 0.1
    """Lower bound on the intersection over union of a face with its track's last box."""
    max_jump: float = 1.5
    """Alternative to ``min_overlap``: upper bound on its centre's movement, in widths of the larger box."""
    clear_overlap: float = 0.4
    """A face that overlaps its track's last box by this much, and no other, continues it without a comparison of
    embeddings."""
    min_likeness: float = 0.3
    """Lower bound on the cosine similarity of the two embeddings of any other pair."""
    max_scaling: float = 1.8
    """Upper bound on the ratio of its widths in two consecutive sampled frames."""
    candidates: int = 8
    """Upper bound on the candidate faces of a track, spread over its time."""
    candidate_spacing_s: float = 1.0
    """One candidate is kept for each such interval of a track: closer ones add little and cost as much to score."""
    fewest_candidates: int = 3
    """Candidates of a track however short it is, where so many were detected: its embedding is the mean of three."""
    crop_px: int = 512
    """Side of the aligned crop where the frame has the pixels for it."""
    max_upscale: float = 1.5
    """A crop is smaller than ``crop_px`` rather than enlarged beyond this factor."""
    webp_quality: int = 95
    """Quality of the stored crop, 1 to 100; 101 is lossless."""
    min_completeness: float = 0.7
    """Lower bound on the share of a face inside the frame: below it the embedding is off by 0.2 and more."""
    min_width_px: float = 16.0
    """A narrower face cannot be scored."""

    def __post_init__(self) -> None:
        counts = ("candidates", "candidate_spacing_s", "fewest_candidates")
        sizes = (*counts, "detector_input_px", "crop_px", "max_upscale", "min_width_px")
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
    """Settings of all mining steps."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    tracks: TrackConfig = field(default_factory=TrackConfig)
    decode_threads: int = 1
    """Threads of one decoder; they change no result."""
    decode_silence_s: float = 60.0
    """A decoder that returns nothing for so long is stopped."""
    decode_limit_s: float = 1800.0
    """Upper bound on the decoding of one file in one step."""

    def __post_init__(self) -> None:
        for name in ("decode_threads", "decode_silence_s", "decode_limit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"MiningConfig.{name} is {getattr(self, name)}; it must be positive")
