"""A tiny folder of assets in MakeHuman's own layout: one small mesh of each kind, bound to given vertices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SCALES = "x_scale 5399 11998 1.4160\nz_scale 962 5320 1.9231\ny_scale 791 881 2.3073\n"
"""Lines by which offsets are scaled."""
KINDS = {
    "hair": ("short01", "bob01"),
    "eyebrows": ("eyebrow001",),
    "eyelashes": ("eyelashes01",),
    "eyes": ("high-poly",),
    "teeth": ("teeth_base",),
    "tongue": ("tongue01",),
    "clothes": ("female_casualsuit01", "male_casualsuit02"),
}
"""Folder → names of its assets."""


def write_makehuman_folder(root: Path, vertices: dict[str, list[int]]) -> Path:
    """Write the folder.

    Args:
        root: Folder of the assets.
        vertices: Name of an asset, or "" for all others → base vertices to which its four vertices are bound.
    """
    for folder, names in KINDS.items():
        for name in names:
            place = root / folder / name
            place.mkdir(parents=True)
            bound = vertices.get(name, vertices[""])
            rows = [f"{v} {bound[0]} {bound[1]} 0.5 0.25 0.25 0.001 0.0 0.002" for v in bound[:3]] + [str(bound[3])]
            (place / f"{name}.mhclo").write_text(
                f"# a proxy\nname {name}\nobj_file {name}.obj\n{SCALES}material {name}.mhmat\nverts 0\n"
                + "\n".join(rows)
                + "\ndelete_verts\n 3 7 - 9\n"
            )
            corners = "".join(f"v {x} {y} 0\nvt {x} {y}\n" for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)))
            (place / f"{name}.obj").write_text(f"mtllib other.mtl\n{corners}f 1/1 2/2 3/3 4/4\n")
            (place / f"{name}.mhmat").write_text(f"# a material\nname {name}\ndiffuseTexture {name}.png\n")
            Image.new("RGBA", (8, 8), (90, 60, 50, 255)).save(place / f"{name}.png")
    (root / "eyes" / "materials").mkdir()
    (root / "eyes" / "materials" / "brown.mhmat").write_text("diffuseTexture brown_eye.png\n")
    Image.new("RGBA", (64, 64), (200, 200, 200, 255)).save(root / "eyes" / "materials" / "brown_eye.png")
    (root / "skins" / "textures").mkdir(parents=True)
    for sex in ("female", "male"):
        (root / "skins" / f"young_caucasian_{sex}").mkdir()
        material = root / "skins" / f"young_caucasian_{sex}" / f"young_caucasian_{sex}.mhmat"
        material.write_text(f"diffuseTexture ../textures/young_lightskinned_{sex}_diffuse.png\n")
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[:] = 40
        pixels[:, :, 0] = np.arange(64) * 4
        Image.fromarray(pixels).save(root / "skins" / "textures" / f"young_lightskinned_{sex}_diffuse.png")
    return root
