"""The random numbers of a sample's changes, drawn on the CPU with the sample: the same on every device, for any number
of workers, and whatever else is in its batch."""

from __future__ import annotations

import torch
from torch import Tensor

FRAME = slice(0, 4)
"""Columns of a picture's numbers: turn, zoom, and shift to the right and down."""
COLOUR = slice(4, 8)
"""Gamma, and the gain of each colour."""
BLUR, NOISE, WORN = 8, 9, 10
UNEVEN = slice(11, 47)
"""6 x 6, over the matte."""
PER_PICTURE = 47
PER_PERSON = 4
"""Of the light: grey, and each colour."""


def draw(pictures: int, random: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """(pictures, ``PER_PICTURE``) and (``PER_PERSON``,) numbers, even over -1 to 1, and the seed of the noise."""
    numbers = 2 * torch.rand(pictures * PER_PICTURE + PER_PERSON, generator=random) - 1
    seed = int(torch.randint(2**62, (), generator=random))
    return numbers[PER_PERSON:].view(pictures, PER_PICTURE), numbers[:PER_PERSON], seed
