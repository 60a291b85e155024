"""The image of a studio person with its truth, and the interface of renderers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.rendering.scene import StudioScene

if TYPE_CHECKING:
    from pipelines.studio.people.figure import Figure, PosedFigure

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SurfaceTruth:
    """The first solid surface (alpha of 0.5 or more) along the rays through the centres of pixels."""

    depth: Floats
    """(H, W) z in the camera's frame, metres; 0 for no surface."""
    normals: Floats
    """(H, W, 3) unit normals without the detail of normal maps, camera's frame (x right, y down, z forward)."""
    part: NDArray[np.uint8]
    """(H, W) segmentation classes, ``pipelines.studio.part_classes``."""
    surface: NDArray[np.int16]
    """(H, W) index of the figure's surface, -1 for none."""
    uv: Floats
    """(H, W, 2) texture coordinates of that surface, v down."""


@dataclass(frozen=True)
class StudioImage:
    """An image of height H and width W."""

    rgb: NDArray[np.uint8]
    """(H, W, 3) encoded image over the background."""
    matte: Floats
    """(H, W) share of each pixel that the person covers, 0 to 1."""
    linear: Floats | None
    """(H, W, 3) linear light over the background, before exposure; None if the truth was not asked for."""
    truth: SurfaceTruth | None
    """Depth, normals and so on; None if they were not asked for."""


class Renderer(Protocol):
    """A renderer of figures."""

    name: str
    """Name and device, for benchmarks and logs."""

    def render(
        self, figure: Figure, posed: PosedFigure, camera: Camera, scene: StudioScene, truth: bool = True
    ) -> StudioImage:
        """Render one image, see ``render_views``."""
        ...

    def render_views(
        self,
        figure: Figure,
        posed: PosedFigure,
        cameras: Sequence[Camera],
        scene: StudioScene,
        truth: bool = True,
    ) -> list[StudioImage]:
        """Render a posed figure from several cameras.

        Args:
            figure: The figure; what is prepared of it is kept for the next call with the same identity.
            posed: Its pose.
            cameras: Cameras, which say the images' sizes.
            scene: Light, background and colour.
            truth: Return ``SurfaceTruth`` and linear light, too.
        """
        ...

    def close(self) -> None:
        """Free the device's memory."""
        ...
