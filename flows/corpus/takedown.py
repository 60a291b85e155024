"""``ffavatar takedown``: what is named leaves the corpus."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from infra.console import SOME_FAILED, CallError, say, table
from infra.storage import open_store
from mfhq.store import Store
from mfhq.takedowns import denied_by_all, read_takedowns
from pipelines.takedown.planner import Removal, TakedownPlanner, counts_of_people
from pipelines.takedown.sweep import Swept, put_on_record, sweep


@dataclass(frozen=True)
class Named:
    """What the command line names."""

    videos: Sequence[str] = ()
    sources: Sequence[str] = ()
    identities: Sequence[str] = ()
    photographs: Sequence[Path] = ()

    def __bool__(self) -> bool:
        return bool(self.videos or self.sources or self.identities or self.photographs)


def takedown_command(corpus: str, named: Named, pack: str | None, yes: bool) -> int:
    """Take down what is named, after showing it; with nothing named, finish and check what is on record.

    Returns:
        0 when everything that is on record is gone from every file of the corpus, 1 otherwise.

    Raises:
        CallError: nothing is named and nothing on record, or the user said no.
        TakedownError: what was named is not in the corpus; nothing was changed.
    """
    store = open_store(corpus)
    if unfinished := read_takedowns(store, unfinished=True):
        say("finishing {n} take-downs that were cut off", n=len(unfinished))
        sweep(store)
    removals = _plan(store, named, pack)
    if not removals and not denied_by_all(store):
        raise CallError(
            "nothing is named, and no take-down is on record; give --video, --source, --identity or --photo"
        )
    if removals and not yes and not click.confirm("Delete all of this from the corpus, for good?", default=False):
        raise CallError("nothing was taken down; say yes, or give --yes")
    now = datetime.datetime.now(datetime.UTC)
    for removal in removals:
        put_on_record(store, removal.record(now))
    swept = sweep(store, {name for removal in removals for name in removal.names})
    _tell(store, swept)
    return 0 if swept.is_clean else SOME_FAILED


def _plan(store: Store, named: Named, pack: str | None) -> list[Removal]:
    """What is to go and is not on record yet, shown to the user."""
    known = denied_by_all(store)
    videos, sources, identities = (
        [name for name in names if not known.names(name)] for names in (named.videos, named.sources, named.identities)
    )
    if (
        on_record := len(named.videos)
        + len(named.sources)
        + len(named.identities)
        - sum(map(len, (videos, sources, identities)))
    ):
        say("{n} of what is named is on record already", n=on_record)
    if not (videos or sources or identities or named.photographs):
        return []
    planner = TakedownPlanner(store)
    model, likeness = _likeness(pack, needed=bool(named.photographs)) if identities or named.photographs else ("", None)
    removals = [planner.video(video) for video in videos] + [planner.source(uri) for uri in sources]
    removals += [planner.identity(identity, model, likeness) for identity in identities]
    if identities and not planner.has_model(model):
        say("no embeddings of {model} here: tracks that were assigned to nobody were not searched", model=model)
    removals += [_of_photograph(planner, photo, pack, model, likeness or 0.0) for photo in named.photographs]
    for removal in removals:
        _show(removal, planner)
    return removals


def _likeness(pack: str | None, needed: bool) -> tuple[str, float | None]:
    """(embedding model, least cosine similarity of one person) of the face pack: its calibrated threshold."""
    from pipelines.faces.pack import face_pack

    found = face_pack(pack)
    if found.threshold is None:
        if needed:
            raise CallError(f"face pack {pack}: has no calibrated threshold; `ffavatar calibrate PAIRS` measures it")
        return found.model, None
    return found.model, 1.0 - found.threshold


def _of_photograph(planner: TakedownPlanner, photo: Path, pack: str | None, model: str, likeness: float) -> Removal:
    """Everybody who looks like the one face of a photograph. Its embedding is kept nowhere."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    try:
        with Image.open(photo) as image:
            picture = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise CallError(f"{photo}: no such file; give a photograph of the person") from error
    except (UnidentifiedImageError, OSError) as error:
        raise CallError(f"{photo}: cannot be read as a picture; give a png, jpg or webp") from error
    analyzer = FaceAnalyzer(face_pack(pack))
    faces = analyzer.detect(picture)
    if len(faces) != 1:
        raise CallError(f"{photo}: {len(faces)} faces are found; give a photograph that shows the person alone")
    return planner.photograph(analyzer.embed(picture, faces[0].landmarks5), model, likeness)


def _show(removal: Removal, planner: TakedownPlanner) -> None:
    """What would go, in numbers, with the people who lose tracks and the runs that saw it."""
    rows = [
        ("videos as a whole", len(removal.videos)),
        ("tracks", len(removal.tracks)),
        ("faces, views", len(removal.parts - removal.tracks)),
        ("multi-view captures", len(removal.captures)),
        ("identities as a whole", len(removal.identities)),
        ("videos that stay for others in them, and are not mined again", len(removal.frozen)),
        ("snapshots that are redacted", len(removal.snapshots)),
        ("runs that saw it", len(removal.runs)),
    ]
    named = "photograph" if removal.kind == "photograph" else f"{removal.kind} {removal.target}"
    table(f"taking down {named}", ("what goes", "number"), [row for row in rows if row[1]])
    people = counts_of_people(removal, planner.has)
    if people:
        table("people who lose tracks", ("identity", "tracks that go", "of"), people[:20])
    if not any(count for _, count in rows):
        say("the corpus holds nothing of it; it will not be mined")


def _tell(store: Store, swept: Swept) -> None:
    for what in swept.left:
        say("  left: {what}, then run the same command again", what=what)
    rows = [
        (run["run_id"], run["kind"], run["snapshot"], run["pictures"], run["through"])
        for takedown in read_takedowns(store)
        for run in takedown.runs
    ]
    if rows:
        columns = ("run", "kind", "snapshot", "its pictures", "through")
        table(
            "runs that saw what is taken down: their weights, avatars and logged pictures are yours to decide on",
            columns,
            sorted(set(rows)),
        )
    changes = swept.changes
    say(
        "{n} take-downs on record, {files} files written again or deleted, {size} bytes of pictures erased{redacted}",
        n=len(read_takedowns(store)),
        files=changes.files,
        size=changes.picture_bytes,
        redacted=f"; redacted: {', '.join(changes.snapshots)}" if changes.snapshots else "",
    )
    if swept.is_clean:
        say("nothing of it is left in {uri}", uri=store.uri)
