"""Progress of a run and the summary of its outcomes, as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.engine.state import BoundStep, OutcomeCounts


@dataclass(frozen=True)
class StepSummary:
    """Outcomes, in one step, of the items of one ``run_steps`` call; items finished by earlier calls count too."""

    step: str
    fingerprint: str
    items: int
    before: int
    """Number of items that an earlier call finished and this call did not touch."""
    ok: int
    rejected: int
    failed: int
    """Number of quarantined items: every allowed attempt failed."""
    reasons: Mapping[str, int]
    failures: Mapping[str, str]
    """Item id to reason code, for the first hundred failed items."""
    seconds: float
    """Worker time that this call spent inside the step."""

    @classmethod
    def of(cls, bound: BoundStep, counts: OutcomeCounts) -> StepSummary:
        """Summarize the counts of a step.

        Args:
            bound: The step.
            counts: The outcomes of its items, including those of earlier calls.
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
    """Progress of one step; ``total`` decreases as earlier steps reject items or fail on them."""

    step: str
    done: int
    total: int
    failed: Mapping[str, int]
    """Reason code to the number of failed items."""
    in_work: float = 0.0
    """Sum of the shares that are done of long items in work, 0 to 1 each."""


def progress_of(
    bound: Sequence[BoundStep],
    finished: Mapping[str, OutcomeCounts],
    current: Mapping[str, OutcomeCounts],
    n_items: int,
    in_work: Mapping[str, float] | None = None,
) -> list[StepProgress]:
    """Return each step's progress.

    Args:
        bound: The steps, each after the step whose output it reads.
        finished: Step name to the outcomes of items that earlier calls finished.
        current: Step name to the outcomes of this call so far; a step may be missing.
        n_items: Number of items of the call.
        in_work: Step name to the sum of the shares that are done of its items in work; a step may be missing.
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
    shares = in_work or {}
    return [
        StepProgress(name, s.items, totals[name], dict(s.failed_reasons), round(shares.get(name, 0.0), 2))
        for name, s in sums.items()
    ]
