"""Flow ``recrop``: cut the crops of a snapshot's faces again from the source files, at another size."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow

from flows.corpus.flow_session import open_corpus, opened, run_flow
from flows.corpus.remote_filesystem import remote_filesystem
from flows.corpus.run_record import record_tracked_run
from flows.running.flow_parameters import Pixels, Uri
from infra.console import SOME_FAILED, ProgressBar, say
from infra.storage import open_store
from infra.tracking import TrackedRun, tracked_run
from mfhq.catalog import Catalog, Snapshot
from mfhq.schema import OK
from mfhq.store import Store
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
        The exit status: 1 if a source could not be read, otherwise 0. The faces of such a source keep their crops.

    Raises:
        CatalogError: Nothing is published in the corpus.
    """
    Catalog(open_corpus(corpus)).open()
    result = run_flow(recrop, corpus=corpus, size=size)
    for uri, reason in result["failures"].items():
        say("  failed {uri}: {reason}", uri=uri, reason=reason)
    text = "{n} faces at up to {size} px in {version}" if result["n_faces"] else "no face was cut; {version} stays"
    say(text, n=result["n_faces"], size=size, version=result["snapshot"])
    return SOME_FAILED if result["failures"] else 0


@flow(name="recrop", flow_run_name="recrop {corpus} at {size} px")
def recrop(*, corpus: Uri, size: Pixels, home: str = "") -> dict[str, Any]:
    """Cut the newest snapshot's usable faces again, and publish what could be cut.

    Args:
        corpus: URI of the corpus.
        size: Most pixels per side of a crop.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).

    Returns:
        ``snapshot`` (its name), ``n_faces`` (number of faces with a new crop) and ``failures`` (URI to reason).
    """
    with opened(home, corpus=corpus) as settings:
        store = open_store(corpus)
        snapshot = Catalog(store).open()
        described = {"corpus": corpus, "size": size, "from": snapshot.version}
        with tracked_run(settings, "recrop", f"recrop {corpus}", described) as run:
            return _recrop(store, snapshot, size, run, described)


def _recrop(store: Store, snapshot: Snapshot, size: int, run: TrackedRun, described: dict[str, Any]) -> dict[str, Any]:
    """Cut a snapshot's faces again; ``recrop`` describes the result."""
    faces, videos = snapshot.table("faces"), snapshot.table("videos")
    to_cut = faces_to_recrop(faces, videos)
    step = recrop_step(to_cut, size, filesystem=remote_filesystem(store.uri))
    uri_of = dict(zip(to_cut["video_id"].to_pylist(), to_cut["uri"].to_pylist(), strict=True))
    with ProgressBar("recrop") as progress:
        (summary,) = run_steps([step], to_cut, store, run.run_id, on_progress=progress.update_step)
    cut = read_step(store, "recrop", summary.fingerprint)
    cut = cut.filter(pc.equal(cut["status"], OK))
    failures = {uri_of[item]: reason for item, reason in sorted(summary.failures.items())}
    if not cut.num_rows:
        return {"snapshot": snapshot.version, "n_faces": 0, "failures": failures}
    new, about = merge_crops(faces, cut, snapshot.manifest.about, size)
    published = publish_tables(store, {"faces": new}, run_id=run.run_id, about=about)
    run.log_snapshot(store.uri, published.version, published.digest, "output")
    record_tracked_run(store, run, "recrop", published.version, described, "")
    n_faces = pc.sum(pc.list_value_length(cut["faces"])).as_py() or 0
    return {"snapshot": published.version, "n_faces": n_faces, "failures": failures}


def merge_crops(faces: pa.Table, cut: pa.Table, about: dict[str, Any], size: int) -> tuple[pa.Table, dict[str, Any]]:
    """Return the faces with their new crops, and what the manifest says about the sizes of all crops.

    Args:
        faces: Rows of the table ``faces``.
        cut: Rows of the step ``recrop`` with status ok.
        about: ``about`` of the snapshot's manifest: ``recrop`` is the size of its crops, ``recrop_kept`` the other
            size of some videos' crops.
        size: Most pixels per side of a new crop.
    """
    former, kept = about.get("recrop", MiningConfig().tracks.crop_px), about.get("recrop_kept", {})
    new = recropped_faces(faces, cut, former, kept)
    left = set(faces["video_id"].to_pylist()) - set(cut["video_id"].to_pylist())
    sizes = {video: kept.get(video, former) for video in sorted(left)}
    return new, {**about, "recrop": size, "recrop_kept": {video: px for video, px in sizes.items() if px != size}}
