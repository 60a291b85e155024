"""Reader of FLAME (Li et al. 2017), from a file that the user supplies, as a ``HeadModel``.

Tested files: ``generic_model.pkl`` of 2020, ``flame2023.pkl`` and ``flame2023_no_jaw.pkl`` of 2023. Each has 5,023
vertices and ``shapedirs`` of 300 shape and 100 expression directions. The same expression coefficients mean different
expressions in different files; the head's digest distinguishes the files. In a ``no_jaw`` file the expression alone
opens the mouth. Such a file has a jaw joint nevertheless; here that joint is given no influence on the vertices, so the
mouth is not opened twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.head.interface import JAW, LEFT_EYE, N_JOINTS, NECK, PARENTS, RIGHT_EYE, HeadModel
from ffavatar_model.head.safe_pickle import MAX_BYTES, RefusedPickle, read_arrays

N_SHAPE = 300
"""Number of shape directions. They are the first of the ``shapedirs``; the rest are expression directions."""
NEEDED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")


def load_flame(path: Path, n_shape: int = N_SHAPE, jaw_rotates: bool | None = None) -> HeadModel:
    """Read a FLAME pickle as a head model; nothing in the file is executed.

    ``HeadModel`` uses FLAME's axes and joints unchanged; the origin is moved to the middle between the eyes. The head
    has no landmarks and no regions yet.

    Args:
        path: The pickle.
        n_shape: Number of shape directions, the first of the file's ``shapedirs``.
        jaw_rotates: The jaw joint rotates. Default: False if the file name contains ``no_jaw``, otherwise True.

    Returns:
        The head model, named after the file.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is not a FLAME model; the message names the file and the reason.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such FLAME file; it comes from flame.is.tue.mpg.de after a registration")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: refused as a FLAME model: it has more than {MAX_BYTES} bytes")
    try:
        arrays = read_arrays(path.read_bytes())
    except RefusedPickle as error:
        raise ValueError(f"{path}: refused as a FLAME model: {error}") from None
    if missing := [name for name in NEEDED if name not in arrays]:
        raise ValueError(f"{path}: not a FLAME model: it lacks {missing}")
    if odd := [name for name in NEEDED if not np.isfinite(np.asarray(arrays[name], np.float64)).all()]:
        raise ValueError(f"{path}: not a FLAME model: {odd[0]} has values that are not finite; fetch the file again")
    directions = arrays["shapedirs"]
    if directions.ndim != 3 or directions.shape[2] <= n_shape:
        raise ValueError(f"{path}: shapedirs has shape {directions.shape}, expected (V, 3, more than {n_shape})")
    parents = tuple(int(p) for p in arrays["kintree_table"].reshape(2, -1)[0].astype(np.int64).astype(np.int32))
    if len(parents) != N_JOINTS or parents[1:] != PARENTS[1:]:
        raise ValueError(f"{path}: joints' parents are {parents}, FLAME's are {PARENTS}")
    template, regressor = arrays["v_template"].astype(np.float64), arrays["J_regressor"].astype(np.float64)
    origin = _between_the_eyes(template, regressor)
    n_expression = directions.shape[2] - n_shape
    weights, correctives = arrays["weights"].astype(np.float64), arrays["posedirs"]
    if not ("no_jaw" not in path.stem if jaw_rotates is None else jaw_rotates):
        if weights.shape != (len(template), N_JOINTS) or correctives.shape != (len(template), 3, 9 * (N_JOINTS - 1)):
            raise ValueError(f"{path}: weights {weights.shape}, posedirs {correctives.shape} do not fit its vertices")
        weights, correctives = _without_jaw(weights, correctives)
    has_uvs = "vt" in arrays and "ft" in arrays
    try:
        return HeadModel(
            name=path.stem,
            template=_tensor(template - origin),
            shape_directions=_tensor(directions[:, :, :n_shape]),
            expression_directions=_tensor(directions[:, :, n_shape:]),
            pose_correctives=_tensor(correctives),
            joint_regressor=_tensor(regressor),
            skinning_weights=_tensor(weights),
            triangles=_tensor(arrays["f"].astype(np.int64)),
            uvs=_tensor(arrays["vt"] if has_uvs else np.zeros((0, 2))),
            uv_triangles=_tensor(arrays["ft"].astype(np.int64) if has_uvs else np.zeros((0, 3), np.int64)),
            landmark_index=torch.zeros(0, dtype=torch.int64),
            landmark_triangles=torch.zeros(0, dtype=torch.int64),
            landmark_barycentric=torch.zeros(0, 3),
            regions=torch.zeros(len(template), 0),
            action_expression=torch.zeros(0, n_expression),
            action_rotations=torch.zeros(0, N_JOINTS, 3),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _without_jaw(weights: NDArray[Any], correctives: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Add the jaw's skinning weights to those of its parent, the neck, and set the jaw's pose correctives to zero."""
    weights, correctives = weights.copy(), correctives.copy()
    weights[:, NECK] += weights[:, JAW]
    weights[:, JAW] = 0
    correctives[..., 9 * (JAW - 1) : 9 * JAW] = 0
    return weights, correctives


def read_origin(path: Path) -> NDArray[np.float64]:
    """Return the head's origin (3,) in the file's own coordinates, metres.

    It converts poses made for the file's coordinates to those of ``load_flame``. ``path`` must be a file that
    ``load_flame`` accepts.
    """
    arrays = read_arrays(path.read_bytes())
    return _between_the_eyes(arrays["v_template"].astype(np.float64), arrays["J_regressor"].astype(np.float64))


def _between_the_eyes(template: NDArray[np.float64], regressor: NDArray[np.float64]) -> NDArray[np.float64]:
    return (regressor @ template)[[LEFT_EYE, RIGHT_EYE]].mean(0)


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    kind = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
    return torch.from_numpy(np.ascontiguousarray(values, kind))
