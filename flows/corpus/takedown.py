"""Command ``ffavatar takedown``: plan a take-down, show it, ask, delete, and check that nothing is left."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from flows.corpus.flow_session import open_corpus
from infra.console import SOME_FAILED, CallError, print_table, say
from infra.settings import load_settings
from infra.storage import open_store
from mfhq.store import Store, StoreError
from mfhq.takedowns import read_deny_list, read_takedowns
from pipelines.takedown.outside import sweep_outside
from pipelines.takedown.planner import Removal, TakedownPlanner, count_removed_tracks
from pipelines.takedown.sweep import SweepReport, record_takedown, sweep


@dataclass(frozen=True)
class TakedownTargets:
    """Targets of take-downs that the command line names."""

    videos: Sequence[str] = ()
    """Ids of videos."""
    sources: Sequence[str] = ()
    """URIs of source files."""
    identities: Sequence[str] = ()
    """Ids of people."""
    photographs: Sequence[Path] = ()
    """Photographs, each of one person."""

    def __bool__(self) -> bool:
        return bool(self.videos or self.sources or self.identities or self.photographs)


def takedown_command(corpus: str, targets: TakedownTargets, pack: str | None, yes: bool) -> int:
    """Run ``ffavatar takedown``: delete the targets after a confirmation.

    Without targets, unfinished take-downs are finished, and all take-downs on record are checked.

    Args:
        corpus: URI of the corpus.
        targets: Videos, sources, people and photographs to take down.
        pack: Name or folder of the face pack; None for the embedded pack.
        yes: True to delete without asking for a confirmation.

    Returns:
        The exit status: 0 if no file of the corpus contains anything that a take-down names, otherwise 1.

    Raises:
        CallError: There is neither a target nor a take-down on record, or the user did not confirm.
        TakedownError: A target is not in the corpus; nothing was changed.
    """
    store = open_corpus(corpus)
    if unfinished := read_takedowns(store, unfinished=True):
        say("finishing {n} take-downs that were cut off", n=len(unfinished))
        sweep(store)
    removals = _plan_removals(store, targets, pack)
    if not removals and not read_deny_list(store):
        raise CallError(
            "nothing is named, and no take-down is on record; give --video, --source, --identity or --photo"
        )
    if removals and not yes and not click.confirm("Delete all of this from the corpus, for good?", default=False):
        raise CallError("nothing was taken down; say yes, or give --yes")
    now = datetime.datetime.now(datetime.UTC)
    for removal in removals:
        record_takedown(store, removal.to_takedown(now))
    swept = sweep(store, {name for removal in removals for name in removal.names})
    _show_result(store, swept)
    _sweep_outside(store, {name for removal in removals for name in removal.names})
    return 0 if swept.is_clean else SOME_FAILED


def _other_corpora(store: Store) -> list[Store]:
    """Open the other corpora that tracked runs made or read, as far as they are there."""
    from infra.tracking import tracked_corpora

    settings, found = load_settings(), list[Store]()
    if settings.tracking_uri.startswith("sqlite") and not (settings.home / "mlflow.db").exists():
        return []
    for uri in sorted(tracked_corpora(settings.tracking_uri) - {store.uri}):
        try:
            found.append(open_store(uri))
        except StoreError as error:
            say("  not searched: {error}", error=error)
    return found


def _sweep_outside(store: Store, names: set[str]) -> None:
    """Remove what is withdrawn from the home folder and ``TMPDIR``, and print what is left there."""
    settings = load_settings()
    runs = {run["run_id"] for takedown in read_takedowns(store) for run in takedown.runs}
    done = sweep_outside([settings.home], Path(tempfile.gettempdir()), names, runs)
    if done.left:
        rows = [(str(path), sha256) for path, sha256 in done.left]
        print_table("left outside the corpus: decide on each, and delete it", ("file", "sha256"), rows)
    if done.removed:
        say("{n} files outside the corpus were deleted or written again", n=len(done.removed))


def _plan_removals(store: Store, targets: TakedownTargets, pack: str | None) -> list[Removal]:
    """Plan and show the removals that are not on record yet."""
    known = read_deny_list(store)
    videos, sources, identities = (
        [name for name in names if not known.names(name)]
        for names in (targets.videos, targets.sources, targets.identities)
    )
    n_named = len(targets.videos) + len(targets.sources) + len(targets.identities)
    if on_record := n_named - len(videos) - len(sources) - len(identities):
        say("{n} of what is named is on record already", n=on_record)
    if not (videos or sources or identities or targets.photographs):
        return []
    planner = TakedownPlanner(store, _other_corpora(store))
    model = ""
    threshold: float | None = None
    if identities or targets.photographs:
        model, threshold = _similarity_threshold(pack, required=bool(targets.photographs))
    removals = [planner.plan_video(video) for video in videos] + [planner.plan_source(uri) for uri in sources]
    removals += [planner.plan_identity(identity, model, threshold) for identity in identities]
    if identities and not planner.has_model(model):
        say("no embeddings of {model} here: tracks that were assigned to nobody were not searched", model=model)
    removals += [_plan_photograph(planner, photo, pack, model, threshold or 0.0) for photo in targets.photographs]
    for removal in removals:
        _show_removal(removal, planner)
    return removals


def _similarity_threshold(pack: str | None, required: bool) -> tuple[str, float | None]:
    """Return the face pack's embedding model, and the lowest cosine similarity that counts as one person.

    The similarity is None if the pack is not calibrated.

    Raises:
        CallError: A similarity is required, and the pack is not calibrated.
    """
    from pipelines.faces.pack import face_pack

    used_pack = face_pack(pack)
    if used_pack.threshold is None:
        if required:
            raise CallError(f"face pack {pack}: has no calibrated threshold; `ffavatar calibrate PAIRS` measures it")
        return used_pack.model, None
    return used_pack.model, 1.0 - used_pack.threshold


def _plan_photograph(planner: TakedownPlanner, photo: Path, pack: str | None, model: str, threshold: float) -> Removal:
    """Plan the removal of all people similar to the one face in a photograph; the face's embedding is not stored."""
    from flows.avatar.photos import read_photo
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    image = read_photo(photo)
    analyzer = FaceAnalyzer(face_pack(pack))
    faces = analyzer.detect(image)
    if len(faces) != 1:
        raise CallError(f"{photo}: {len(faces)} faces are found; give a photograph that shows the person alone")
    return planner.plan_photograph(analyzer.embed(image, faces[0].landmarks5), model, threshold)


def _show_removal(removal: Removal, planner: TakedownPlanner) -> None:
    """Print how many videos, tracks and other things would be deleted, and the people who would lose tracks."""
    rows = [
        ("videos as a whole", len(removal.videos)),
        ("tracks", len(removal.tracks)),
        ("faces, views", len(removal.dependents - removal.tracks)),
        ("multi-view captures", len(removal.captures)),
        ("identities as a whole", len(removal.identities)),
        ("videos that stay for others in them, and are not mined again", len(removal.frozen)),
        ("snapshots that are redacted", len(removal.snapshots)),
        ("runs that saw it", len(removal.runs)),
    ]
    named = "photograph" if removal.kind == "photograph" else f"{removal.kind} {removal.target}"
    print_table(f"taking down {named}", ("what goes", "number"), [row for row in rows if row[1]])
    people = count_removed_tracks(removal, planner.inventory)
    if people:
        print_table("people who lose tracks", ("identity", "tracks that go", "of"), people[:20])
    if not any(count for _, count in rows):
        say("the corpus holds nothing of it; it will not be mined")


def _show_result(store: Store, swept: SweepReport) -> None:
    for what in swept.left:
        say("  left: {what}, then run the same command again", what=what)
    rows = [
        (run["run_id"], run["kind"], run["snapshot"], run["pictures"], run["through"])
        for takedown in read_takedowns(store)
        for run in takedown.runs
    ]
    if rows:
        columns = ("run", "kind", "snapshot", "its images", "through")
        print_table(
            "runs that saw what is taken down: decide on their weights, avatars and logged images",
            columns,
            sorted(set(rows)),
        )
    changes = swept.changes
    say(
        "{n} take-downs on record, {files} files written again or deleted, {size} bytes of images erased{redacted}",
        n=len(read_takedowns(store)),
        files=changes.files,
        size=changes.image_bytes,
        redacted=f"; redacted: {', '.join(changes.snapshots)}" if changes.snapshots else "",
    )
    if swept.is_clean:
        say("nothing of it is left in {uri}", uri=store.uri)
