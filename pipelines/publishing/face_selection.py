"""Selection of a person's faces for training: those that differ most in pose, expression and time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfhq.schema import IDENTITY_FACES, OK
from pipelines.publishing.publish_presets import Preset

Floats = npt.NDArray[np.float64]

POSE_DEG = 20.0
"""Difference of two heads' poses that counts as 1: the norm of the differences of yaw, pitch and roll."""
EXPRESSION = 0.15
"""Root mean square distance of two aligned meshes, in units of their radius, that counts as 1 (a mouth wide open)."""
TIME_S = 10.0
"""Time between two frames of one video that counts as 1, the maximum; between two videos the difference is 1, too."""
WEIGHTS = {"pose": 1.0, "expression": 1.0, "time": 0.5}
MOST_CANDIDATES = 256
"""Upper bound on the faces of one person to choose from: the best by ``face_quality``."""


@dataclass(frozen=True)
class Choice:
    """Chosen face of a person."""

    face_id: str
    rank: int
    why: str
    """``best`` for the first face, else the largest difference from the faces before it: pose, expression or time."""


def face_quality(faces: pa.Table) -> Floats:
    """Return the quality of each face as an image: the product of detector score, detail, size and frontality.

    Args:
        faces: N rows of ``mfhq.schema.FACES``; a missing value counts as 0.

    Returns:
        (N,) qualities; higher is better.
    """
    width = np.maximum(_column(faces, "x1") - _column(faces, "x0"), 0)
    frontal = np.cos(np.radians(np.clip(_column(faces, "yaw_deg"), -90, 90))) * np.cos(
        np.radians(np.clip(_column(faces, "pitch_deg"), -90, 90))
    )
    detail = np.log1p(_column(faces, "sharpness"))
    return np.round(_column(faces, "score") * detail * np.log1p(width) * (0.5 + 0.5 * frontal), 6)


@dataclass(frozen=True)
class FaceFeatures:
    """Pose, mesh and time of N faces of one person, from which their differences are computed."""

    pose_deg: Floats
    """(N, 3) yaw, pitch and roll."""
    meshes: Floats
    """(N, 468, 3) meshes from ``aligned_meshes``."""
    videos: npt.NDArray[np.object_]
    """(N,) id of each face's video."""
    times_s: Floats
    """(N,) time of each face in its video, seconds."""

    @classmethod
    def of(cls, faces: pa.Table) -> FaceFeatures:
        """Return the features of ``mfhq.schema.FACES`` rows; a missing value counts as 0."""
        pose = np.stack([_column(faces, name) for name in ("yaw_deg", "pitch_deg", "roll_deg")], axis=1)
        videos = np.array(faces["video_id"].to_pylist(), object)
        return cls(pose, aligned_meshes(faces), videos, _column(faces, "time_s"))

    def weighted_differences(self, others: npt.NDArray[np.int64]) -> Floats:
        """Return the differences of all N faces from M of them, one per entry of ``WEIGHTS``.

        Each difference is at most its weight. The distance of two faces is the root of the sum of their squares.

        Args:
            others: (M,) row numbers.

        Returns:
            (3, N, M), in the order of ``WEIGHTS``.
        """
        turn = np.linalg.norm(self.pose_deg[:, None] - self.pose_deg[None, others], axis=2)
        delay = np.abs(self.times_s[:, None] - self.times_s[None, others])
        differences = {
            "pose": np.minimum(turn / POSE_DEG, 1),
            "expression": np.minimum(_mesh_distances(self.meshes, others) / EXPRESSION, 1),
            "time": np.where(self.videos[:, None] == self.videos[None, others], np.minimum(delay / TIME_S, 1), 1.0),
        }
        return np.stack([weight * differences[name] for name, weight in WEIGHTS.items()])


def choose_faces(faces: pa.Table, most: int, min_difference: float) -> list[Choice]:
    """Choose the most diverse faces of one person by farthest-point sampling, beginning with the best face.

    The result does not depend on the order of the rows.

    Args:
        faces: Ok faces of the person, ``mfhq.schema.FACES``.
        most: Upper bound on the number of faces.
        min_difference: Least distance of a further face from every face chosen before it.

    Returns:
        The choices in the order of their rank.
    """
    faces = faces.sort_by("face_id")
    order = np.argsort(-face_quality(faces), kind="stable")[:MOST_CANDIDATES]
    faces = faces.take(pa.array(order))
    ids, features = faces["face_id"].to_pylist(), FaceFeatures.of(faces)
    choices = [Choice(ids[0], 0, "best")] if ids else []
    nearest, why, latest = np.full(len(ids), np.inf), np.full(len(ids), "", object), 0
    is_open = np.ones(len(ids), bool)
    while ids and len(choices) < most:
        is_open[latest] = False
        differences = features.weighted_differences(np.array([latest]))[:, :, 0]
        distance = np.round(np.sqrt((differences**2).sum(axis=0)), 6)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        why[closer] = np.array(list(WEIGHTS), object)[differences.argmax(axis=0)][closer]
        latest = int(np.argmax(np.where(is_open, nearest, -1)))
        if not is_open[latest] or nearest[latest] < min_difference:
            break
        choices.append(Choice(ids[latest], len(choices), str(why[latest])))
    return choices


def aligned_meshes(faces: pa.Table) -> Floats:
    """Return the faces' meshes without position, size and rotation, aligned to the first mesh (Kabsch's method).

    Args:
        faces: N rows with ``mesh468``.

    Returns:
        (N, 468, 3), in units of the mesh's radius; NaN for a missing mesh.
    """
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
    """Return the (N, M) root mean square distance of each mesh from M of them; 0 if either is missing."""
    columns = [np.sqrt(((meshes - meshes[other]) ** 2).sum(axis=2).mean(axis=1)) for other in others]
    return np.nan_to_num(np.stack(columns, axis=1))


def _column(faces: pa.Table, name: str) -> Floats:
    """Return a column as (N,) float64; a missing value is 0."""
    return faces[name].cast(pa.float64()).fill_null(0).to_numpy()


def faces_of_people(faces: pa.Table, identity_of: Mapping[str, str]) -> dict[str, list[int]]:
    """Group the ok faces by person.

    Args:
        faces: ``mfhq.schema.FACES`` rows.
        identity_of: Track to person; faces of other tracks are left out.

    Returns:
        Person to row numbers, sorted by person.
    """
    columns = zip(faces["track_id"].to_pylist(), faces["status"].to_pylist(), strict=True)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, (track, status) in enumerate(columns):
        if status == OK and track in identity_of:
            rows_of[identity_of[track]].append(row)
    return dict(sorted(rows_of.items()))


def identity_faces_table(faces: pa.Table, identity_of: Mapping[str, str], preset: Preset) -> pa.Table:
    """Build the table ``identity_faces``: one row per face that is chosen for a person.

    Args:
        faces: ``mfhq.schema.FACES`` rows; only ok faces can be chosen.
        identity_of: Track to person.
        preset: Number of faces per person, and their least difference.
    """
    rows = [
        {"identity_id": identity, "face_id": choice.face_id, "rank": choice.rank, "why": choice.why}
        for identity, members in faces_of_people(faces, identity_of).items()
        for choice in choose_faces(faces.take(pa.array(members)), preset.faces_per_identity, preset.min_difference)
    ]
    return pa.Table.from_pylist(rows, schema=IDENTITY_FACES)
