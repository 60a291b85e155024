"""A mesh drawn over an image lies on what it was rendered from."""

from __future__ import annotations

import numpy as np

from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import aimed_camera
from pipelines.studio.mesh import Mesh
from pipelines.studio.overlay import draw_mesh, tile_images
from pipelines.studio.renderer import Lighting, build_scene, render_mesh


def test_lines_lie_on_the_mesh_and_nowhere_else(studio_head):
    colours = np.full((len(studio_head.triangles), 3, 4), 0.2, np.float32)
    mesh = Mesh(studio_head.template, studio_head.triangles, colours, 1)
    camera = aimed_camera(0.4, 0.1, distance=1.0, target=HEAD_CENTRE, span=0.4, size=96)
    alpha = render_mesh(build_scene(mesh), camera, Lighting(())).alpha
    grey = np.full((96, 96, 3), 100, np.uint8)
    drawn = (draw_mesh(grey, camera, studio_head.template, studio_head.triangles) != 100).any(-1)
    grown = np.max([np.roll(alpha, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0) > 0
    assert drawn[alpha == 1].mean() > 0.6 and not (drawn & ~grown).any()
    moved = (draw_mesh(grey, camera, studio_head.template + 0.05, studio_head.triangles) != 100).any(-1)
    assert (moved & ~grown).sum() > 50


def test_images_are_laid_out_in_rows():
    sheet = tile_images([np.full((4, 6, 3), i, np.uint8) for i in range(3)], 2)
    assert sheet.shape == (8, 12, 3) and sheet[4, 0, 0] == 2 and sheet[4, 6, 0] == 128
