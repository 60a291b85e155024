"""A studio person: shape, appearance, and meshes for any expression and pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.studio.accessories import Accessory, build_accessories
from pipelines.studio.appearance import Appearance, random_appearance
from pipelines.studio.hair import hair_offset
from pipelines.studio.mesh import Mesh, merge
from pipelines.studio.painting import beard_mask, paint
from pipelines.studio.studio_head import ORDER, StudioHead

Floats = NDArray[np.float32]
SHAPE_SCALE = 1.1
"""Standard deviation of a person's shape coefficients."""


@dataclass(frozen=True)
class StudioPerson:
    """One person, ready to be posed."""

    identity_id: str
    """Id of the person."""
    head: StudioHead
    """Head of the studio."""
    shape: Floats
    """(S,) shape coefficients of the head model."""
    appearance: Appearance
    """Colours, styles and amounts."""
    surface: Mesh
    """Painted head with the vertices of the person's head at rest."""
    offset: Floats
    """(V, 3) offset of hair and beard from the head model's vertices at rest, metres."""
    accessories: tuple[Accessory, ...]
    """Teeth, and glasses and long hair if the person has them."""

    def meshes(self, expression: Floats, rotations: Floats) -> list[Mesh]:
        """Return the person's mesh at each of B timesteps, with hair and accessories.

        Args:
            expression: (B, E) expression coefficients.
            rotations: (B, 5, 3) axis-angles of the joints, radians.

        Returns:
            One mesh per timestep, in the head's frame, metres; all meshes have the same triangles.
        """
        shape = np.broadcast_to(self.shape, (len(expression), len(self.shape)))
        vertices, transforms = self.head.pose(shape, expression, rotations)
        meshes = []
        for posed, joints in zip(vertices, transforms, strict=True):
            turn = np.einsum("vj,jab->vab", self.head.weights, joints[..., :3], optimize=True)
            surface = self.surface.posed(posed + np.einsum("vab,vb->va", turn, self.offset))
            accessories = [a.posed(self.head, self.surface.vertices, joints) for a in self.accessories]
            meshes.append(merge([surface, *accessories]))
        return meshes


def make_person(head: StudioHead, identity_id: str) -> StudioPerson:
    """Make a person from an id; the same id gives the same person.

    Args:
        head: Head of the studio.
        identity_id: Id of the person, which is the seed of shape and appearance.
    """
    g = np.random.default_rng([seed_of(identity_id), 0])
    shape = np.clip(g.normal(scale=SHAPE_SCALE, size=head.model.n_shape), -2.2, 2.2).astype(np.float32)
    appearance = random_appearance(identity_id)
    shaped, _ = head.pose(shape[None], np.zeros((1, 0), np.float32), np.zeros((1, 5, 3), np.float32))
    ears = head.model.regions.numpy()[:, head.model.region_names.index("ears")]
    lips = head.model.regions.numpy()[:, head.model.region_names.index("lips")]
    beard = beard_mask(head.template) * (1 - np.clip(2 * lips, 0, 1))
    return StudioPerson(
        identity_id=identity_id,
        head=head,
        shape=shape,
        appearance=appearance,
        surface=Mesh(shaped[0], head.triangles, paint(head, appearance), ORDER),
        offset=hair_offset(head.template, head.normals, ears, beard, appearance),
        accessories=tuple(build_accessories(head, appearance)),
    )
