"""Frames in real time on a CUDA device: crop in, picture out, one frame at a time, nothing batched over time.

What does not change from frame to frame is set up once. Each frame's work up to the rasterizer (the copy's cast and
resize, estimator, blendshapes, skinning, camera) is one CUDA graph: replaying it costs one launch instead of hundreds.
The rasterizer sizes its lists by what it sees, so it runs outside the graph. Copies to and from the host go through
page-locked memory on streams of their own, beside the frame before or after.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.estimator import DrivingParameters
from ffavatar_model.gaussians import CanonicalAvatar
from ffavatar_model.model import FFAvatar
from ffavatar_model.pictures import BACKGROUND
from ffavatar_model.precision import mixed_precision
from ffavatar_model.renderers.gsplat_cuda import Splats, splat

Pictures = NDArray[np.uint8]
_WARM_UP = 3


class _Graph(NamedTuple):
    """A captured graph and the tensors that a replay writes."""

    graph: torch.cuda.CUDAGraph
    means: Tensor
    rotations: Tensor
    world_to_camera: Tensor


@dataclass(frozen=True)
class _Flight:
    """A frame on its way to the host."""

    picture: Tensor
    done: torch.cuda.Event


class RealTimeAnimator:
    """A avatars of one model, driven and rendered frame by frame; pictures of all A come from one call.

    ``frame`` takes a frame and returns its picture: the lowest latency. ``submit`` and ``collect`` overlap: with one
    frame in flight the host's copies and launches run beside the device's work, and every frame still leaves in order.
    """

    def __init__(
        self, model: FFAvatar, avatars: CanonicalAvatar, size: int, crop_px: int | None = None,
        background: tuple[float, float, float] = BACKGROUND,
    ) -> None:  # fmt: skip
        """Capture the graphs.

        Args:
            model: on a CUDA device, prepared by ``precision.for_inference``.
            avatars: A canonical avatars of this model, on the same device.
            size: pixels along the edge of the pictures.
            crop_px: pixels along the edge of the driving crops; by default the estimator's own.

        Raises ``ValueError`` where the model is not on a CUDA device.
        """
        device = model.rig.points.device
        if device.type != "cuda":
            raise ValueError(f"the model is on {device}: real-time animation needs a CUDA device")
        self.model, self.avatars, self.size, self.device = model, avatars, size, device
        n = len(avatars.offsets)
        side = crop_px or model.config.estimator.backbone.image_size
        start = model.rig.start_pose.expand(n, 1, -1)
        self._crops = torch.zeros(n, side, side, 3, dtype=torch.uint8, device=device)
        self._given = DrivingParameters(
            start.new_zeros(n, 1, model.estimator.n_expression), start.new_zeros(n, 1, 5, 3), start.clone()
        )
        self._K = virtual_intrinsics(size, start).expand(n, 1, 3, 3).contiguous()
        self._behind = start.new_tensor(background).expand(n, 1, 3).contiguous()
        self._last_row = start.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(n, 1, 1, 4)
        self._splats = Splats.of(avatars.scales, avatars.opacities, avatars.colours)
        self._in, self._out = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._staged = [torch.zeros(self._crops.shape, dtype=torch.uint8).pin_memory() for _ in range(2)]
        self._landed = [torch.zeros(n, size, size, 3, dtype=torch.uint8).pin_memory() for _ in range(3)]
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self._read = torch.cuda.Event()
        self._turn = 0
        self._flights: deque[_Flight] = deque()
        with torch.inference_mode():
            self._from_pixels = self._capture(self._estimate)
            self._from_parameters = self._capture(lambda: self._given)

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
        """Start a frame; ``collect`` gives its picture."""
        slot = self._turn % 2
        self._copied[slot].synchronize()  # the copy before the last from this buffer
        self._staged[slot].numpy()[:] = crops
        with torch.cuda.stream(self._in):
            self._in.wait_event(self._read)  # the frame before has read its crops; it need not be rendered yet
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
        """The picture of the oldest frame that was submitted, a view that stays valid until two more were collected.

        Raises ``IndexError`` where nothing was submitted.
        """
        flight = self._flights.popleft()
        flight.done.synchronize()
        return flight.picture.numpy()

    def parts(self, repeats: int = 200) -> dict[str, float]:
        """Seconds on the device of each part of a frame, each run by itself, for reports of where the time goes."""
        captured = self._from_pixels

        def draw() -> Tensor:
            return splat(
                captured.means, captured.rotations, self._splats, captured.world_to_camera, self._K, self.size,
                self.size, self._behind,
            )  # fmt: skip

        pixels = draw()
        work = {
            "crop to the device": lambda: self._crops.copy_(self._staged[0], non_blocking=True),
            "estimator, blendshapes, skinning": captured.graph.replay,
            "blendshapes, skinning": self._from_parameters.graph.replay,
            "rasterizer": draw,
            "picture to bytes": lambda: (pixels * 255).add_(0.5).to(torch.uint8),
            "picture to the host": lambda: self._landed[0].copy_(
                torch.empty_like(self._landed[0], device=self.device), non_blocking=True
            ),
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

    def _capture(self, source: object) -> _Graph:
        """A graph from this frame's inputs to posed Gaussians and cameras."""

        def work() -> tuple[Tensor, Tensor, Tensor]:
            parameters: DrivingParameters = source()  # type: ignore[operator]
            means, rotations = self.model.rig.pose(self.avatars, parameters)
            camera = pose_to_camera(parameters.pose, self._K, self.size)
            return means[:, 0], rotations[:, 0], torch.cat((camera, self._last_row), -2)

        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):  # libraries set themselves up outside the capture
            for _ in range(_WARM_UP):
                work()
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = work()
        return _Graph(graph, *outputs)

    def _launch(self, captured: _Graph) -> None:
        captured.graph.replay()
        self._read.record()
        picture = splat(
            captured.means, captured.rotations, self._splats, captured.world_to_camera, self._K, self.size, self.size,
            self._behind,
        )[:, 0]  # fmt: skip
        pixels = (picture * 255).add_(0.5).to(torch.uint8)
        landed = self._landed[self._turn % 3]
        self._turn += 1
        self._out.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._out):
            landed.copy_(pixels, non_blocking=True)
            pixels.record_stream(self._out)
            done = torch.cuda.Event()
            done.record()
        self._flights.append(_Flight(landed, done))
