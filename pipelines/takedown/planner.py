"""Planning of a take-down: finds all that belongs to its target; ids stay in memory, digests go on record."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mfhq.corpus_tables import read_runs
from mfhq.ids import digest, shard_of
from mfhq.store import Store
from mfhq.takedowns import IDENTITY, PHOTOGRAPH, SOURCE, VIDEO, Takedown, token
from pipelines.media.local_files import canonical_uri
from pipelines.takedown.inventory import (
    FaceEmbeddings,
    Inventory,
    find_dependents,
    list_shard_folders,
    read_columns,
    read_face_embeddings,
    read_step_tracks,
    take_inventory,
)

MAKERS = frozenset({"mine", "cluster", "publish", "studio", "convert", "review", "takedown"})
"""Kinds of runs that make snapshots; all others read the snapshot that they name."""


class TakedownError(ValueError):
    """Target that cannot be taken down; the message is one line that names the target and the remedy."""


@dataclass
class Removal:
    """Ids and URIs that a take-down removes. They stay in memory: the record holds their tokens."""

    kind: str
    target: str
    """Target as the user named it; for a photograph, a digest of the identities and tracks found with it."""
    videos: set[str] = field(default_factory=set)
    uris: set[str] = field(default_factory=set)
    tracks: set[str] = field(default_factory=set)
    identities: set[str] = field(default_factory=set)
    captures: set[str] = field(default_factory=set)
    dependents: set[str] = field(default_factory=set)
    """Faces and views of the ids above, and the ids that their tracks have under other settings."""
    frozen: set[str] = field(default_factory=set)
    """Videos that stay because others are in them; they are not mined again."""
    snapshots: list[str] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Every id and URI that is removed."""
        return self.videos | self.uris | self.tracks | self.identities | self.captures | self.dependents

    def to_takedown(self, made_at: datetime.datetime) -> Takedown:
        """Return the record of the take-down."""
        tokens = tuple(sorted(map(token, self.names | ({self.target} if self.kind != PHOTOGRAPH else set()))))
        touched = self.videos | self.captures | self.frozen
        return Takedown(
            takedown_id=digest([self.kind, tokens], 24),
            kind=self.kind,
            target=token(self.target),
            made_at=made_at.isoformat(timespec="seconds"),
            gone=tokens,
            frozen=tuple(sorted(map(token, self.frozen))),
            shards=tuple(sorted({shard_of(item) for item in touched})),
            snapshots=tuple(self.snapshots),
            runs=tuple(self.runs),
        )


class TakedownPlanner:
    """Planner of removals from a corpus, whose state it reads once."""

    def __init__(self, store: Store, other_corpora: Sequence[Store] = ()) -> None:
        """Read the corpus.

        Args:
            store: The corpus.
            other_corpora: Corpora whose runs may have begun with the result of a run of this one.
        """
        self.store = store
        self.runs: list[dict[str, Any]] = read_runs(store).to_pylist()
        for other in other_corpora:  # a snapshot's name means one of this corpus only
            rows = read_runs(other).to_pylist()
            self.runs += [row | {"snapshot": f"{other.uri} {row['snapshot']}"} for row in rows]
        self.folders = list_shard_folders(store)
        self.inventory: Inventory = take_inventory(store)

    def plan_video(self, video_id: str) -> Removal:
        """Plan the removal of a source file, by its id.

        Raises:
            TakedownError: No snapshot, source list or cache has it.
        """
        if video_id not in self.inventory.uris_of and video_id not in self.inventory.video_of.values():
            raise TakedownError(
                f"video {video_id!r} is nowhere in {self.store.uri}; the view `videos` has the ids; or give a --source"
            )
        return self._complete(Removal(VIDEO, video_id, videos={video_id}))

    def plan_source(self, uri: str) -> Removal:
        """Plan the removal of a source file, by its URI; a file that was never mined will not be mined."""
        names = {uri, canonical_uri(uri)}
        videos = {
            video
            for video, uris in self.inventory.uris_of.items()
            if names & uris or names & {canonical_uri(u) for u in uris}
        }
        return self._complete(Removal(SOURCE, uri, videos=videos, uris=names))

    def plan_identity(self, identity_id: str, model: str = "", min_similarity: float | None = None) -> Removal:
        """Plan the removal of a person: their tracks, and other tracks that may show them (``_person``).

        Args:
            identity_id: Current or former id of the person.
            model: Embedding model for a search among the tracks that are assigned to nobody.
            min_similarity: Least cosine similarity in that search; None for no search.

        Raises:
            TakedownError: There is no such person.
        """
        ids = self._ids_of_person(identity_id)
        known = {
            *self.inventory.assigned.values(),
            *self.inventory.formerly_assigned.values(),
            *self.inventory.person_of.values(),
        }
        if not ids & known:
            raise TakedownError(
                f"identity {identity_id!r} is nowhere in {self.store.uri}; the view `identities` has the ids, or give "
                "--photo FILE"
            )
        return self._person(Removal(IDENTITY, identity_id, identities=ids), model, min_similarity)

    def plan_photograph(self, vector: npt.NDArray[np.float32], model: str, min_similarity: float) -> Removal:
        """Plan the removal of everybody who is similar to the face in a photograph.

        A person is removed completely if the face in the photograph is similar to the mean of their faces. Of all other
        people, and among tracks without a person, only the tracks with a similar face are removed.

        Args:
            vector: (D,) unit embedding of the face.
            model: The embedding model.
            min_similarity: Least cosine similarity.

        Raises:
            TakedownError: Nobody is similar, or the corpus has no embeddings of the model.
        """
        embedded = read_face_embeddings(self.store, self.folders, model)
        if not len(embedded.vectors):
            raise TakedownError(
                f"{self.store.uri} holds no embeddings of {model}; name the pack that it was mined with (--pack)"
            )
        removal = Removal(PHOTOGRAPH, "")
        alike = embedded.vectors @ vector >= min_similarity
        people = _sum_by_person(embedded, self.inventory.assigned)
        removal.identities = {who for who, total in people.items() if _unit(total) @ vector >= min_similarity}
        removal.identities = {i for who in removal.identities for i in self._ids_of_person(who)}
        removal.tracks = {track for track, hit in zip(embedded.tracks, alike, strict=True) if hit}
        if not removal.identities and not removal.tracks:
            raise TakedownError(
                f"nobody in {self.store.uri} looks like the photograph "
                f"(cosine similarity of {min_similarity:.2f} or more)"
            )
        removal.target = digest(sorted(removal.identities | removal.tracks))
        return self._person(removal, model, min_similarity)

    def has_model(self, model: str) -> bool:
        """Return True if the steps' outputs hold embeddings of a model."""
        return bool(len(read_face_embeddings(self.store, self.folders, model).vectors))

    def _ids_of_person(self, identity_id: str) -> set[str]:
        """Return an id, the current id that replaced it, and all former ids of the same person."""
        now, seen = identity_id, set[str]()
        while now in self.inventory.replaced_by and now not in seen:
            seen.add(now)
            now = self.inventory.replaced_by[now]
        ids = {now, identity_id}
        while more := {old for old, new in self.inventory.replaced_by.items() if new in ids} - ids:
            ids |= more
        return ids

    def _person(self, removal: Removal, model: str, min_similarity: float | None) -> Removal:
        """Add a person's tracks and captures, and tracks that may show them.

        Two kinds of tracks may show the person: tracks that are similar to the person and that the newest snapshot
        assigns to nobody; and tracks in the person's videos that were never assigned to anybody, since they may show
        the person too blurred to be recognized. A video in which nobody else has a track is removed completely; the
        person's other videos are frozen.
        """
        inventory = self.inventory
        removal.captures |= {capture for capture, who in inventory.person_of.items() if who in removal.identities}
        removal.tracks |= {t for t, who in inventory.assigned.items() if who in removal.identities}
        removal.tracks |= {t for t, who in inventory.formerly_assigned.items() if who in removal.identities}
        video_of = dict(inventory.video_of)
        if min_similarity is not None:
            embedded = read_face_embeddings(self.store, self.folders, model)
            video_of |= dict(zip(embedded.tracks, embedded.videos, strict=True))
            theirs = [i for i, track in enumerate(embedded.tracks) if track in removal.tracks]
            if theirs:
                direction = _unit(embedded.vectors[theirs].sum(axis=0, dtype=np.float64))
                alike = (embedded.vectors @ direction >= min_similarity).tolist()
                pairs = zip(embedded.tracks, alike, strict=True)
                removal.tracks |= {track for track, hit in pairs if hit and track not in inventory.assigned}
        videos = {video_of[track] for track in removal.tracks if track in video_of}
        video_of |= read_step_tracks(self.store, self.folders, videos)
        unassigned = {
            t
            for t, v in video_of.items()
            if v in videos and t not in inventory.assigned and t not in inventory.formerly_assigned
        }
        removal.tracks |= unassigned
        others = {v for t, v in video_of.items() if t in inventory.assigned and t not in removal.tracks}
        removal.videos |= videos - others
        removal.frozen |= videos & others
        return self._complete(removal)

    def _complete(self, removal: Removal) -> Removal:
        """Add what belongs to the removed items, the snapshots that held them, and the runs that read the snapshots."""
        inventory = self.inventory
        removal.uris |= {uri for video in removal.videos for uri in inventory.uris_of.get(video, ())}
        removal.tracks |= {track for track, video in inventory.video_of.items() if video in removal.videos}
        owners = removal.videos | removal.tracks | removal.captures
        rows = removal.videos | removal.frozen | removal.captures
        if owners:
            removal.dependents |= find_dependents(self.store, self.folders, inventory.manifests, owners, rows)
        latest = inventory.formerly_assigned | inventory.assigned
        left = {who for track, who in latest.items() if track not in removal.tracks} | set(inventory.person_of.values())
        removal.identities |= {who for track, who in latest.items() if track in removal.tracks} - left
        self._add_history(removal)
        return removal

    def _add_history(self, removal: Removal) -> None:
        removed = removal.names
        images: dict[str, int] = {}
        for version, manifest in self.inventory.manifests.items():
            held = any(
                removed & set(row)
                for name, key, value in (
                    ("tracks", "track_id", "video_id"),
                    ("videos", "video_id", "uri"),
                    ("captures", "capture_id", "identity_id"),
                )
                for row in read_columns(self.store, manifest, name, key, value)
            )
            if held:
                chosen = read_columns(self.store, manifest, "identity_faces", "identity_id", "face_id")
                views = read_columns(self.store, manifest, "views", "view_id", "capture_id")
                images[version] = sum(bool(removed & set(row)) for rows in (chosen, views) for row in rows)
        removal.snapshots = sorted(images)
        removal.runs = find_exposed_runs(self.runs, images)


def find_exposed_runs(runs: Sequence[dict[str, Any]], images: dict[str, int]) -> list[dict[str, Any]]:
    """Find the runs that read a snapshot with removed content, and the runs that continued these runs.

    Args:
        runs: Rows of ``runs``.
        images: Version of each snapshot with removed content to the number of its images that are removed.

    Returns:
        One row per run: run_id, kind, snapshot, pictures (the number of removed images), through (the run that it
        continued, if it did not itself read such a snapshot; else empty).
    """
    readers = [run for run in runs if run["kind"] not in MAKERS]
    seen = {
        run["run_id"]: {
            "run_id": run["run_id"],
            "kind": run["kind"],
            "snapshot": run["snapshot"],
            "pictures": images[run["snapshot"]],
            "through": "",
        }
        for run in readers
        if run["snapshot"] in images
    }
    while heirs := [r for r in readers if r["parent_run_id"] in seen and r["run_id"] not in seen]:
        for run in heirs:
            row = {name: run[name] for name in ("run_id", "kind", "snapshot")}
            seen[run["run_id"]] = row | {"pictures": 0, "through": run["parent_run_id"]}
    return [seen[run_id] for run_id in sorted(seen)]


def count_removed_tracks(removal: Removal, inventory: Inventory) -> list[tuple[str, int, int]]:
    """Count the tracks that each person loses, to be shown before the user confirms.

    Args:
        removal: The removal.
        inventory: The inventory of the corpus.

    Returns:
        (identity, number of its removed tracks, number of all its tracks) for each person who loses tracks.
    """
    all_of, going = Counter(inventory.assigned.values()), Counter[str]()
    going.update(who for track, who in inventory.assigned.items() if track in removal.tracks)
    return sorted((who, count, all_of[who]) for who, count in going.items())


def _sum_by_person(embedded: FaceEmbeddings, identity_of: dict[str, str]) -> dict[str, npt.NDArray[np.float64]]:
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for track, vector in zip(embedded.tracks, embedded.vectors, strict=True):
        if track in identity_of:
            who = identity_of[track]
            sums[who] = sums.get(who, np.zeros(len(vector))) + vector
    return sums


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
