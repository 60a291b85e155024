"""The assets that a studio person wears, and their plain materials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.studio.appearance import SKIN_TONES
from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.people.figure import Attributes, Material
from pipelines.studio.people.identities import N_TONES, Facts

Dress = Callable[[str, Attributes, AssetKit | None], Mapping[str, Material]]
"""A function from id, facts and kit to the material of each surface by name; a missing one is plain."""
KINDS = ("hair", "brows", "lashes", "eyes", "teeth", "tongue", "clothes")
"""Folders of proxies in a kit."""
BALD_SHARE = {"female": 0.0, "male": 0.15}
FRINGE_SHARE = 0.06
"""Share of people whose fringe may cover an eye, where their hair has one; others have it swept aside."""
FEMALE_HAIR = ("bob", "long", "braid", "ponytail")
BEARDS = {"none": 0.3, "shadow": 0.25, "stubble": 0.2, "moustache": 0.05, "goatee": 0.07, "full": 0.13}
"""Style of a man's beard → share of men."""
MAKE_UP = {"lips": 0.35, "eyes": 0.3}
"""Part of the face → share of women who paint it."""
BROWN_SHARE = 0.4
"""Share of people of light skin whose eyes are brown by this draw; the others have one of all colours."""
BLEND = ("hair", "brows", "lashes")
AGE_WORD = {"young": "young", "middle": "middleage", "old": "old"}
FIRST_DARK = 6
"""First tone for which the dark photographs are the nearest."""


def choose_wardrobe(identity_id: str, facts: Facts, kit: AssetKit | None) -> dict[str, str]:
    """Choose the assets of a person.

    Args:
        identity_id: Id of the person.
        facts: Its facts.
        kit: The kit; without one nothing is worn.

    Returns:
        Kind of asset → its name in the kit.
    """
    if kit is None:
        return {}
    g = np.random.default_rng([seed_of(identity_id), 22])
    chosen = {kind: str(g.choice(_names(kit, kind, facts))) for kind in KINDS}
    chosen["eyes"], chosen["teeth"] = "high_poly", f"{chosen['teeth']}"
    if g.random() < FRINGE_SHARE:
        chosen["fringe"] = "over the eyes"
    if g.random() < BALD_SHARE[facts.sex]:
        del chosen["hair"]
    chosen["skin"] = str(g.choice(_skins(kit, facts)))
    textures = [each["texture"] for each in kit.table("eyes/index.json")["textures"]]
    dark = [name for name in textures if "brown" in name]
    chosen["iris"] = str(g.choice(dark if facts.tone >= FIRST_DARK or g.random() < BROWN_SHARE else textures))
    return chosen | choose_paint(identity_id, facts)


def choose_paint(identity_id: str, facts: Facts) -> dict[str, str]:
    """Choose beard and make-up of a person: kind → style.

    Args:
        identity_id: Id of the person.
        facts: Its facts.
    """
    g = np.random.default_rng([seed_of(identity_id), 23])
    if facts.sex == "male":
        beard = str(g.choice(list(BEARDS), p=list(BEARDS.values())))
        return {} if beard == "none" else {"beard": beard}
    make_up = [part for part, share in MAKE_UP.items() if g.random() < share]
    return {"make_up": " and ".join(make_up)} if make_up else {}


def _names(kit: AssetKit, kind: str, facts: Facts) -> list[str]:
    meshes = kit.table(f"{kind}/index.json")["meshes"]
    names = [str(mesh["name"]) for mesh in meshes if kind != "clothes" or "texture" in mesh]
    if kind == "clothes":
        return [name for name in names if name.startswith(facts.sex)]
    if kind == "hair":
        long = [name for name in names if name.startswith(FEMALE_HAIR)]
        return long if facts.sex == "female" else [name for name in names if name not in long]
    return names


def _skins(kit: AssetKit, facts: Facts) -> list[str]:
    tone = "dark" if facts.tone >= FIRST_DARK else "light"
    skins = [s for s in kit.table("skins/skins.json")["skins"] if "special" not in s["name"]]
    fitting = [
        str(s["file"])
        for s in skins
        if s["sex_word"] == facts.sex and s["age_word"] == AGE_WORD[facts.age] and str(s["tone_word"]).startswith(tone)
    ]
    return fitting or [str(s["file"]) for s in skins if s["sex_word"] == facts.sex]


def plain_dress(identity_id: str, attributes: Attributes, kit: AssetKit | None) -> dict[str, Material]:
    """Return materials with the kit's own textures; without a kit the skin has one colour.

    Args:
        identity_id: Id of the person.
        attributes: Its facts, with the names of its assets.
        kit: The kit.
    """
    styles, tone = attributes.styles, attributes.skin_tone or 0
    place = tone / (N_TONES - 1) * (len(SKIN_TONES) - 1)
    low = min(int(place), len(SKIN_TONES) - 2)
    colour = (1 - place + low) * np.array(SKIN_TONES[low]) + (place - low) * np.array(SKIN_TONES[low + 1])
    skin = flat(tuple(255 * colour))
    if kit is not None and "skin" in styles:
        photo = kit.image(styles["skin"])
        average = photo[photo.shape[0] // 4 : photo.shape[0] // 2, 200:500, :3].mean((0, 1))
        gain = np.clip(255 * colour / average, 0.55, 1.6)
        skin = np.concatenate([np.clip(photo[..., :3] * gain, 0, 255), photo[..., 3:]], 2).astype(np.uint8)
    materials = {"skin": Material(skin, roughness=0.45, specular=0.028, subsurface=1.0)}
    if kit is None:
        return materials
    for kind in KINDS:
        if kind in styles and (path := texture_path(kit, kind, styles)):
            mode: Any = "blend" if kind in BLEND else "cutout" if kind == "eyes" else "opaque"
            wet = 1.0 if kind in ("eyes", "teeth", "tongue") else 0.0
            materials[kind] = Material(kit.image(path), roughness=0.5, clearcoat=wet, alpha_mode=mode)
    return materials


def texture_path(kit: AssetKit, kind: str, styles: Mapping[str, str]) -> str | None:
    """Return the path of an asset's texture in the kit, or None if it has none."""
    if kind == "eyes":
        return styles["iris"]
    index = kit.table(f"{kind}/index.json")
    shared = index.get("textures") or [index.get("texture") or {}]
    mesh = next(m for m in index["meshes"] if m["name"] == styles[kind])
    found = mesh.get("texture") or shared[0].get("texture")
    return None if found is None else str(found)


def flat(colour: tuple[float, ...]) -> NDArray[np.uint8]:
    """Return a texture (1, 1, 4) of one sRGB colour, 0 to 255."""
    return np.array([[[*colour[:3], 255]]], np.uint8)
