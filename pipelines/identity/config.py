"""Settings of the clustering."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.identity.constraints import SAME_IMAGE, SameImage


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Settings of the clustering; a face below one of the least values shows too little of a person and is not used."""

    threshold: float
    """Cosine distance below which two tracks are one person, for the face pack in use (``FacePack.threshold``)."""
    same_picture: SameImage = SAME_IMAGE
    """Limits within which two tracks that are visible together may be one person (an inset, a mirror, a repeat)."""
    min_width_px: float = 40.0
    """Least width of a face's box, pixels of the frame."""
    min_sharpness: float = 25.0
    """Least Laplacian variance of the aligned face."""
    min_score: float = 0.75
    """Least detector score of a face."""
    min_detections: int = 3
    """Least number of sampled frames in which the track's face was found."""
    best_faces: int = 3
    """Number of faces whose mean embedding represents the track."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 2:
            raise ValueError(f"ClusterConfig.threshold is {self.threshold}; it must be a cosine distance, from 0 to 2")
        for name in ("min_detections", "best_faces"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClusterConfig.{name} is {getattr(self, name)}; it must be at least 1")
