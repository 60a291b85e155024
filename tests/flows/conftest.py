"""An avatar of random weights with its checkpoint, and a face that moves to drive it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from ffavatar_model.head import load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import by_name
from ffavatar_model.weights import save_weights
from flows.avatars import reconstruct_photos
from flows.heads import head_file
from pipelines.faces.pictures import encode_png
from pipelines.media.video_writer import write_video


@dataclass(frozen=True)
class Performer:
    """Files that the commands about avatars are given."""

    checkpoint: Path
    avatar: Path
    driver: Path
    frames: list[np.ndarray]
    """Of the driver: a photograph that sways; the first shows no face."""
    fps: float


@pytest.fixture(scope="session")
def performer(tmp_path_factory: pytest.TempPathFactory) -> Performer:
    """The small model on the open head; its estimator says something else for each picture."""
    folder = tmp_path_factory.mktemp("performer")
    torch.manual_seed(0)
    model = FFAvatar(by_name("tiny"), load_head(head_file(None)))
    torch.nn.init.normal_(model.estimator.head.weight, std=0.3)
    save_weights(folder / "model.safetensors", model)
    photo = skimage.data.astronaut()
    (folder / "photo.png").write_bytes(encode_png(photo))
    avatar = reconstruct_photos([folder / "photo.png"], folder / "model.safetensors", folder / "avatar.safetensors")
    frames = [np.full((320, 320, 3), 90, np.uint8)]
    for i in range(5):
        sway = cv2.getRotationMatrix2D((224, 120), 4 * np.sin(i), 1.0)
        sway[:, 2] += (-60 + 6 * i, 20)
        frames.append(cv2.warpAffine(photo, sway, (320, 320)))
    write_video(folder / "driver.mp4", frames, 12.5)
    return Performer(folder / "model.safetensors", avatar, folder / "driver.mp4", frames, 12.5)
