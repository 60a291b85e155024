"""Steps on Ray Data: tasks of a few items of one shard stream through pools of warm workers.

What travels between the steps is ids and counts; rows and pictures go through the corpus, where every part is
committed by a marker (``pipelines.engine.commits``). So the same call again continues, whatever stopped it. This module
needs a Ray that runs (``infra.ray_session`` starts one).

Which steps one worker process runs, what it reserves, and how many of them there are.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import ray
from ray.util.annotations import RayDeprecationWarning

from mfhq.store import Store
from mfhq.takedowns import denied_by_all
from pipelines.engine.commits import describe_step
from pipelines.engine.progress import StepProgress, StepSummary, progress_of
from pipelines.engine.sources import first_of_each, record_sources
from pipelines.engine.state import BoundStep, OutcomeCounts, Plan, bind_steps, make_plan
from pipelines.engine.step import Step
from pipelines.engine.worker import PartRunner

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RESTARTS = 2
"""How often a worker whose process died is started again for the same items."""
NODES_TO_LOSE = 3
"""How often a call goes on with the nodes that are left."""
NOTICE_SECONDS = 30.0
"""How long a cluster may take to notice that a node is gone."""

_TRAVELLER = pa.schema(
    [
        pa.field("shard", pa.int32()),
        pa.field("keys", pa.list_(pa.string())),
        pa.field("sources", pa.binary()),
        pa.field("tallies", pa.string()),
        pa.field("error", pa.string()),
    ]
)
"""What Ray Data carries from step to step, one row a task: ``sources`` is Arrow IPC, ``tallies`` JSON by step."""


class EngineError(RuntimeError):
    """The run could not go on (a step that does not start, a corpus out of reach): one line.

    What was committed stays, and the same call again continues.
    """


class NodeLost(EngineError):
    """A machine of the cluster went away while it worked."""


def run_steps(
    steps: Sequence[Step],
    sources: pa.Table,
    store: Store,
    run_id: str,
    *,
    after: Mapping[str, str] | None = None,
    on_progress: Callable[[StepProgress], None] | None = None,
    max_attempts: int = 3,
) -> list[StepSummary]:
    """Run the steps on the sources, and leave alone what is done already.

    Args:
        steps: in an order in which each comes after the one that it reads.
        sources: the items, with the first step's input columns; the first row of an id counts. Those that a take-down
            names are left out.
        store: the corpus.
        run_id: stands in the ledger and the markers.
        after: step name to the name of the step that it reads; by default the one before it in the list.
        on_progress: called about twice a second, from another thread, for each step that moved.
        max_attempts: a failed item is quarantined after so many, earlier calls' attempts included.

    Raises:
        EngineError: see there; so is the loss of more than ``NODES_TO_LOSE`` nodes, one after the other. Failed items
            raise nothing: they are in the summaries.
        ValueError: the steps do not fit each other, or the sources lack a column.
    """
    bound = bind_steps(steps, after)
    sources = first_of_each(sources.select(bound[0].step.input.names).cast(bound[0].step.input), bound[0].step.key)
    sources = _allowed(sources, store, bound[0].step.key)
    record_sources(store, sources, bound[0].step.key)
    for b in bound:
        describe_step(store, b.at, b.step, b.upstream.name if b.upstream else "")
    for left in range(NODES_TO_LOSE, -1, -1):
        plan = make_plan(bound, sources, store, max_attempts)
        totals = plan.finished
        if plan.tasks:
            n_items = sum(len(task.keys) for task in plan.tasks)
            log.info("%d tasks, %d of %d items to work on", len(plan.tasks), n_items, len(sources))
        elif on_progress:
            for progress in progress_of(bound, totals, {}, len(sources)):
                on_progress(progress)
        try:
            for tallies in _stream(bound, plan, sources, store, run_id, on_progress, max_attempts):
                for name, tally in tallies.items():
                    totals[name].add(tally)
            break
        except NodeLost:  # what was committed stays, so the rest of it is a plan like any other
            if not left:
                raise
            log.warning("a node of the cluster went away; going on with the others")
    return [StepSummary.of(b, totals[b.step.name]) for b in bound]


def _allowed(sources: pa.Table, store: Store, key: str) -> pa.Table:
    """The items that no take-down names, nor somebody in them: what was taken down is not worked on again."""
    denied = denied_by_all(store)
    if not denied:
        return sources
    free = denied.without(sources)
    free = free.filter(pa.array([not denied.is_mined_no_more(item) for item in free[key].to_pylist()], pa.bool_()))
    if free.num_rows < sources.num_rows:
        log.info("%d of %d items are taken down", sources.num_rows - free.num_rows, sources.num_rows)
    return free


def _stream(
    bound: Sequence[BoundStep],
    plan: Plan,
    sources: pa.Table,
    store: Store,
    run_id: str,
    on_progress: Callable[[StepProgress], None] | None,
    max_attempts: int,
) -> Iterator[dict[str, OutcomeCounts]]:
    """Each task's outcomes by step, as the tasks come out of the last one."""
    if not plan.tasks:
        return
    if not ray.is_initialized():
        raise EngineError("Ray is not running; start it first (infra.ray_session)")
    nodes = _alive()
    board = ray.remote(num_cpus=0)(_Board).remote() if on_progress else None
    with _quiet_ray_data(), _watch(board, bound, plan, len(sources), on_progress):
        row_of = {key: row for row, key in enumerate(sources[bound[0].step.key].to_pylist())}
        travellers = [_traveller(task.shard, task.keys, row_of, sources) for task in plan.tasks]
        dataset: ray.data.Dataset = ray.data.from_arrow(travellers)
        groups = worker_groups(bound, ray.cluster_resources(), len(plan.tasks))
        for i, group in enumerate(groups):
            readers_to_come = any(b.from_sources(sources.schema) for later in groups[i + 1 :] for b in later.steps)
            with warnings.catch_warnings():  # Ray has no other way yet to bound the restarts
                warnings.simplefilter("ignore", RayDeprecationWarning)
                dataset = dataset.map_batches(
                    _Worker,
                    batch_size=1,  # a row is a task
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(min_size=1, initial_size=group.workers, max_size=group.workers),
                    fn_constructor_args=(
                        ray.cloudpickle.dumps((group.steps, store, run_id, max_attempts)),
                        board,
                        not readers_to_come,
                    ),
                    num_cpus=group.cpus,
                    num_gpus=group.gpus or None,
                    max_restarts=RESTARTS,
                    max_task_retries=RESTARTS,
                )
        try:
            for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in block.to_pylist():  # type: ignore[union-attr]
                    if row["error"]:
                        raise EngineError(row["error"])
                    yield {name: _tally(counts) for name, counts in json.loads(row["tallies"]).items()}
        except ray.exceptions.RayError as error:
            if lost := _lost(nodes):
                raise NodeLost(
                    f"{lost} of {len(nodes)} nodes of the cluster went away; run the same command again"
                ) from error
            raise EngineError(f"a worker died ({_last_line(error)}); run the same command again") from error


def _alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _lost(nodes: set[str]) -> int:
    """How many of a cluster's nodes are gone; what they were asked fails before the cluster itself takes notice."""
    deadline = time.monotonic() + (NOTICE_SECONDS if len(nodes) > 1 else 0.0)
    while not (gone := nodes - _alive()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return len(gone)


class _Worker:
    """A warm worker of some steps. An error that is no item's fault travels to the driver as a line of text."""

    def __init__(self, pickled: bytes, board: Any, forget_sources: bool) -> None:
        self.pickled, self.board, self.forget_sources = pickled, board, forget_sources
        self.runners: list[PartRunner] = []

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = [self._work(row) for row in block.to_pylist()]
        return pa.Table.from_pylist(rows, schema=_TRAVELLER)

    def _work(self, row: dict[str, Any]) -> dict[str, Any]:
        tallies = json.loads(row["tallies"])
        step = ""
        try:
            if not self.runners:  # here and not in __init__: what can't be unpickled is reported like other errors
                steps, store, run_id, max_attempts = ray.cloudpickle.loads(self.pickled)
                report = self._report if self.board is not None else None
                self.runners = [PartRunner(b, store, run_id, max_attempts, report) for b in steps]
            sources = pa.ipc.open_stream(row["sources"]).read_all() if row["sources"] else None
            for runner in self.runners if not row["error"] else ():
                step = runner.bound.step.name
                tallies[step] = asdict(runner.run_part(row["shard"], row["keys"], sources))
        except Exception as error:
            log.exception("step %s, shard %d", step, row["shard"])
            text = " ".join(str(error).split()) or type(error).__name__
            return row | {"error": text if step in text else f"step {step}: {text}"}
        return row | {"tallies": json.dumps(tallies), "sources": None if self.forget_sources else row["sources"]}

    def _report(self, name: str, tally: OutcomeCounts) -> None:
        self.board.add.remote(name, tally)


class _Board:
    """Where the workers say how far they are."""

    def __init__(self) -> None:
        self.tallies: dict[str, OutcomeCounts] = {}

    def add(self, name: str, tally: OutcomeCounts) -> None:
        self.tallies.setdefault(name, OutcomeCounts()).add(tally)

    def read(self) -> dict[str, OutcomeCounts]:
        return self.tallies


@contextmanager
def _watch(
    board: Any, bound: Sequence[BoundStep], plan: Plan, n_items: int, on_progress: Callable[[StepProgress], None] | None
) -> Iterator[None]:
    """Call ``on_progress`` while the body runs, and once more at its end."""
    if on_progress is None:
        yield
        return
    stop, shown = threading.Event(), dict[str, StepProgress]()
    finished = {name: tally.copy() for name, tally in plan.finished.items()}

    def look() -> None:
        now: dict[str, OutcomeCounts] = ray.get(board.read.remote())
        for progress in progress_of(bound, finished, now, n_items):
            if shown.get(progress.step) != progress:
                shown[progress.step] = progress
                on_progress(progress)

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            try:
                look()
            except ray.exceptions.RayError:
                return

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    with suppress(ray.exceptions.RayError):  # the board's node may be gone: the work is done all the same
        look()


def _last_line(error: BaseException) -> str:
    """The cause that a Ray error ends with, without the traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def _tally(counts: dict[str, Any]) -> OutcomeCounts:
    return OutcomeCounts(**counts)


def _traveller(shard: int, keys: Sequence[str], row_of: Mapping[str, int], sources: pa.Table) -> pa.Table:
    rows = sources.take(pa.array(sorted(row_of[key] for key in keys), pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    row = {"shard": shard, "keys": list(keys), "sources": sink.getvalue().to_pybytes(), "tallies": "{}", "error": ""}
    return pa.Table.from_pylist([row], schema=_TRAVELLER)


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """No progress bars and no chatter from Ray Data while the body runs: the progress shown is ours."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class WorkerGroup:
    """Consecutive steps that run in one process, one after the other for each task."""

    steps: tuple[BoundStep, ...]
    cpus: float
    """What Ray reserves for one worker; below what the steps ask for where the machine has less for all groups."""
    gpus: float
    workers: int
    """Most of them at a time."""


def worker_groups(bound: Sequence[BoundStep], cluster: Mapping[str, float], n_tasks: int) -> list[WorkerGroup]:
    """Share a cluster (``ray.cluster_resources()``) out among the steps.

    Consecutive steps without a GPU share their workers: a process costs seconds to start and hundreds of megabytes,
    and whoever is free takes the next task, whichever step is the slow one. Each step with a GPU has its own.

    Raises:
        EngineError: a step needs more GPUs than there are.
    """
    cores, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    for b in bound:
        if b.step.resources.gpus > gpus:
            need = f"needs {b.step.resources.gpus:g} GPUs, and Ray has {gpus:g}"
            raise EngineError(f"step {b.step.name} {need}; set its device to cpu")
    runs = groupby(bound, key=lambda b: b.step.name if b.step.resources.gpus else "")
    groups = [tuple(run) for _, run in runs]
    wanted = [max(b.step.resources.cpus for b in group) for group in groups]
    scale = min(1.0, cores / max(sum(wanted), 1e-3))
    made = []
    for group, cpus in zip(groups, wanted, strict=True):
        on_gpu = group[0].step.resources.gpus
        most = int(gpus / on_gpu if on_gpu else cores / max(cpus, 1.0))
        made.append(WorkerGroup(group, int(1000 * cpus * scale) / 1000, on_gpu, max(1, min(most, n_tasks))))
    return made
