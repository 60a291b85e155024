"""A figure's buffers and textures in OpenGL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.rendering.geometry import (
    DrawableSurface,
    PosedSurface,
    detail_texture,
    drawables,
    pose_figure,
    wrinkle_texture,
)

if TYPE_CHECKING:
    from pipelines.studio.people.figure import Figure, PosedFigure

SRGB8_ALPHA8 = 0x8C43
"""OpenGL's number of the texture format whose colours are decoded before they are filtered."""
ANISOTROPY = 8.0
"""Number of samples that OpenGL may take along the longer side of a pixel's footprint.

Not so on the CPU: Mesa's llvmpipe then goes through all texels of the footprint, and one seam of a texture that repeats
44 times took it minutes.
"""


class SurfaceBuffers:
    """One surface on the device."""

    def __init__(self, context: Any, drawn: DrawableSurface, programs: dict[str, Any]) -> None:
        """Upload the static part of a surface.

        Args:
            context: Context of moderngl.
            drawn: The surface.
            programs: Programs by name; each gets its own vertex array.
        """
        self.drawn, material = drawn, drawn.surface.material
        self.sorted = material.alpha_mode == "blend"
        corners, bytes_ = len(drawn.vertex), drawn.triangles.astype(np.int32).tobytes()
        static = np.concatenate([drawn.uv, drawn.occlusion[:, None], drawn.part[:, None].astype(np.float32)], axis=1)
        self._static = context.buffer(np.ascontiguousarray(static, np.float32).tobytes())
        self._posed = context.buffer(reserve=corners * 24, dynamic=True)
        self._index = context.buffer(bytes_, dynamic=self.sorted)
        self.base = _texture(context, material.base_colour, SRGB8_ALPHA8)
        self.detail = _texture(context, detail_texture(material), None)
        self.wrinkles = _texture(context, wrinkle_texture(material), None)
        self.arrays = {name: self._array(context, program) for name, program in programs.items()}
        self._centroids = np.zeros((0, 3), np.float32)

    def _array(self, context: Any, program: Any) -> Any:
        posed = [("3f4", "in_position"), ("3f4", "in_normal")]
        static = [("2f4", "in_uv"), ("2f4", "in_data")]
        content = []
        for buffer, layout in ((self._posed, posed), (self._static, static)):
            used = [(form, name) for form, name in layout if name in program]
            formats = " ".join(form if name in program else f"{form[0]}x4" for form, name in layout)
            content.append((buffer, formats, *(name for _, name in used)))
        return context.vertex_array(program, content, self._index, index_element_size=4)

    def pose(self, posed: PosedSurface) -> None:
        """Upload the corners of a pose."""
        self._posed.write(np.ascontiguousarray(np.concatenate([posed.positions, posed.normals], axis=1)).tobytes())
        if self.sorted:
            self._centroids = posed.positions[self.drawn.triangles].mean(1)

    def sort(self, camera: Camera) -> None:
        """Order blended triangles from the farthest to the nearest."""
        if self.sorted:
            order = np.argsort(-(self._centroids @ camera.world_to_camera[2, :3].astype(np.float32)))
            self._index.write(self.drawn.triangles[order].tobytes())

    def release(self) -> None:
        """Free the device's memory."""
        for each in (
            *self.arrays.values(),
            self._static,
            self._posed,
            self._index,
            self.base,
            self.detail,
            self.wrinkles,
        ):
            each.release()


class FigureBuffers:
    """All surfaces of a figure on the device."""

    def __init__(self, context: Any, figure: Figure, programs: dict[str, Any]) -> None:
        """Upload a figure; see ``SurfaceBuffers``."""
        self.drawn = drawables(figure)
        self.surfaces = [SurfaceBuffers(context, drawn, programs) for drawn in self.drawn]
        self.centre, self.radius = np.zeros(3), 1.0
        self.wrinkles = np.zeros(8, np.float32)

    def pose(self, posed: PosedFigure) -> None:
        """Upload a pose, and measure the sphere around it."""
        corners = pose_figure(self.drawn, posed)
        for surface, each in zip(self.surfaces, corners, strict=True):
            surface.pose(each)
        self.centre, self.radius = bounding_sphere(corners)
        self.wrinkles = corners[0].wrinkles

    def release(self) -> None:
        """Free the device's memory."""
        for surface in self.surfaces:
            surface.release()


def bounding_sphere(corners: tuple[PosedSurface, ...]) -> tuple[NDArray[np.float64], float]:
    """Return centre (3,) and radius of a sphere around all corners, metres."""
    low = np.min([c.positions.min(0) for c in corners], axis=0).astype(np.float64)
    high = np.max([c.positions.max(0) for c in corners], axis=0).astype(np.float64)
    return (low + high) / 2, float(np.linalg.norm(high - low) / 2) + 1e-3


def _texture(context: Any, image: NDArray[np.uint8], internal_format: int | None) -> Any:
    height, width, channels = image.shape
    options = {} if internal_format is None else {"internal_format": internal_format}
    texture = context.texture((width, height), channels, np.ascontiguousarray(image).tobytes(), alignment=1, **options)
    texture.build_mipmaps()
    if "llvmpipe" not in context.info["GL_RENDERER"]:
        texture.anisotropy = ANISOTROPY
    return texture
