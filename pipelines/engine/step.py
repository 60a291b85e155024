"""Steps of a pipeline: pure functions over Arrow tables, with the settings and resources that the engine needs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from mfhq.ids import digest
from mfhq.masking import mask_secrets
from mfhq.schema import FAILED, OK, REJECTED, schema_hash
from pipelines.engine.unfinished import UnfinishedItems


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources that one worker of a step reserves."""

    cpus: float = 1.0
    gpus: float = 0.0
    batch: int = 8
    """Number of items per call of ``fn``."""


@dataclass(frozen=True, kw_only=True)
class Former:
    """Former definition of a step, whose finished output stays valid under the current definition.

    A field that is None was the same as now. Columns of the current output that the former one lacks are read as null.
    """

    version: int
    name: str | None = None
    config: Mapping[str, Any] | None = None
    weights: Mapping[str, str] | None = None
    output: pa.Schema | None = None
    keeps: tuple[str, ...] = (OK, REJECTED)
    """Statuses of the items that count as finished; the others are processed again, as if they were new.

    ``ok`` is always kept: later steps have gone on from these items.
    """

    def __post_init__(self) -> None:
        if OK not in self.keeps:
            raise ValueError(f"keeps is {self.keeps}; it must have {OK!r}, because later steps have read these items")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a pipeline.

    ``fn(resource, table)`` is pure: no I/O beyond reading its input item, no clock, no global state,
    randomness seeded from the item's id (``mfhq.ids.seed_of``). It returns every input row once, in any
    order, with ``status`` (ok, rejected, failed), ``reason`` and its scores. An image (a crop, a matte) is a
    ``large_binary`` value of the output: the engine moves it into a packed file and replaces it by a
    ``mfhq.schema.BLOB_REF``.
    """

    name: str
    version: int
    """Version of the output, raised when its meaning changes."""
    key: str
    """The column that identifies an item, in input and output."""
    input: pa.Schema
    output: pa.Schema
    """Schema of the table that ``fn`` returns; must contain ``key``, ``status`` and ``reason``."""
    load: Callable[[], Any]
    """Function that builds the resource (models, decoders) once per worker; heavy imports belong inside it."""
    fn: Callable[..., pa.Table]
    """``fn(resource, table)``; of a step with ``in_parts``, ``fn(resource, table, unfinished)``."""
    resources: Resources = field(default_factory=Resources)
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings that change the output; part of the fingerprint."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Name to sha256 of every weight file that ``load`` reads; part of the fingerprint."""
    private: bool = False
    """True stores the output under the corpus's biometric prefix (face embeddings)."""
    in_parts: bool = False
    """True: an item takes long, and ``fn`` keeps finished parts of it (``engine.unfinished.UnfinishedItems``)."""
    continues: tuple[Former, ...] = ()
    """Former definitions whose output is gone on with, the newest first; no part of the fingerprint."""

    def __post_init__(self) -> None:
        for column in (self.key, "status", "reason"):
            if column not in self.output.names:
                raise ValueError(f"step {self.name}: output schema lacks {column!r}; it has {self.output.names}")
        if self.key not in self.input.names:
            raise ValueError(f"step {self.name}: input schema lacks its key {self.key!r}; it has {self.input.names}")

        for former in self.continues:
            known = (former.output or self.output).names
            required = [f.name for f in self.output if f.name not in known and not f.nullable]
            if required:
                raise ValueError(f"step {self.name}: {required} may not be null, and version {former.version} has none")

    def call(self, resource: Any, rows: pa.Table, unfinished: UnfinishedItems | None = None) -> pa.Table:
        """Call ``fn``, and return its output as ``output``.

        Args:
            resource: The result of ``load``.
            rows: Input rows, of ``input``.
            unfinished: Parts of the items, of a step with ``in_parts``; None keeps none.
        """
        extra = (unfinished or UnfinishedItems(),) if self.in_parts else ()
        return self.fn(resource, rows, *extra).cast(self.output)

    def fingerprint(self, upstream: str = "") -> str:
        """Return the digest of everything that determines the output.

        It covers the name, version, config, digests of the weights, output schema and ``upstream``.

        Args:
            upstream: The fingerprint of the step whose output this one reads; empty if it reads the sources.

        Returns:
            16 hexadecimal characters.
        """
        return digest(
            [self.name, self.version, dict(self.config), dict(self.weights), schema_hash(self.output), upstream], 16
        )

    def as_former(self, former: Former) -> Step:
        """Return this step with the name, version, config, weights and output of a former definition.

        Args:
            former: One of ``continues``.
        """
        fields = ("name", "config", "weights", "output")
        given = {name: getattr(former, name) for name in fields if getattr(former, name) is not None}
        return replace(self, version=former.version, continues=(), **given)


def run_isolated(
    step: Step, resource: Any, rows: pa.Table, unfinished: UnfinishedItems | None = None
) -> Iterator[tuple[pa.Table, dict[str, str]]]:
    """Run ``step.fn``; a batch that fails is halved until the failing row is alone.

    A failed row has status ``failed``, the error's class as its reason, and null or empty values elsewhere. A batch
    that does not fit into GPU memory is halved in the same way.

    Args:
        step: The step.
        resource: The result of ``step.load``.
        rows: Input rows, of ``step.input``.
        unfinished: Parts of the items, of a step with ``in_parts``; None keeps none.

    Yields:
        ``(output rows, errors)`` for each batch that ran; ``errors`` maps the key of a failed row to the error's class
        and a short traceback.
    """
    try:
        out = step.call(resource, rows, unfinished)
        missing = set(rows[step.key].to_pylist()) ^ set(out[step.key].to_pylist())
        if missing or out.num_rows != rows.num_rows:
            counts = f"{rows.num_rows} rows in, {out.num_rows} out"
            raise RuntimeError(f"step {step.name}: {counts}; ids that differ: {sorted(missing)[:3]}")
    except Exception as error:
        if rows.num_rows > 1:
            half = rows.num_rows // 2
            yield from run_isolated(step, resource, rows.slice(0, half), unfinished)
            yield from run_isolated(step, resource, rows.slice(half), unfinished)
            return
        key = rows[step.key][0].as_py()
        short = mask_secrets("".join(traceback.format_exception(error, limit=-3)))[-2000:]
        yield failed_row(step, key, type(error).__name__), {key: short}
    else:
        yield out, {}


def failed_row(step: Step, key: str, reason: str) -> pa.Table:
    """Return an output row of status ``failed``, with nulls, empty lists or empty strings in the other columns.

    Args:
        step: The step.
        key: The item's id.
        reason: The reason code.
    """
    row: dict[str, Any] = {}
    for f in step.output:
        if f.nullable:
            row[f.name] = None
        elif pa.types.is_list(f.type) or pa.types.is_large_list(f.type):
            row[f.name] = []
        else:
            row[f.name] = ""
    row |= {step.key: key, "status": FAILED, "reason": reason}
    return pa.Table.from_pylist([row], schema=step.output)
