"""How far a run is, and what became of its items: plain records, for whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.engine.state import BoundStep, OutcomeCounts


@dataclass(frozen=True)
class StepSummary:
    """What became of the items of a call in one step; items finished by earlier calls are counted too."""

    step: str
    fingerprint: str
    items: int
    before: int
    """Of the items: finished by an earlier call, and not touched by this one."""
    ok: int
    rejected: int
    failed: int
    """Quarantined: every attempt failed."""
    reasons: Mapping[str, int]
    failures: Mapping[str, str]
    """Id to reason of failed items (the first hundred)."""
    seconds: float
    """Worker time that this call spent inside the step."""

    @classmethod
    def of(cls, bound: BoundStep, tally: OutcomeCounts) -> StepSummary:
        """The summary of a step's tally."""
        return cls(
            step=bound.step.name,
            fingerprint=bound.at.fingerprint,
            items=tally.items,
            before=tally.before,
            ok=tally.ok,
            rejected=tally.rejected,
            failed=tally.failed,
            reasons=tally.reasons,
            failures=dict(sorted(tally.failures.items())),
            seconds=tally.seconds,
        )


@dataclass(frozen=True)
class StepProgress:
    """How far one step is. ``total`` falls while earlier steps reject items."""

    step: str
    done: int
    total: int
    failed: Mapping[str, int]
    """Failed items by reason."""


def progress_of(
    bound: Sequence[BoundStep], finished: Mapping[str, OutcomeCounts], now: Mapping[str, OutcomeCounts], n_items: int
) -> list[StepProgress]:
    """Each step's progress from what earlier calls finished and what this one did."""
    sums: dict[str, OutcomeCounts] = {}
    totals: dict[str, int] = {}
    for b in bound:
        name = b.step.name
        sums[name] = finished[name].copy()
        sums[name].add(now.get(name, OutcomeCounts()))
        totals[name] = n_items
        if b.upstream:
            before = sums[b.upstream.name]
            totals[name] = totals[b.upstream.name] - before.rejected - before.failed
    return [StepProgress(name, t.items, totals[name], dict(t.failed_reasons)) for name, t in sums.items()]
