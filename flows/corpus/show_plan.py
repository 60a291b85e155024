"""Command ``ffavatar plan``: print the pending items and the expected cost of a mining run."""

from __future__ import annotations

import datetime
import os

from flows.corpus.remote_filesystem import remote_filesystem
from infra.console import print_table, say
from infra.storage import open_store
from pipelines.engine.state import bind_steps
from pipelines.mining.mining_plan import MiningPlan, make_mining_plan
from pipelines.mining.steps import AFTER, mining_steps


def plan_command(source: str, corpus: str, pack: str | None, workers: int | None) -> None:
    """Run ``ffavatar plan``: print what ``mine SOURCE --corpus URI`` would do, and run nothing.

    Args:
        source: A folder, an s3:// prefix, or a list of files (txt, csv, parquet).
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; None for the embedded pack.
        workers: Number of workers for the estimated time; None for the number of this machine's cores.
    """
    store, filesystem = open_store(corpus), remote_filesystem(source)
    plan = make_mining_plan(source, store, bind_steps(mining_steps(pack_name=pack), AFTER), filesystem)
    show_plan(plan, workers or os.cpu_count() or 1)


def show_plan(plan: MiningPlan, workers: int) -> None:
    """Print a plan as a table, and the time at which the run would end.

    Args:
        plan: The plan.
        workers: Number of workers that share the work.
    """
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
    print_table("plan", names, rows)
    if plan.bytes_to_read is not None:
        say("to read: {gb} GB of source files", gb=f"{plan.bytes_to_read / 1e9:.2f}")
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
