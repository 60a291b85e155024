"""Progress of a run and the summary of its outcomes, as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.engine.state import BoundStep, OutcomeCounts


@dataclass(frozen=True)
class StepSummary:
    """Outcomes of a call's items in one step; items finished by earlier calls are counted too."""

    step: str
    fingerprint: str
    items: int
    before: int
    """Items that an earlier call finished and this one did not touch."""
    ok: int
    rejected: int
    failed: int
    """Quarantined items: every attempt failed."""
    reasons: Mapping[str, int]
    failures: Mapping[str, str]
    """Id to reason of failed items (the first hundred)."""
    seconds: float
    """Worker time that this call spent inside the step."""

    @classmethod
    def of(cls, bound: BoundStep, counts: OutcomeCounts) -> StepSummary:
        """Summarize the counts of a step.

        Args:
            bound: The step.
            counts: Its outcomes, those of earlier calls included.
        """
        return cls(
            step=bound.step.name,
            fingerprint=bound.location.fingerprint,
            items=counts.items,
            before=counts.before,
            ok=counts.ok,
            rejected=counts.rejected,
            failed=counts.failed,
            reasons=counts.reasons,
            failures=dict(sorted(counts.failures.items())),
            seconds=counts.seconds,
        )


@dataclass(frozen=True)
class StepProgress:
    """Progress of one step. ``total`` falls while earlier steps reject items."""

    step: str
    done: int
    total: int
    failed: Mapping[str, int]
    """Reason code to the number of failed items."""


def progress_of(
    bound: Sequence[BoundStep],
    finished: Mapping[str, OutcomeCounts],
    current: Mapping[str, OutcomeCounts],
    n_items: int,
) -> list[StepProgress]:
    """Return each step's progress.

    Args:
        bound: The steps, each after the one that it reads.
        finished: Step name to the outcomes of items that earlier calls finished.
        current: Step name to the outcomes of this call so far; a step may be missing.
        n_items: Items of the call.
    """
    sums: dict[str, OutcomeCounts] = {}
    totals: dict[str, int] = {}
    for b in bound:
        name = b.step.name
        sums[name] = finished[name].copy()
        sums[name].add(current.get(name, OutcomeCounts()))
        totals[name] = n_items
        if b.upstream:
            upstream = sums[b.upstream.name]
            totals[name] = totals[b.upstream.name] - upstream.rejected - upstream.failed
    return [StepProgress(name, s.items, totals[name], dict(s.failed_reasons)) for name, s in sums.items()]
