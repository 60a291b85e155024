"""The faces of a person that are chosen for training: those that differ most in pose, expression and time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfhq.schema import IDENTITY_FACES, OK
from pipelines.publishing.publish_presets import Preset

Floats = npt.NDArray[np.float64]

POSE_DEG = 20.0
"""Turn between two heads that counts as 1."""
EXPRESSION = 0.15
"""Root mean square distance of two aligned meshes, of their radius, that counts as 1 (a mouth wide open)."""
TIME_S = 10.0
"""Time between two frames of one video that counts as 1, which is the most; another video counts as 1."""
WEIGHTS = {"pose": 1.0, "expression": 1.0, "time": 0.5}
MOST_CANDIDATES = 256
"""Of one person: the best ones by ``quality``."""


@dataclass(frozen=True)
class Choice:
    """A chosen face."""

    face_id: str
    rank: int
    why: str
    """best, pose, expression or time."""


def quality(faces: pa.Table) -> Floats:
    """(N,) how good each face is as a picture: detector score, detail, size and frontality multiplied."""

    def column(name: str) -> Floats:
        return faces[name].cast(pa.float64()).fill_null(0).to_numpy()

    width = np.maximum(column("x1") - column("x0"), 0)
    frontal = np.cos(np.radians(np.clip(column("yaw_deg"), -90, 90))) * np.cos(
        np.radians(np.clip(column("pitch_deg"), -90, 90))
    )
    return np.round(column("score") * np.log1p(column("sharpness")) * np.log1p(width) * (0.5 + 0.5 * frontal), 6)


@dataclass(frozen=True)
class Looks:
    """What N faces of one person differ in."""

    pose_deg: Floats
    """(N, 3) yaw, pitch and roll."""
    meshes: Floats
    """(N, 468, 3) as ``aligned_meshes`` gives them."""
    videos: npt.NDArray[np.object_]
    """(N,) ids of the files."""
    times_s: Floats
    """(N,)"""

    @classmethod
    def of(cls, faces: pa.Table) -> Looks:
        """Of rows of ``mfhq.schema.FACES``; a value that is missing counts as 0."""
        pose = np.stack([_filled(faces, name) for name in ("yaw_deg", "pitch_deg", "roll_deg")], axis=1)
        videos = np.array(faces["video_id"].to_pylist(), object)
        return cls(pose, aligned_meshes(faces), videos, _filled(faces, "time_s"))

    def parts(self, others: npt.NDArray[np.int64]) -> Floats:
        """(3, N, M) how far each face is from M others (their indices): the parts of ``WEIGHTS``, weighted.

        Each part is at most its weight; the distance of two faces is the root of the sum of the parts' squares.
        """
        turn = np.linalg.norm(self.pose_deg[:, None] - self.pose_deg[None, others], axis=2)
        apart = np.abs(self.times_s[:, None] - self.times_s[None, others])
        parts = {
            "pose": np.minimum(turn / POSE_DEG, 1),
            "expression": np.minimum(_mesh_distances(self.meshes, others) / EXPRESSION, 1),
            "time": np.where(self.videos[:, None] == self.videos[None, others], np.minimum(apart / TIME_S, 1), 1.0),
        }
        return np.stack([weight * parts[name] for name, weight in WEIGHTS.items()])


def choose_faces(faces: pa.Table, most: int, min_difference: float) -> list[Choice]:
    """The best face, then again and again the one that is furthest from all chosen, until none differs enough.

    The result does not depend on the order of the rows.
    """
    faces = faces.sort_by("face_id")
    order = np.argsort(-quality(faces), kind="stable")[:MOST_CANDIDATES]
    faces = faces.take(pa.array(order))
    ids, looks = faces["face_id"].to_pylist(), Looks.of(faces)
    chosen = [Choice(ids[0], 0, "best")] if ids else []
    nearest, why, taken = np.full(len(ids), np.inf), np.full(len(ids), "", object), 0
    open_ = np.ones(len(ids), bool)
    while ids and len(chosen) < most:
        open_[taken] = False
        weighted = looks.parts(np.array([taken]))[:, :, 0]
        distance = np.round(np.sqrt((weighted**2).sum(axis=0)), 6)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        why[closer] = np.array(list(WEIGHTS), object)[weighted.argmax(axis=0)][closer]
        taken = int(np.argmax(np.where(open_, nearest, -1)))
        if not open_[taken] or nearest[taken] < min_difference:
            break
        chosen.append(Choice(ids[taken], len(chosen), str(why[taken])))
    return chosen


def aligned_meshes(faces: pa.Table) -> Floats:
    """(N, 468, 3) meshes without position, size and rotation (Kabsch's alignment to the first); NaN for none."""
    meshes = np.full((faces.num_rows, 468, 3), np.nan)
    column = faces["mesh468"].combine_chunks()
    present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if not len(present):
        return meshes
    points = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, 468, 3)
    points -= points.mean(axis=1, keepdims=True)
    points /= np.maximum(np.sqrt((points**2).sum(axis=2).mean(axis=1)), 1e-9)[:, None, None]
    u, _, vt = np.linalg.svd(np.einsum("npi,pj->nij", points, points[0]))
    flip = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= flip[:, None]
    meshes[present] = points @ (u @ vt)
    return meshes


def _mesh_distances(meshes: Floats, others: npt.NDArray[np.int64]) -> Floats:
    """(N, M) root mean square distance of each mesh from M of them; 0 where either is missing."""
    columns = [np.sqrt(((meshes - meshes[other]) ** 2).sum(axis=2).mean(axis=1)) for other in others]
    return np.nan_to_num(np.stack(columns, axis=1))


def _filled(faces: pa.Table, name: str) -> Floats:
    return faces[name].cast(pa.float64()).fill_null(0).to_numpy()


def faces_of_people(faces: pa.Table, identity_of: Mapping[str, str]) -> dict[str, list[int]]:
    """Person to the rows of the faces that the corpus may use of them; ``identity_of`` is track to person."""
    columns = zip(faces["track_id"].to_pylist(), faces["status"].to_pylist(), strict=True)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, (track, status) in enumerate(columns):
        if status == OK and track in identity_of:
            rows_of[identity_of[track]].append(row)
    return dict(sorted(rows_of.items()))


def identity_faces(faces: pa.Table, identity_of: Mapping[str, str], preset: Preset) -> pa.Table:
    """``identity_faces``: for each person of ``identity_of`` (track to identity) the faces chosen from the ok ones."""
    rows: Sequence[dict[str, object]] = [
        {"identity_id": identity, "face_id": choice.face_id, "rank": choice.rank, "why": choice.why}
        for identity, members in faces_of_people(faces, identity_of).items()
        for choice in choose_faces(faces.take(pa.array(members)), preset.faces_per_identity, preset.min_difference)
    ]
    return pa.Table.from_pylist(list(rows), schema=IDENTITY_FACES)
