"""Frames in real time on a CUDA device: crop in, picture out, one frame at a time, nothing batched over time.

What does not change from frame to frame is set up once. A frame's work, from the crop's bytes over estimator,
blendshapes, skinning and rasterizer to the picture's bytes, is one CUDA graph: replaying it costs the host one launch
instead of hundreds. Copies to and from the host go through page-locked memory on streams of their own, beside the
frame before.

One avatar, driven frame by frame: an aligned crop in, a picture out. Nothing is batched and nothing is kept back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.animation.smoothing import OneEuro, smooth_parameters
from ffavatar_model.camera import pose_to_camera, reframe_pose, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.model import FFAvatar, PosedGaussians
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.precision import for_inference, mixed_precision
from ffavatar_model.renderers.gsplat_cuda import FixedLists, fixed_lists

log = logging.getLogger(__name__)

Pictures = NDArray[np.uint8]
_WARM_UP = 3
_ROOM = 2.0
"""Capacity of the tile lists, in entries of the head at rest: turned heads and open mouths need a little more."""
_RING = 3


def in_real_time(animator: Animator, model: FFAvatar, avatar: CanonicalAvatar) -> Animator:
    """Let CUDA graphs draw an animator's pictures, and let its estimator run in mixed precision; returns it.

    ``model`` is the animator's; it is prepared for inference, in place. ``avatar`` has B = 1. Raises as
    ``RealTimeAnimator`` does.
    """
    frames = RealTimeAnimator(for_inference(model), avatar, animator.size)
    plain = animator.estimate

    def estimate(crops: Tensor) -> DrivingParameters:
        with mixed_precision(animator.device):
            found = plain(crops)
        return DrivingParameters(*(value.float() for value in found))

    animator.estimate = estimate
    animator.draw = lambda parameters: frames.frame_from(parameters)[0].copy()
    return animator


class _CapturedFrame(NamedTuple):
    """A graph and what its replay writes."""

    graph: torch.cuda.CUDAGraph
    pixels: Tensor
    """(A, size, size, 3) uint8."""
    crossings: Tensor
    """() int64: entries of tile lists that the frame needed."""


class _Slot:
    """Where one frame waits for the host."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.crossings = torch.zeros((), dtype=torch.int64, device=device)
        self.landed = torch.zeros(shape, dtype=torch.uint8).pin_memory()
        self.needed = torch.zeros((), dtype=torch.int64).pin_memory()
        self.done = torch.cuda.Event()


class RealTimeAnimator:
    """A avatars of one model, driven and rendered frame by frame; pictures of all A come from one call.

    ``frame`` takes a frame and returns its picture: the lowest latency. ``submit`` and ``collect`` overlap: with one
    frame in flight the host's copies and launches run beside the device's work, and frames leave in their order.
    """

    def __init__(
        self,
        model: FFAvatar,
        avatars: CanonicalAvatar,
        size: int,
        crop_px: int | None = None,
        background: tuple[float, float, float] = BACKGROUND,
    ) -> None:
        """Capture the graphs (about a second).

        Args:
            model: on a CUDA device, prepared by ``precision.for_inference``.
            avatars: A canonical avatars of this model, on the same device.
            size: pixels along the edge of the pictures.
            crop_px: pixels along the edge of the driving crops; by default the estimator's own.
            background: RGB, 0 to 1.

        Raises ``ValueError`` where the model is not on a CUDA device.
        """
        device = model.rig.points.device
        if device.type != "cuda":
            raise ValueError(f"the model is on {device}: real-time animation needs a CUDA device")
        self.model, self.avatars, self.size, self.device = model, avatars, size, device
        n = len(avatars.offsets)
        side = crop_px or model.config.estimator.backbone.image_size
        start = model.rig.start_pose
        self._crops = torch.zeros(n, side, side, 3, dtype=torch.uint8, device=device)
        self._given = DrivingParameters(*(value.clone() for value in model.neutral(n)))
        self._K = virtual_intrinsics(size, start).expand(n, 1, 3, 3).contiguous()
        self._behind = start.new_tensor(background)
        self._in, self._out, self._aside = (torch.cuda.Stream(device) for _ in range(3))
        self._staged = [torch.zeros(self._crops.shape, dtype=torch.uint8).pin_memory() for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self._read = torch.cuda.Event()
        self._slots = [_Slot((n, size, size, 3), device) for _ in range(_RING)]
        self._turn = 0
        self._flights: deque[_Slot] = deque()
        self._capacity = 0
        self._capture()

    def frame(self, crops: Pictures) -> Pictures:
        """(A, crop_px, crop_px, 3) RGB aligned crops on the host → (A, size, size, 3) RGB pictures on the host."""
        self.submit(crops)
        return self.collect()

    def frame_from(self, parameters: DrivingParameters) -> Pictures:
        """Parameters (A, 1, ...), on the host or the device → (A, size, size, 3) RGB pictures on the host."""
        self.submit_parameters(parameters)
        return self.collect()

    @torch.inference_mode()
    def submit(self, crops: Pictures) -> None:
        """Start a frame; ``collect`` gives its picture. At most two frames may be in flight."""
        slot = self._turn % 2
        self._copied[slot].synchronize()  # the last copy out of this staging buffer
        self._staged[slot].numpy()[:] = crops
        with torch.cuda.stream(self._in):
            self._in.wait_event(self._read)
            self._crops.copy_(self._staged[slot], non_blocking=True)
            self._copied[slot].record()
        torch.cuda.current_stream(self.device).wait_stream(self._in)
        self._launch(self._from_pixels)

    @torch.inference_mode()
    def submit_parameters(self, parameters: DrivingParameters) -> None:
        """Start a frame of given parameters (A, 1, ...); ``collect`` gives its picture."""
        for own, given in zip(self._given, parameters, strict=True):
            own.copy_(given, non_blocking=True)
        self._launch(self._from_parameters)

    def collect(self) -> Pictures:
        """The picture of the oldest frame that was submitted, a view that stays valid until two more were submitted.

        A frame that needed longer tile lists than there is room for (a head very near the camera) lacks its last
        Gaussians; the frames after it have room. Raises ``IndexError`` where nothing was submitted.
        """
        slot = self._flights.popleft()
        slot.done.synchronize()
        if int(slot.needed) > self._capacity:
            log.info("a frame needed %d entries of tile lists, there was room for %d", slot.needed, self._capacity)
            self._capture(int(slot.needed))
        return slot.landed.numpy()

    def parts(self, repeats: int = 200) -> dict[str, float]:
        """Seconds on the device of a frame and of parts of it, for reports of where the time goes."""
        slot = self._slots[0]
        work: dict[str, Callable[[], object]] = {
            "crop to the device": lambda: self._crops.copy_(self._staged[0], non_blocking=True),
            "pixels to picture (graph)": self._from_pixels.graph.replay,
            "parameters to picture (graph)": self._from_parameters.graph.replay,
            "picture to the host": lambda: slot.landed.copy_(slot.pixels, non_blocking=True),
        }
        seconds = {}
        with torch.inference_mode():
            for name, run in work.items():
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                run()
                begin.record()
                for _ in range(repeats):
                    run()
                end.record()
                end.synchronize()
                seconds[name] = begin.elapsed_time(end) / 1e3 / repeats
        return seconds

    def _estimate(self) -> DrivingParameters:
        pixels = self._crops.permute(0, 3, 1, 2).float() / 255
        with mixed_precision(self.device):
            return self.model.estimate(pixels[:, None])

    def _show(self, parameters: DrivingParameters) -> Tensor:
        """(A, size, size, 3) uint8."""
        own = torch.cuda.current_stream(self.device)
        # Dozens of kernels on a few numbers each: they run beside those that pose the head.
        self._aside.wait_stream(own)
        with torch.cuda.stream(self._aside):
            camera = pose_to_camera(parameters.pose, self._K, self.size)
        posed = self.model.animate(self.avatars, parameters)
        own.wait_stream(self._aside)
        rgb = self.model.render(posed, camera, self._K, self._behind, self.size).rgb[:, 0]
        return (rgb.movedim(1, -1) * 255 + 0.5).clamp(0, 255).to(torch.uint8)

    @torch.inference_mode()
    def _capture(self, needed: int = 0) -> None:
        """Both ways of driving as graphs, with room for ``_ROOM`` times the entries that are needed."""
        if not needed:
            probe = FixedLists(1)
            with fixed_lists(probe):
                self._show(self._given)
            needed = int(probe.crossings[0])
        self._capacity = max(1, int(_ROOM * needed))
        self._from_pixels = self._graph(lambda: self._show(self._estimate()))
        self._from_parameters = self._graph(lambda: self._show(self._given))

    def _graph(self, work: Callable[[], Tensor]) -> _CapturedFrame:
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside), fixed_lists(FixedLists(self._capacity)):
            for _ in range(_WARM_UP):  # libraries set themselves up outside the capture
                work()
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph, lists = torch.cuda.CUDAGraph(), FixedLists(self._capacity)
        with fixed_lists(lists), torch.cuda.graph(graph):
            pixels = work()
        return _CapturedFrame(graph, pixels, lists.crossings[0])

    def _launch(self, captured: _CapturedFrame) -> None:
        slot = self._slots[self._turn % _RING]
        self._turn += 1
        captured.graph.replay()
        self._read.record()
        slot.pixels.copy_(captured.pixels)  # the next replay writes over the graph's own
        slot.crossings.copy_(captured.crossings)
        self._out.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._out):
            slot.landed.copy_(slot.pixels, non_blocking=True)
            slot.needed.copy_(slot.crossings, non_blocking=True)
            slot.done.record()
        self._flights.append(slot)


Estimate = Callable[[Tensor], DrivingParameters]
"""(1, 1, 3, S, S) an aligned crop as the model takes it, RGB in 0 to 1 → parameters (1, 1, ...)."""
Pose = Callable[[DrivingParameters], PosedGaussians]
"""Parameters (1, 1, ...) → the avatar's Gaussians (1, 1, P, ...)."""
Render = Callable[[PosedGaussians, Tensor, Tensor], Tensor]
"""Gaussians, head to camera (1, 1, 3, 4), K (1, 1, 3, 3) → picture (3, size, size), RGB in 0 to 1, on the device."""

Draw = Callable[[DrivingParameters], npt.NDArray[np.uint8]]
"""Parameters (1, 1, ...) → picture (size, size, 3), RGB, on the host."""


class Framing(NamedTuple):
    """How an aligned crop lies in the picture that is made."""

    similarity: npt.NDArray[np.float64]
    """(2, 3) from pixels of the crop to pixels of the picture, pixel centres at whole numbers."""
    crop_px: int
    """Side of the crop that ``similarity`` counts in; the crop that the model sees may be resized."""


class Animator:
    """Drives one avatar into square pictures of ``size`` pixels.

    Its parts are plain attributes, ``estimate`` and ``draw`` (which calls ``pose`` and ``render``): a captured or
    compiled one of the same signature can be put in place of each. Smoothing is off unless it is asked for.
    """

    def __init__(
        self, model: FFAvatar, avatar: CanonicalAvatar, *, size: int, smoothing: OneEuro.Config | None = None
    ) -> None:
        """``avatar`` has B = 1 and lies, like the model, on the device that does the work."""
        self.size, self.image_size = size, model.config.image_size
        self.device = model.rig.points.device
        self._K = virtual_intrinsics(size, model.rig.points)[None, None]
        self._background = model.rig.points.new_tensor(BACKGROUND)
        self._smooth = OneEuro(smoothing) if smoothing is not None else None
        self._rest = model.neutral()
        self.estimate: Estimate = model.estimate
        self.pose: Pose = lambda parameters: model.animate(avatar, parameters)
        self.render: Render = lambda posed, camera, K: model.render(posed, camera, K, self._background, size).rgb[0, 0]
        self.draw: Draw = self._draw

    @property
    def rest(self) -> DrivingParameters:
        """(1, 1, ...) the head at rest, looking straight out of the picture."""
        return self._rest

    @torch.inference_mode()
    def parameters(self, crop: Tensor, framing: Framing, time_s: float) -> DrivingParameters:
        """What moves the head, (1, 1, ...), with its pose as the picture shows it.

        Args:
            crop: (3, image_size, image_size) an aligned crop, RGB in 0 to 1, on any device.
            framing: how that crop lies in the picture.
            time_s: when it was taken; smoothing needs it to run forward.
        """
        found = self.estimate(crop.to(self.device, non_blocking=True)[None, None])
        similarity = torch.from_numpy(framing.similarity).to(found.pose)
        found = found._replace(pose=reframe_pose(found.pose, similarity, framing.crop_px, self.size))
        return found if self._smooth is None else smooth_parameters(self._smooth, found, time_s)

    @torch.inference_mode()
    def picture(self, parameters: DrivingParameters) -> npt.NDArray[np.uint8]:
        """(size, size, 3) RGB of the avatar under parameters (1, 1, ...)."""
        return self.draw(parameters)

    def _draw(self, parameters: DrivingParameters) -> npt.NDArray[np.uint8]:
        camera = pose_to_camera(parameters.pose, self._K, self.size)
        rgb = self.render(self.pose(parameters), camera, self._K)
        return (rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()

    def __call__(self, crop: Tensor, framing: Framing, time_s: float) -> npt.NDArray[np.uint8]:
        """``picture`` of ``parameters``: one frame, whole."""
        return self.picture(self.parameters(crop, framing, time_s))
