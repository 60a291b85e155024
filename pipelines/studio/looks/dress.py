"""Materials of a person's surfaces, drawn from its id and its facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from mfhq.ids import seed_of
from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.looks.eye_textures import eye_texture
from pipelines.studio.looks.hair_colours import COLOURS, draw_hair_colour, recolour
from pipelines.studio.looks.skin_paint import paint_skin, skin_gloss
from pipelines.studio.looks.skin_places import skin_places
from pipelines.studio.looks.skin_textures import encode_skin, skin_colours
from pipelines.studio.looks.wrinkle_maps import wrinkle_map
from pipelines.studio.people.figure import Attributes, Material
from pipelines.studio.people.wardrobe import plain_dress

FACE = (slice(348, 696), slice(200, 500))
"""Rows and columns of a kit's skins that show the middle of the face."""
PLAIN_SIDE = 512
"""Side of a skin that is made without a kit, pixels."""

ROUGHNESS = (0.38, 0.58)
"""Least and largest roughness of a person's skin."""
HAIR, BROWS = 2.2, (0.75, 1.7)
"""Factors of the alpha of hair, whose cards are half transparent, and of brows (least and largest)."""


def dress(identity_id: str, attributes: Attributes, kit: AssetKit | None) -> dict[str, Material]:
    """Return the materials of a person's surfaces by name.

    Skin gets the person's tone, flattened shading, pores, spots, beard and make-up; hair, brows and lashes get one
    natural colour, and eyes irises of the person's own size.

    Args:
        identity_id: Id of the person.
        attributes: Its facts, with the names of its assets.
        kit: Kit of skins and proxies; without one the skin is made from noise.
    """
    g = np.random.default_rng([seed_of(identity_id), 40])
    materials = plain_dress(identity_id, attributes, kit)
    tone = (attributes.skin_tone or 0) + float(g.uniform(-0.4, 0.4))
    roughness = float(g.uniform(*ROUGHNESS))
    skin = replace(materials["skin"], roughness=roughness)
    plain = base = skin.base_colour
    face = FACE
    if kit is not None and "skin" in attributes.styles:
        base = kit.image(attributes.styles["skin"])
    if min(base.shape[:2]) < PLAIN_SIDE:
        base, face = np.full((PLAIN_SIDE, PLAIN_SIDE, 4), base[0, 0], np.uint8), (slice(None), slice(None))
    lab = skin_colours(base, face, tone, g)
    colour = COLOURS[draw_hair_colour(g, attributes.skin_tone or 0, attributes.age)]
    if kit is not None and base is not plain and (places := skin_places(kit)) is not None:
        lab = paint_skin(lab, places, attributes.styles, colour, g)
        gloss = skin_gloss(places, attributes.styles, roughness)
        skin = replace(skin, roughness=gloss, wrinkle_map=wrinkle_map(places, attributes.age, g))
    materials["skin"] = replace(skin, base_colour=encode_skin(lab, base[..., 3:]))
    if "eyes" in materials:
        eyes, name = materials["eyes"], PurePosixPath(attributes.styles["iris"]).stem
        materials["eyes"] = replace(eyes, base_colour=eye_texture(eyes.base_colour, name, tone, g), roughness=0.35)
    brows = float(g.uniform(*BROWS))
    for name, lightness, fullness in (("hair", 1.0, HAIR), ("brows", 0.8, brows), ("lashes", 0.3, 1.0)):
        if name in materials:
            worn = materials[name]
            shade = (colour[0] * lightness, colour[1], colour[2])
            materials[name] = replace(
                worn, base_colour=recolour(worn.base_colour, shade, fullness=fullness), roughness=0.55
            )
    return materials
