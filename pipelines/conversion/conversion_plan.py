"""What a converter of one data set hands to the flow: the step, its items, and what the source lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.engine.step import Step


@dataclass(frozen=True, order=True)
class Absent:
    """Something that the data set lists and the source does not have: a partial download, mostly."""

    what: str
    """As a user would look for it: a path below the source."""
    reason: str
    """A reason code (``pipelines.publishing.reasons``)."""


@dataclass(frozen=True)
class ConversionPlan:
    """One call's work.

    The step's key is ``item_id``, and its output holds ``pipelines.conversion.capture_schemas.CONVERTED``.
    """

    step: Step
    items: pa.Table
    """Rows of ``step.input``, one an item."""
    absent: tuple[Absent, ...] = ()
    participants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """identity_id → what the data set says of the person, by its own names."""


class CaptureSourceError(ValueError):
    """A source that holds nothing of the data set: one line that names it and the way out."""
