"""Flow ``convert``: convert official multi-view captures with a step on Ray, and publish them as a snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from ffavatar_model.config import override, to_dict
from flows.corpus.flow_session import open_corpus, opened, run_flow
from flows.corpus.remote_filesystem import remote_filesystem
from flows.corpus.run_record import record_tracked_run
from flows.running.flow_parameters import CaptureDataset, Uri
from flows.running.task_retries import RETRIED
from infra.console import SOME_FAILED, CallError, ProgressBar, say
from infra.shown_text import masked_errors
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.schema import FAILED, OK, REJECTED
from mfhq.store import Store
from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import plan_ava256
from pipelines.conversion.capture_tables import capture_tables, participants_table
from pipelines.conversion.conversion_config import ConversionConfig
from pipelines.conversion.conversion_plan import ConversionPlan
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.conversion.nersemble.recordings import plan_nersemble
from pipelines.conversion.publish_captures import publish_captures
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps

Planner = Callable[[str, Any, Any], ConversionPlan]
"""Function from (source, data set's configuration, fsspec file system or None for a local source) to the plan."""

DATASETS: dict[str, tuple[type[ConversionConfig], Planner]] = {
    "ava256": (Ava256Config, plan_ava256),
    "nersemble": (NersembleConfig, plan_nersemble),
}
"""Configuration class and planner of each data set, by the data set's name."""

_PLANNED: dict[tuple[str, str, tuple[str, ...]], ConversionPlan] = {}
"""Plans that the command made, which its flow takes: a flow's parameters are small records that Prefect stores."""

SHOWN = 20
"""Most absent items, and most failed items, that the terminal lists; the artifact and the MLflow run list all."""


def convert_command(dataset: str, source: str, corpus: str, overrides: Sequence[str]) -> int:
    """Run ``ffavatar convert``.

    Args:
        dataset: A key of ``DATASETS``.
        source: Folder or s3:// prefix of the captures.
        corpus: URI of the corpus.
        overrides: Settings of the conversion, each written ``a=b``.

    Returns:
        The exit status: 1 if items or views failed, otherwise 0.

    Raises:
        CallError: There is no such data set, or it has no such setting.
        CaptureSourceError: The source contains no file of the data set.
    """
    open_corpus(corpus)
    key = (dataset, source, tuple(overrides))
    _PLANNED[key] = plan_conversion(dataset, source, conversion_config(dataset, overrides))
    result = run_flow(convert, dataset=dataset, source=source, corpus=corpus, overrides=list(overrides))
    return SOME_FAILED if result["failed"] else 0


def conversion_config(dataset: str, overrides: Sequence[str]) -> ConversionConfig:
    """Return a data set's configuration after replacing some of its settings.

    Args:
        dataset: A key of ``DATASETS``.
        overrides: Settings to replace, each written ``a=b``.

    Raises:
        CallError: There is no such data set, or it has no such setting.
    """
    if dataset not in DATASETS:
        raise CallError(f"no data set {dataset!r}; there are {', '.join(DATASETS)}")
    try:
        return override(DATASETS[dataset][0](), overrides)
    except ValueError as error:
        raise CallError(f"--set {error}") from error


def plan_conversion(dataset: str, source: str, config: ConversionConfig) -> ConversionPlan:
    """Plan the conversion of a source.

    Args:
        dataset: A key of ``DATASETS``.
        source: A folder, or an s3:// prefix.
        config: Configuration of the data set.
    """
    return DATASETS[dataset][1](source, config, remote_filesystem(source))


@flow(name="convert", flow_run_name="convert {dataset} {source}")
def convert(
    *, dataset: CaptureDataset, source: Uri, corpus: Uri, overrides: list[str] | None = None, home: str = ""
) -> dict[str, Any]:
    """Convert captures into a corpus and publish a snapshot; after an interruption, the same call continues.

    Args:
        dataset: A key of ``DATASETS``.
        source: Folder or s3:// prefix of the captures.
        corpus: URI of the corpus.
        overrides: Settings of the conversion, each written ``a=b``.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).

    Returns:
        ``snapshot`` (its name), ``digest`` of the snapshot, ``rows`` (number per table), ``run_id``, ``failed``
        (problems of items and views that failed, as in ``problems.json``) and ``absent`` (problems of those that are
        missing from the source or cannot be used).
    """
    config = conversion_config(dataset, overrides or [])
    described = {"dataset": dataset, "source": source, "corpus": corpus, "config": to_dict(config)}
    with (
        opened(home, corpus=corpus) as settings,
        tracked_run(settings, "convert", f"convert {dataset} {source}", described) as run,
    ):
        key = (dataset, source, tuple(overrides or ()))
        plan = _PLANNED.pop(key, None) or plan_conversion(dataset, source, config)
        converted = run_conversion(source, corpus, cast(ConversionPlan, quote(plan)), run.run_id)
        store = open_store(corpus)
        rows = read_items(store, plan, converted["fingerprint"])
        tables = capture_tables(rows)
        if plan.participants:
            tables["participants"] = participants_table(plan.participants, tables["identities"])
        about = {"fingerprints": {plan.step.name: converted["fingerprint"]}}
        published = publish_captures(store, tables, run_id=run.run_id, about=about)
        problems = _list_problems(plan, rows, tables["views"])
        reasons = Counter(tables["views"]["reason"].to_pylist())
        run.log_metrics({f"views/{reason or 'ok'}": n for reason, n in reasons.items()})
        run.log_json(problems, "problems.json")
        run.log_snapshot(store.uri, published.version, published.digest, "output")
        record_tracked_run(store, run, "convert", published.version, described)
    description = f"{source} into {store.uri} {published.version}"
    create_table_artifact(table=problems, key="conversion", description=description)
    _show_problems(problems)
    said = ", ".join(f"{reason or 'ok'} {n}" for reason, n in sorted(reasons.items()))
    say("views: {said}", said=said)
    say(
        "{views} views of {captures} captures converted; {uri} {version}",
        views=tables["views"].num_rows,
        captures=tables["captures"].num_rows,
        version=published.version,
        uri=store.uri,
    )
    return {
        "snapshot": published.version,
        "digest": published.digest,
        "rows": dict(published.rows),
        "run_id": run.run_id,
        "failed": [row for row in problems if row["status"] == FAILED],
        "absent": [row for row in problems if row["status"] == REJECTED],
    }


@task(name="conversion step", cache_policy=NO_CACHE, **RETRIED)
@masked_errors()
def run_conversion(source: str, corpus: str, plan: ConversionPlan, run_id: str) -> dict[str, Any]:
    """Convert the items that the corpus does not contain yet.

    Args:
        source: Folder or s3:// prefix of the captures, which the progress names.
        corpus: URI of the corpus.
        plan: The plan; a caller quotes it, so that Prefect does not look through it.
        run_id: Id of the run, which the ledger records with each attempt.

    Returns:
        ``fingerprint`` of the step, ``seconds`` of worker time, and the numbers of ``items``, ``before`` (items
        finished by earlier calls), ``ok``, ``rejected`` and ``failed``.
    """
    with ProgressBar(f"converting {source}") as progress:
        (summary,) = run_steps([plan.step], plan.items, open_store(corpus), run_id, on_progress=progress.update_step)
    names = ("fingerprint", "items", "before", "ok", "rejected", "failed", "seconds")
    return {name: getattr(summary, name) for name in names}


def read_items(store: Store, plan: ConversionPlan, fingerprint: str) -> pa.Table:
    """Read the step's stored output for the plan's items only; earlier calls may have converted further items.

    Args:
        store: The corpus.
        plan: The plan, with the step and its items.
        fingerprint: Fingerprint of the step.
    """
    rows = read_step(store, plan.step.name, fingerprint)
    planned = plan.items[plan.step.key].combine_chunks()
    return rows.filter(pc.is_in(rows[plan.step.key], value_set=planned))


def _list_problems(plan: ConversionPlan, rows: pa.Table, views: pa.Table) -> list[dict[str, str]]:
    """List the items and views that are absent, rejected or failed, as rows of ``what``, ``status`` and ``reason``.

    Views get one row per camera, status and reason, with the number of views in ``what``.
    """
    problems = [{"what": m.name, "status": REJECTED, "reason": m.reason} for m in sorted(plan.missing)]
    for row in rows.select([plan.step.key, "status", "reason"]).to_pylist():
        if row["status"] != OK:
            problems.append({"what": row[plan.step.key], "status": row["status"], "reason": row["reason"]})
    names = ("capture_id", "camera_id", "status", "reason")
    counts = Counter(zip(*(views[name].to_pylist() for name in names), strict=True))
    for (capture, camera, status, reason), n in sorted(counts.items()):
        if status != OK:
            problems.append({"what": f"{capture}/{camera}: {n} views", "status": status, "reason": reason})
    return problems


def _show_problems(problems: Sequence[Mapping[str, str]]) -> None:
    for status, heading in ((REJECTED, "not there or not usable"), (FAILED, "failed")):
        rows = [row for row in problems if row["status"] == status]
        if rows:
            say("{n} {heading}:", n=len(rows), heading=heading)
        for row in rows[:SHOWN]:
            say("  {what}: {reason}", what=row["what"], reason=row["reason"])
        if len(rows) > SHOWN:
            say("  and {n} more (all of them: problems.json of the run)", n=len(rows) - SHOWN)
