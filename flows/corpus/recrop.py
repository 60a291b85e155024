"""``ffavatar recrop``: the crops of a snapshot's faces once more from their source files, at another size."""

from __future__ import annotations

from infra.console import SOME_FAILED, ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import config_hash, git_revision, tracked_run
from mfhq.catalog import Catalog
from mfhq.live import record_run
from mfhq.schema import OK
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps
from pipelines.mining.config import MiningConfig
from pipelines.mining.recrop_step import faces_to_recrop, recrop_step, recropped_faces
from pipelines.publishing.publish_tables import publish_tables


def recrop_command(corpus: str, size: int) -> int:
    """Cut the newest snapshot's ok faces anew and publish them as the next snapshot; the rest stays as it is.

    Returns the exit status, 1 when a source could not be read: then nothing is published.

    Raises:
        CatalogError: nothing is published in the corpus.
    """
    settings, store = load_settings(), open_store(corpus)
    snapshot = Catalog(store).open()
    faces, videos = snapshot.table("faces"), snapshot.table("videos")
    wanted = faces_to_recrop(faces, videos)
    filesystem = store.filesystem if store.uri.startswith("s3://") else None
    step = recrop_step(wanted, size, filesystem=filesystem)
    described = {"corpus": corpus, "size": size, "from": snapshot.version}
    with ray_session(settings), tracked_run(settings, "recrop", f"recrop {corpus}", described) as run:
        progress = ProgressBar("recrop")
        (summary,) = run_steps(
            [step],
            wanted,
            store,
            run.run_id,
            on_progress=lambda p: progress.update(p.step, p.done, p.total, p.failed),
        )
        progress.close()
        if summary.failed:
            for item, reason in summary.failures.items():
                say("  failed {item}: {reason}", item=item, reason=reason)
            return SOME_FAILED
        made = read_step(store, "recrop", summary.fingerprint)
        new = recropped_faces(faces, made, snapshot.manifest.about.get("recrop", MiningConfig().tracks.crop_px))
        about = {**snapshot.manifest.about, "recrop": size}
        published = publish_tables(store, {"faces": new}, run_id=run.run_id, about=about)
        run.snapshot(store.uri, published.version, published.digest, "output")
        record_run(store, run.run_id, "recrop", published.version, git_revision(), config_hash(described), "")
    n_faces = faces["status"].to_pylist().count(OK)
    say("{n} faces at up to {size} px in {version}", n=n_faces, size=size, version=published.version)
    return 0
