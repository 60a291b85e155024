"""The step ``convert_nersemble``, which converts the videos of a sequence to views, timestep by timestep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
from numpy.typing import NDArray

from mfhq.schema import FAILED, OK, REJECTED
from nersemble.camera_params import read_camera_params, read_colours
from nersemble.colour import correct_colours
from nersemble.errors import NersembleError
from nersemble.layout import (
    FPS,
    FULL_HEIGHT,
    FULL_WIDTH,
    alpha_path,
    background_path,
    calibration_path,
    colour_path,
    video_path,
)
from pipelines.conversion.capture_schemas import CONVERTED, camera_row, view_row
from pipelines.conversion.head_crops import aligned_crop, resample, resized_camera, visible_share
from pipelines.conversion.head_finder import HeadFinder
from pipelines.conversion.mattes import matte_from_empty_room
from pipelines.conversion.nersemble.camera_videos import (
    DAMAGED,
    TOO_SLOW,
    CameraVideo,
    read_timesteps,
    select_frame_indices,
)
from pipelines.conversion.nersemble.head_tracker import HeadTracker, decode_factor
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.engine.step import Resources, Step
from pipelines.faces.matte import MatteModel
from pipelines.faces.pack import face_pack
from pipelines.faces.weight_files import WEIGHTS
from pipelines.media.cameras import Array, Camera
from pipelines.media.decoder import DecoderCrashed, DecodeTimeout, ProcessDecoder
from pipelines.media.image_codec import decode_image, encode_png, encode_webp

Image = NDArray[np.uint8]

OUT_OF_PICTURE, HEAD_NOT_FOUND, SIZE_UNEXPECTED = "head_out_of_picture", "head_not_found", "size_unexpected"
"""Reasons: the head is outside the image, no head was found, or the video has an unexpected size."""
VALUE_DAMAGED = "value_damaged"
"""Reason: a file of the sequence cannot be read."""
MODELS = ("face_landmark", "selfie_segmentation")
"""Names of the weights that the step uses in addition to those of the face pack."""
MIN_VISIBLE_SHARE = 0.5
"""Smallest share of a crop that must lie inside the image."""

ITEM_TIMESTEPS = 64
"""Number of timesteps per item.

The views of an item are in memory together: with 16 cameras, 40 MB of images at 512 pixels.
"""
ITEM = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("participant", pa.int32(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("sequence", pa.string(), nullable=False),
        pa.field("serials", pa.string(), nullable=False),
        pa.field("first", pa.int32(), nullable=False),
        pa.field("count", pa.int32()),
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("capture_id", "identity_id", "dataset", "licence", "split")
        ),
    ]
)
"""Items of the conversion: each is a run of timesteps of one sequence of one participant.

``person`` is the participant's folder, ``task`` is the benchmark's task or empty, and ``serials`` holds the cameras'
serial numbers, separated by commas. The item holds ``count`` of the selected timesteps, beginning with number
``first``; if ``count`` is null, it holds all from ``first`` on.
"""


@dataclass
class ConversionTools:
    """Models and decoders of a worker."""

    finder: HeadFinder
    """Finder of the head's pose."""
    matte: MatteModel
    """Matting model."""
    config: NersembleConfig
    """Settings of the conversion."""
    decoders: dict[str, ProcessDecoder] = field(default_factory=dict)
    """Name of the camera → decoder."""

    def decoder_of(self, camera: str) -> ProcessDecoder:
        """Return the decoder of a camera; each has its own, because all videos of a sequence are open at once."""
        if camera not in self.decoders:
            self.decoders[camera] = ProcessDecoder(
                silence_s=self.config.decode_silence_s, limit_s=self.config.decode_limit_s
            )
        return self.decoders[camera]


@dataclass(frozen=True)
class Recording:
    """The readable videos of a sequence."""

    cameras: Mapping[str, Camera]
    """Serial number → camera of the video at its full size."""
    n_frames: int
    """Number of frames of the longest video."""
    fps: float
    """Frames per second."""


def nersemble_step(config: NersembleConfig) -> Step:
    """Return the step ``convert_nersemble``, which takes one item per call, because an item's views are in memory.

    Args:
        config: Settings, which are all part of the fingerprint.

    Raises:
        WeightsError: The models' weights cannot be loaded.
    """
    return Step(
        name="convert_nersemble",
        version=3,
        key="item_id",
        input=ITEM,
        output=CONVERTED,
        load=partial(load_tools, config),
        fn=partial(convert_sequences, config),
        # The decoders run in processes of their own, one per camera.
        resources=Resources(cpus=2, batch=1),
        config=asdict(config),
        weights={**{name: WEIGHTS[name].sha256 for name in MODELS}, **face_pack(None).files},
    )


def load_tools(config: NersembleConfig) -> ConversionTools:
    """Load the models of a worker; the decoders are opened later, for each camera."""
    return ConversionTools(HeadFinder.load(config.head_views), MatteModel.load(), config)


def convert_sequences(config: NersembleConfig, tools: ConversionTools, items: pa.Table) -> pa.Table:
    """Convert items to views; an item fails if its tracking or colours cannot be read.

    Args:
        config: Settings.
        tools: Models and decoders of the worker.
        items: Rows of ``ITEM``.

    Returns:
        Rows of ``CONVERTED``, in the order of the items.
    """
    rows = []
    for row in items.to_pylist():
        names = ("item_id", "capture_id", "identity_id", "dataset", "licence", "split")
        common = {name: row[name] for name in names} | {"cameras": [], "views": []}
        try:
            rows.append(common | _convert(config, tools, row))
        except NersembleError:
            rows.append(common | {"status": FAILED, "reason": VALUE_DAMAGED})
    return pa.Table.from_pylist(rows, schema=CONVERTED)


def _convert(config: NersembleConfig, tools: ConversionTools, row: dict[str, Any]) -> dict[str, Any]:
    """Return status, reason, cameras and views of an item; raise ``NersembleError`` if a file cannot be read."""
    person, sequence = Path(row["person"]), row["sequence"]
    full = None if row["task"] else (FULL_WIDTH, FULL_HEIGHT)
    recording, unreadable = _probe(person, sequence, row["serials"].split(","), full, tools)
    if not recording.cameras:
        return {"status": REJECTED, "reason": next(iter(unreadable.values()), DAMAGED)}
    indices = select_frame_indices(recording.n_frames, config.every, config.frames)[row["first"] :][: row["count"]]
    views = list(_views(config, tools, row, recording, indices))
    for name, reason in unreadable.items():
        common = {"segment": sequence, "split": row["split"], "status": FAILED, "reason": reason}
        views += [view_row(row["capture_id"], name, index, **common) for index in indices]
    calibration = read_camera_params(calibration_path(person), full)
    readable = next(iter(recording.cameras.values()))
    cameras = []
    for name in unreadable:  # the size of an unreadable video is unknown, so that of another video is used
        K = calibration.intrinsics(name, readable.width, readable.height)
        camera = Camera(K, calibration.world_to_camera[name], readable.width, readable.height)
        cameras.append(camera_row(name, camera))
    cameras += [camera_row(name, camera) for name, camera in recording.cameras.items()]
    return {"status": OK, "reason": "", "cameras": cameras, "views": views}


def _probe(
    person: Path, sequence: str, serials: list[str], full: tuple[int, int] | None, tools: ConversionTools
) -> tuple[Recording, dict[str, str]]:
    """Return the readable videos, and serial number → reason of the unreadable ones."""
    calibration = read_camera_params(calibration_path(person), full)
    cameras, unreadable, lengths, fps = {}, {}, [0], FPS
    for name in serials:
        try:
            facts = tools.decoder_of(name).probe(video_path(person, sequence, name))
        except (DecodeTimeout, DecoderCrashed):
            unreadable[name] = TOO_SLOW
            continue
        if facts["reason"]:
            unreadable[name] = facts["reason"]
            continue
        width, height = facts["width"], facts["height"]
        try:
            _check_size(width, height)
            K = calibration.intrinsics(name, width, height)
        except ValueError:
            unreadable[name] = SIZE_UNEXPECTED
            continue
        cameras[name] = Camera(K, calibration.world_to_camera[name], width, height)
        lengths.append(facts["n_frames"] or 0)
        fps = facts["fps"] or fps
    return Recording(cameras, max(lengths), fps), unreadable


def _views(
    config: NersembleConfig, tools: ConversionTools, row: dict[str, Any], recording: Recording, indices: list[int]
) -> Iterator[dict[str, Any]]:
    """Yield the views of the frames at ``indices``, timestep by timestep."""
    person, sequence = Path(row["person"]), row["sequence"]
    colours = {} if row["task"] else read_colours(colour_path(person))
    factor = decode_factor(recording.cameras, config)
    sized = {n: c.resized(c.width // factor, c.height // factor) for n, c in recording.cameras.items()}
    videos = {
        name: CameraVideo(video_path(person, sequence, name), tools.decoder_of(name), indices, _size(camera, factor))
        for name, camera in sized.items()
    }
    alphas = {
        name: CameraVideo(path, tools.decoder_of(f"alpha/{name}"), indices, _size(camera, factor))
        for name, camera in sized.items()
        if config.matte == "auto" and (path := alpha_path(person, sequence, name)).is_file()
    }
    rooms = {} if config.matte == "model" or alphas else _rooms(person, sized)
    tracker = HeadTracker.for_sequence(person, sequence, tools.finder)
    mattes = read_timesteps(alphas, indices)
    for index, images, reasons in read_timesteps(videos, indices):
        alpha = next(mattes)[1]
        head_to_world = tracker.head_to_world(index, images, sized)
        common = {"segment": sequence, "split": row["split"], "time_s": index / recording.fps}
        for name in recording.cameras:
            if name in reasons:
                status = FAILED if reasons[name] in (DAMAGED, TOO_SLOW) else REJECTED
                fields: dict[str, Any] = {"status": status, "reason": reasons[name]}
            elif head_to_world is None:
                fields = {"status": REJECTED, "reason": HEAD_NOT_FOUND}
            else:
                extras = colours.get(name), rooms.get(name), alpha.get(name)
                fields = _view(config, tools, images[name], sized[name], head_to_world, *extras)
            yield view_row(row["capture_id"], name, index, **common, **fields)


def _view(
    config: NersembleConfig,
    tools: ConversionTools,
    image: Image,
    camera: Camera,
    head_to_world: Array,
    colours: Array | None,
    room: Image | None,
    alpha: Image | None,
) -> dict[str, Any]:
    """Return image, matte, K and head pose of a view; status, reason and head pose if the head is outside the image."""
    full = config.crop == "full"
    target = resized_camera(camera, config.size) if full else aligned_crop(camera, head_to_world, config.size)
    if visible_share(camera, target) < MIN_VISIBLE_SHARE:
        return {"status": REJECTED, "reason": OUT_OF_PICTURE, "head_to_world": head_to_world}
    crop = resample(image, camera, target)
    if alpha is not None:
        matte = resample(np.ascontiguousarray(alpha[..., 0]), camera, target)
    elif room is not None:
        matte = matte_from_empty_room(crop, resample(room, camera, target))
    else:
        matte = tools.matte.matte(crop)
    corrected = crop if colours is None else correct_colours(crop, colours)
    return {
        "image": encode_webp(corrected, config.quality),
        "matte": encode_png(matte),
        "K": target.K,
        "head_to_world": head_to_world,
    }


def _check_size(width: int, height: int) -> None:
    """Raise ``ValueError`` if an image is larger than the images of the data set."""
    if width * height > FULL_WIDTH * FULL_HEIGHT:
        raise ValueError(f"{width} x {height} px; the data set has at most {FULL_WIDTH} x {FULL_HEIGHT}")


def _size(camera: Camera, factor: int) -> tuple[int, int] | None:
    return None if factor == 1 else (camera.width, camera.height)


def _rooms(person: Path, cameras: Mapping[str, Camera]) -> dict[str, Image]:
    """Return name of the camera → readable image of the empty room, resized to the video."""
    rooms = {}
    for name, camera in cameras.items():
        path = background_path(person, name)
        try:
            with PIL.Image.open(path) as header:
                _check_size(*header.size)
            image = decode_image(path.read_bytes())
        except (OSError, ValueError, PIL.Image.DecompressionBombError):
            continue
        full = Camera(np.eye(3), camera.world_to_camera, image.shape[1], image.shape[0])
        rooms[name] = resample(image, full, full.resized(camera.width, camera.height))
    return rooms
