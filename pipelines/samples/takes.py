"""Takes of a photograph: framing, motion and light as functions of time, and the resulting frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from mfhq.ids import seed_of
from pipelines.samples.photographs import SampleFace

FPS = 25
"""Frames per second."""
_RELIEF_RADIUS = 0.55
"""Radius of the head's relief, in face widths: one standard deviation of a Gaussian."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One take of one person; angles are in degrees, light and colour are factors of grey levels."""

    width: int
    """Width of the frames, pixels."""
    height: int
    """Height of the frames, pixels."""
    seconds: float
    """Duration, seconds."""
    face_share: float
    """Width of the face, as a share of the frame's width."""
    mirrored: bool
    """Mirror the frames left to right."""
    roll_deg: float
    """Largest roll of the camera."""
    tilt_deg: float
    """Largest rotation of the image plane in perspective."""
    relief: float
    """Largest shift of the head's nearest point relative to its outline, in face widths; it resembles yaw and pitch."""
    zoom: float
    """Largest relative change of the framing's scale."""
    drift: float
    """Largest shift of the face, as a share of the frame's width."""
    gain: float
    """Factor of the brightness."""
    gamma: float
    """Exponent of the grey levels."""
    warmth: float
    """Colour shift: 0 is neutral, 0.1 means 10 % more red and 10 % less blue."""
    gradient: float
    """Relative decrease of the brightness from one side of the frame to the other."""
    seed: int
    """Seed of the phases of the motion."""

    @property
    def n_frames(self) -> int:
        """Number of frames of the clip."""
        return round(self.seconds * FPS)


def make_takes(person: str, *, quick: bool = True) -> tuple[Take, Take]:
    """Draw the two takes of a person, which differ in framing, light and size; the second is mirrored.

    Args:
        person: Label of the person, which is the seed.
        quick: Make the takes about a second and a half shorter.
    """
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


def film_photograph(
    image: np.ndarray, face: SampleFace, take: Take, frames: Iterable[int] | None = None
) -> Iterator[np.ndarray]:
    """Film one face of a photograph.

    Args:
        image: (H, W, 3) uint8 RGB photograph, as ``load_photograph`` returns it.
        face: Face that is filmed.
        take: Framing, motion and light.
        frames: Indices of the frames; all by default.

    Yields:
        Frames (height, width, 3) uint8 RGB.
    """
    lighting = _Lighting(take)
    for index in range(take.n_frames) if frames is None else frames:
        map_x, map_y = sampling_maps(image.shape[:2], face, take, index)
        frame = cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        yield lighting.apply(frame[:, ::-1] if take.mirrored else frame, float(_slow_sines(take, index)[7]))


def _slow_sines(take: Take, index: int) -> np.ndarray:
    """Return eight slow sine waves (8,) at a frame, -1 to 1: seven for ``sampling_maps``, the last for the light."""
    phases = np.random.default_rng(take.seed).uniform(0, 2 * np.pi, 8)
    return np.sin(2 * np.pi * index / take.n_frames * np.array([1, 1, 1, 1, 2, 1, 2, 1]) + phases)


def sampling_maps(size: tuple[int, ...], face: SampleFace, take: Take, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the position in the photograph of each pixel of a frame, before mirroring.

    Args:
        size: (H, W) of the photograph with its backdrop.
        face: Face that is filmed.
        take: Framing and motion.
        index: Index of the frame.

    Returns:
        Two arrays (height, width) float32: x and y in pixels of the photograph.
    """
    wave = _slow_sines(take, index)
    backdrop = face.photograph.backdrop
    centre = np.array([face.x + backdrop, face.y + backdrop])
    per_pixel = face.width / (take.face_share * take.width) * (1 + take.zoom * wave[0])
    rotation = _rotation(take.tilt_deg * wave[1], 0.6 * take.tilt_deg * wave[2], take.roll_deg * wave[3])
    focal = 2.0 * take.width
    across = np.arange(take.width, dtype=np.float32) - (take.width - 1) / 2
    down = (np.arange(take.height, dtype=np.float32) - (take.height - 1) / 2)[:, None]
    ray = [row[0] * across + row[1] * down + row[2] * focal for row in rotation.astype(np.float32)]
    scale = np.float32(focal * per_pixel) / ray[2]
    # The plane rotates about the point at which the camera aims, so the shift of the middle ray is subtracted.
    map_x = ray[0] * scale - np.float32(rotation[0, 2] / rotation[2, 2] * focal * per_pixel)
    map_y = ray[1] * scale - np.float32(rotation[1, 2] / rotation[2, 2] * focal * per_pixel)
    # The face is slightly above the middle; if the window extends beyond the image, it is moved inside.
    aim = centre + [0.0, 0.12 * face.width] + take.drift * take.width * per_pixel * wave[[4, 5]]
    aim_x = _clamp_aim(aim[0], float(map_x.min()), float(map_x.max()), size[1])
    aim_y = _clamp_aim(aim[1], float(map_y.min()), float(map_y.max()), size[0])
    map_x += np.float32(aim_x)
    map_y += np.float32(aim_y)
    # Relief: points near the middle of the face move relative to its outline, as when a head turns and nods.
    radius = np.float32(_RELIEF_RADIUS * face.width)
    across_face = (map_x - np.float32(centre[0])) / radius
    down_face = (map_y - np.float32(centre[1])) / (np.float32(1.25) * radius)
    height = cv2.exp(np.float32(-0.5) * (across_face * across_face + down_face * down_face))
    shift = take.relief * face.width
    return map_x - np.float32(shift * wave[5]) * height, map_y - np.float32(0.5 * shift * wave[6]) * height


def _clamp_aim(aim: float, low: float, high: float, size: int) -> float:
    """Return the nearest aim for which ``aim + [low, high]`` lies inside ``[0, size - 1]``."""
    least, most = -low, size - 1 - high
    return (least + most) / 2 if least > most else min(max(aim, least), most)


def _rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Return the rotation (3, 3), float64: roll about the viewing axis, then pitch, then yaw."""
    matrix = np.eye(3)
    for axis, angle in ((2, roll_deg), (0, pitch_deg), (1, yaw_deg)):
        vector = np.zeros(3)
        vector[axis] = np.radians(angle)
        matrix = cv2.Rodrigues(vector)[0] @ matrix
    return matrix


class _Lighting:
    """Gain, gamma, colour temperature, and light from one side with a slowly changing direction."""

    def __init__(self, take: Take) -> None:
        levels = np.linspace(0, 1, 256) ** take.gamma * take.gain * 255
        colour = np.array([1 + take.warmth, 1.0, 1 - take.warmth])
        self._table = (levels[:, None] * colour).astype(np.float32)[None]  # (1, 256, 3): one curve per channel
        self._across = np.linspace(-0.5, 0.5, take.width, dtype=np.float32)
        self._down = np.linspace(-0.5, 0.5, take.height, dtype=np.float32)[:, None]
        self._gradient = take.gradient

    def apply(self, frame: np.ndarray, wave: float) -> np.ndarray:
        """Return the frame, uint8 (H, W, 3), lit from the direction ``wave``, -1 to 1."""
        angle = 0.9 * wave
        direction = self._gradient * np.array([np.cos(angle), np.sin(angle)], np.float32)
        side = 1 + direction[0] * self._across + direction[1] * self._down
        lit = cv2.LUT(np.ascontiguousarray(frame), self._table)
        return cv2.convertScaleAbs(cv2.multiply(lit, cv2.merge([side, side, side])))
