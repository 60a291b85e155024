"""Execution of steps on Ray Data: tasks stream through pools of workers that keep their models loaded.

A task is a few items of one shard. Between the steps travel ids, source rows, counts, and what a step made for the next
(``pipelines.engine.handover``); every part is also committed to the corpus by a marker (``pipelines.engine.commits``).
Therefore the same call, repeated after an interruption, continues where it stopped. This module needs a running Ray
(``infra.ray_session`` starts one), and is the only module in ``pipelines`` that imports Ray.

``run_steps`` is the entry point. ``worker_groups`` decides which steps share a worker process, which resources a worker
reserves, and how many workers there are.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, cast

import pyarrow as pa
import ray
from ray.util.annotations import RayDeprecationWarning

from mfhq.store import Store
from mfhq.takedowns import read_deny_list
from pipelines.engine.handover import Handover
from pipelines.engine.progress import StepProgress, StepSummary, progress_of
from pipelines.engine.sources import first_of_each, record_sources
from pipelines.engine.state import BoundStep, OutcomeCounts, Plan, ShardState, Task, bind_steps, make_plan, resume_steps
from pipelines.engine.step import Step
from pipelines.engine.worker import StepWorker

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
MAX_ATTEMPTS = 3
"""Number of attempts, including earlier calls, after which a failed item is quarantined."""
MAX_RESTARTS = 2
"""Upper bound on the restarts of a worker whose process died on the same items."""
MAX_LOST_NODES = 3
"""Number of times in a row that a call continues after a loss of nodes although no item made progress in between."""
NODE_LOSS_TIMEOUT_S = 30.0
"""Seconds to wait for the cluster to report a lost node."""

TASK_ROW = pa.schema(
    [
        pa.field("shard", pa.int32()),
        pa.field("keys", pa.list_(pa.string())),
        pa.field("sources", pa.binary()),
        pa.field("passed", pa.list_(pa.struct([("step", pa.string()), ("rows", pa.large_binary())]))),
        pa.field("counts", pa.string()),
        pa.field("error", pa.string()),
    ]
)
"""Schema of a task's row, which Ray Data carries from step to step.

``sources`` is an Arrow IPC stream of the items' source rows; ``passed`` has rows that steps of this call made and a
later one reads (``engine.handover``); ``counts`` is JSON (step name to the fields of ``OutcomeCounts``).
"""


class EngineError(RuntimeError):
    """Failure of a complete run: a step does not start, or the corpus is out of reach; the message is one line.

    Committed output stays, and repeating the call continues from it.
    """


class NodeLost(EngineError):
    """Loss of a machine of the cluster during a run."""


def run_steps(
    steps: Sequence[Step],
    sources: pa.Table,
    store: Store,
    run_id: str,
    *,
    after: Mapping[str, str] | None = None,
    on_progress: Callable[[StepProgress], None] | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    max_workers: int = 0,
) -> list[StepSummary]:
    """Run the steps on the sources; finished items are not touched.

    A failed item raises no error: the summaries list it.

    Args:
        steps: The steps, each after the step whose output it reads.
        sources: The items, with the first step's input columns. If an id occurs twice, its first row is used. Items
            that a take-down names are left out.
        store: The corpus.
        run_id: Id of the run, written into the ledger and the markers.
        after: Step name to the name of the step whose output it reads; by default the step before it in the list.
        on_progress: Called about twice a second, from another thread, for each step whose progress changed.
        max_attempts: Number of attempts, including earlier calls, after which a failed item is quarantined.
        max_workers: Upper bound on the workers of a step that Ray is asked for, so that an autoscaler starts machines;
            0 for as many as the cluster of now can run.

    Returns:
        A summary of each step, in the order of ``steps``.

    Raises:
        EngineError: The run cannot continue, or nodes were lost again and again without any progress.
        ValueError: The steps do not fit together, or the sources lack a column.
    """
    bound = bind_steps(steps, after)
    sources = first_of_each(sources.select(bound[0].step.input.names).cast(bound[0].step.input), bound[0].step.key)
    sources = _without_denied(sources, store, bound[0].step.key)
    record_sources(store, sources, bound[0].step.key)
    bound = resume_steps(store, bound, described=True)
    losses_left, outcomes = MAX_LOST_NODES, -1
    while True:
        plan = make_plan(bound, sources, store, max_attempts)
        totals = plan.finished
        done = plan.n_outcomes + sum(counts.items for counts in totals.values())
        losses_left = MAX_LOST_NODES if done > outcomes else losses_left - 1
        outcomes = done
        if plan.tasks:
            n_items = sum(len(task.keys) for task in plan.tasks)
            log.info("%d tasks, %d of %d items to work on", len(plan.tasks), n_items, len(sources))
        elif on_progress:
            for progress in progress_of(bound, totals, {}, len(sources)):
                on_progress(progress)
        try:
            for counts_of_task in _run_tasks(
                bound, plan, sources, store, run_id, on_progress, max_attempts, max_workers
            ):
                for name, counts in counts_of_task.items():
                    totals[name].add(counts)
            break
        except NodeLost:  # committed output stays, so the next plan holds only the remaining items
            if not losses_left:
                raise
            log.warning("a node of the cluster was lost; going on with the others")
    return [StepSummary.of(b, totals[b.step.name]) for b in bound]


def map_on_ray(call: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Call a function on each item, on one core each of the running Ray.

    Args:
        call: A function that can be pickled, and may be called twice on the same item.
        items: Its arguments.

    Yields:
        The results, in any order.

    Raises:
        EngineError: A worker died again and again, or the function raised an error.
    """
    if not items:
        return
    remote, waiting = ray.remote(num_cpus=1, max_retries=MAX_RESTARTS)(call_one), list(items)
    pickled, running = ray.put(ray.cloudpickle.dumps(call)), list[Any]()
    try:
        while waiting or running:
            room = max(2, int(2 * ray.cluster_resources().get("CPU", 1.0))) - len(running)
            running += [remote.remote(pickled, item) for item in waiting[:room]]
            waiting = waiting[max(room, 0) :]
            done, running = ray.wait(running)
            yield from ray.get(done)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EngineError(
            f"{lines[-1][:300] if lines else type(error).__name__}; run the same command again"
        ) from error


def cluster_gpus() -> float:
    """Return the number of GPUs of the running Ray; 0 if none is running."""
    return float(ray.cluster_resources().get("GPU", 0.0)) if ray.is_initialized() else 0.0


def call_one(pickled: bytes, item: Any) -> Any:
    """Call a pickled function on an item: what a task of ``map_on_ray`` does."""
    return ray.cloudpickle.loads(pickled)(item)


def _without_denied(sources: pa.Table, store: Store, key: str) -> pa.Table:
    """Leave out the items that a take-down names, and those with a withdrawn person in them."""
    denied = read_deny_list(store)
    if not denied:
        return sources
    allowed = denied.prune(sources)
    is_mined = [not denied.blocks_mining(item) for item in allowed[key].to_pylist()]
    allowed = allowed.filter(pa.array(is_mined, pa.bool_()))
    if allowed.num_rows < sources.num_rows:
        log.info("%d of %d items are taken down", sources.num_rows - allowed.num_rows, sources.num_rows)
    return allowed


def _run_tasks(
    bound: Sequence[BoundStep],
    plan: Plan,
    sources: pa.Table,
    store: Store,
    run_id: str,
    on_progress: Callable[[StepProgress], None] | None,
    max_attempts: int,
    max_workers: int,
) -> Iterator[dict[str, OutcomeCounts]]:
    """Yield each task's outcomes by step, as the tasks leave the last step."""
    if not plan.tasks:
        return
    if not ray.is_initialized():
        raise EngineError("Ray is not running; start it first (infra.ray_session)")
    nodes = _alive_nodes()
    counter = ray.remote(num_cpus=0)(_ProgressActor).remote() if on_progress else None
    with _quiet_ray_data(), _report_progress(counter, bound, plan, len(sources), on_progress):
        row_of = {key: row for row, key in enumerate(sources[bound[0].step.key].to_pylist())}
        dataset: ray.data.Dataset = ray.data.from_arrow([_task_row(task, row_of, sources) for task in plan.tasks])
        groups = worker_groups(bound, ray.cluster_resources(), len(plan.tasks), max_workers)
        for i, group in enumerate(groups):
            later_steps = [b for later in groups[i + 1 :] for b in later.steps]
            sources_needed = any(b.from_sources(sources.schema) for b in later_steps)
            later_inputs = {b.upstream.name for b in later_steps if b.upstream}
            with warnings.catch_warnings():  # Ray offers no other way yet to limit the restarts
                warnings.simplefilter("ignore", RayDeprecationWarning)
                dataset = dataset.map_batches(
                    _GroupWorker,
                    batch_size=1,  # a row is a task
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(
                        min_size=1, initial_size=group.workers, max_size=group.most_workers
                    ),
                    fn_constructor_args=(
                        ray.cloudpickle.dumps((group.steps, store, run_id, max_attempts)),
                        counter,
                        not sources_needed,
                        later_inputs,
                    ),
                    num_cpus=group.cpus,
                    num_gpus=group.gpus or None,
                    max_restarts=MAX_RESTARTS,
                    max_task_retries=MAX_RESTARTS,
                )
        try:
            for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in cast(pa.Table, block).to_pylist():
                    if row["error"]:
                        raise EngineError(row["error"])
                    yield {name: OutcomeCounts(**fields) for name, fields in json.loads(row["counts"]).items()}
        except ray.exceptions.RayError as error:
            if lost := _count_lost_nodes(nodes):
                raise NodeLost(
                    f"{lost} of {len(nodes)} nodes of the cluster were lost; run the same command again"
                ) from error
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            cause = f"{type(error).__name__}: {lines[-1] if lines else ''}"[
                :300
            ]  # the lines before the last are the traceback
            raise EngineError(f"a worker died ({cause}); run the same command again") from error


def _task_row(task: Task, row_of: Mapping[str, int], sources: pa.Table) -> pa.Table:
    """Return a ``TASK_ROW`` with the sources of the task's items."""
    rows = sources.take(pa.array(sorted(row_of[key] for key in task.keys), pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    serialized = sink.getvalue().to_pybytes()
    row = {
        "shard": task.shard,
        "keys": list(task.keys),
        "sources": serialized,
        "passed": [],
        "counts": "{}",
        "error": "",
    }
    return pa.Table.from_pylist([row], schema=TASK_ROW)


class _GroupWorker:
    """Worker that runs a group's steps and keeps their models loaded.

    An error that is not caused by an item is passed on to the driver as one line of text.
    """

    def __init__(self, pickled: bytes, counter: Any, drop_sources: bool, later_inputs: set[str]) -> None:
        self.pickled, self.counter, self.drop_sources, self.later_inputs = pickled, counter, drop_sources, later_inputs
        self.workers: list[StepWorker] = []
        if not ray.get_gpu_ids():  # no library of a worker without a GPU may take one
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = [self._process_task(row) for row in block.to_pylist()]
        return pa.Table.from_pylist(rows, schema=TASK_ROW)

    def _process_task(self, row: dict[str, Any]) -> dict[str, Any]:
        counts = json.loads(row["counts"])
        step = ""
        try:
            if not self.workers:  # here and not in __init__, so that an error of unpickling is reported like any other
                steps, store, run_id, max_attempts = ray.cloudpickle.loads(self.pickled)
                report = self._report if self.counter is not None else None
                states = OrderedDict[tuple[str, int], ShardState]()
                share = self._report_share if self.counter is not None else None
                self.workers = [StepWorker(b, store, run_id, max_attempts, report, states, share) for b in steps]
            sources = pa.ipc.open_stream(row["sources"]).read_all() if row["sources"] else None
            inputs = {worker.bound.upstream.name for worker in self.workers if worker.bound.upstream}
            handover = Handover(inputs | self.later_inputs)
            handover.add_bytes([(passed["step"], passed["rows"]) for passed in row["passed"] or ()])
            for worker in self.workers if not row["error"] else ():
                step = worker.bound.step.name
                counts[step] = asdict(worker.process(row["shard"], row["keys"], sources, handover))
        except Exception as error:
            log.exception("step %s, shard %d", step, row["shard"])
            text = " ".join(str(error).split()) or type(error).__name__
            return row | {"error": text if step in text else f"step {step}: {text}"}
        passed = [{"step": name, "rows": data} for name, data in handover.to_bytes(self.later_inputs).items()]
        sources = None if self.drop_sources else row["sources"]
        return row | {"counts": json.dumps(counts), "sources": sources, "passed": passed}

    def _report(self, name: str, counts: OutcomeCounts) -> None:
        self.counter.add.remote(name, counts)

    def _report_share(self, name: str, key: str, share: float) -> None:
        self.counter.set_share.remote(name, key, share)


class _ProgressActor:
    """A Ray actor that adds up the outcomes that the workers report, by step."""

    def __init__(self) -> None:
        self.counts: dict[str, OutcomeCounts] = {}
        self.shares: dict[tuple[str, str], float] = {}

    def add(self, name: str, counts: OutcomeCounts) -> None:
        self.counts.setdefault(name, OutcomeCounts()).add(counts)

    def set_share(self, name: str, key: str, share: float) -> None:
        """Set the share that is done of an item in work; 0 forgets it."""
        self.shares[name, key] = share
        if not share:
            del self.shares[name, key]

    def read(self) -> tuple[dict[str, OutcomeCounts], dict[str, float]]:
        in_work: dict[str, float] = {}
        for (name, _), share in self.shares.items():
            in_work[name] = in_work.get(name, 0.0) + share
        return self.counts, in_work


@contextmanager
def _report_progress(
    counter: Any,
    bound: Sequence[BoundStep],
    plan: Plan,
    n_items: int,
    on_progress: Callable[[StepProgress], None] | None,
) -> Iterator[None]:
    """Call ``on_progress`` while the body runs, and once more at its end."""
    if on_progress is None:
        yield
        return
    stop, reported = threading.Event(), dict[str, StepProgress]()
    finished = {name: counts.copy() for name, counts in plan.finished.items()}

    def report() -> None:
        current, in_work = ray.get(counter.read.remote())
        for progress in progress_of(bound, finished, current, n_items, in_work):
            if reported.get(progress.step) != progress:
                reported[progress.step] = progress
                on_progress(progress)

    def poll() -> None:
        while not stop.wait(POLL_SECONDS):
            try:
                report()
            except ray.exceptions.RayError:
                return

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    with suppress(ray.exceptions.RayError):  # the counter's node may be lost; the work is done all the same
        report()


def _alive_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _count_lost_nodes(nodes: set[str]) -> int:
    """Count the lost nodes.

    A task fails before the cluster reports that its node is lost, so this waits up to ``NODE_LOSS_TIMEOUT_S``.
    """
    deadline = time.monotonic() + (NODE_LOSS_TIMEOUT_S if len(nodes) > 1 else 0.0)
    while not (lost := nodes - _alive_nodes()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return len(lost)


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Silence the progress bars and logs of Ray Data while the body runs; the run shows its own progress."""
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
    """CPUs that Ray reserves for one worker; fewer than the steps request if the cluster has too few for all."""
    gpus: float
    workers: int
    """Number of workers that the cluster of now can run at once."""
    most_workers: int
    """Upper bound on the number of workers."""


def worker_groups(
    bound: Sequence[BoundStep], cluster: Mapping[str, float], n_tasks: int, max_workers: int = 0
) -> list[WorkerGroup]:
    """Divide a cluster's resources among the steps, so that one worker of each group fits at once.

    Consecutive steps without a GPU share their workers: a process takes seconds to start and hundreds of megabytes of
    memory, and shared workers stay busy whichever step is the slowest. Each step with a GPU has its own workers, and
    all such steps have the same number; if the GPUs are too few for one worker of each, a worker has a smaller share.

    Args:
        bound: The steps in their order.
        cluster: Resources of the cluster (``ray.cluster_resources()``): CPU, GPU.
        n_tasks: Number of tasks; no group has more workers than there are tasks.
        max_workers: Upper bound on a group's workers, if it is above what the cluster can run.

    Raises:
        EngineError: A step needs more GPUs than the cluster has.
    """
    cores, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    for b in bound:
        if b.step.resources.gpus > gpus:
            need = f"needs {b.step.resources.gpus:g} GPUs, and Ray has {gpus:g}"
            raise EngineError(f"step {b.step.name} {need}; set its device to cpu")
    runs = groupby(bound, key=lambda b: b.step.name if b.step.resources.gpus else "")
    step_groups = [tuple(run) for _, run in runs]
    requested_cpus = [max(b.step.resources.cpus for b in steps) for steps in step_groups]
    scale = min(1.0, cores / max(sum(requested_cpus), 1e-3))
    requested_gpus = [steps[0].step.resources.gpus for steps in step_groups]
    gpu_scale = min(1.0, gpus / max(sum(requested_gpus), 1e-3))
    groups = []
    for steps, cpus, step_gpus in zip(step_groups, requested_cpus, requested_gpus, strict=True):
        capacity = int(min(gpus / sum(requested_gpus), cores) if step_gpus else cores / max(cpus, 1.0))
        gpu_share = int(1000 * step_gpus * gpu_scale) / 1000
        shares = (int(1000 * cpus * scale) / 1000, gpu_share if gpu_share <= 1 else float(int(gpu_share)))
        workers = max(1, min(capacity, n_tasks))
        groups.append(WorkerGroup(steps, *shares, workers, max(workers, min(max_workers, n_tasks))))
    return groups
