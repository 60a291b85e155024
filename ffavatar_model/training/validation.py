"""Validation: metrics of held-out people, and an image of their renderings."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.data.batch import Batch, TrainingData
from ffavatar_model.model import Output
from ffavatar_model.training.objective import Objective

Renderings = list[tuple[Batch, Output]]
"""For each of a few people, the batch (in host memory) and the model's output."""


@torch.no_grad()
def validate(
    objective: Objective, data: TrainingData, people: int, device: torch.device
) -> tuple[dict[str, float], Renderings]:
    """Compute mean metrics over the first people of a data set; every call uses the same samples.

    Args:
        objective: The model with its loss; it stays in evaluation mode afterwards.
        data: Data set of held-out people.
        people: Upper bound on the number of people.
        device: Device of the model.

    Returns:
        Metrics, and renderings of the first few people. ``loss`` has its terms as at the end of the schedule.
        ``psnr`` (dB) is over pixels inside the matte. ``nearest_psnr`` is the PSNR of the source image closest to the
        driver, unchanged. ``landmark`` is the mean distance of landmarks, in image widths.
    """
    objective.eval()
    sums: dict[str, list[float]] = {"loss": [], "photometric": [], "psnr": [], "nearest_psnr": [], "landmark": []}
    renderings: Renderings = []
    for cursor in range(min(people, len(data))):
        batch = data.batch([cursor]).to(device)
        loss, terms, output = objective(batch, 1.0)
        sums["loss"].append(float(loss))
        sums["photometric"].append(float(terms["photometric"]))
        weight = batch.mattes
        sums["psnr"].append(float(matte_psnr(output.rendered.rgb, batch.drivers, weight).mean()))
        sources = batch.sources[:, batch.source_mask[0]]
        copies = torch.stack([matte_psnr(s[:, None], batch.drivers, weight) for s in sources.unbind(1)])
        sums["nearest_psnr"].append(float(copies.amax(0).mean()))
        rig = objective.model.rig
        if bool(batch.has_landmarks.any()) and len(rig.landmark_index):
            distance = (output.landmarks - batch.landmarks[:, :, rig.landmark_index]).norm(dim=-1).mean(-1)
            sums["landmark"].append(float(distance[batch.has_landmarks].mean()))
        if len(renderings) < 4:
            renderings.append((batch.to("cpu"), output))
    return {name: float(np.mean(values)) for name, values in sums.items() if values}, renderings


def matte_psnr(rgb: Tensor, target: Tensor, matte: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio over the pixels of the matte.

    Args:
        rgb: (B, D, 3, H, W) renderings, 0 to 1.
        target: (B, D, 3, H, W) images that they are compared with, 0 to 1.
        matte: (B, D, 1, H, W) weights of the squared errors.

    Returns:
        (B, D) dB.
    """
    weight = matte.expand_as(target)
    error = ((rgb.clamp(0, 1) - target).square() * weight).sum((-3, -2, -1)) / weight.sum((-3, -2, -1)).clamp_min(1)
    return -10 * error.clamp_min(1e-10).log10()


def tile_renderings(renderings: Renderings) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) with one row per person: sources, then drivers with their renderings below."""
    rows: list[Tensor] = []
    for batch, output in renderings:
        blank = torch.ones_like(batch.sources[0, 0])
        sources = [s if m else blank for s, m in zip(batch.sources[0], batch.source_mask[0], strict=True)]
        above = torch.cat([*sources, *batch.drivers[0]], -1)
        rendered = output.rendered.rgb[0].float().cpu().clamp(0, 1)
        rows.append(torch.cat((above, torch.cat([*[blank] * len(sources), *rendered], -1)), -2))
    return (torch.cat(rows, -2) * 255).round().byte().permute(1, 2, 0).numpy()
