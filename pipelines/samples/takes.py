"""How a photograph is filmed: framing, motion and light of one take, as functions of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from mfhq.ids import seed_of
from pipelines.samples.photographs import Portrait

FPS = 25
_BUMP = 0.55
"""Radius of the head's relief, in face widths (one standard deviation of a Gaussian)."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One take of one person. Angles in degrees; ``*_light`` and colour are factors on linear-ish grey levels."""

    width: int
    height: int
    seconds: float
    face_share: float
    """Width of the face over the width of the frame."""
    mirrored: bool
    roll_deg: float
    """Largest tilt of the camera."""
    tilt_deg: float
    """Largest turn of the picture plane (perspective)."""
    relief: float
    """Largest shift of the nearest point of the head against its rim, in face widths: what looks like yaw."""
    zoom: float
    """Share by which the framing tightens and widens."""
    drift: float
    """Share of the frame through which the face wanders."""
    gain: float
    gamma: float
    warmth: float
    """0 is neutral; 0.1 is 10 % more red and 10 % less blue."""
    gradient: float
    """Brightness falls by this share from one side of the frame to the other."""
    seed: int
    """Of the motion's phases."""

    @property
    def n_frames(self) -> int:
        """Frames of the clip."""
        return round(self.seconds * FPS)


def takes_of(person: str, *, quick: bool = True) -> tuple[Take, Take]:
    """The two takes of a person: they differ in framing, light, size and side."""
    random = np.random.default_rng(seed_of(person))
    seconds = 3.2 if quick else 4.6
    first = Take(
        width=480,
        height=480,
        seconds=seconds,
        face_share=float(random.uniform(0.38, 0.42)),
        mirrored=False,
        roll_deg=float(random.uniform(2, 4)),
        tilt_deg=float(random.uniform(8, 12)),
        relief=0.10,
        zoom=0.05,
        drift=0.03,
        gain=1.04,
        gamma=float(random.uniform(0.88, 0.96)),
        warmth=float(random.uniform(0.0, 0.06)),
        gradient=0.15,
        seed=int(random.integers(2**31)),
    )
    second = Take(
        width=448,
        height=512,
        seconds=seconds + 0.4,
        face_share=float(random.uniform(0.42, 0.47)),
        mirrored=True,
        roll_deg=float(random.uniform(4, 7)),
        tilt_deg=float(random.uniform(8, 12)),
        relief=0.10,
        zoom=0.04,
        drift=0.02,
        gain=0.9,
        gamma=float(random.uniform(1.05, 1.25)),
        warmth=float(random.uniform(-0.12, -0.06)),
        gradient=0.35,
        seed=int(random.integers(2**31)),
    )
    return first, second


def film(
    picture: np.ndarray, portrait: Portrait, take: Take, frames: Iterable[int] | None = None
) -> Iterator[np.ndarray]:
    """The take's frames, uint8 (height, width, 3), RGB.

    Args:
        picture: ``load_photograph``'s result, uint8 (H, W, 3).
        portrait: whose face in it is filmed.
        take: framing, motion and light.
        frames: which frames; all by default.
    """
    light = _Light(take)
    for index in range(take.n_frames) if frames is None else frames:
        map_x, map_y = sampling_maps(picture.shape[:2], portrait, take, index)
        frame = cv2.remap(picture, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        yield light.apply(frame[:, ::-1] if take.mirrored else frame, float(_waves(take, index)[7]))


def _waves(take: Take, index: int) -> np.ndarray:
    """Eight slow sines at a frame, (8,) in -1 to 1: ``sampling_maps`` says what each moves; the last is light."""
    phases = np.random.default_rng(take.seed).uniform(0, 2 * np.pi, 8)
    return np.sin(2 * np.pi * index / take.n_frames * np.array([1, 1, 1, 1, 2, 1, 2, 1]) + phases)


def sampling_maps(size: tuple[int, ...], portrait: Portrait, take: Take, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of a frame (before mirroring) is read in a picture of ``size`` (H, W).

    Returns x and y in pixels of the picture, float32 (height, width) each.
    """
    wave = _waves(take, index)
    backdrop = portrait.photograph.backdrop
    face = np.array([portrait.x + backdrop, portrait.y + backdrop])
    per_pixel = portrait.width / (take.face_share * take.width) * (1 + take.zoom * wave[0])
    rotation = _rotation(take.tilt_deg * wave[1], 0.6 * take.tilt_deg * wave[2], take.roll_deg * wave[3])
    focal = 2.0 * take.width
    across = np.arange(take.width, dtype=np.float32) - (take.width - 1) / 2
    down = (np.arange(take.height, dtype=np.float32) - (take.height - 1) / 2)[:, None]
    ray = [row[0] * across + row[1] * down + row[2] * focal for row in rotation.astype(np.float32)]
    scale = np.float32(focal * per_pixel) / ray[2]
    # The plane turns about what the camera aims at, so the middle ray's own shift is taken off.
    map_x = ray[0] * scale - np.float32(rotation[0, 2] / rotation[2, 2] * focal * per_pixel)
    map_y = ray[1] * scale - np.float32(rotation[1, 2] / rotation[2, 2] * focal * per_pixel)
    # The face sits a little above the middle; the window is then pushed into the picture where it sticks out.
    aim = face + [0.0, 0.12 * portrait.width] + take.drift * take.width * per_pixel * wave[[4, 5]]
    aim_x = _inside(aim[0], float(map_x.min()), float(map_x.max()), size[1])
    aim_y = _inside(aim[1], float(map_y.min()), float(map_y.max()), size[0])
    map_x += np.float32(aim_x)
    map_y += np.float32(aim_y)
    # Relief: points near the middle of the face move against its rim, as they do when a head turns and nods.
    radius = np.float32(_BUMP * portrait.width)
    across_face = (map_x - np.float32(face[0])) / radius
    down_face = (map_y - np.float32(face[1])) / (np.float32(1.25) * radius)
    height = cv2.exp(np.float32(-0.5) * (across_face * across_face + down_face * down_face))
    shift = take.relief * portrait.width
    return map_x - np.float32(shift * wave[5]) * height, map_y - np.float32(0.5 * shift * wave[6]) * height


def _inside(aim: float, low: float, high: float, size: int) -> float:
    """The aim nearest to the wanted one that keeps ``aim + [low, high]`` inside ``[0, size - 1]``."""
    least, most = -low, size - 1 - high
    return (least + most) / 2 if least > most else min(max(aim, least), most)


def _rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Rotation matrix (3, 3), float64: roll about the viewing axis, then pitch, then yaw."""
    matrix = np.eye(3)
    for axis, angle in ((2, roll_deg), (0, pitch_deg), (1, yaw_deg)):
        vector = np.zeros(3)
        vector[axis] = np.radians(angle)
        matrix = cv2.Rodrigues(vector)[0] @ matrix
    return matrix


class _Light:
    """Gain, gamma, colour temperature and a light from one side whose direction wanders."""

    def __init__(self, take: Take) -> None:
        levels = np.linspace(0, 1, 256) ** take.gamma * take.gain * 255
        colour = np.array([1 + take.warmth, 1.0, 1 - take.warmth])
        self._table = (levels[:, None] * colour).astype(np.float32)[None]  # (1, 256, 3): one curve a channel
        self._across = np.linspace(-0.5, 0.5, take.width, dtype=np.float32)
        self._down = np.linspace(-0.5, 0.5, take.height, dtype=np.float32)[:, None]
        self._gradient = take.gradient

    def apply(self, frame: np.ndarray, wave: float) -> np.ndarray:
        """The frame lit, uint8 (H, W, 3); ``wave`` in -1 to 1 is the light's direction."""
        angle = 0.9 * wave
        toward = self._gradient * np.array([np.cos(angle), np.sin(angle)], np.float32)
        side = 1 + toward[0] * self._across + toward[1] * self._down
        lit = cv2.LUT(np.ascontiguousarray(frame), self._table)
        return cv2.convertScaleAbs(cv2.multiply(lit, cv2.merge([side, side, side])))
