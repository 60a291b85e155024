"""``ffavatar convert``: official multi-view captures → steps on Ray → a published snapshot, as one Prefect flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from ffavatar_model.config import from_dict, override, to_dict
from infra.console import SOME_FAILED, CallError, ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import config_hash, git_revision, tracked_run
from mfhq.live import record_run
from mfhq.schema import FAILED, REJECTED
from mfhq.store import Store
from pipelines.conversion.ava256_frames import Ava256Config
from pipelines.conversion.ava256_step import plan_ava256
from pipelines.conversion.capture_tables import capture_tables, participants_table
from pipelines.conversion.config import ConversionConfig
from pipelines.conversion.conversion_plan import ConversionPlan
from pipelines.conversion.nersemble.config import NersembleConfig
from pipelines.conversion.nersemble.recordings import plan_nersemble
from pipelines.conversion.publish_captures import publish_captures
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps

Planner = Callable[[str, Any, Any], ConversionPlan]
"""(source, the data set's configuration, what reads a remote source: fsspec, or None) → the work."""

DATASETS: dict[str, tuple[type[ConversionConfig], Planner]] = {
    "ava256": (Ava256Config, plan_ava256),
    "nersemble": (NersembleConfig, plan_nersemble),
}
"""Name to the data set's configuration and planner."""

SHOWN = 20
"""Absent and failed things that are named on the terminal; the artifact and the run hold them all."""


def convert_command(dataset: str, source: str, corpus: str, overrides: Sequence[str]) -> int:
    """``ffavatar convert``: returns the exit status, 1 when items or views failed."""
    settings = load_settings()
    config = configured(dataset, overrides)
    open_store(corpus)
    plan_of(dataset, source, config)
    with ray_session(settings):
        done = convert(
            dataset=dataset, source=source, corpus=corpus, overrides=list(overrides), home=str(settings.home)
        )
    return SOME_FAILED if done["failed"] else 0


def configured(dataset: str, overrides: Sequence[str]) -> ConversionConfig:
    """A data set's configuration with settings replaced (``a=b``).

    Raises:
        CallError: no such data set, or no such setting.
    """
    if dataset not in DATASETS:
        raise CallError(f"no data set {dataset!r}; there are {', '.join(DATASETS)}")
    try:
        return override(DATASETS[dataset][0](), overrides)
    except ValueError as error:
        raise CallError(f"--set {error}") from error


def plan_of(dataset: str, source: str, config: ConversionConfig) -> ConversionPlan:
    """The work that a source gives: a folder, or an s3:// prefix."""
    return DATASETS[dataset][1](source, config, open_store(source).filesystem if source.startswith("s3://") else None)


@flow(name="convert", validate_parameters=False)
def convert(
    *, dataset: str, source: str, corpus: str, overrides: list[str] | None = None, home: str = ""
) -> dict[str, Any]:
    """Convert ``source`` into ``corpus`` and publish a snapshot: the same call again goes on after a kill.

    Returns:
        ``snapshot``, ``digest``, ``rows`` by table, ``failed`` (what did not convert, with its reason; views too),
        ``absent`` (what the data set lists and the source lacks), ``run_id``.
    """
    config = configured(dataset, overrides or [])
    plan = plan_of(dataset, source, config)
    described = {"dataset": dataset, "source": source, "corpus": corpus, "config": to_dict(config)}
    with tracked_run(load_settings(home or None), "convert", f"convert {dataset} {source}", described) as run:
        converted = run_conversion(dataset, source, corpus, to_dict(config), run.run_id)
        store = open_store(corpus)
        rows = read_items(store, plan, converted["fingerprint"])
        tables = capture_tables(rows)
        if plan.participants:
            tables["participants"] = participants_table(plan.participants, tables["identities"])
        about = {"fingerprints": {plan.step.name: converted["fingerprint"]}}
        made = publish_captures(store, tables, run_id=run.run_id, about=about)
        problems = _problems(plan, rows, tables["views"])
        run.metrics({f"views/{reason or 'ok'}": n for reason, n in _reasons(tables["views"]).items()})
        run.json(problems, "problems.json")
        run.snapshot(store.uri, made.version, made.digest, "output")
        record_run(store, run.run_id, "convert", made.version, git_revision(), config_hash(described))
    create_table_artifact(table=problems, key="conversion", description=f"{source} into {store.uri} {made.version}")
    _show(problems, _reasons(tables["views"]))
    say(
        "{views} views of {captures} captures converted; {uri} {version}",
        views=tables["views"].num_rows,
        captures=tables["captures"].num_rows,
        version=made.version,
        uri=store.uri,
    )
    return {
        "snapshot": made.version,
        "digest": made.digest,
        "rows": dict(made.rows),
        "run_id": run.run_id,
        "failed": [row for row in problems if row["status"] == FAILED],
        "absent": [row for row in problems if row["status"] == REJECTED],
    }


@task(name="conversion step", cache_policy=NO_CACHE)
def run_conversion(dataset: str, source: str, corpus: str, config: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Convert what is not converted yet; returns the step's fingerprint and counts."""
    plan = plan_of(dataset, source, from_dict(DATASETS[dataset][0], config))
    progress = ProgressBar(f"converting {source}")
    (summary,) = run_steps(
        [plan.step],
        plan.items,
        open_store(corpus),
        run_id,
        on_progress=lambda p: progress.update(p.step, p.done, p.total, p.failed),
    )
    progress.close()
    names = ("fingerprint", "items", "before", "ok", "rejected", "failed", "seconds")
    return {name: getattr(summary, name) for name in names}


def read_items(store: Store, plan: ConversionPlan, fingerprint: str) -> pa.Table:
    """The step's stored output for the plan's items alone: an earlier call may have converted others."""
    rows = read_step(store, plan.step.name, fingerprint)
    wanted = plan.items[plan.step.key].combine_chunks()
    return rows.filter(pc.is_in(rows[plan.step.key], value_set=wanted))


def _problems(plan: ConversionPlan, rows: pa.Table, views: pa.Table) -> list[dict[str, str]]:
    """What is absent, was rejected or failed: ``what``, ``status``, ``reason``; views are counted by camera."""
    found = [{"what": a.what, "status": REJECTED, "reason": a.reason} for a in sorted(plan.absent)]
    for row in rows.select([plan.step.key, "status", "reason"]).to_pylist():
        if row["status"] != "ok":
            found.append({"what": row[plan.step.key], "status": row["status"], "reason": row["reason"]})
    names = ("capture_id", "camera_id", "status", "reason")
    counts = Counter(zip(*(views[name].to_pylist() for name in names), strict=True))
    for (capture, camera, status, reason), n in sorted(counts.items()):
        if status != "ok":
            found.append({"what": f"{capture}/{camera}: {n} views", "status": status, "reason": reason})
    return found


def _reasons(views: pa.Table) -> Counter[str]:
    return Counter(views["reason"].to_pylist())


def _show(problems: Sequence[Mapping[str, str]], reasons: Mapping[str, int]) -> None:
    for status, word in ((REJECTED, "not there or not usable"), (FAILED, "failed")):
        rows = [row for row in problems if row["status"] == status]
        if rows:
            say("{n} {word}:", n=len(rows), word=word)
        for row in rows[:SHOWN]:
            say("  {what}: {reason}", what=row["what"], reason=row["reason"])
        if len(rows) > SHOWN:
            say("  and {n} more (all of them: problems.json of the run)", n=len(rows) - SHOWN)
    said = ", ".join(f"{reason or 'ok'} {n}" for reason, n in sorted(reasons.items()))
    say("views: {said}", said=said)
