"""Framebuffers of one image size in OpenGL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class ImageTargets:
    """Framebuffers for the person's light, the truth and the developed image."""

    def __init__(self, context: Any, size: tuple[int, int], samples: int, fold: int) -> None:
        """Allocate the framebuffers.

        Args:
            context: Context of moderngl.
            size: Width and height of the image, pixels.
            samples: Samples a pixel of the person's light.
            fold: Factor by which the person is rendered larger than the image.
        """
        large = (size[0] * fold, size[1] * fold)
        self.size = size
        self._many = context.framebuffer(
            [context.renderbuffer(large, 4, samples=samples, dtype="f2")], context.depth_renderbuffer(large, samples)
        )
        self._person = context.texture(large, 4, dtype="f2")
        self._one = context.framebuffer([self._person])
        self._truth = context.framebuffer(
            [
                context.texture(size, 1, dtype="f4"),
                context.texture(size, 4, dtype="f2"),
                context.texture(size, 2, dtype="f4"),
                context.texture(size, 2, dtype="u1"),
            ],
            context.depth_renderbuffer(size),
        )
        self._developed = context.framebuffer([context.texture(size, 4, dtype="f4"), context.texture(size, 4)])
        self._context = context

    def start_colour(self) -> None:
        """Draw the person's light from now on."""
        self._many.use()
        self._many.clear(0, 0, 0, 0, depth=1.0)

    def depth_writes(self, on: bool) -> None:
        """Let what is drawn hide what is drawn later, or not."""
        self._many.depth_mask = on

    def resolve(self) -> None:
        """Average the samples of each pixel."""
        self._context.copy_framebuffer(self._one, self._many)

    def start_truth(self) -> None:
        """Draw the truth from now on."""
        self._truth.use()
        self._truth.clear(0, 0, 0, 0, depth=1.0)

    def start_developed(self) -> None:
        """Draw the developed image from now on, from the person's light in texture unit 0."""
        self._developed.use()
        self._person.use(0)

    def read_encoded(self) -> NDArray[np.uint8]:
        """Return the encoded image with the matte (H, W, 4)."""
        encoded = np.frombuffer(self._developed.read(components=4, attachment=1, alignment=1), np.uint8)
        return encoded.reshape(self.size[1], self.size[0], 4)

    def read_linear(self) -> Floats:
        """Return linear light over the background with the matte (H, W, 4)."""
        linear = np.frombuffer(self._developed.read(components=4, attachment=0, dtype="f4"), np.float32)
        return linear.reshape(self.size[1], self.size[0], 4)

    def read_truth(self) -> tuple[Floats, Floats, NDArray[np.uint8], NDArray[np.int16], Floats]:
        """Return depth, normals, parts, surfaces and texture coordinates, see ``SurfaceTruth``."""
        width, height = self.size
        depth = np.frombuffer(self._truth.read(components=1, attachment=0, dtype="f4"), np.float32)
        normals = np.frombuffer(self._truth.read(components=4, attachment=1, dtype="f2"), np.float16)
        uv = np.frombuffer(self._truth.read(components=2, attachment=2, dtype="f4"), np.float32)
        ids = np.frombuffer(self._truth.read(components=2, attachment=3, dtype="u1", alignment=1), np.uint8)
        ids = ids.reshape(height, width, 2)
        return (
            depth.reshape(height, width),
            normals.reshape(height, width, 4)[..., :3].astype(np.float32),
            ids[..., 0].copy(),
            ids[..., 1].astype(np.int16) - 1,
            uv.reshape(height, width, 2),
        )
