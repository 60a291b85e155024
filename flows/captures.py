"""``ffavatar studio``: rendered captures with truth, as talking-head videos or as a corpus of calibrated views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ffavatar_model.head.open_head import build_open_head
from infra.console import ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import config_hash, git_revision, tracked_run
from mfhq.ids import digest
from mfhq.live import record_run
from pipelines.conversion.capture_tables import capture_tables
from pipelines.conversion.publish_captures import publish_captures
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps
from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.capture_step import plan_captures, render_capture_step
from pipelines.studio.studio_head import load_studio_head
from pipelines.studio.talking_head import render_talking_head, write_talking_head

FPS = 25.0
"""Of talking-head videos."""


def studio_command(
    layout: str, identities: int, cameras: int, moments: int, seconds: float, size: int, seed: int, out: str
) -> None:
    """``ffavatar studio``."""
    if layout == "mfhq":
        talking_heads(Path(out), identities, seconds, size, seed)
        return
    settings = load_settings()
    with ray_session(settings):
        render_captures(
            out=out,
            identities=identities,
            cameras=cameras,
            moments=moments,
            size=size,
            seed=seed,
            home=str(settings.home),
        )


def talking_heads(folder: Path, identities: int, seconds: float, size: int, seed: int) -> None:
    """Videos of one rendered person each, who turns and talks, with the truth beside them."""
    head = load_studio_head(cache_dir())
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(identities):
        person = digest(["studio", seed, number])
        video = folder / f"head_{seed}_{number:05d}.mp4"
        truth = write_talking_head(render_talking_head(head, person, seconds, FPS, size), video)
        say("{video}  (truth: {truth})", video=video, truth=truth.name)


@flow(name="studio", validate_parameters=False)
def render_captures(
    *, out: str, identities: int, cameras: int, moments: int, size: int, seed: int = 0, home: str = ""
) -> dict[str, Any]:
    """Render calibrated captures of random people into a corpus (``cameras``, ``captures``, ``views``) and publish it.

    Returns:
        ``snapshot``, ``digest``, ``rows`` by table, ``run_id``.
    """
    described = {
        "out": out,
        "identities": identities,
        "cameras": cameras,
        "moments": moments,
        "size": size,
        "seed": seed,
    }
    with tracked_run(load_settings(home or None), "studio", f"studio {out}", described) as run:
        fingerprint = render(out, identities, cameras, moments, size, seed, run.run_id)
        store = open_store(out)
        tables = capture_tables(read_step(store, "render_capture", fingerprint))
        made = publish_captures(store, tables, run_id=run.run_id)
        run.snapshot(store.uri, made.version, made.digest, "output")
        record_run(store, run.run_id, "studio", made.version, git_revision(), config_hash(described))
    say(
        "{views} views of {people} people published as {version} of {uri}",
        views=made.rows["views"],
        people=identities,
        version=made.version,
        uri=store.uri,
    )
    return {"snapshot": made.version, "digest": made.digest, "rows": dict(made.rows), "run_id": run.run_id}


@task(name="render captures", cache_policy=NO_CACHE)
def render(out: str, identities: int, cameras: int, moments: int, size: int, seed: int, run_id: str) -> str:
    """Render what is not there yet; returns the step's fingerprint."""
    step = render_capture_step(cache_dir(), build_open_head(cache_dir()).digest)
    plan = plan_captures(identities, cameras, moments, size, seed)
    progress = ProgressBar("rendering")
    (summary,) = run_steps(
        [step],
        plan,
        open_store(out),
        run_id,
        on_progress=lambda p: progress.update(p.step, p.done, p.total, p.failed),
    )
    progress.close()
    if summary.failed:
        item, reason = next(iter(summary.failures.items()))
        raise RuntimeError(f"{summary.failed} of {summary.items} captures did not render (first: {item}, {reason})")
    return summary.fingerprint
