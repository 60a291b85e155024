"""Selection of people's faces for training: those that differ most in pose, expression and time."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

POSE_DEG = 20.0
"""Difference of two heads' poses that counts as 1: the norm of the differences of yaw, pitch and roll."""
EXPRESSION = 0.15
"""Root mean square distance of two aligned meshes, in units of their radius, that counts as 1 (a mouth wide open)."""
TIME_S = 10.0
"""Time between two frames of one video that counts as 1, the maximum; between two videos the difference is 1, too."""
WEIGHTS = {"pose": 1.0, "expression": 1.0, "time": 0.5}
BEST = len(WEIGHTS)
"""Number of the reason ``best`` in ``REASONS``."""
REASONS = (*WEIGHTS, "best")
"""Why a face is chosen: ``best`` for the first, else the largest difference from the faces before it."""
MOST_CANDIDATES = 256
"""Upper bound on the faces of one person to choose from: the best by ``face_quality``."""
N_POINTS = 468
"""Number of points of a mesh."""


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
    """Pose, mesh and time of N faces, from which their differences are computed."""

    quality: Floats
    """(N,) ``face_quality``."""
    pose_deg: Floats
    """(N, 3) yaw, pitch and roll."""
    meshes: npt.NDArray[np.float32]
    """(N, 468, 3) meshes, pixels; NaN where there is none."""
    videos: Integers
    """(N,) number of each face's video."""
    times_s: Floats
    """(N,) time of each face in its video, seconds."""

    @classmethod
    def of(cls, faces: pa.Table, meshes: npt.NDArray[np.float32]) -> FaceFeatures:
        """Return the features of faces.

        Args:
            faces: ``mfhq.schema.FACES`` rows; a missing value counts as 0.
            meshes: (N, 1404) their meshes, NaN where there is none.
        """
        pose = np.stack([_column(faces, name) for name in ("yaw_deg", "pitch_deg", "roll_deg")], axis=1)
        videos = faces["video_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        points = meshes.reshape(len(meshes), N_POINTS, 3)
        return cls(face_quality(faces), pose, points, videos, _column(faces, "time_s"))


@dataclass(frozen=True)
class PeopleBatch:
    """Faces of B people with n faces each, and how their meshes overlap."""

    quality: Floats
    """(B, n) ``face_quality``."""
    pose_deg: Floats
    """(B, n, 3) yaw, pitch and roll."""
    videos: Integers
    """(B, n) number of each face's video."""
    times_s: Floats
    """(B, n) seconds."""
    covariances: Floats
    """(B, n, n, 3, 3) sum over the points of the outer product of two faces' centred meshes, whose radius is 1."""
    has_mesh: Bools
    """(B, n) False for a face without a mesh."""

    @classmethod
    def of(cls, features: FaceFeatures, rows: Integers) -> PeopleBatch:
        """Return the batch of these faces.

        Args:
            features: Features of N faces.
            rows: (B, n) row numbers, one person a row.
        """
        points, (people, n) = features.meshes[rows], rows.shape
        has_mesh = ~np.isnan(points[:, :, 0, 0])
        points[~has_mesh] = 0
        flat = np.ascontiguousarray(points.transpose(0, 1, 3, 2), np.float64).reshape(people, 3 * n, N_POINTS)
        sums = flat.sum(axis=2)
        products = flat @ flat.transpose(0, 2, 1)
        products -= sums[:, :, None] * sums[:, None] / N_POINTS  # as if the meshes were centred
        products = np.ascontiguousarray(products.reshape(people, n, 3, n, 3).transpose(0, 1, 3, 2, 4))
        radius = np.maximum(np.sqrt(np.einsum("bnnii->bn", products) / N_POINTS), 1e-9)
        products /= (radius[:, :, None] * radius[:, None])[..., None, None]
        return cls(
            features.quality[rows],
            features.pose_deg[rows],
            features.videos[rows],
            features.times_s[rows],
            products,
            has_mesh,
        )

    def take(self, order: Integers) -> PeopleBatch:
        """Return the batch with some of each person's faces.

        Args:
            order: (B, m) places of the faces in this batch.
        """
        person = np.arange(len(order))[:, None]
        return PeopleBatch(
            self.quality[person, order],
            self.pose_deg[person, order],
            self.videos[person, order],
            self.times_s[person, order],
            self.covariances[person[..., None], order[:, :, None], order[:, None, :]],
            self.has_mesh[person, order],
        )

    def take_people(self, people: Integers) -> PeopleBatch:
        """Return the batch with some of the people.

        Args:
            people: (P,) their places in this batch.
        """
        return PeopleBatch(*(getattr(self, f.name)[people] for f in fields(PeopleBatch)))

    def differences(self, reference: Integers) -> Floats:
        """Return the weighted differences of each two faces of a person, one per entry of ``WEIGHTS``.

        Each difference is at most its weight. The distance of two faces is the root of the sum of their squares.

        Args:
            reference: (B,) place of the face to whose mesh the others are aligned.

        Returns:
            (3, B, n, n), in the order of ``WEIGHTS``.
        """
        turn = np.linalg.norm(self.pose_deg[:, :, None] - self.pose_deg[:, None], axis=3)
        delay = np.abs(self.times_s[:, :, None] - self.times_s[:, None])
        same_video = self.videos[:, :, None] == self.videos[:, None]
        differences = {
            "pose": np.minimum(turn / POSE_DEG, 1),
            "expression": np.minimum(self.mesh_distances(reference) / EXPRESSION, 1),
            "time": np.where(same_video, np.minimum(delay / TIME_S, 1), 1.0),
        }
        return np.stack([weight * differences[name] for name, weight in WEIGHTS.items()])

    def mesh_distances(self, reference: Integers) -> Floats:
        """Return the distance of each two meshes of a person, both aligned to a third one (Kabsch's method).

        Args:
            reference: (B,) place of the face to whose mesh the others are aligned.

        Returns:
            (B, n, n) root mean square distance of the points, in units of the mesh's radius; 0 if a mesh is missing.
        """
        u, _, vt = np.linalg.svd(self.covariances[np.arange(len(reference)), :, reference])
        u[..., 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
        rotations = u @ vt
        aligned = (rotations[:, :, None] * (self.covariances @ rotations[:, None])).sum(axis=(3, 4))
        own = np.einsum("bnnii->bn", self.covariances)
        squares = np.maximum(own[:, :, None] + own[:, None] - 2 * aligned, 0) / N_POINTS
        present = self.has_mesh[:, :, None] & self.has_mesh[:, None]
        distances = np.where(present & (squares > 1e-13), np.sqrt(squares), 0.0)
        return distances * (1 - np.eye(distances.shape[1]))


def choose_faces(batch: PeopleBatch, most: int, min_difference: float) -> tuple[Integers, Integers]:
    """Choose the most diverse faces of each person by farthest-point sampling, beginning with the best face.

    Args:
        batch: Ok faces of B people, each person's in the order of their ids.
        most: Upper bound on the number of faces of a person.
        min_difference: Least distance of a further face from every face chosen before it.

    Returns:
        (B, most) places of the chosen faces in the order of their rank, -1 for none; and the numbers of their reasons
        in ``REASONS``.
    """
    order = np.argsort(-batch.quality, axis=1, kind="stable")[:, :MOST_CANDIDATES]
    ranked, person = batch.take(order), np.arange(len(order))
    differences = ranked.differences(ranked.has_mesh.argmax(axis=1))
    distances, largest = np.round(np.sqrt((differences**2).sum(axis=0)), 6), differences.argmax(axis=0)
    chosen, why = np.full((len(order), most), -1, np.int64), np.full((len(order), most), BEST, np.int64)
    nearest, reason = np.full(order.shape, np.inf), np.zeros(order.shape, np.int64)
    is_open, latest, goes_on = np.ones(order.shape, bool), np.zeros(len(order), np.int64), np.ones(len(order), bool)
    chosen[:, 0] = order[:, 0]
    for rank in range(1, min(most, order.shape[1])):
        is_open[person, latest] = False
        closer = distances[person, :, latest] < nearest
        nearest = np.where(closer, distances[person, :, latest], nearest)
        reason = np.where(closer, largest[person, :, latest], reason)
        latest = np.where(is_open, nearest, -1.0).argmax(axis=1)
        goes_on &= is_open[person, latest] & (nearest[person, latest] >= min_difference)
        if not goes_on.any():
            break
        chosen[goes_on, rank] = order[person, latest][goes_on]
        why[goes_on, rank] = reason[person, latest][goes_on]
    return chosen, why


def _column(faces: pa.Table, name: str) -> Floats:
    """Return a column as (N,) float64; a missing value is 0."""
    return faces[name].cast(pa.float64()).fill_null(0).to_numpy()
