"""ICT-FaceKit's geometry: neutral face, identity modes and expressions, from a kit's packed file or from a checkout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.people.obj_files import ADVICE, read_obj, read_vertices
from pipelines.studio.people.proxies import triangulate

Floats = NDArray[np.float32]
PACKED = "ict/ict_facekit_light.npz"
"""File of a kit."""
CHECKOUT = "FaceXModel"
"""Folder of a checkout of ICT-FaceKit, with one OBJ file for each shape."""
N_VERTICES, N_MODES = 26719, 100
"""Numbers of vertices and of identity modes."""
SKIN = slice(0, 11248)
"""Vertices of the face, the head and the neck."""
INNER_SHELLS = ((11248, 13294), (13294, 14062), (14062, 17039))
"""Vertices of the socket of the mouth, of the eyes' sockets, and of gums and tongue: first, and one past the last."""
UPPER_TEETH, LOWER_TEETH = slice(17039, 19247), slice(19247, 21451)
"""Vertices of the teeth."""
SCLERAS = (slice(21451, 22221), slice(23021, 23791))
"""Vertices of the left and the right eyeball."""
LANDMARKS_68 = (
    *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841),
    *(5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),
)
"""Vertices of the 68 landmarks of Multi-PIE."""
EXPRESSIONS = frozenset(
    (
        *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker"),
        *("mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
        *(
            f"{name}_{side}"
            for name in (
                *("browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeBlink", "eyeLookDown"),
                *("eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown"),
                *("mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"),
            )
            for side in "LR"
        ),
    )
)
"""Names of the expressions that the 52 actions need; ICT-FaceKit has more."""


@dataclass(frozen=True, eq=False)
class IctModel:
    """ICT-FaceKit in metres: +X to the head's left, +Y up, +Z forward, origin midway between the eyes."""

    neutral: Floats
    """(N, 3) vertices."""
    triangles: NDArray[np.int64]
    """(T, 3) triangles."""
    identity: Floats
    """(100, N, 3) offsets of the identity modes, whose coefficients are normally distributed."""
    expressions: dict[str, Floats]
    """Expression → offsets (N, 3)."""
    digest: str
    """Digest of the data."""

    def action_offsets(self) -> dict[str, Floats]:
        """Return named action → offsets (N, 3): sides have other names here, and brows and cheeks are one action."""
        offsets: dict[str, Floats] = {}
        for name in sorted(EXPRESSIONS):
            action = name.replace("_L", "Left").replace("_R", "Right")
            if action.startswith(("browInnerUp", "cheekPuff")):
                action = action.removesuffix("Left").removesuffix("Right")
            offsets[action] = offsets[action] + self.expressions[name] if action in offsets else self.expressions[name]
        return offsets


def load_ict_model(assets: AssetKit | Path) -> IctModel:
    """Read ICT-FaceKit.

    Args:
        assets: A kit with the packed file, or the folder of a checkout.

    Raises:
        ValueError: A file is missing, damaged or of another version.
    """
    return _packed(assets) if isinstance(assets, AssetKit) else _checkout(assets)


def ict_digest(assets: AssetKit | Path) -> str:
    """Return a digest by which data that are made from these assets are known."""
    if isinstance(assets, AssetKit):
        return assets.digests.get(PACKED, "")
    sizes = [(path.name, path.stat().st_size) for path in sorted((assets / CHECKOUT).glob("*.obj"))]
    return hashlib.sha256(repr(sizes).encode()).hexdigest()


def fit_sphere(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Return the centre (3,) and the radius of the sphere that fits points (N, 3) best."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], 1).astype(np.float64)
    centre = np.linalg.lstsq(system, (points.astype(np.float64) ** 2).sum(1), rcond=None)[0]
    return centre[:3], float(np.sqrt(centre[3] + centre[:3] @ centre[:3]))


def _packed(kit: AssetKit) -> IctModel:
    arrays = kit.arrays(PACKED)
    needed = {"vertices", "quads", "identity_q", "expression_q", "expression_names", "step_cm"}
    if missing := sorted(needed - set(arrays)):
        raise ValueError(f"asset {kit.root / PACKED} lacks the arrays {missing}: copy the kit again")
    step = float(np.asarray(arrays["step_cm"]).item()) / 100
    names = [str(name) for name in arrays["expression_names"]]
    shapes = [arrays[f"{kind}_q"].transpose(0, 2, 1).astype(np.float32) * step for kind in ("identity", "expression")]
    expressions = dict(zip(names, shapes[1], strict=True))
    return _checked(
        arrays["vertices"] / 100, arrays["quads"], shapes[0], expressions, ict_digest(kit), kit.root / PACKED
    )


def _checkout(root: Path) -> IctModel:
    folder = root / CHECKOUT
    mesh = read_obj(folder / "generic_neutral_mesh.obj")

    def offsets(name: str) -> NDArray[np.float64]:
        vertices = read_vertices(folder / f"{name}.obj")
        if vertices.shape != mesh.vertices.shape:
            raise ValueError(f"{folder / name}.obj has {len(vertices)} vertices, not {len(mesh.vertices)}: {ADVICE}")
        return vertices - mesh.vertices

    modes = [offsets(f"identity{number:03d}") for number in range(N_MODES)]
    expressions = {name: offsets(name) / 100 for name in sorted(EXPRESSIONS)}
    return _checked(mesh.vertices / 100, mesh.quads, np.stack(modes) / 100, expressions, ict_digest(root), folder)


def _checked(
    neutral: NDArray[Any],
    quads: NDArray[Any],
    modes: NDArray[Any],
    expressions: Mapping[str, Any],
    digest: str,
    at: Path,
) -> IctModel:
    """Return the model about the point between the eyes, after a check of all sizes."""
    if missing := sorted(EXPRESSIONS - set(expressions)):
        raise ValueError(f"{at} lacks the expressions {missing}: name a complete ICT-FaceKit with --assets")
    shapes = {np.shape(each) for each in (neutral, *expressions.values(), *modes)}
    if shapes != {(N_VERTICES, 3)} or len(modes) != N_MODES or quads.max() >= N_VERTICES:
        raise ValueError(f"{at}: not the {N_VERTICES} vertices and {N_MODES} modes of ICT-FaceKit Light")
    origin = np.mean([fit_sphere(neutral[sclera])[0] for sclera in SCLERAS], axis=0)
    (triangles,) = triangulate(np.asarray(quads))
    return IctModel(
        (neutral - origin).astype(np.float32),
        triangles.astype(np.int64),
        np.asarray(modes, np.float32),
        {name: np.asarray(offsets, np.float32) for name, offsets in expressions.items()},
        digest,
    )
