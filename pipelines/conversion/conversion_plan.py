"""The plan of a conversion, which the converter of a data set gives to the flow: step, items and missing items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.engine.step import Step


@dataclass(frozen=True, order=True)
class MissingItem:
    """An item that the data set lists but the source lacks, usually because of an incomplete download."""

    name: str
    """Path of the item below the source, by which a user finds it."""
    reason: str
    """A reason code (``pipelines.publishing.reasons``)."""


@dataclass(frozen=True)
class ConversionPlan:
    """The work of one conversion.

    The step's key is ``item_id``, and its output holds the columns of
    ``pipelines.conversion.capture_schemas.CONVERTED``.
    """

    step: Step
    """Step that converts the items."""
    items: pa.Table
    """One row per item, with the schema ``step.input``."""
    missing: tuple[MissingItem, ...] = ()
    """Items that the data set lists but the source lacks."""
    participants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """``identity_id`` → name of a fact in the data set → value: facts that the data set states about people."""


class CaptureSourceError(ValueError):
    """Error for a source that holds nothing of the data set; the message is one line with the source and the remedy."""
