"""Thresholds that are applied when publishing, so that other thresholds on the same outputs need no inference."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Thresholds for the faces, tracks and people of a snapshot; units as in ``mfhq.schema.FACES``."""

    name: str
    min_width_px: float
    """Lower bound on the width of the face box in the source frame."""
    min_score: float
    min_sharpness: float
    min_exposure: float
    max_yaw_deg: float
    """Upper bound on the absolute yaw; likewise ``max_pitch_deg`` for the pitch."""
    max_pitch_deg: float
    max_occlusion: float
    min_completeness: float
    max_compression: float
    min_agreement: float
    needs_mesh: bool = True
    min_detections: int = 3
    """Lower bound on the sampled frames in which a track's face was detected."""
    min_faces_per_track: int = 1
    """Lower bound on a track's faces that pass the thresholds on faces; a track with fewer is rejected."""
    faces_per_identity: int = 8
    min_faces_per_identity: int = 1
    """Number of chosen faces below which a person counts as ``few_faces`` in the funnel, but is still listed."""
    min_difference: float = 0.02
    """Least distance of a chosen face from every face chosen before it (``face_selection.choose_faces``)."""
    count_duplicates: bool = False
    """True counts the faces of a shot that is a copy of another one, too (table ``duplicates``). Then the people of a
    shot and of its copies are in one split, and the copies are no further videos of a person."""
    val_share: float = 0.1
    test_share: float = 0.1
    """Share of people in the split, like ``val_share``; a hash of the id decides, so nobody moves to another split."""

    def __post_init__(self) -> None:
        for name in ("min_score", "max_occlusion", "min_completeness", "val_share", "test_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Preset.{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.val_share + self.test_share >= 1:
            raise ValueError(f"Preset.val_share + test_share is {self.val_share + self.test_share}; it must be below 1")
        for name in ("min_faces_per_track", "faces_per_identity"):
            if getattr(self, name) < 1:
                raise ValueError(f"Preset.{name} is {getattr(self, name)}; it must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for a manifest or a run's parameters."""
        return asdict(self)


SMALL = Preset(
    name="small",
    min_width_px=40,
    min_score=0.75,
    min_sharpness=25,
    min_exposure=0.1,
    max_yaw_deg=60,
    max_pitch_deg=45,
    max_occlusion=0.3,
    min_completeness=0.7,
    max_compression=2.0,
    min_agreement=0.4,
    count_duplicates=True,
)
"""Thresholds for sources such as video calls and clips of 300 to 700 pixels, of which copies count as well: there are
few, and an edit is often all that is left of its original. Measured on 41 labelled clips: real faces
had scores of 0.83 to 0.95, a cartoon's 0.60 to 0.81; the sharpness was 44 for the least sharp real face, 10 for a
blurred clip, 14 for a face of 33 pixels; the agreement was below 0.25 for faces of tracks that jump from one person to
another, 0.5 and more for all others."""

MFHQ = Preset(
    name="mfhq",
    min_width_px=448,
    min_score=0.75,
    min_sharpness=60,
    min_exposure=0.15,
    max_yaw_deg=60,
    max_pitch_deg=40,
    max_occlusion=0.25,
    min_completeness=0.95,
    max_compression=0.5,
    min_agreement=0.5,
    min_faces_per_identity=2,
    val_share=0.01,
    test_share=0.01,
)
"""Thresholds for faces of 448 pixels and more, as in MFHQ."""

PRESETS = {preset.name: preset for preset in (SMALL, MFHQ)}
"""The presets by name."""


def preset_named(name: str, /, **changes: Any) -> Preset:
    """Return a preset by name, with some of its settings changed.

    Args:
        name: A key of ``PRESETS``.
        **changes: Settings of ``Preset`` with their new values.

    Raises:
        ValueError: Unknown preset or setting, or a value out of range; the message names it and what is allowed.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    known = {f.name for f in fields(Preset)}
    if unknown := set(changes) - known:
        raise ValueError(f"no setting {sorted(unknown)[0]!r} in a preset; there are {', '.join(sorted(known))}")
    return Preset(**{**asdict(PRESETS[name]), **changes})
