"""The checkpoint that comes with the code opens on the open head that this machine builds."""

from __future__ import annotations

import torch

from ffavatar_model.head.open_head import build_open_head
from ffavatar_model.io.weights import fits_head, load_model, read_header
from ffavatar_model.pretrained import STUDIO
from pipelines.faces.weight_cache import cache_dir


def test_the_checkpoint_that_comes_with_the_code_opens() -> None:
    assert STUDIO.stat().st_size < 25_000_000
    head = build_open_head(cache_dir())
    model = load_model(STUDIO, head)
    with torch.inference_mode():
        avatar = model.reconstruct(torch.full((1, 1, 3, 256, 256), 0.5))
    assert avatar.offsets.shape == (1, 18084, 3) and bool(torch.isfinite(avatar.offsets).all())


def test_another_head_is_refused() -> None:
    header = read_header(STUDIO)
    assert not fits_head(header, "flame2023", header["head_digest"][::-1])
    assert not fits_head({**header, "open_head_version": -1}, "open", "another digest")
    assert fits_head(header, "open", "the same head built by other linear algebra")
