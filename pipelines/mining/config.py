"""Settings of the mining steps; a step's fingerprint covers the settings that change its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.faces.device import DEVICES, GPU_SHARE
from pipelines.media.shots import ShotConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackConfig:
    """Settings of the detection and the tracking of faces, and of the choice of a track's candidates."""

    samples_per_second: float = 5.0
    """Lower bound on the sampled frames per second of video, in which faces are detected.

    The first frame of a shot is always sampled.
    """
    detector_threshold: float = 0.6
    """Lower bound on the detector score of a face that is tracked."""
    detector_input_px: int = 224
    """Least length of the longer side of the detector's input for a whole frame, pixels. A frame is scaled to a larger
    input if faces of 60 pixels would otherwise become too small (``faces.analysis.detection_size``)."""
    small_faces_input_px: int = 384
    """Longer side of a second, larger input for small faces, pixels, if the first one is smaller. Large faces are
    left to the first: in the second they are found in pieces."""
    whole_search_s: float = 1.0
    """Time from which the next sampled frame is searched for faces as a whole again, seconds; before it, only the areas
    around known faces are (``face_search``)."""
    area_input_px: int = 128
    """Longer side of the detector's input for the area around a known face, pixels."""
    area_sides: float = 2.2
    """Side of the area around a known face, in units of the longer side of its box."""
    max_gap_s: float = 1.0
    """Longest time between two detections of one track, seconds; after a longer gap the track ends."""
    min_overlap: float = 0.1
    """Lower bound on the intersection over union of a detected face and the last box of the track that it continues."""
    max_jump: float = 1.0
    """Alternative to ``min_overlap``: upper bound on the distance of the boxes' centres, in widths of the wider box."""
    clear_overlap: float = 0.4
    """Intersection over union from which a face continues a track without a comparison of embeddings, if neither has
    another possible partner."""
    decisive_overlap: float = 0.6
    """Intersection over union from which a face continues a track without a comparison of embeddings, if all other
    possible partners of the two overlap with them by half of it at most."""
    min_likeness: float = 0.3
    """Lower bound on the cosine similarity of the embeddings of face and track, for every other pair of the two."""
    max_scaling: float = 1.8
    """Upper bound on the width ratio of a detected face and its track's last box, the larger over the smaller."""
    candidates: int = 8
    """Upper bound on the candidate faces of a track, which are spread over the track's time."""
    candidate_spacing_s: float = 1.0
    """Time per candidate of a track, seconds: closer ones add little, and each costs as much to score."""
    fewest_candidates: int = 3
    """Least number of candidates of a track with as many detections: a track's embedding is the mean of three faces."""
    crop_px: int = 512
    """Side of the aligned crop, pixels; smaller if ``max_upscale`` demands it."""
    max_upscale: float = 1.5
    """Upper bound on the factor by which a crop enlarges the frame; a crop that would exceed it is made smaller."""
    webp_quality: int = 95
    """Quality of the stored crop, 1 to 100; 101 is lossless."""
    min_completeness: float = 0.7
    """Lower bound on the share of a face that lies inside the frame: below it the embedding is off by 0.2 or more."""
    min_width_px: float = 16.0
    """Lower bound on the width of a face, pixels; a narrower face cannot be scored."""

    def __post_init__(self) -> None:
        counts = ("candidates", "candidate_spacing_s", "fewest_candidates")
        inputs = ("detector_input_px", "small_faces_input_px", "whole_search_s", "area_input_px", "area_sides")
        sizes = (*counts, *inputs, "crop_px", "max_upscale", "min_width_px")
        for name in ("samples_per_second", "max_gap_s", "max_jump", *sizes):
            if not getattr(self, name) > 0:
                raise ValueError(f"TrackConfig.{name} is {getattr(self, name)}; it must be positive")
        for name in ("detector_threshold", "min_overlap", "clear_overlap", "decisive_overlap", "min_completeness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"TrackConfig.{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.max_scaling < 1:
            raise ValueError(f"TrackConfig.max_scaling is {self.max_scaling}; it must be at least 1")
        if not 1 <= self.webp_quality <= 101:
            raise ValueError(f"TrackConfig.webp_quality is {self.webp_quality}; it must be from 1 to 101 (lossless)")


DECODERS = ("pyav", "decord")
"""Libraries that decode, the default first."""


SETTINGS_SINCE_4 = ("decisive_overlap", "small_faces_input_px", "whole_search_s", "area_input_px", "area_sides")
"""Settings of ``TrackConfig`` that version 3 of the step ``tracks`` did not have."""

DEFAULTS_BEFORE_4 = {"max_jump": 1.5}
"""Defaults of ``TrackConfig`` in version 3 that are others now."""


def former_track_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with which version 3 of the step ``tracks`` did what these settings ask for.

    Args:
        settings: Fields of a ``TrackConfig``; those that have their default had the default of then.
    """
    default = asdict(TrackConfig())
    known = {name: value for name, value in settings.items() if name not in SETTINGS_SINCE_4}
    return {
        name: DEFAULTS_BEFORE_4[name] if name in DEFAULTS_BEFORE_4 and value == default[name] else value
        for name, value in known.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningConfig:
    """Settings of all mining steps."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    tracks: TrackConfig = field(default_factory=TrackConfig)
    decoder: str = "pyav"
    """Library that decodes: pyav, or decord for files on which it can be trusted."""
    device: str = "cpu"
    """Device of the face pack's networks, cpu or cuda (``faces.device.choose_device``)."""
    decode_threads: int = 1
    """Number of threads of one decoder; it does not change the result."""
    part_s: float = 60.0
    """Time after which finished shots of a file in work are kept for a next attempt, seconds; it changes no result."""
    decode_silence_s: float = 60.0
    """Longest wait for a decoder's next frame, seconds; then the decoder is stopped."""
    decode_limit_s: float = 1800.0
    """Upper bound on the time to decode one short file in one step, seconds; ``decode_limit`` adds to it."""
    decode_limit_per_s: float = 10.0
    """Time that is added for each second of a video, seconds."""
    decode_limit_per_mb: float = 1.0
    """Time that is added for each megabyte of a file, seconds."""

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise ValueError(f"MiningConfig.decoder is {self.decoder!r}; it must be one of {', '.join(DECODERS)}")
        if self.device not in DEVICES[1:]:
            raise ValueError(f"MiningConfig.device is {self.device!r}; it must be one of {', '.join(DEVICES[1:])}")
        for name in ("decode_threads", "decode_silence_s", "decode_limit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"MiningConfig.{name} is {getattr(self, name)}; it must be positive")

    @property
    def gpus(self) -> float:
        """Share of a GPU that a worker reserves for the face pack's networks."""
        return GPU_SHARE if self.device == "cuda" else 0.0

    def decode_limit(self, duration_s: float, size: int) -> float:
        """Return the upper bound on the time to decode a file in one step, seconds; it grows with the file.

        Args:
            duration_s: Duration that the container states, seconds; 0 if it is unknown.
            size: Size of the file, bytes.
        """
        return (
            self.decode_limit_s + self.decode_limit_per_s * max(0.0, duration_s) + self.decode_limit_per_mb * size / 1e6
        )
