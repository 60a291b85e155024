"""A review in progress: the cases of the newest snapshot, and what the reviewer says of them."""

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
from pipelines.identity.lookalikes import centres, most_alike
from pipelines.identity.vector_lists import vectors_of
from pipelines.report.formatting import basename
from pipelines.report.thumbnails import Thumbnails
from pipelines.review.cases import REASONS, Case, ReviewedPerson, choose_cases
from pipelines.review.evidence import NEW, contradictions, faces_of_tracks, shown_tracks, tracks_of_person, words

FACE_PX = 200
"""Longer side of a picture on the page."""

_EMBEDDED = """
SELECT track_id, face_id, model, vector FROM embeddings
WHERE face_id = '' AND track_id IN (SELECT track_id FROM assignments)"""


class ReviewError(ValueError):
    """A decision that cannot be taken: one line that says why; ``status`` is its HTTP status."""

    def __init__(self, message: str, status: int = 400, **details: Any) -> None:
        super().__init__(message)
        self.status, self.details = status, details


class Review:
    """Cases and decisions of one reviewer. Safe to use from several threads; decisions are in the corpus at once.

    Raises:
        CatalogError: nothing is published.
    """

    def __init__(self, store: Store, reviewer: str, each: int = 20) -> None:
        self.store, self.reviewer, self._each = store, reviewer, each
        self._lock = threading.RLock()
        self._thumbnails = Thumbnails(lambda uri, offset, length: self._blob(uri, offset, length), FACE_PX)
        self._open()

    def _open(self) -> None:
        self.snapshot = Catalog(self.store).open()
        with contextlib.ExitStack() as stack:
            self._connection = stack.enter_context(self.snapshot.connect())
            self._closing = stack.pop_all()
        self._places: dict[str, Mapping[str, Any]] = {}
        self.cases = self._choose()

    def close(self) -> None:
        """Let go of the snapshot."""
        self._closing.close()

    def _blob(self, uri: str, offset: int, length: int) -> bytes:
        return read_blob(self.store, {"uri": uri, "offset": offset, "length": length})

    def _choose(self) -> list[Case]:
        rows = self._connection.execute("SELECT identity_id, n_tracks, cohesion FROM identities").fetchall()
        people = [ReviewedPerson(*row) for row in rows]
        assigned = self.snapshot.table("assignments", ["track_id", "identity_id"]).to_pydict()
        identity_of = dict(zip(assigned["track_id"], assigned["identity_id"], strict=True))
        said, _ = words(read_decisions(self.store).to_pylist())
        unsaid = {identity for track, identity in identity_of.items() if track not in said}
        means = self._connection.sql(_EMBEDDED).to_arrow_table()
        self.has_embeddings = bool(means.num_rows)
        decided = {person.identity_id for person in people} - unsaid
        owner = [identity_of[track] for track in means["track_id"].to_pylist()]
        # each pair is somebody's nearest: so many are left when those of two decided people are left out
        alike = most_alike(*centres(owner, vectors_of(means, dtype=np.float32)), self._each + len(decided))
        return choose_cases(people, alike, decided, self._each, self.snapshot.digest)

    def overview(self) -> dict[str, Any]:
        """What the page is about: corpus, snapshot, reviewer, and each case's reason."""
        with self._lock:
            return {
                "corpus": self.store.uri,
                "snapshot": self.snapshot.version,
                "reviewer": self.reviewer,
                "cases": [case.why for case in self.cases],
                "has_embeddings": self.has_embeddings,
            }

    def case(self, number: int) -> dict[str, Any]:
        """A case as the page shows it; pictures by the ids of their faces. No embedding is in it.

        Raises:
            ReviewError: there is no case of that number.
        """
        with self._lock:
            if not 0 <= number < len(self.cases):
                raise ReviewError(f"no case {number}; there are {len(self.cases)}", 404)
            case = self.cases[number]
            said, merged = words(read_decisions(self.store).to_pylist())
            ids = [identity for identity in (case.identity_id, case.other_id) if identity]
            people = [self._person(identity, said) for identity in ids]
            gone = [f"{i[:12]} is {merged[i].identity_id[:12]} ({merged[i].reviewer})" for i in ids if i in merged]
            return {
                "number": number,
                "why": case.why,
                "question": REASONS[case.why],
                "score": case.score,
                "people": people,
                "merged": gone,
            }

    def _person(self, identity_id: str, said: Mapping[str, Any]) -> dict[str, Any]:
        tracks = tracks_of_person(self._connection, identity_id)
        shown = shown_tracks(tracks, said)
        faces = faces_of_tracks(self._connection, [track["track_id"] for track in shown])
        self._places |= {face["face_id"]: face["crop"] for found in faces.values() for face in found}
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
                    "said": _phrase(said.get(track["track_id"]), identity_id),
                    "away": track["track_id"] in said and said[track["track_id"]].identity_id != identity_id,
                }
                for track in shown
            ],
        }

    def face_image(self, face_id: str) -> bytes | None:
        """A face's crop as a small WebP; None for a face that no case has shown, or whose picture is gone."""
        with self._lock:
            place = self._places.get(face_id)
        return self._thumbnails.webp(place) if place else None

    def decide(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Save one decision: ``kind``, ``identity_id``, and by kind ``track_ids`` or ``other_id``; ``overrule``.

        accept says that the tracks are that person, split that they are another one (all the same), merge that
        ``other_id`` is that person too. A word of another reviewer that does not go with it holds it up (status 409)
        until the same comes with ``overrule``.

        Raises:
            ReviewError: it makes no sense, or names a person or a track that is gone (410); nothing is saved.
        """
        with self._lock:
            fresh = self._decisions(asked)
            rows = read_decisions(self.store).to_pylist()
            named = {decision.other_id for decision in fresh if decision.kind == MERGE}
            tracks_of = {i: [t["track_id"] for t in tracks_of_person(self._connection, i)] for i in named}
            against = contradictions(fresh, rows, tracks_of, self.reviewer)
            if against and not asked.get("overrule"):
                word = against[0]
                when = f"{word.made_at:%Y-%m-%d %H:%M} UTC" if word.made_at else "earlier"
                raise ReviewError(
                    f"{word.reviewer or 'another reviewer'} said otherwise ({when}); the same again overrules it",
                    409,
                    contradicts=len(against),
                )
            made = decision_rows(fresh, self.reviewer, datetime.datetime.now(datetime.UTC))
            record_decisions(self.store, made)
            return {"saved": made.num_rows, "snapshot": self.snapshot.version}

    def _decisions(self, asked: Mapping[str, Any]) -> list[Decision]:
        kind, identity_id, other_id = (str(asked.get(name) or "") for name in ("kind", "identity_id", "other_id"))
        track_ids = asked.get("track_ids") or []
        if not isinstance(track_ids, list) or not all(isinstance(track, str) for track in track_ids):
            raise ReviewError(f"track_ids is {type(track_ids).__name__}; it must be a list of ids")
        newest = Catalog(self.store).open()
        if newest.version != self.snapshot.version:
            self.close()
            self._open()
        here = {t["track_id"] for t in tracks_of_person(self._connection, identity_id)}
        if not here:
            raise ReviewError(self._gone(identity_id), 410)
        if lost := [track for track in track_ids if track not in here]:
            raise ReviewError(f"track {lost[0]} is not identity {identity_id}'s in {newest.version}; look again", 410)
        if kind == MERGE and other_id and not tracks_of_person(self._connection, other_id):
            raise ReviewError(self._gone(other_id), 410)
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

    def _gone(self, identity_id: str) -> str:
        aliases = self.snapshot.table("aliases").to_pylist()
        now = next((row["now"] for row in aliases if row["identity_id"] == identity_id), "")
        where = f"it is {now} since" if now else "it was split up, merged or taken down"
        return f"identity {identity_id} is gone from {self.snapshot.version}: {where}; look at the cases again"


def _phrase(word: Any, identity_id: str) -> str:
    """What was said of a track, in a few words."""
    if word is None:
        return ""
    what = {identity_id: "accepted", NEW: "split off"}.get(word.identity_id, f"given to {word.identity_id[:8]}")
    return f"{what} by {word.reviewer or 'a reviewer'}"
