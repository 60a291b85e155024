"""The facts and the shape of a studio person, drawn from an id: sex, age and skin tone are even by construction."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.studio.people.figure import AgeBand, Sex
from pipelines.studio.people.open_base import OpenBase

Floats = NDArray[np.float32]
SEXES: tuple[Sex, ...] = ("female", "male")
AGES: tuple[AgeBand, ...] = ("young", "middle", "old")
N_TONES = 10
STRATA = len(SEXES) * len(AGES) * N_TONES
"""Number of combinations of sex, age and tone; so many people with consecutive numbers have each of them once."""
SPREAD, UNUSUAL_SPREAD = 0.55, 1.0
"""Standard deviations of shape coefficients, for usual people and for the few in the tail."""
UNUSUAL_SHARE = 0.02
LIMIT = 2.2
"""Largest shape coefficient."""
GENDER = {"male": (0.05, 0.3), "female": (0.7, 0.95)}
AGE = {"young": (0.5, 0.62), "middle": (0.62, 0.76), "old": (0.76, 0.9)}
"""Ranges of ``anny``'s traits by sex and age."""


@dataclass(frozen=True)
class Facts:
    """Facts about a person that follow from the id."""

    sex: Sex
    age: AgeBand
    tone: int
    """Skin tone from 0 (lightest) to 9."""
    unusual: bool
    """True if the shape lies in the tail."""


def draw_facts(identity_id: str) -> Facts:
    """Draw the facts of a person.

    Args:
        identity_id: Id of the person; if it ends with a number, this number says sex, age and tone.
    """
    number = re.search(r"(\d+)$", identity_id)
    stratum = (int(number[1]) if number else seed_of(identity_id)) % STRATA
    unusual = np.random.default_rng([seed_of(identity_id), 20]).random() < UNUSUAL_SHARE
    sex, rest = stratum % len(SEXES), stratum // len(SEXES)
    return Facts(SEXES[sex], AGES[rest % len(AGES)], rest // len(AGES) % N_TONES, bool(unusual))


def draw_shape(identity_id: str, facts: Facts, base: OpenBase) -> Floats:
    """Draw the open head's shape coefficients (S,) of a person with some sex and age.

    Args:
        identity_id: Id of the person.
        facts: Its facts.
        base: The base mesh, which says how coefficients depend on sex and age.
    """
    g = np.random.default_rng([seed_of(identity_id), 21])
    traits = np.array([g.uniform(*GENDER[facts.sex]), g.uniform(*AGE[facts.age])])
    explained = (traits - base.trait_mean) @ base.trait_slope
    own = g.normal(size=len(base.trait_rest)) * base.trait_rest
    spread = UNUSUAL_SPREAD if facts.unusual else SPREAD
    return np.clip(spread * (explained + own), -LIMIT, LIMIT).astype(np.float32)
