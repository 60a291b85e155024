"""The image of docs/multiview.md: ``python -m flows.experiments.multiview_image docs/multiview.png``.

A studio capture in Ava-256's layout is converted, and its registered mesh is drawn over the views of one timestep.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from ava256.reader import Ava256Capture, find_captures
from pipelines.conversion.ava256_config import Ava256Config, head_model_frame
from pipelines.conversion.ava256_step import plan_ava256
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.cameras import Camera
from pipelines.media.image_codec import decode_image
from pipelines.studio.captures.ava256_layout import Ava256Spec, write_ava256
from pipelines.studio.captures.capture_studio import open_capture_studio
from pipelines.studio.overlay import draw_mesh, tile_images

CAMERAS, COLUMNS, SIZE, SEED = 12, 6, 232, 5


def draw_multiview_image(out: Path) -> None:
    """Write the image as a PNG of few colours."""
    studio = open_capture_studio(cache_dir())
    triangles = studio.head.triangles.numpy()
    with tempfile.TemporaryDirectory() as folder:
        spec = Ava256Spec(n_cameras=CAMERAS, frames=1, segments=("EXP_smile",), height=1024, absent=0.0)
        list(write_ava256(studio, Path(folder), 1, spec, SEED))
        plan = plan_ava256(folder, Ava256Config(size=SIZE))
        rows = plan.step.fn(plan.step.load(), plan.items).to_pylist()
        (decoder,) = find_captures(folder, LocalFileSystem()).values()
        capture = Ava256Capture(decoder, LocalFileSystem())
        assert capture.mean_vertices is not None
        to_tracked = head_model_frame(capture.mean_vertices)
        images = []
        for row in rows:
            (camera,), (view,) = row["cameras"], row["views"]
            tracked = capture.vertices(view["frame_index"])
            assert tracked is not None
            pose = np.array(view["head_to_world"]).reshape(3, 4)
            in_head = (tracked - to_tracked[:, 3]) @ to_tracked[:, :3]
            view_camera = Camera(
                np.array(view["K"]).reshape(3, 3), np.array(camera["world_to_camera"]).reshape(3, 4), SIZE, SIZE
            )
            world = in_head @ pose[:, :3].T + pose[:, 3]
            images.append(draw_mesh(decode_image(view["image"]), view_camera, world, triangles))
    image = Image.fromarray(tile_images(images, COLUMNS))
    image.quantize(255, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


if __name__ == "__main__":
    draw_multiview_image(Path(sys.argv[1]))
