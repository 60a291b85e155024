"""``ffavatar plan``: what a run would do and cost; runs nothing."""

from __future__ import annotations

import datetime
import os

from infra.console import say, table
from infra.storage import open_store
from pipelines.engine.state import bind_steps
from pipelines.mining.mining_plan import MiningPlan, make_mining_plan
from pipelines.mining.steps import AFTER, mining_steps


def plan_command(source: str, corpus: str, pack: str | None, workers: int | None) -> None:
    """Print the plan of ``mine SOURCE --corpus URI``."""
    store = open_store(corpus)
    filesystem = open_store(source).filesystem if source.startswith("s3://") else None
    plan = make_mining_plan(source, store, bind_steps(mining_steps(pack_name=pack), AFTER), filesystem)
    show_plan(plan, workers or os.cpu_count() or 1)


def show_plan(plan: MiningPlan, workers: int) -> None:
    """Print a plan as a table, and when it would end with so many workers."""
    say(
        "{files} files; the corpus knows the content of {known} of them, the others count as pending",
        files=plan.files,
        known=plan.known,
    )
    rows = [
        (
            s.step,
            s.done,
            s.pending,
            s.seconds_each,
            None if s.seconds is None else s.seconds / 3600,
            None if s.bytes_each is None else s.bytes_each * s.pending / 1e6,
            s.requests,
            s.measured_on,
        )
        for s in plan.steps
    ]
    names = ("step", "done", "pending", "s/item", "worker hours", "MB written", "requests", "measured on")
    table("plan", names, rows)
    if plan.bytes_to_read is not None:
        say("to read: {gb:.2f} GB of source files".replace("{gb:.2f}", f"{plan.bytes_to_read / 1e9:.2f}"))
    if not any(s.pending for s in plan.steps):
        say("nothing is pending: the same mine command would only publish")
    elif plan.seconds is None:
        missing = ", ".join(s.step for s in plan.steps if s.pending and s.seconds_each is None)
        say("no estimate: {missing} never ran in this corpus; mine a few files first", missing=missing)
    else:
        seconds = plan.seconds / workers
        end = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=seconds)
        say(
            "with {workers} workers: {hours} h, until about {end}",
            workers=workers,
            hours=f"{seconds / 3600:.2f}",
            end=end.strftime("%Y-%m-%d %H:%M"),
        )
