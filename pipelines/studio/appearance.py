"""The appearance of a studio person: colours, styles and amounts, drawn at random with the identity's id as seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfhq.ids import seed_of

Colour = tuple[float, float, float]

SKIN_TONES: tuple[Colour, ...] = (
    (0.96, 0.83, 0.74),
    (0.91, 0.74, 0.62),
    (0.86, 0.66, 0.51),
    (0.74, 0.53, 0.39),
    (0.55, 0.36, 0.25),
    (0.38, 0.25, 0.18),
    (0.28, 0.19, 0.14),
)
"""sRGB colours of skin from light to dark; a person's tone lies between two neighbouring ones."""
HAIR_COLOURS: tuple[Colour, ...] = (
    (0.06, 0.05, 0.05),
    (0.14, 0.09, 0.06),
    (0.27, 0.17, 0.10),
    (0.42, 0.24, 0.13),
    (0.72, 0.56, 0.34),
    (0.55, 0.53, 0.51),
    (0.50, 0.20, 0.10),
)
"""sRGB colours of hair."""
IRIS_COLOURS: tuple[Colour, ...] = (
    (0.24, 0.13, 0.07),
    (0.38, 0.23, 0.11),
    (0.45, 0.38, 0.18),
    (0.30, 0.42, 0.28),
    (0.30, 0.47, 0.62),
    (0.42, 0.48, 0.52),
)
"""sRGB colours of the iris."""
FABRICS: tuple[Colour, ...] = ((0.15, 0.2, 0.4), (0.5, 0.12, 0.12), (0.2, 0.2, 0.2), (0.75, 0.7, 0.6), (0.2, 0.4, 0.3))
"""sRGB colours of caps."""
HAIR_STYLES = ("bald", "cropped", "short", "long", "cap")
"""Names of the hair styles; a cap hides the hair."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """The appearance of a person. Colours are sRGB from 0 to 1, lengths are in metres, amounts from 0 to 1."""

    seed: int
    """Seed of the noise of skin, hair and freckles."""
    skin: Colour
    lips: Colour
    lip_strength: float
    """Strength of the lips' colour."""
    blush: float
    """Strength of the red on cheeks and nose."""
    freckles: int
    """Number of freckles; 0 for most people."""
    hair: Colour
    """Colour of the hair, or of the cap."""
    hair_style: str
    """One of ``HAIR_STYLES``."""
    hair_thickness: float
    """Distance of the hair's surface from the head, metres."""
    hairline: float
    """Shift of the hairline from its usual height, metres; positive is higher."""
    lip_border: float
    """Value of the lips' soft mask at which their colour ends: 0.2 gives wide lips, 0.8 narrow lips."""
    brow_width: float
    """Half the width of the eyebrow, metres."""
    brow_strength: float
    """Strength of the eyebrow's colour."""
    brow_shift: tuple[float, float, float]
    """Shifts of the eyebrow's inner end, peak and outer end from their usual heights, metres; positive is higher."""
    brow_gap: float
    """Shift of the eyebrow's inner end away from the middle of the face, metres; negative is closer."""
    complexion: float
    """Strength of the skin's blotches, which are symmetric."""
    folds: float
    """Strength of the lines from the nose to the corners of the mouth."""
    wrinkles: float
    """Strength of the lines on the forehead."""
    bags: float
    """Darkness under the eyes; a negative value is lighter than the skin."""
    eye_shadow: float
    """Darkness on and above the eyelids."""
    liner: float
    """Darkness of the rims of the eyelids."""
    moles: int
    """Number of moles."""
    beard: float
    """Strength of the beard: 0 is shaven, up to 0.4 is a shadow, above 0.4 is a beard."""
    iris: Colour
    glasses: Colour | None
    """Colour of the frame; None without glasses."""


def random_appearance(identity_id: str) -> Appearance:
    """Draw the appearance of an identity; the same id gives the same appearance."""
    g = np.random.default_rng([seed_of(identity_id), 1])

    def jitter(colour: Colour, by: float) -> Colour:
        r, gr, b = np.clip(np.array(colour) * (1 + g.normal(scale=by, size=3)), 0.01, 1)
        return float(r), float(gr), float(b)

    tone = g.uniform(0, len(SKIN_TONES) - 1)
    low, share = int(tone), tone - int(tone)
    skin = jitter(_mix(SKIN_TONES[low], SKIN_TONES[low + 1], share), 0.03)
    # Dark skin has only the first three, dark colours of hair and eyes.
    n_hair, n_iris = (len(HAIR_COLOURS), len(IRIS_COLOURS)) if tone < 3 else (3, 3)
    hair = jitter(HAIR_COLOURS[int(g.integers(n_hair))], 0.12)
    style = str(g.choice(HAIR_STYLES, p=[0.1, 0.2, 0.35, 0.25, 0.1]))
    red = (0.72, 0.28, 0.28) if g.random() < 0.3 else (0.78, 0.45, 0.42)
    return Appearance(
        seed=int(g.integers(2**31)),
        skin=skin,
        lips=jitter(_mix(skin, red, 0.6), 0.06),
        lip_strength=float(g.uniform(0.45, 0.95)),
        blush=float(g.uniform(0, 0.35)),
        freckles=int(g.integers(40, 220)) if g.random() < 0.2 else 0,
        hair=hair if style != "cap" else FABRICS[int(g.integers(len(FABRICS)))],
        hair_style=style,
        hair_thickness=float({"cropped": 0.003, "short": 0.009, "long": 0.012, "cap": 0.008}.get(style, 0.0))
        * float(g.uniform(0.7, 1.8)),
        hairline=float(g.uniform(-0.008, 0.012)),
        lip_border=float(g.uniform(0.28, 0.72)),
        brow_width=float(g.uniform(0.0020, 0.0062)),
        brow_strength=float(g.uniform(0.3, 0.97)),
        brow_shift=tuple(g.normal(scale=[0.0022, 0.0022, 0.0032]).tolist()),
        brow_gap=float(g.uniform(-0.006, 0.005)),
        complexion=float(g.uniform(0.03, 0.11)),
        folds=float(g.uniform(0, 0.55)) if g.random() < 0.5 else 0.0,
        wrinkles=float(g.uniform(0.1, 0.4)) if g.random() < 0.3 else 0.0,
        bags=float(g.uniform(-0.15, 0.55)),
        eye_shadow=float(g.uniform(0, 0.6)) if g.random() < 0.5 else 0.0,
        liner=float(g.uniform(0.25, 0.9)),
        moles=int(g.integers(1, 5)) if g.random() < 0.4 else 0,
        beard=_beard(g, style),
        iris=jitter(IRIS_COLOURS[int(g.integers(n_iris))], 0.08),
        glasses=jitter((0.12, 0.1, 0.1) if g.random() < 0.6 else (0.5, 0.25, 0.12), 0.2) if g.random() < 0.2 else None,
    )


def _beard(g: np.random.Generator, style: str) -> float:
    kind, shadow, full = g.random(), g.uniform(0.15, 0.4), g.uniform(0.6, 0.95)
    if style == "long" or kind < 0.6:
        return 0.0
    return float(shadow if kind < 0.82 else full)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    x, y, z = (1 - share) * np.array(a) + share * np.array(b)
    return float(x), float(y), float(z)
