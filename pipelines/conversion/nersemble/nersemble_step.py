"""The step ``convert_nersemble``: the videos of one sequence of one participant → views, moment by moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from mfhq.schema import FAILED, OK, REJECTED
from nersemble.camera_params import read_calibration, read_colours
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
from pipelines.conversion.head_crops import aligned_crop, resample, seen_share
from pipelines.conversion.head_finder import HeadFinder
from pipelines.conversion.mattes import changed_matte
from pipelines.conversion.nersemble.config import NersembleConfig
from pipelines.conversion.nersemble.head_places import HeadPlaces, decode_factor
from pipelines.conversion.nersemble.lockstep import (
    DAMAGED,
    TOO_SLOW,
    CameraVideo,
    Decoders,
    chosen_frames,
    moments,
)
from pipelines.engine.step import Resources, Step
from pipelines.faces.matte import MatteModel
from pipelines.faces.pack import face_pack
from pipelines.faces.weight_files import WEIGHTS
from pipelines.media.cameras import Array, Camera
from pipelines.media.decoder import DecoderCrashed, DecodeTimeout, ProcessDecoder
from pipelines.media.image_codec import decode_picture, encode_png, encode_webp

Picture = NDArray[np.uint8]

OUT_OF_PICTURE, HEAD_NOT_FOUND, SIZE_UNEXPECTED = "head_out_of_picture", "head_not_found", "size_unexpected"
VALUE_DAMAGED = "value_damaged"
MODELS = ("face_landmark", "selfie_segmentation")
MIN_SEEN = 0.5
"""Least share of a crop that lies inside the picture."""

ITEM_MOMENTS = 64
"""Moments of an item: its views are in memory together, 16 cameras' as 40 MB of pictures at 512 pixels."""

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
"""A run of moments of one sequence of one participant: ``person`` is the participant's folder, ``task`` empty or the
benchmark's, ``serials`` the cameras, comma between; of the chosen moments it has ``count`` from the ``first``-th on,
all that are left where that is null."""


@dataclass
class Tools:
    """A worker's models and decoders."""

    finder: HeadFinder
    matte: MatteModel
    config: NersembleConfig
    decoders: dict[str, Decoders] = field(default_factory=dict)

    def of_camera(self, name: str) -> Decoders:
        """A camera's own decoders: all of a sequence's videos are open at once.

        PyAV first: decord decodes ahead of who reads slowly, up to the whole rest of the video in memory.
        """
        if name not in self.decoders:
            limits = {"silence_s": self.config.decode_silence_s, "limit_s": self.config.decode_limit_s}
            self.decoders[name] = Decoders(*(ProcessDecoder(backend=b, **limits) for b in ("pyav", "decord")))  # type: ignore[arg-type]
        return self.decoders[name]


@dataclass(frozen=True)
class Recording:
    """A sequence's videos that can be read."""

    cameras: Mapping[str, Camera]
    """Of the pictures as the videos have them."""
    n_frames: int
    fps: float


def nersemble_step(config: NersembleConfig) -> Step:
    """The step. Its output is ``CONVERTED``; one item at a time, since an item's views are held in memory.

    Raises ``WeightsError`` where the models cannot be had.
    """
    return Step(
        name="convert_nersemble",
        version=3,
        key="item_id",
        input=ITEM,
        output=CONVERTED,
        load=partial(_load, config),
        fn=partial(convert_sequences, config),
        # One decoder a camera works side by side with this process.
        resources=Resources(cpus=2, batch=1),
        config=asdict(config),
        weights={**{name: WEIGHTS[name].sha256 for name in MODELS}, **face_pack(None).files},
    )


def _load(config: NersembleConfig) -> Tools:
    return Tools(HeadFinder.load(config.head_views), MatteModel.load(), config)


def convert_sequences(config: NersembleConfig, tools: Tools, items: pa.Table) -> pa.Table:
    """Rows of ``ITEM`` to rows of ``CONVERTED``; one whose tracking or colours cannot be read has failed."""
    rows = []
    for row in items.to_pylist():
        names = ("item_id", "capture_id", "identity_id", "dataset", "licence", "split")
        kept = {name: row[name] for name in names} | {"cameras": [], "views": []}
        try:
            rows.append(kept | _convert(config, tools, row))
        except NersembleError:
            rows.append(kept | {"status": FAILED, "reason": VALUE_DAMAGED})
    return pa.Table.from_pylist(rows, schema=CONVERTED)


def _convert(config: NersembleConfig, tools: Tools, row: dict[str, Any]) -> dict[str, Any]:
    """Status, reason, cameras and views of an item. Raises ``NersembleError``."""
    person, sequence = Path(row["person"]), row["sequence"]
    full = None if row["task"] else (FULL_WIDTH, FULL_HEIGHT)
    recording, unread = _probe(person, sequence, row["serials"].split(","), full, tools)
    if not recording.cameras:
        return {"status": REJECTED, "reason": next(iter(unread.values()), DAMAGED)}
    wanted = chosen_frames(recording.n_frames, config.every, config.frames)[row["first"] :][: row["count"]]
    views = list(_views(config, tools, row, recording, wanted))
    for name, reason in unread.items():
        common = {"segment": sequence, "split": row["split"], "status": FAILED, "reason": reason}
        views += [view_row(row["capture_id"], name, index, **common) for index in wanted]
    calibration = read_calibration(calibration_path(person), full)
    other = next(iter(recording.cameras.values()))
    cameras = []
    for name in unread:  # a video that cannot be read has no size: its camera stands with the size of another one
        K = calibration.intrinsics(name, other.width, other.height)
        camera = Camera(K, calibration.world_to_camera[name], other.width, other.height)
        cameras.append(camera_row(name, camera))
    cameras += [camera_row(name, camera) for name, camera in recording.cameras.items()]
    return {"status": OK, "reason": "", "cameras": cameras, "views": views}


def _probe(
    person: Path, sequence: str, serials: list[str], full: tuple[int, int] | None, tools: Tools
) -> tuple[Recording, dict[str, str]]:
    """The videos that can be read with their cameras, and the reasons of those that cannot."""
    calibration = read_calibration(calibration_path(person), full)
    cameras, unread, lengths, fps = {}, {}, [0], FPS
    for name in serials:
        try:
            facts = tools.of_camera(name).first.probe(video_path(person, sequence, name))
        except (DecodeTimeout, DecoderCrashed):
            unread[name] = TOO_SLOW
            continue
        if facts["reason"]:
            unread[name] = facts["reason"]
            continue
        width, height = facts["width"], facts["height"]
        try:
            _check_size(width, height)
            K = calibration.intrinsics(name, width, height)
        except ValueError:
            unread[name] = SIZE_UNEXPECTED
            continue
        cameras[name] = Camera(K, calibration.world_to_camera[name], width, height)
        lengths.append(facts["n_frames"] or 0)
        fps = facts["fps"] or fps
    return Recording(cameras, max(lengths), fps), unread


def _views(
    config: NersembleConfig, tools: Tools, row: dict[str, Any], recording: Recording, wanted: list[int]
) -> Iterator[dict[str, Any]]:
    """Every wanted view, moment by moment."""
    person, sequence = Path(row["person"]), row["sequence"]
    colours = {} if row["task"] else read_colours(colour_path(person))
    factor = decode_factor(recording.cameras, config)
    sized = {n: c.resized(c.width // factor, c.height // factor) for n, c in recording.cameras.items()}
    videos = {
        name: CameraVideo(video_path(person, sequence, name), tools.of_camera(name), wanted, _size(camera, factor))
        for name, camera in sized.items()
    }
    alphas = {
        name: CameraVideo(path, tools.of_camera(f"alpha/{name}"), wanted, _size(camera, factor))
        for name, camera in sized.items()
        if config.matte == "auto" and (path := alpha_path(person, sequence, name)).is_file()
    }
    rooms = {} if config.matte == "model" or alphas else _rooms(person, sized)
    places = HeadPlaces.of(person, sequence, tools.finder)
    mattes = moments(alphas, wanted)
    for index, pictures, reasons in moments(videos, wanted):
        alpha = next(mattes)[1]
        head = places.at(index, pictures, sized)
        common = {"segment": sequence, "split": row["split"], "time_s": index / recording.fps}
        for name in recording.cameras:
            if name in reasons:
                status = FAILED if reasons[name] in (DAMAGED, TOO_SLOW) else REJECTED
                found: dict[str, Any] = {"status": status, "reason": reasons[name]}
            elif head is None:
                found = {"status": REJECTED, "reason": HEAD_NOT_FOUND}
            else:
                shown, beside = pictures[name], (colours.get(name), rooms.get(name), alpha.get(name))
                found = _view(config, tools, shown, sized[name], head, *beside)
            yield view_row(row["capture_id"], name, index, **common, **found)


def _view(
    config: NersembleConfig,
    tools: Tools,
    picture: Picture,
    camera: Camera,
    head: Array,
    colours: Array | None,
    room: Picture | None,
    alpha: Picture | None,
) -> dict[str, Any]:
    """Image, matte, K and head pose of one view; where it is not usable, status and reason too."""
    if config.crop == "full":
        shrink = config.size / max(camera.width, camera.height)
        wanted = camera.resized(round(camera.width * shrink), round(camera.height * shrink))
    else:
        wanted = aligned_crop(camera, head, config.size)
    if seen_share(camera, wanted) < MIN_SEEN:
        return {"status": REJECTED, "reason": OUT_OF_PICTURE, "head_to_world": head}
    crop = resample(picture, camera, wanted)
    if alpha is not None:
        matte = resample(np.ascontiguousarray(alpha[..., 0]), camera, wanted)
    elif room is not None:
        matte = changed_matte(crop, resample(room, camera, wanted))
    else:
        matte = tools.matte.matte(crop)
    image = crop if colours is None else correct_colours(crop, colours)
    return {
        "image": encode_webp(image, config.quality),
        "matte": encode_png(matte),
        "K": wanted.K,
        "head_to_world": head,
    }


def _check_size(width: int, height: int) -> None:
    """Raises ``ValueError`` for a picture that is larger than the data set's."""
    if width * height > FULL_WIDTH * FULL_HEIGHT:
        raise ValueError(f"{width} x {height} px; the data set has at most {FULL_WIDTH} x {FULL_HEIGHT}")


def _size(camera: Camera, factor: int) -> tuple[int, int] | None:
    return None if factor == 1 else (camera.width, camera.height)


def _rooms(person: Path, cameras: Mapping[str, Camera]) -> dict[str, Picture]:
    """The empty room as each camera saw it, at the videos' size; cameras without a readable picture are left out."""
    found = {}
    for name, camera in cameras.items():
        path = background_path(person, name)
        try:
            with Image.open(path) as header:
                _check_size(*header.size)
            picture = decode_picture(path.read_bytes())
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        whole = Camera(np.eye(3), camera.world_to_camera, picture.shape[1], picture.shape[0])
        found[name] = resample(picture, whole, whole.resized(camera.width, camera.height))
    return found
