"""Segmentation classes of the triangles of a studio person, from which true segmentations are rendered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.hair import hair_cover
from pipelines.studio.part_classes import Part
from pipelines.studio.person import StudioPerson
from pipelines.studio.studio_head import JAW


def triangle_parts(person: StudioPerson) -> NDArray[np.uint8]:
    """Return the ``Part`` (F,) of each triangle of the meshes that ``person.meshes`` returns, in the same order."""
    head = person.head
    regions = head.model.regions.numpy()[head.triangles].mean(1)
    share = dict(zip(head.model.region_names, regions.T, strict=True))
    parts = np.full(len(head.triangles), Part.BODY, np.uint8)
    centroids = head.template[head.triangles].mean(1)
    covering = Part.APPAREL if person.appearance.hair_style == "cap" else Part.HAIR
    parts[hair_cover(centroids, person.appearance) > 0.5] = covering
    lips = share["lips"] > 0.5
    lower = head.weights[head.triangles][..., JAW].mean(1) > 0.4
    parts[lips & ~lower], parts[lips & lower] = Part.UPPER_LIP, Part.LOWER_LIP
    parts[share["tongue"] > 0.5] = Part.TONGUE
    return np.concatenate([parts, *(np.full(len(a.mesh.triangles), a.part, np.uint8) for a in person.accessories)])
