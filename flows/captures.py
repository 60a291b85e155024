"""Flow ``studio``: render captures with ground truth; beside it, a function that renders talking-head videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ffavatar_model.head.open_head import build_open_head
from flows.corpus.flow_session import opened, run_flow
from flows.corpus.run_record import record_tracked_run
from flows.running.flow_parameters import Count, Limit, Pixels, Uri
from flows.running.task_retries import RETRIED
from infra.console import ProgressBar, say
from infra.shown_text import masked_errors
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.ids import digest
from pipelines.conversion.capture_tables import capture_tables
from pipelines.conversion.publish_captures import publish_captures
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps
from pipelines.engine.step import Step
from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.captures.capture_step import plan_captures, render_capture_step
from pipelines.studio.captures.capture_studio import CaptureStudio, open_capture_studio
from pipelines.studio.captures.talking_head import render_talking_head, write_talking_head
from pipelines.studio.looks.dressed_people import PeopleName

FPS = 25.0
"""Frame rate of talking-head videos."""


def studio_command(
    layout: str,
    identities: int,
    cameras: int,
    timesteps: int,
    seconds: float,
    size: int,
    seed: int,
    out: str,
    people: PeopleName = "open",
    assets: Path | None = None,
) -> None:
    """Run ``ffavatar studio`` for videos (layout ``mfhq``) or for a corpus of views (layout ``captures``).

    Args:
        layout: ``mfhq`` or ``captures``.
        identities: Number of people.
        cameras: Number of cameras per capture; ignored for ``mfhq``.
        timesteps: Number of timesteps per capture; ignored for ``mfhq``.
        seconds: Length of each video in seconds; used for ``mfhq`` only.
        size: Pixels per side of an image.
        seed: Seed of people, cameras and motion.
        out: Folder of the videos (``mfhq``), or URI of the corpus (``captures``).
        people: Name of the source of people.
        assets: Folder of a kit, or None.
    """
    if layout == "mfhq":
        write_talking_heads(
            open_capture_studio(cache_dir(), people, assets), Path(out), identities, seconds, size, seed
        )
        return
    described: dict[str, Any] = {
        "identities": identities,
        "cameras": cameras,
        "timesteps": timesteps,
        "size": size,
        "seed": seed,
    }
    described |= {"people": people, "assets": "" if assets is None else str(assets)}
    run_flow(render_capture_corpus, out=out, **described)


def write_talking_heads(
    studio: CaptureStudio, folder: Path, identities: int, seconds: float, size: int, seed: int
) -> None:
    """Write one video per rendered person, who turns and talks, and a file with the ground truth beside each video.

    Args:
        studio: People, renderer and light.
        folder: Folder of the videos; created if missing.
        identities: Number of people.
        seconds: Length of each video, seconds.
        size: Pixels per side of a frame.
        seed: Seed of people and motion.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(identities):
        person = digest(["studio", seed, number])
        video = folder / f"head_{seed}_{number:05d}.mp4"
        truth = write_talking_head(render_talking_head(studio, person, seconds, FPS, size), video)
        say("{video}  (truth: {truth})", video=video, truth=truth.name)


@flow(name="studio", flow_run_name="studio {out}")
def render_capture_corpus(
    *,
    out: Uri,
    identities: Count,
    cameras: Count,
    timesteps: Count,
    size: Pixels,
    seed: Limit = 0,
    people: PeopleName = "open",
    assets: str = "",
    home: str = "",
) -> dict[str, Any]:
    """Render calibrated captures of random people into a corpus and publish ``cameras``, ``captures``, ``views``.

    Args:
        out: URI of the corpus.
        identities: Number of people.
        cameras: Number of cameras per capture.
        timesteps: Number of timesteps per capture.
        size: Pixels per side of a view.
        seed: Seed of people, cameras and motion.
        people: Name of the source of people.
        assets: Folder of a kit of skins, hair and lights; empty for painted people.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).

    Returns:
        ``snapshot`` (its name), ``digest`` of the snapshot, ``rows`` (number per table) and ``run_id``.
    """
    config = {
        "out": out,
        "identities": identities,
        "cameras": cameras,
        "moments": timesteps,
        "size": size,
        "seed": seed,
        "people": people,
        "assets": assets,
    }
    with opened(home, corpus=out) as settings, tracked_run(settings, "studio", f"studio {out}", config) as run:
        step = render_capture_step(
            cache_dir(), build_open_head(cache_dir()).digest, people, Path(assets) if assets else None
        )
        plan = plan_captures(identities, cameras, timesteps, size, seed)
        fingerprint = render_missing_captures(out, step, plan, run.run_id)
        store = open_store(out)
        tables = capture_tables(read_step(store, "render_capture", fingerprint))
        published = publish_captures(store, tables, run_id=run.run_id)
        run.log_snapshot(store.uri, published.version, published.digest, "output")
        record_tracked_run(store, run, "studio", published.version, config)
    say(
        "{views} views of {people} people published as {version} of {uri}",
        views=published.rows["views"],
        people=identities,
        version=published.version,
        uri=store.uri,
    )
    return {
        "snapshot": published.version,
        "digest": published.digest,
        "rows": dict(published.rows),
        "run_id": run.run_id,
    }


@task(name="render captures", cache_policy=NO_CACHE, **RETRIED)
@masked_errors()
def render_missing_captures(out: str, step: Step, plan: pa.Table, run_id: str) -> str:
    """Render the captures that the corpus does not contain yet.

    Args:
        out: URI of the corpus.
        step: The step ``render_capture``.
        plan: Its input.
        run_id: Id of the run.

    Returns:
        Fingerprint of the rendering step.

    Raises:
        RuntimeError: A capture failed to render.
    """
    with ProgressBar("rendering") as progress:
        (summary,) = run_steps([step], plan, open_store(out), run_id, on_progress=progress.update_step)
    if summary.failed:
        item, reason = next(iter(summary.failures.items()))
        raise RuntimeError(f"{summary.failed} of {summary.items} captures did not render (first: {item}, {reason})")
    return summary.fingerprint
