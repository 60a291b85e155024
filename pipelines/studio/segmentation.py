"""What each triangle of a studio person is: hair, skin, lips, teeth ... for segmentations with truth."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.hair import hair_cover
from pipelines.studio.studio_head import JAW

if TYPE_CHECKING:
    from pipelines.studio.person import StudioPerson


class Part(IntEnum):
    """Classes of a picture's pixels, with the numbers that Ava-256 gives them."""

    BACKGROUND = 0
    HAIR = 1
    BODY = 2
    CHAIR = 3
    APPAREL = 4
    GLASSES = 5
    UPPER_LIP = 6
    LOWER_LIP = 7
    UPPER_TEETH = 8
    LOWER_TEETH = 9
    TONGUE = 10


def triangle_parts(person: StudioPerson) -> NDArray[np.uint8]:
    """(F,) the ``Part`` of each triangle of ``person.meshes(...)``, in their order."""
    head = person.head
    regions = head.model.regions.numpy()[head.triangles].mean(1)
    share = dict(zip(head.model.region_names, regions.T, strict=True))
    parts = np.full(len(head.triangles), Part.BODY, np.uint8)
    middle = head.template[head.triangles].mean(1)
    covered = Part.APPAREL if person.look.hair_style == "cap" else Part.HAIR
    parts[hair_cover(middle, person.look) > 0.5] = covered
    lips = share["lips"] > 0.5
    below = head.weights[head.triangles][..., JAW].mean(1) > 0.4
    parts[lips & ~below], parts[lips & below] = Part.UPPER_LIP, Part.LOWER_LIP
    parts[share["tongue"] > 0.5] = Part.TONGUE
    things = [np.full(len(thing.mesh.triangles), thing.part, np.uint8) for thing in person.things]
    return np.concatenate([parts, *things])
