"""Reference renderer without CUDA kernels, for any device and floating type, with gradients for all inputs.

Projection is plain PyTorch (``projection``). So are binning (``reference_tiles``) and blending (``blending``), except
for float32 on a CPU with numba: there the loops of ``compiled`` do the same, five to eight times as fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ffavatar_model.renderers import compiled
from ffavatar_model.renderers.blending import blend
from ffavatar_model.renderers.projection import project
from ffavatar_model.renderers.reference_tiles import blocks_of_tiles


def rasterize_reference(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    world_to_camera: Tensor,
    K: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rasterize B sets of N Gaussians into V cameras each; arguments are those of ``renderers.render_gaussians``.

    Returns:
        Colour (B, V, C, H, W) over black, alpha (B, V, 1, H, W) and alpha-weighted depth (B, V, 1, H, W). Colour and
        depth are not divided by alpha.
    """
    n_sets, n_views = world_to_camera.shape[:2]
    flat = project(means, rotations, scales, opacities, world_to_camera, K, width, height)
    pixels, conics, depths, radii = (value.flatten(0, 1) for value in flat)
    opacity = opacities[:, None].expand(-1, n_views, -1).flatten(0, 1)
    colour = colours[:, None].expand(-1, n_views, -1, -1).flatten(0, 1)
    features = torch.cat((colour, torch.ones_like(depths)[..., None], depths[..., None]), -1)
    if means.device.type == "cpu" and means.dtype == torch.float32 and compiled.has_numba():
        image = compiled.blend_compiled(pixels, conics, opacity, features, radii, depths, width, height)
    else:
        blocks = blocks_of_tiles(pixels.detach(), radii, depths.detach(), width, height)
        image = blend(pixels, conics, opacity, features, blocks, width, height)
    image = image.unflatten(0, (n_sets, n_views))
    channels = colours.shape[-1]
    return image[:, :, :channels], image[:, :, channels : channels + 1], image[:, :, channels + 1 :]
