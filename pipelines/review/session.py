"""A review in progress: the cases of the newest snapshot, and the reviewer's decisions."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from mfhq.catalog import Catalog, read_blob
from mfhq.decisions import ACCEPT, MERGE, SPLIT, Decision, decision_rows, read_decisions, record_decisions
from mfhq.store import Store
from pipelines.identity.lookalikes import mean_directions, most_similar_pairs
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.report.formatting import basename
from pipelines.report.thumbnails import Thumbnails
from pipelines.review.cases import REASONS, Case, ReviewedPerson, choose_cases
from pipelines.review.evidence import (
    NEW,
    find_contradictions,
    index_decisions,
    read_faces_of_tracks,
    read_tracks_of_person,
    select_tracks,
)

FACE_PX = 200
"""Length of the longer side of an image on the page, pixels."""

_EMBEDDED = """
SELECT track_id, face_id, model, vector FROM embeddings
WHERE face_id = '' AND track_id IN (SELECT track_id FROM assignments)"""


class ReviewError(ValueError):
    """Refused request or decision; the message is one line that gives the reason, ``status`` the HTTP status."""

    def __init__(self, message: str, status: int = 400, **details: Any) -> None:
        super().__init__(message)
        self.status, self.details = status, details


class Review:
    """Cases and decisions of one reviewer. Safe to use from several threads; a decision is saved immediately.

    Args:
        store: The corpus.
        reviewer: Name that is stored with the decisions.
        each: Upper bound on the cases of each kind.

    Raises:
        CatalogError: No snapshot is published.
    """

    def __init__(self, store: Store, reviewer: str, each: int = 20) -> None:
        self.store, self.reviewer, self._each = store, reviewer, each
        self._lock = threading.RLock()
        self._thumbnails = Thumbnails(lambda uri, offset, length: self._blob(uri, offset, length), FACE_PX)
        self._open()

    def _open(self) -> None:
        self.snapshot = Catalog(self.store).open()
        with contextlib.ExitStack() as stack:
            self._connection = stack.enter_context(self.snapshot.connect(biometric=True))
            self._closing = stack.pop_all()
        self._crops: dict[str, Mapping[str, Any]] = {}
        self.cases = self._choose()

    def close(self) -> None:
        """Close the snapshot."""
        self._closing.close()

    def _blob(self, uri: str, offset: int, length: int) -> bytes:
        return read_blob(self.store, {"uri": uri, "offset": offset, "length": length})

    def _choose(self) -> list[Case]:
        rows = self._connection.execute("SELECT identity_id, n_tracks, cohesion FROM identities").fetchall()
        people = [ReviewedPerson(*row) for row in rows]
        assigned = self.snapshot.table("assignments", ["track_id", "identity_id"]).to_pydict()
        identity_of = dict(zip(assigned["track_id"], assigned["identity_id"], strict=True))
        decided_tracks, _ = index_decisions(read_decisions(self.store).to_pylist())
        undecided = {identity for track, identity in identity_of.items() if track not in decided_tracks}
        means = self._connection.table(_EMBEDDED)
        self.has_embeddings = bool(means.num_rows)
        decided = {person.identity_id for person in people} - undecided
        owner = [identity_of[track] for track in means["track_id"].to_pylist()]
        # in each pair one is the other's nearest, so that enough remain without the pairs of two decided people
        alike = most_similar_pairs(
            *mean_directions(owner, lists_to_vectors(means, dtype=np.float32)), self._each + len(decided)
        )
        return choose_cases(people, alike, decided, self._each, self.snapshot.digest)

    def overview(self) -> dict[str, Any]:
        """Return the corpus, the snapshot, the reviewer, and the reason of each case."""
        with self._lock:
            return {
                "corpus": self.store.uri,
                "snapshot": self.snapshot.version,
                "reviewer": self.reviewer,
                "cases": [case.why for case in self.cases],
                "has_embeddings": self.has_embeddings,
            }

    def case(self, number: int) -> dict[str, Any]:
        """Return a case for the page; images are given by the ids of their faces, and embeddings are left out.

        Raises:
            ReviewError: There is no case with this number.
        """
        with self._lock:
            if not 0 <= number < len(self.cases):
                raise ReviewError(f"no case {number}; there are {len(self.cases)}", 404)
            case = self.cases[number]
            decided, merged = index_decisions(read_decisions(self.store).to_pylist())
            ids = [identity for identity in (case.identity_id, case.other_id) if identity]
            people = [self._person(identity, decided) for identity in ids]
            merged_into = [
                f"{i[:12]} is {merged[i].identity_id[:12]} ({merged[i].reviewer})" for i in ids if i in merged
            ]
            return {
                "number": number,
                "why": case.why,
                "question": REASONS[case.why],
                "score": case.score,
                "people": people,
                "merged": merged_into,
            }

    def _person(self, identity_id: str, decided: Mapping[str, Any]) -> dict[str, Any]:
        tracks = read_tracks_of_person(self._connection, identity_id)
        shown = select_tracks(tracks, decided)
        faces = read_faces_of_tracks(self._connection, [track["track_id"] for track in shown])
        self._crops |= {face["face_id"]: face["crop"] for found in faces.values() for face in found}
        return {
            "identity_id": identity_id,
            "n_tracks": len(tracks),
            "tracks": [
                {
                    "track_id": track["track_id"],
                    "similarity": track["similarity"],
                    "uri": track["uri"],
                    "file": basename(track["uri"] or ""),
                    "frame": track["frame"],
                    "width_px": track["width_px"],
                    "faces": [face["face_id"] for face in faces.get(track["track_id"], [])],
                    "said": _phrase(decided.get(track["track_id"]), identity_id),
                    "away": track["track_id"] in decided and decided[track["track_id"]].identity_id != identity_id,
                }
                for track in shown
            ],
        }

    def face_image(self, face_id: str) -> bytes | None:
        """Return a face's crop as a small WebP; None for a face that no case has shown, or whose image is missing."""
        with self._lock:
            crop = self._crops.get(face_id)
        return self._thumbnails.webp(crop) if crop else None

    def decide(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Save one decision.

        ``accept`` states that the tracks show the person, ``split`` that they all show one other person, ``merge`` that
        ``other_id`` is the same person. If a decision of another reviewer contradicts it, the request is refused
        (status 409), unless it has ``overrule``.

        Args:
            request: ``kind``, ``identity_id``, ``track_ids`` (for accept and split) or ``other_id`` (for merge), and
                optionally ``overrule``.

        Raises:
            ReviewError: The request is invalid, or names a person or a track that the newest snapshot does not have
                (410); nothing is saved.
        """
        with self._lock:
            fresh = self._decisions(request)
            rows = read_decisions(self.store).to_pylist()
            merged = {decision.other_id for decision in fresh if decision.kind == MERGE}
            tracks_of = {i: [t["track_id"] for t in read_tracks_of_person(self._connection, i)] for i in merged}
            contradicted = find_contradictions(fresh, rows, tracks_of, self.reviewer)
            if contradicted and not request.get("overrule"):
                earlier = contradicted[0]
                when = f"{earlier.made_at:%Y-%m-%d %H:%M} UTC" if earlier.made_at else "earlier"
                raise ReviewError(
                    f"{earlier.reviewer or 'another reviewer'} said otherwise ({when}); the same again overrules it",
                    409,
                    contradicts=len(contradicted),
                )
            new_rows = decision_rows(fresh, self.reviewer, datetime.datetime.now(datetime.UTC))
            record_decisions(self.store, new_rows)
            return {"saved": new_rows.num_rows, "snapshot": self.snapshot.version}

    def _decisions(self, request: Mapping[str, Any]) -> list[Decision]:
        kind, identity_id, other_id = (request.get(name) or "" for name in ("kind", "identity_id", "other_id"))
        track_ids = request.get("track_ids") or []
        if not all(map(_is_id, (kind, identity_id, other_id))):
            raise ReviewError("kind, identity_id and other_id must be plain texts")
        if not isinstance(track_ids, list) or not all(map(_is_id, track_ids)):
            raise ReviewError(f"track_ids is {type(track_ids).__name__}; it must be a list of ids")
        newest = Catalog(self.store).open()
        if newest.version != self.snapshot.version:
            self.close()
            self._open()
        track_ids_of_person = {t["track_id"] for t in read_tracks_of_person(self._connection, identity_id)}
        if not track_ids_of_person:
            raise ReviewError(self._withdrawn(identity_id), 410)
        if missing := [track for track in track_ids if track not in track_ids_of_person]:
            raise ReviewError(
                f"track {missing[0]} is not identity {identity_id}'s in {newest.version}; look again", 410
            )
        if kind == MERGE and other_id and not read_tracks_of_person(self._connection, other_id):
            raise ReviewError(self._withdrawn(other_id), 410)
        try:
            if kind == MERGE:
                return [Decision(MERGE, identity_id, other_id=other_id)]
            if kind not in (ACCEPT, SPLIT) or not track_ids:
                raise ReviewError(f"decision {kind!r} of {len(track_ids)} tracks; give accept or split, and tracks")
            return [Decision(kind, identity_id, track) for track in track_ids]
        except ReviewError:
            raise
        except ValueError as error:
            raise ReviewError(str(error)) from error

    def _withdrawn(self, identity_id: str) -> str:
        aliases = self.snapshot.table("aliases").to_pylist()
        now = next((row["now"] for row in aliases if row["identity_id"] == identity_id), "")
        where = f"it is {now} since" if now else "it was split up, merged or taken down"
        return f"identity {identity_id} is gone from {self.snapshot.version}: {where}; look at the cases again"


def _is_id(value: Any) -> bool:
    """Return True for a text that a query can be asked with; JSON can hold halves of characters."""
    return isinstance(value, str) and value.isprintable()


def _phrase(record: Any, identity_id: str) -> str:
    """Describe the decision on a track in a few words."""
    if record is None:
        return ""
    what = {identity_id: "accepted", NEW: "split off"}.get(record.identity_id, f"given to {record.identity_id[:8]}")
    return f"{what} by {record.reviewer or 'a reviewer'}"
