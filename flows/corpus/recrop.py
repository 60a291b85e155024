"""Command ``ffavatar recrop``: cut the crops of a snapshot's faces again from the source files, at another size."""

from __future__ import annotations

from flows.corpus.remote_filesystem import remote_filesystem
from flows.corpus.run_record import record_tracked_run
from infra.console import SOME_FAILED, ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.catalog import Catalog
from mfhq.schema import OK
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps
from pipelines.mining.config import MiningConfig
from pipelines.mining.recrop_step import faces_to_recrop, recrop_step, recropped_faces
from pipelines.publishing.publish_tables import publish_tables


def recrop_command(corpus: str, size: int) -> int:
    """Run ``ffavatar recrop``: cut the newest snapshot's usable faces again and publish them; the rest stays unchanged.

    Args:
        corpus: URI of the corpus.
        size: Most pixels per side of a crop.

    Returns:
        The exit status: 1 if a source could not be read (nothing is published then), otherwise 0.

    Raises:
        CatalogError: Nothing is published in the corpus.
    """
    settings, store = load_settings(), open_store(corpus)
    snapshot = Catalog(store).open()
    faces, videos = snapshot.table("faces"), snapshot.table("videos")
    to_cut = faces_to_recrop(faces, videos)
    step = recrop_step(to_cut, size, filesystem=remote_filesystem(store.uri))
    described = {"corpus": corpus, "size": size, "from": snapshot.version}
    with ray_session(settings), tracked_run(settings, "recrop", f"recrop {corpus}", described) as run:
        with ProgressBar("recrop") as progress:
            (summary,) = run_steps([step], to_cut, store, run.run_id, on_progress=progress.update_step)
        if summary.failed:
            for item, reason in summary.failures.items():
                say("  failed {item}: {reason}", item=item, reason=reason)
            return SOME_FAILED
        cut = read_step(store, "recrop", summary.fingerprint)
        new = recropped_faces(faces, cut, snapshot.manifest.about.get("recrop", MiningConfig().tracks.crop_px))
        about = {**snapshot.manifest.about, "recrop": size}
        published = publish_tables(store, {"faces": new}, run_id=run.run_id, about=about)
        run.log_snapshot(store.uri, published.version, published.digest, "output")
        record_tracked_run(store, run, "recrop", published.version, described, "")
    n_faces = faces["status"].to_pylist().count(OK)
    say("{n} faces at up to {size} px in {version}", n=n_faces, size=size, version=published.version)
    return 0
