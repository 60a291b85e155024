"""Choice of the renderer that this machine can run."""

from __future__ import annotations

from typing import Literal

from pipelines.studio.rendering.gl_renderer import GlRenderer, RendererError
from pipelines.studio.rendering.image import Renderer
from pipelines.studio.rendering.ray_renderer import RayRenderer

Choice = Literal["auto", "gl", "cpu"]


def open_renderer(choice: Choice = "auto", fold: int = 1) -> Renderer:
    """Open a renderer in the calling thread.

    Args:
        choice: ``gl`` for OpenGL, ``cpu`` for rays, ``auto`` for OpenGL where it runs and rays elsewhere.
        fold: Factor by which OpenGL renders larger before it averages.

    Raises:
        RendererError: ``gl`` was asked for, and does not run here.
    """
    if choice == "cpu":
        return RayRenderer()
    try:
        return GlRenderer(fold=fold)
    except RendererError:
        if choice == "gl":
            raise
        return RayRenderer()
