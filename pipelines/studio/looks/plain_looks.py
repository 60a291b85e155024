"""Painted skins and hair of people without a kit; the same id gives the same looks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.media.srgb import decode_srgb, encode_srgb
from pipelines.studio.appearance import Appearance, Colour, random_appearance
from pipelines.studio.looks.hair_colours import COLOURS, draw_hair_colour
from pipelines.studio.looks.plain_pieces import hair_piece, long_hair_piece, teeth_pieces
from pipelines.studio.looks.skin_textures import tone_colour
from pipelines.studio.painting import paint
from pipelines.studio.people.figure import Material
from pipelines.studio.people.identities import Facts
from pipelines.studio.people.open_base import OpenBase
from pipelines.studio.people.open_source import OpenSource
from pipelines.studio.people.plain_wear import PlainWear
from pipelines.studio.people.triangle_atlas import pack_atlas
from pipelines.studio.people.worn_accessories import choose_accessories
from pipelines.studio.studio_head import StudioHead, make_studio_head

STYLES = {
    "female": {"long": 0.6, "short": 0.25, "cropped": 0.15},
    "male": {"short": 0.55, "cropped": 0.3, "bald": 0.15},
}
"""Sex → share of each style of hair."""
DULL, WET = 0.56, 0.12
"""Roughness of skin that is painted matt, and of eyes."""


@dataclass(frozen=True, eq=False)
class PaintedLooks:
    """Looks that are painted on the open head; see ``PlainLooks``."""

    head: StudioHead
    """The open head, sampled for painting."""
    base: OpenBase
    """Its base mesh."""

    def wear(self, identity_id: str, facts: Facts) -> PlainWear:
        """Return the looks of a person; see ``PlainLooks.wear``."""
        appearance = plain_appearance(identity_id, facts)
        painted = paint(self.head, appearance)
        pieces = [*teeth_pieces(self.head, self.base)]
        styles = {"hair": appearance.hair_style, "beard": f"{appearance.beard:.1f}"}
        styles |= choose_accessories(identity_id)
        if appearance.hair_style != "bald":
            pieces.append(hair_piece(self.head, self.base, appearance))
        if appearance.hair_style == "long":
            pieces.append(long_hair_piece(self.head, self.base, appearance))
        return PlainWear(styles, skin_material(painted, appearance), tuple(pieces))


def painted_looks(source: OpenSource) -> PaintedLooks:
    """Return the painted looks of people of the open head.

    Args:
        source: Source of the people.
    """
    head = make_studio_head(source.head)
    # renderers bake the light that folds of the skin lose, so that it is not painted
    return PaintedLooks(replace(head, openness=np.ones_like(head.openness)), source.base)


def plain_appearance(identity_id: str, facts: Facts) -> Appearance:
    """Draw the appearance of a person: colours, styles and amounts that fit its sex, age and tone of skin.

    Args:
        identity_id: Id of the person.
        facts: Its facts.
    """
    g = np.random.default_rng([seed_of(identity_id), 45])
    drawn = random_appearance(identity_id)
    skin = _rgb(tone_colour(facts.tone + float(g.uniform(-0.4, 0.4))))
    styles = STYLES[facts.sex]
    style = str(g.choice(list(styles), p=list(styles.values())))
    hair = _rgb(COLOURS[draw_hair_colour(g, facts.tone, facts.age)])
    redness = g.uniform(0.3, 0.6)
    lips = np.array(skin) * np.array([1 - 0.1 * redness, 1 - 0.75 * redness, 1 - 0.7 * redness])
    thickness = {"cropped": 0.003, "short": 0.009, "long": 0.012}.get(style, 0.0)
    return replace(
        drawn,
        skin=skin,
        lips=(lips[0], lips[1], lips[2]),
        hair=hair,
        hair_style=style,
        hair_thickness=thickness * float(g.uniform(0.8, 1.7)),
        beard=drawn.beard if facts.sex == "male" else 0.0,
        wrinkles=float(g.uniform(0.2, 0.5)) if facts.age == "old" else drawn.wrinkles,
    )


def skin_material(painted: NDArray[np.float32], appearance: Appearance) -> Material:
    """Return the material of a painted skin.

    Args:
        painted: (F, G, 4) linear red, green and blue, and gloss, at the grid points of the head's triangles.
        appearance: Appearance of the person; its skin colours what is not painted.
    """
    spare = np.array([*decode_srgb(appearance.skin), 0.13], np.float32)
    atlas = pack_atlas(painted, spare)
    colour = encode_srgb(atlas[..., :3])
    rough = DULL + (WET - DULL) * atlas[..., 3].clip(0, 1)
    alpha = np.full((*colour.shape[:2], 1), 255, np.uint8)
    return Material(
        np.concatenate([colour, alpha], 2),
        roughness=(rough * 255).astype(np.uint8),
        specular=0.028,
        subsurface=1.0,
    )


def _rgb(lab: NDArray[np.floating] | tuple[float, float, float]) -> Colour:
    """Return the sRGB colour, 0 to 1, of a CIELAB colour (3,)."""
    r, g, b = cv2.cvtColor(np.array([[lab]], np.float32), cv2.COLOR_LAB2RGB)[0, 0].clip(0.01, 1).tolist()
    return r, g, b
