"""From what was named to everything that has to go: ids in memory, digests in the record."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mfhq.ids import digest, shard_of
from mfhq.live import read_runs
from mfhq.store import Store
from mfhq.takedowns import IDENTITY, PHOTOGRAPH, SOURCE, VIDEO, Takedown, token
from pipelines.media.local_files import is_remote, local_path
from pipelines.takedown.inventory import (
    Embedded,
    Inventory,
    belonging,
    embedded_faces,
    rows_of,
    shard_folders,
    step_tracks,
    take_inventory,
)

MAKERS = frozenset({"mine", "cluster", "publish", "studio", "convert", "review", "takedown"})
"""Kinds of runs that make snapshots; all others saw what is in the one that they read."""


class TakedownError(ValueError):
    """What was named cannot be taken down: one line that names it and the way out."""


@dataclass
class Removal:
    """What a take-down takes out. The ids stay in memory: the record holds their tokens."""

    kind: str
    target: str
    """What was named; of a photograph, what was found with it."""
    videos: set[str] = field(default_factory=set)
    uris: set[str] = field(default_factory=set)
    tracks: set[str] = field(default_factory=set)
    identities: set[str] = field(default_factory=set)
    captures: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    """Faces and views of the above, and the ids of their tracks under other settings."""
    frozen: set[str] = field(default_factory=set)
    """Videos that stay, for others in them."""
    snapshots: list[str] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Every id and URI that is to go."""
        return self.videos | self.uris | self.tracks | self.identities | self.captures | self.parts

    def record(self, made_at: datetime.datetime) -> Takedown:
        """What is put on record."""
        gone = tuple(sorted(map(token, self.names | ({self.target} if self.kind != PHOTOGRAPH else set()))))
        touched = self.videos | self.captures | self.frozen
        return Takedown(
            takedown_id=digest([self.kind, gone], 24),
            kind=self.kind,
            target=token(self.target),
            made_at=made_at.isoformat(timespec="seconds"),
            gone=gone,
            frozen=tuple(sorted(map(token, self.frozen))),
            shards=tuple(sorted({shard_of(item) for item in touched})),
            snapshots=tuple(self.snapshots),
            runs=tuple(self.runs),
        )


class TakedownPlanner:
    """Works out removals against one state of a corpus."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folders = shard_folders(store)
        self.has: Inventory = take_inventory(store)

    def video(self, video_id: str) -> Removal:
        """A source file, by its id.

        Raises:
            TakedownError: no snapshot, source list or cache has it.
        """
        if video_id not in self.has.uris_of and video_id not in self.has.video_of.values():
            raise TakedownError(
                f"video {video_id!r} is nowhere in {self.store.uri}; the view `videos` has the ids; or give a --source"
            )
        return self._whole(Removal(VIDEO, video_id, videos={video_id}))

    def source(self, uri: str) -> Removal:
        """A source file, by where it was found; one that was never mined is kept from being mined."""
        names = {uri} if is_remote(uri) else {uri, str(local_path(uri).expanduser().absolute())}
        videos = {
            video for video, uris in self.has.uris_of.items() if names & {_plain(u) for u in uris} or names & uris
        }
        return self._whole(Removal(SOURCE, uri, videos=videos, uris=names))

    def identity(self, identity_id: str, model: str = "", likeness: float | None = None) -> Removal:
        """A person: their tracks, and what may show them besides (``_person``).

        ``model`` and ``likeness`` (least cosine similarity) search what is assigned to nobody; without them only what
        was assigned is found.

        Raises:
            TakedownError: there is no such person.
        """
        ids = self._all_ids(identity_id)
        known = {*self.has.assigned.values(), *self.has.once.values(), *self.has.person_of.values()}
        if not ids & known:
            raise TakedownError(
                f"identity {identity_id!r} is nowhere in {self.store.uri}; the view `identities` has the ids, or give "
                "--photo FILE"
            )
        return self._person(Removal(IDENTITY, identity_id, identities=ids), model, likeness)

    def photograph(self, vector: npt.NDArray[np.float32], model: str, likeness: float) -> Removal:
        """Everybody who looks like the face with this unit embedding: ``likeness`` is the least cosine similarity.

        A person goes whole where the face is alike to the mean of their faces, and otherwise only the tracks that are.

        Raises:
            TakedownError: nobody does.
        """
        embedded = embedded_faces(self.store, self.folders, model)
        if not len(embedded.vectors):
            raise TakedownError(
                f"{self.store.uri} holds no embeddings of {model}; name the pack that it was mined with (--pack)"
            )
        removal = Removal(PHOTOGRAPH, "")
        alike = embedded.vectors @ vector >= likeness
        people = _sums(embedded, self.has.assigned)
        removal.identities = {who for who, total in people.items() if _unit(total) @ vector >= likeness}
        removal.identities = {i for who in removal.identities for i in self._all_ids(who)}
        removal.tracks = {track for track, hit in zip(embedded.tracks, alike, strict=True) if hit}
        if not removal.identities and not removal.tracks:
            raise TakedownError(
                f"nobody in {self.store.uri} looks like the photograph (cosine similarity of {likeness:.2f} or more)"
            )
        removal.target = digest(sorted(removal.identities | removal.tracks))
        return self._person(removal, model, likeness)

    def has_model(self, model: str) -> bool:
        """Whether the steps' outputs hold embeddings of a model."""
        return bool(len(embedded_faces(self.store, self.folders, model).vectors))

    def _all_ids(self, identity_id: str) -> set[str]:
        """An id, the one that stands for it, and all that it stands for."""
        now, seen = identity_id, set[str]()
        while now in self.has.stands_for and now not in seen:
            seen.add(now)
            now = self.has.stands_for[now]
        ids = {now, identity_id}
        while more := {old for old, new in self.has.stands_for.items() if new in ids} - ids:
            ids |= more
        return ids

    def _person(self, removal: Removal, model: str, likeness: float | None) -> Removal:
        """A person's tracks and captures, and besides: tracks assigned to nobody in the newest snapshot that look like
        them, and those never assigned to anybody in their videos, which may show them too blurred to be told.

        A video in which nobody else has a track goes whole; another is frozen.
        """
        has = self.has
        removal.captures |= {capture for capture, who in has.person_of.items() if who in removal.identities}
        removal.tracks |= {t for t, who in has.assigned.items() if who in removal.identities}
        removal.tracks |= {t for t, who in has.once.items() if who in removal.identities}
        video_of = dict(has.video_of)
        if likeness is not None:
            embedded = embedded_faces(self.store, self.folders, model)
            video_of |= dict(zip(embedded.tracks, embedded.videos, strict=True))
            theirs = [i for i, track in enumerate(embedded.tracks) if track in removal.tracks]
            if theirs:
                centre = _unit(embedded.vectors[theirs].sum(axis=0, dtype=np.float64))
                alike = (embedded.vectors @ centre >= likeness).tolist()
                pairs = zip(embedded.tracks, alike, strict=True)
                removal.tracks |= {track for track, hit in pairs if hit and track not in has.assigned}
        videos = {video_of[track] for track in removal.tracks if track in video_of}
        video_of |= step_tracks(self.store, self.folders, videos)
        nobodys = {t for t, v in video_of.items() if v in videos and t not in has.assigned and t not in has.once}
        removal.tracks |= nobodys
        others = {v for t, v in video_of.items() if t in has.assigned and t not in removal.tracks}
        removal.videos |= videos - others
        removal.frozen |= videos & others
        return self._whole(removal)

    def _whole(self, removal: Removal) -> Removal:
        """Add all that belongs to what is to go, and say which snapshots held it and which runs saw it."""
        has = self.has
        removal.uris |= {uri for video in removal.videos for uri in has.uris_of.get(video, ())}
        removal.tracks |= {track for track, video in has.video_of.items() if video in removal.videos}
        owners = removal.videos | removal.tracks | removal.captures
        rows = removal.videos | removal.frozen | removal.captures
        if owners:
            removal.parts |= belonging(self.store, self.folders, has.manifests, owners, rows)
        latest = has.once | has.assigned
        left = {who for track, who in latest.items() if track not in removal.tracks} | set(has.person_of.values())
        removal.identities |= {who for track, who in latest.items() if track in removal.tracks} - left
        self._history(removal)
        return removal

    def _history(self, removal: Removal) -> None:
        gone = removal.names
        pictures: dict[str, int] = {}
        for version, manifest in self.has.manifests.items():
            held = any(
                gone & set(row)
                for name, key, value in (
                    ("tracks", "track_id", "video_id"),
                    ("videos", "video_id", "uri"),
                    ("captures", "capture_id", "identity_id"),
                )
                for row in rows_of(self.store, manifest, name, key, value)
            )
            if held:
                chosen = rows_of(self.store, manifest, "identity_faces", "identity_id", "face_id")
                views = rows_of(self.store, manifest, "views", "view_id", "capture_id")
                pictures[version] = sum(bool(gone & set(row)) for rows in (chosen, views) for row in rows)
        removal.snapshots = sorted(pictures)
        removal.runs = runs_that_saw(read_runs(self.store).to_pylist(), pictures)


def runs_that_saw(runs: Sequence[dict[str, Any]], pictures: dict[str, int]) -> list[dict[str, Any]]:
    """Runs that read a snapshot of ``pictures`` (version to its pictures of what goes), and those that went on.

    Rows: run_id, kind, snapshot, pictures, through (the run that it went on from, where it did not read one itself).
    """
    readers = [run for run in runs if run["kind"] not in MAKERS]
    seen = {
        run["run_id"]: {
            "run_id": run["run_id"],
            "kind": run["kind"],
            "snapshot": run["snapshot"],
            "pictures": pictures[run["snapshot"]],
            "through": "",
        }
        for run in readers
        if run["snapshot"] in pictures
    }
    while heirs := [r for r in readers if r["parent_run_id"] in seen and r["run_id"] not in seen]:
        for run in heirs:
            row = {name: run[name] for name in ("run_id", "kind", "snapshot")}
            seen[run["run_id"]] = row | {"pictures": 0, "through": run["parent_run_id"]}
    return [seen[run_id] for run_id in sorted(seen)]


def counts_of_people(removal: Removal, has: Inventory) -> list[tuple[str, int, int]]:
    """(identity, its tracks that go, its tracks) of everybody who loses some: to be seen before saying yes."""
    all_of, going = Counter(has.assigned.values()), Counter[str]()
    going.update(who for track, who in has.assigned.items() if track in removal.tracks)
    return sorted((who, count, all_of[who]) for who, count in going.items())


def _sums(embedded: Embedded, identity_of: dict[str, str]) -> dict[str, npt.NDArray[np.float64]]:
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for track, vector in zip(embedded.tracks, embedded.vectors, strict=True):
        if track in identity_of:
            who = identity_of[track]
            sums[who] = sums.get(who, np.zeros(len(vector))) + vector
    return sums


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _plain(uri: str) -> str:
    """A local URI as the path that a source list holds."""
    return uri if is_remote(uri) else str(local_path(uri))


def without_known(removals: Collection[Removal], known: Collection[str]) -> list[Removal]:
    """Those that take out something that no record (tokens ``known``) names yet."""
    return [removal for removal in removals if {*removal.record(_NEVER).gone} - set(known)]


_NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)
