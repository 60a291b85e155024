"""The plan of a conversion, which a data set's converter hands to the flow: step, items, and missing items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.engine.step import Step


@dataclass(frozen=True, order=True)
class MissingItem:
    """An item that the data set lists and the source lacks, mostly because of a partial download."""

    name: str
    """Name by which a user finds it: a path below the source."""
    reason: str
    """A reason code (``pipelines.publishing.reasons``)."""


@dataclass(frozen=True)
class ConversionPlan:
    """The work of one conversion.

    The step's key is ``item_id``, and its output holds the columns of
    ``pipelines.conversion.capture_schemas.CONVERTED``.
    """

    step: Step
    items: pa.Table
    """Rows of ``step.input``, one an item."""
    missing: tuple[MissingItem, ...] = ()
    participants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Facts that the data set tells about each person, by its own names, by ``identity_id``."""


class CaptureSourceError(ValueError):
    """A source that holds nothing of the data set; the message is one line that names it and the way out."""
