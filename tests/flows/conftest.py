"""An avatar of random weights with its checkpoint, and a face that moves to drive it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import skimage.data
import torch
from scipy import sparse

from ffavatar_model.head import HeadModel, load_head
from ffavatar_model.io.weights import save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import find_preset
from flows.avatar.heads import prepare_head_file
from flows.avatar.reconstruct import reconstruct_photos
from infra.storage import open_store
from mfhq.schema import CAMERAS, CAPTURES, IDENTITIES, VIEWS
from pipelines.media.image_codec import encode_png
from pipelines.media.video_writer import write_video
from pipelines.publishing.publish_tables import publish_tables
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.portraits import render_all_round_views

STUDIO_PX, TIMESTEPS, CAMERAS_EACH = 96, 2, 6


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
    """The small model on the open head; its estimator says something else for each image."""
    folder = tmp_path_factory.mktemp("performer")
    torch.manual_seed(0)
    model = FFAvatar(find_preset("tiny"), load_head(prepare_head_file(None)))
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


@pytest.fixture(scope="session")
def studio_corpus(capture_studio: CaptureStudio, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of four studio people seen from all round, each from six sides at two timesteps; two are held out."""
    store = open_store(tmp_path_factory.mktemp("corpus"))
    blob = bytearray()
    rows: dict[str, list[dict[str, object]]] = {"cameras": [], "captures": [], "views": [], "identities": []}

    def pack(image: np.ndarray) -> dict[str, object]:
        data = encode_png(image)
        blob.extend(data)
        return {"uri": "pictures.bin", "offset": len(blob) - len(data), "length": len(data)}

    for person, split in (("person-0", "train"), ("person-1", "val"), ("person-2", "val"), ("person-3", "train")):
        seen = render_all_round_views(capture_studio, person, TIMESTEPS, CAMERAS_EACH, STUDIO_PX)
        rows["identities"].append({"identity_id": person, "n_tracks": 0, "n_videos": 0, "n_faces": 0, "split": split})
        rows["captures"].append(
            {
                "capture_id": person,
                "identity_id": person,
                "dataset": "studio",
                "n_cameras": len(seen.rgb),
                "n_frames": TIMESTEPS,
            }
        )
        for i in range(len(seen.rgb)):
            # a camera an image, whose world is the head's frame
            ids = {"capture_id": person, "camera_id": str(i), "K": seen.K[i].ravel().tolist()}
            rows["cameras"].append(
                {
                    **ids,
                    "distortion": [],
                    "width": STUDIO_PX,
                    "height": STUDIO_PX,
                    "world_to_camera": seen.head_to_camera[i].ravel().tolist(),
                }
            )
            rows["views"].append(
                {
                    **ids,
                    "identity_id": person,
                    "view_id": f"{person}-{i}",
                    "frame_index": int(seen.timestep[i]),
                    "image": pack(seen.rgb[i]),
                    "matte": pack(seen.matte[i]),
                    "split": split,
                    "status": "ok",
                    "reason": "",
                    "head_to_world": np.eye(3, 4).ravel().tolist(),
                }
            )
    store.write("pictures.bin", bytes(blob))
    schemas = {"cameras": CAMERAS, "captures": CAPTURES, "views": VIEWS, "identities": IDENTITIES}
    publish_tables(store, {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in schemas.items()})
    return store.uri


def write_flame(head: HeadModel, path: Path) -> Path:
    """The head's geometry in the layout of a FLAME pickle: no names, regions, colours or landmarks; another origin."""
    shape, expression = head.shape_directions.numpy(), head.expression_directions.numpy()
    padded = np.pad(shape, ((0, 0), (0, 0), (0, 300 - shape.shape[2])))
    arrays = {
        "v_template": head.template.numpy() + np.array([0.01, 0.1, 0.02]),
        "shapedirs": np.concatenate([padded, expression], 2),
        "posedirs": np.zeros((head.n_vertices, 3, 36)),
        "J_regressor": sparse.csc_matrix(head.joint_regressor.numpy()),
        "weights": head.skinning_weights.numpy(),
        "f": head.triangles.numpy().astype(np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
    }
    path.write_bytes(pickle.dumps(arrays, protocol=2))
    return path


@pytest.fixture
def as_flame() -> Callable[[HeadModel, Path], Path]:
    """``as_flame(head, path)``: writes the head as a FLAME file."""
    return write_flame
