"""Which tracks are clustered, and how."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.identity.constraints import SAME_PICTURE, SamePicture


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Which tracks are clustered, and how. What is below these floors tells too little about who it is."""

    threshold: float
    """Cosine distance under which two tracks are one person, for the face pack in use (``FacePack.threshold``)."""
    same_picture: SamePicture = SAME_PICTURE
    """When two tracks that are seen at once may be one person (an inset, a mirror, a repeat)."""
    min_width_px: float = 40.0
    """Of a face's box."""
    min_sharpness: float = 25.0
    """Laplacian variance of the aligned face."""
    min_score: float = 0.75
    """Detector score of a face."""
    min_detections: int = 3
    """Sampled frames in which the track's face was found."""
    best_faces: int = 3
    """Faces whose mean stands for the track."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 2:
            raise ValueError(f"ClusterConfig.threshold is {self.threshold}; it must be a cosine distance, from 0 to 2")
        for name in ("min_detections", "best_faces"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClusterConfig.{name} is {getattr(self, name)}; it must be at least 1")
