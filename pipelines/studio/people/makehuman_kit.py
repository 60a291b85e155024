"""MakeHuman's own folder of assets as a kit: the same paths and arrays as those of a packed kit.

Proxies that are bound to helper vertices which no expression moves are bound to the nearest skin instead. (The open
head has those of the eyes and the tongue.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.people.makehuman_files import read_proxy_file, read_texture_of
from pipelines.studio.people.nearest import nearest_on_mesh
from pipelines.studio.people.obj_files import ADVICE, read_obj
from pipelines.studio.people.open_base import BOTTOM, N_BODY, SIDE, OpenBase
from pipelines.studio.people.proxies import Binding

FOLDERS = {
    "hair": "hair",
    "brows": "eyebrows",
    "lashes": "eyelashes",
    "eyes": "eyes",
    "teeth": "teeth",
    "tongue": "tongue",
    "clothes": "clothes",
}
"""Kind of proxy → MakeHuman's folder."""
PLACES = (".", "base", "data", "makehuman/data")
"""Folders below the named one in which the assets may be."""
AGES, SEXES = ("young", "middleage", "old"), ("female", "male")
SKIN_SIDE = 2048
"""Side of MakeHuman's skins, pixels; smaller ones are enlarged."""
SKIN_SIZE = (1632, 1392)
"""Width and height of a kit's skins, pixels, which are put together of tiles."""
TILES = (
    ((1300, 364, 2048, 1756), (0, 0)),
    ((336, 46, 1220, 510), (748, 0)),
    ((1544, 1762, 1900, 2032), (748, 464)),
    ((16, 744, 320, 936), (1104, 464)),
)
"""Tiles of a skin: left, top, right and bottom in MakeHuman's map, and the place in a kit's."""
CUT = 0.03
"""Distance below and beside the bust up to which clothes are kept, metres."""


@dataclass(frozen=True)
class MakeHumanKit(AssetKit):
    """MakeHuman's folder of assets, read like a packed kit."""

    base: OpenBase | None = None
    """The base mesh."""
    head_triangles: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), np.int64), repr=False)
    """(T, 3) triangles of the open head, indices of the base mesh."""

    def has(self, path: str) -> bool:
        """Return True if the folder contains an asset."""
        return path in self._proxies or path in self._tables or (self.root / path).is_file()

    def data(self, path: str) -> bytes:
        """Return a file's bytes; the folder has no digests to compare with."""
        try:
            return self._inside(self.root / path).read_bytes()
        except OSError as error:
            raise ValueError(f"asset {self.root / path} cannot be read ({error.strerror}): {ADVICE}") from error

    def table(self, path: str) -> Any:
        """Return the index of a kind of assets, or of the skins."""
        if path not in self._tables:
            raise ValueError(f"asset folder {self.root} has no {path}: {ADVICE}")
        return self._tables[path]

    def image(self, path: str) -> NDArray[np.uint8]:
        """Return an image (H, W, 4); skins are put together of tiles as in a packed kit."""
        if path not in self._images:
            try:
                with Image.open(self._inside(self.root / path)) as image:
                    pixels = np.asarray(image.convert("RGBA"), np.uint8)
            except OSError as error:
                raise ValueError(f"asset {self.root / path} is no image ({error}): {ADVICE}") from error
            self._images[path] = _tiled(pixels) if path.startswith("skins/") else pixels
        return self._images[path]

    def require(self, *paths: str) -> None:
        """Check that assets exist."""
        if missing := [path for path in paths if not self.has(path)]:
            raise ValueError(f"asset folder {self.root} lacks {missing[0]}: {ADVICE}")

    def arrays(self, path: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of a proxy, bound to the skin."""
        if path not in self._proxies:
            raise ValueError(f"asset folder {self.root} has no {path}: {ADVICE}")
        file = self._proxies[path]
        proxy = read_proxy_file(file)
        mesh = read_obj(self._inside(file.parent / proxy.obj_file))
        arrays = proxy.arrays | {"uv": mesh.uv, "quads": mesh.quads, "quads_uv": mesh.quads_uv}
        if len(mesh.vertices) != len(arrays["bind_index"]) or not len(mesh.uv) or not len(mesh.quads):
            raise ValueError(f"proxy {file} does not fit {proxy.obj_file}: {ADVICE}")
        return self._bound(arrays, PurePosixPath(path).parts[0])

    def _bound(self, arrays: dict[str, NDArray[Any]], kind: str) -> dict[str, NDArray[Any]]:
        """Return the arrays with a second binding, to the skin, if the first needs helper vertices."""
        base, names = self.base, ("bind_index", "bind_weight", "bind_offset", "scale_vertex", "scale_denominator")
        index, weight, offset, ends, denominator = (arrays[name] for name in names)
        if base is None:
            return arrays
        if max(index.max(), ends.max()) >= len(base.template):
            raise ValueError(f"asset folder {self.root}: a proxy of {kind} is bound to another base mesh: {ADVICE}")
        binding = Binding(index, weight, offset, ends, denominator)
        points, scales = binding.fit(base.template), binding.scales(base.template)
        if kind == "clothes":
            outside = (points[:, 1] < BOTTOM - CUT) | (np.abs(points[:, 0]) > SIDE + CUT)
            kept = ~outside[arrays["quads"]].any(1)
            arrays = arrays | {"quads": arrays["quads"][kept], "quads_uv": arrays["quads_uv"][kept]}
        if (np.isin(index, base.head_vertex) | (index < N_BODY)).all():
            return arrays
        skin = self.head_triangles[(self.head_triangles < N_BODY).all(1)]
        skin = np.concatenate([skin, base.bust_triangles]) if kind == "clothes" else skin
        triangle, weight = nearest_on_mesh(points, base.template, skin)
        there = np.einsum("pk,pkc->pc", weight, base.template[skin[triangle]])
        second = {"index": skin[triangle], "weight": weight, "offset": ((points - there) / scales).astype(np.float32)}
        scale = {f"body_{name}": arrays[name] for name in ("scale_vertex", "scale_denominator")}
        return arrays | {f"body_{name}": value for name, value in second.items()} | scale

    @cached_property
    def _proxies(self) -> dict[str, Path]:
        """Path in a packed kit → the proxy's file."""
        found = {}
        for kind, folder in FOLDERS.items():
            for file in sorted((self.root / folder).glob("*/*.mhclo")):
                found[f"{kind}/{file.stem.replace('-', '_')}.npz"] = file
        return found

    @cached_property
    def _tables(self) -> dict[str, Any]:
        tables: dict[str, Any] = {f"{kind}/index.json": {"meshes": []} for kind in FOLDERS}
        for path, file in self._proxies.items():
            kind, name = PurePosixPath(path).parts[0], PurePosixPath(path).stem
            texture = self._texture(file)
            row = {"name": name, "file": path} | ({"texture": texture} if texture else {})
            tables[f"{kind}/index.json"]["meshes"].append(row)
        irises = [self._place(read_texture_of(m)) for m in sorted((self.root / "eyes" / "materials").glob("*.mhmat"))]
        tables["eyes/index.json"]["textures"] = [{"texture": place} for place in irises if place]
        tables["skins/skins.json"] = {
            "image_size": list(SKIN_SIZE),
            "source_size": [SKIN_SIDE, SKIN_SIDE],
            "tiles": [{"source_rect": list(source), "atlas_origin": list(origin)} for source, origin in TILES],
            "skins": self._skins(),
        }
        return tables

    def _skins(self) -> list[dict[str, str]]:
        skins = []
        for file in sorted((self.root / "skins").glob("*/*.mhmat")):
            words, place = file.stem.split("_"), self._place(read_texture_of(file))
            if place and words[0] in AGES and words[-1] in SEXES:
                tone = "dark" if "african" in words or "dark" in place else "light"
                row = {"name": file.stem, "file": place, "age_word": words[0], "sex_word": words[-1]}
                skins.append(row | {"tone_word": tone})
        return skins

    def _texture(self, proxy: Path) -> str | None:
        material = read_proxy_file(proxy).material
        path = None if material is None else self._inside(proxy.parent / material)
        return None if path is None or not path.is_file() else self._place(read_texture_of(path))

    def _place(self, texture: Path | None) -> str | None:
        """Return the path of a texture in the folder; None if it is not there."""
        if texture is None or not self._inside(texture).is_file():
            return None
        return self._inside(texture).relative_to(self.root.resolve()).as_posix()

    def _inside(self, path: Path) -> Path:
        """Return a resolved path.

        Raises:
            ValueError: It leaves the folder.
        """
        resolved = path.resolve()
        if not resolved.is_relative_to(self.root.resolve()):
            raise ValueError(f"asset {path} leaves the folder {self.root}: {ADVICE}")
        return resolved


def find_makehuman_root(folder: Path) -> Path | None:
    """Return the folder of MakeHuman's assets at or below a folder, or None."""
    places = [folder / place for place in PLACES]
    return next((place for place in places if (place / "skins").is_dir() and (place / "eyebrows").is_dir()), None)


def open_makehuman_kit(root: Path, base: OpenBase, head_triangles: NDArray[np.int64]) -> MakeHumanKit:
    """Open MakeHuman's folder of assets.

    Args:
        root: The folder that contains ``skins``, ``hair``, ``eyebrows`` and so on.
        base: The base mesh.
        head_triangles: (T, 3) triangles of the open head, indices of its own vertices.

    Raises:
        ValueError: A kind of assets is missing.
    """
    kit = MakeHumanKit(root, {}, base=base, head_triangles=base.head_vertex[head_triangles])
    missing = [FOLDERS[kind] for kind in FOLDERS if not kit.table(f"{kind}/index.json")["meshes"]]
    missing += [] if kit.table("skins/skins.json")["skins"] else ["skins"]
    missing += [] if kit.table("eyes/index.json")["textures"] else ["eyes/materials"]
    missing += [] if kit.has("eyes/high_poly.npz") else ["eyes/high-poly"]
    if missing:
        raise ValueError(f"asset folder {root} lacks {', '.join(missing)}: {ADVICE}")
    return kit


def _tiled(skin: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return MakeHuman's skin (S, S, 4) in the tiles of a packed kit (H, W, 4)."""
    if skin.shape[:2] != (SKIN_SIDE, SKIN_SIDE):
        skin = np.asarray(cv2.resize(skin, (SKIN_SIDE, SKIN_SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
    packed = np.empty((SKIN_SIZE[1], SKIN_SIZE[0], 4), np.uint8)
    packed[:] = np.median(skin[TILES[0][0][1] : TILES[0][0][3], TILES[0][0][0] :].reshape(-1, 4), axis=0)
    for (left, top, right, bottom), (x, y) in TILES:
        packed[y : y + bottom - top, x : x + right - left] = skin[top:bottom, left:right]
    return packed
