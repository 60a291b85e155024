"""Flow ``mine``: run the mining steps on source files on Ray, cluster the people, and publish a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.corpus.calibrate import clustering_threshold
from flows.corpus.faces_device import faces_device
from flows.corpus.flow_session import call, in_prefect, open_corpus, opened, run_flow
from flows.corpus.progress_artifact import ProgressArtifact
from flows.corpus.remote_filesystem import remote_filesystem
from flows.corpus.run_record import record_tracked_run
from flows.corpus.speed_report import report_speed
from flows.publish import publish
from flows.running.flow_parameters import Decoder, PresetName, Seconds, Uri
from flows.running.task_retries import RETRIED
from infra.console import SOME_FAILED, ProgressBar, say
from infra.settings import PUBLISH_PRESET, load_settings
from infra.shown_text import masked_errors
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.catalog import Catalog
from mfhq.store import Store
from pipelines.engine.progress import StepProgress
from pipelines.engine.ray_data import MAX_ATTEMPTS, StepSummary, map_on_ray, run_steps
from pipelines.engine.state import bind_steps, make_plan, resume_steps
from pipelines.media.source_copies import SourceCopies
from pipelines.mining.config import DECODERS, MiningConfig
from pipelines.mining.digests import combine_terms, find_merged, known_digests, sources_to_mine
from pipelines.mining.fetch_waves import fetch_waves
from pipelines.mining.source_listing import Source, list_sources
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.reasons import TAKEN_DOWN

MAX_NAMED = 20
"""Most files of the same bytes as another that are named."""
DECODE_LIMIT_S = MiningConfig().decode_limit_s
"""Default of the time that decoding a short file may take, seconds."""


def mine_command(
    source: str,
    corpus: str,
    pack: str | None,
    preset: str,
    decoder: str = DECODERS[0],
    decode_limit_s: float = DECODE_LIMIT_S,
) -> int:
    """Run ``ffavatar mine``.

    Args:
        source: A folder, an s3:// prefix, or a list of files (txt, csv, parquet).
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; None for the embedded pack.
        preset: Name of a preset of the publish thresholds.
        decoder: Library that decodes (``DECODERS``).
        decode_limit_s: Time that decoding a short file may take, seconds; more is added for a long one.

    Returns:
        The exit status: 1 if items failed, otherwise 0.

    Raises:
        CallError: The pack has no calibrated threshold.
        ValueError: There is no such preset, or the source cannot be listed; the message names the error.
    """
    preset_named(preset)
    store = open_corpus(corpus)
    listed = list_sources(source, remote_filesystem(source))
    clustering_threshold(pack or "")
    limits: dict[str, Any] = {"decoder": decoder, "decode_limit_s": decode_limit_s}
    called: dict[str, Any] = {"source": source, "corpus": corpus, "pack": pack or "", "preset": preset, **limits}
    if is_mined(listed, store, pack or "", MiningConfig(**limits)):
        say("nothing is to be mined: publishing, without Ray and without a run of Prefect")
        result = mine.fn(**called)
    else:
        result = run_flow(mine, **called)
    if result["failures"]:
        videos = Catalog(store).open(result["snapshot"]).table("videos", ["video_id", "uri"])
        uri_of = dict(zip(*(column.to_pylist() for column in videos.columns), strict=True))
        for item, reason in result["failures"].items():
            say("  failed {uri}: {reason}", uri=uri_of.get(item, item), reason=reason)
    return SOME_FAILED if result["failures"] else 0


def is_mined(listed: list[Source], store: Store, pack: str, config: MiningConfig) -> bool:
    """Return True if no step has work to do on a source; nothing but the corpus is read, and nothing is written.

    Args:
        listed: The files of the source.
        store: The corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.
        config: Settings of the steps.
    """
    known = known_digests(store)
    if not known or any(s.size >= 0 and (s.uri, s.size, s.stamp) not in known for s in listed):
        return False
    sources, _ = sources_to_mine(listed, store)
    bound = resume_steps(store, bind_steps(mining_steps(config, pack or None), AFTER))
    return not make_plan(bound, sources, store, MAX_ATTEMPTS).tasks


@flow(name="mine", flow_run_name="mine {source}")
def mine(
    *,
    source: Uri,
    corpus: Uri,
    pack: str = "",
    preset: PresetName = PUBLISH_PRESET,
    home: str = "",
    decoder: Decoder = "pyav",
    decode_limit_s: Seconds = DECODE_LIMIT_S,
) -> dict[str, Any]:
    """Mine a source into a corpus; the same call again mines new files, and continues after an interruption.

    Args:
        source: A folder, an s3:// prefix, or a list of files (txt, csv, parquet).
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.
        preset: Name of a preset of the publish thresholds.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).
        decoder: Library that decodes (``DECODERS``).
        decode_limit_s: Time that decoding a short file may take, seconds; more is added for a long one.

    Returns:
        The result of ``flows.publish.publish``, ``failures`` (item id to reason), and ``run_id``.
    """
    described = {"source": source, "corpus": corpus, "pack": pack, "preset": asdict(preset_named(preset))}
    with (
        opened(home, with_ray=in_prefect(), corpus=corpus) as settings,
        tracked_run(settings, "mine", f"mine {source}", described) as run,
    ):
        config = MiningConfig(decoder=decoder, decode_limit_s=decode_limit_s)
        summaries = call(run_mining, source=source, corpus=corpus, pack=pack, run_id=run.run_id, config=config)
        counted = ("items", "ok", "rejected", "failed", "seconds")
        run.log_metrics({f"{s['step']}/{name}": s[name] for s in summaries for name in counted})
        published = call(publish, corpus=corpus, pack=pack, preset=preset, home=home, parent=run.run_id)
        store = open_store(corpus)
        snapshot = Catalog(store).open(published["snapshot"])
        run.log_metrics(report_speed(store, snapshot, run.run_id, source, pack))
        run.log_snapshot(store.uri, published["snapshot"], published["digest"], "output")
        record_tracked_run(store, run, "mine", published["snapshot"], described, "")
    return {**published, "failures": collect_failures(summaries), "run_id": run.run_id}


@task(name="mining steps", cache_policy=NO_CACHE, **RETRIED)
@masked_errors()
def run_mining(
    source: str, corpus: str, pack: str, run_id: str, config: MiningConfig | None = None
) -> list[dict[str, Any]]:
    """Run every mining step on every shard of a source.

    Args:
        source: A folder, an s3:// prefix, or a list of files (txt, csv, parquet).
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.
        run_id: Id of the run, which the ledger records with each attempt.
        config: Settings of the steps; by default ``MiningConfig()``.

    Returns:
        The ``summary_row`` of each step.
    """
    store, filesystem = open_store(corpus), remote_filesystem(source)
    listed = list_sources(source, filesystem, warn=lambda line: say("{line}", line=line))
    config = config or MiningConfig()
    if in_prefect():  # otherwise no network runs
        config = replace(config, device=faces_device().name)
    steps, settings = mining_steps(config, pack or None, filesystem), load_settings()
    room = settings.fetch_bytes or (SourceCopies(filesystem).room() if filesystem is not None else 0)
    waves = fetch_waves(listed, known_digests(store), room)
    done: list[list[dict[str, Any]]] = []
    mined: dict[str, dict[str, Any]] = {}
    for number, wave in enumerate(waves, start=1):
        if len(waves) > 1:
            say("wave {number} of {n}: {files} files", number=number, n=len(waves), files=len(wave))
        sources = _digest_wave(wave, source, store, filesystem)
        sources = _drop_mined(sources, mined)
        artifact = ProgressArtifact(f"mining {source} into {store.uri}") if in_prefect() else None
        with ProgressBar("mining") as progress:

            def report(
                counts: StepProgress, bar: ProgressBar = progress, page: ProgressArtifact | None = artifact
            ) -> None:
                bar.update_step(counts)
                if page:
                    page.update(counts)

            limits = {"max_workers": settings.max_workers}
            summaries = run_steps(steps, sources, store, run_id, after=AFTER, on_progress=report, **limits)
        if artifact:
            artifact.close()
        done.append([summary_row(s) for s in summaries])
    return [_sum_rows(rows) for rows in zip(*done, strict=True)]


def _sum_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up the ``summary_row`` of one step in several waves."""
    names = ("items", "before", "ok", "rejected", "failed", "seconds")
    total = {name: sum(row[name] for row in rows) for name in names}
    return {**rows[0], **total, "failures": {key: value for row in rows for key, value in row["failures"].items()}}


def _drop_mined(sources: pa.Table, mined: dict[str, dict[str, Any]]) -> pa.Table:
    """Drop the files whose bytes an earlier wave had, unless they add a licence or a consent to its row.

    Args:
        sources: ``SOURCES`` rows of a wave.
        mined: ``video_id`` to the row of the earlier waves, to which those of this wave are added.

    Raises:
        SourceError: Files with the same bytes have other licences or consents.
    """
    rows = []
    for row in sources.to_pylist():
        kept = mined.setdefault(row["video_id"], row)
        before = dict(kept)
        if kept is not row:
            combine_terms(kept, row)
        if kept is row or kept != before:
            rows.append(kept)
    return pa.Table.from_pylist(rows, schema=sources.schema)


def _digest_wave(listed: list[Source], source: str, store: Store, filesystem: Any) -> pa.Table:
    """Digest the files of a wave, and say what is mined of them."""
    sources, skipped = sources_to_mine(listed, store, filesystem, map_on_ray)
    if skipped:
        say("skipping {n} files: {reason}", n=skipped, reason=TAKEN_DOWN)
    say(
        "mining {n} files ({unique} different) of {source} into {uri}",
        n=len(listed),
        unique=len(sources),
        source=source,
        uri=store.uri,
    )
    merged = find_merged(listed, sources, store)
    for uri, kept in merged[:MAX_NAMED]:
        say("  {uri}: the same bytes as {kept}, which stands for both", uri=uri, kept=kept)
    if len(merged) > MAX_NAMED:
        say("  and {n} more of the same bytes as another", n=len(merged) - MAX_NAMED)
    return sources


def summary_row(summary: StepSummary) -> dict[str, Any]:
    """Return a step's summary as plain values.

    The keys are ``step`` (its name), ``seconds`` of worker time, ``failures`` (item id to reason), and the numbers of
    ``items``, ``before`` (items finished by earlier calls), ``ok``, ``rejected`` and ``failed``.
    """
    names = ("step", "items", "before", "ok", "rejected", "failed", "seconds")
    return {name: getattr(summary, name) for name in names} | {"failures": dict(summary.failures)}


def collect_failures(summaries: list[dict[str, Any]]) -> dict[str, str]:
    """Return the reason of each failed item by the item's id, collected from the ``summary_row`` of every step."""
    return {item: reason for summary in summaries for item, reason in summary["failures"].items()}
