"""Backend for frames in real time on a CUDA device: crop in, image out, one frame at a time.

All that does not change from frame to frame is set up once. The work of a frame is one CUDA graph, from the crop's
bytes to the image's bytes: estimator, blendshapes, skinning and rasterizer. A replay costs the host one launch instead
of hundreds. Copies to and from the host use page-locked memory and their own streams, concurrently with the previous
frame.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ffavatar_model.animation.backends import Images
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.precision import for_inference, mixed_precision
from ffavatar_model.renderers.gsplat_cuda import FixedLists, fixed_lists

log = logging.getLogger(__name__)

_WARM_UP = 3
_ROOM = 2.0
"""Capacity of the tile lists, relative to the entries of heads at rest; turned heads and open mouths need more."""
_BUFFERS = 3
"""Number of buffers for frames, so that the host can read a frame while later ones are computed."""

Source = Literal["images", "parameters"]
"""Kind of input of a captured frame."""


class _CapturedFrame(NamedTuple):
    """A captured graph, and the tensors that its replay writes."""

    graph: torch.cuda.CUDAGraph
    pixels: Tensor
    """(A, size, size, 3) uint8 images."""
    crossings: Tensor
    """() int64 number of tile list entries that the frame needed."""


class _FrameBuffer:
    """Device and host memory for the copy of one frame to the host."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.crossings = torch.zeros((), dtype=torch.int64, device=device)
        self.host_pixels = torch.zeros(shape, dtype=torch.uint8).pin_memory()
        self.host_crossings = torch.zeros((), dtype=torch.int64).pin_memory()
        self.done = torch.cuda.Event()


class CudaGraphBackend:
    """A backend that computes frames of A avatars by CUDA graphs; one replay gives the images of all avatars.

    There is one graph per kind of input, crops or parameters. It is captured when the first frame with that input is
    submitted, which takes about half a second. At most two frames may be in flight. Copies and launches by the host run
    concurrently with the device's work on another frame. Frames are collected in the order in which they were
    submitted.
    """

    fallback_reason = ""

    def __init__(self, model: FFAvatar, avatars: CanonicalAvatar, size: int) -> None:
        """Allocate the buffers and measure the required length of the tile lists.

        Args:
            model: Model on a CUDA device; ``precision.for_inference`` changes it in place.
            avatars: The A canonical avatars of this model, on the same device.
            size: Pixels along the edge of the frames.

        Raises:
            ValueError: The model is not on a CUDA device.
        """
        device = model.rig.points.device
        if device.type != "cuda":
            raise ValueError(f"the model is on {device}: CUDA graphs need a CUDA device; use PlainBackend there")
        self._model, self._avatars, self._size, self._device = for_inference(model), avatars, size, device
        n = len(avatars.offsets)
        side = model.config.estimator.backbone.image_size
        start = model.rig.start_pose
        self._crops = torch.zeros(n, side, side, 3, dtype=torch.uint8, device=device)
        self._parameters = DrivingParameters(*(value.clone() for value in model.neutral_parameters(n)))
        self._K = virtual_intrinsics(size, start).expand(n, 1, 3, 3).contiguous()
        self._background = start.new_tensor(BACKGROUND)
        self._upload, self._download, self._aside = (torch.cuda.Stream(device) for _ in range(3))
        self._staged = [torch.zeros(self._crops.shape, dtype=torch.uint8).pin_memory() for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self._read = torch.cuda.Event()
        self._buffers = [_FrameBuffer((n, size, size, 3), device) for _ in range(_BUFFERS)]
        self._n_submitted = 0
        self._in_flight: deque[_FrameBuffer] = deque()
        self._captured: dict[Source, _CapturedFrame] = {}
        self._capacity = self._measure_capacity()

    def estimate(self, crops: Tensor) -> DrivingParameters:
        """Estimate driving parameters in mixed precision, without a graph; see ``Backend.estimate``."""
        with mixed_precision(self._device):
            estimated = self._model.estimate(crops)
        return DrivingParameters(*(value.float() for value in estimated))

    @torch.inference_mode()
    def submit_images(self, crops: Images) -> None:
        """Start a frame from aligned crops (A, S, S, 3); see ``Backend.submit_images``."""
        captured = self._captured_frame("images")
        slot = self._n_submitted % 2
        self._copied[slot].synchronize()  # wait for the previous copy out of this staging buffer
        self._staged[slot].numpy()[:] = crops
        with torch.cuda.stream(self._upload):
            self._upload.wait_event(self._read)
            self._crops.copy_(self._staged[slot], non_blocking=True)
            self._copied[slot].record()
        torch.cuda.current_stream(self._device).wait_stream(self._upload)
        self._launch(captured)

    @torch.inference_mode()
    def submit_parameters(self, parameters: DrivingParameters) -> None:
        """Start a frame from driving parameters (A, 1, ...); see ``Backend.submit_parameters``."""
        captured = self._captured_frame("parameters")
        for buffer, value in zip(self._parameters, parameters, strict=True):
            buffer.copy_(value, non_blocking=True)
        self._launch(captured)

    def collect(self) -> Images:
        """Return images of the oldest frame in flight; the array is valid until two more frames are submitted.

        If a frame needs longer tile lists than the capacity (its head is very near the camera), some Gaussians are
        missing in it. The graphs are then captured again with more capacity for the frames after it.

        Raises:
            IndexError: No frame is in flight.
        """
        buffer = self._in_flight.popleft()
        buffer.done.synchronize()
        if int(buffer.host_crossings) > self._capacity:
            needed = int(buffer.host_crossings)
            log.info("a frame needed %d entries of tile lists, there was room for %d", needed, self._capacity)
            self._capacity = max(1, int(_ROOM * needed))
            for source in self._captured:
                self._captured[source] = self._capture(source)
        return buffer.host_pixels.numpy()

    def measure_parts(self, repeats: int = 200) -> dict[str, float]:
        """Measure the device's seconds for a frame and for its parts."""
        buffer = self._buffers[0]
        work: dict[str, Callable[[], object]] = {
            "crop to the device": lambda: self._crops.copy_(self._staged[0], non_blocking=True),
            "pixels to picture (graph)": self._captured_frame("images").graph.replay,
            "parameters to picture (graph)": self._captured_frame("parameters").graph.replay,
            "picture to the host": lambda: buffer.host_pixels.copy_(buffer.pixels, non_blocking=True),
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

    def _estimate_from_crops(self) -> DrivingParameters:
        pixels = self._crops.permute(0, 3, 1, 2).float() / 255
        with mixed_precision(self._device):
            return self._model.estimate(pixels[:, None])

    def _draw(self, parameters: DrivingParameters) -> Tensor:
        """Render parameters (A, 1, ...) into (A, size, size, 3) uint8."""
        own = torch.cuda.current_stream(self._device)
        # These dozens of small kernels run concurrently with those that pose the head.
        self._aside.wait_stream(own)
        with torch.cuda.stream(self._aside):
            camera = pose_to_camera(parameters.pose, self._K, self._size)
        posed = self._model.animate(self._avatars, parameters)
        own.wait_stream(self._aside)
        rgb = self._model.render(posed, camera, self._K, self._background, self._size).rgb[:, 0]
        return (rgb.movedim(1, -1) * 255 + 0.5).clamp(0, 255).to(torch.uint8)

    @torch.inference_mode()
    def _measure_capacity(self) -> int:
        """Return ``_ROOM`` times the number of tile list entries that the heads at rest need."""
        probe = FixedLists(1)
        with fixed_lists(probe):
            self._draw(self._parameters)
        return max(1, int(_ROOM * int(probe.crossings[0])))

    def _captured_frame(self, source: Source) -> _CapturedFrame:
        if source not in self._captured:
            self._captured[source] = self._capture(source)
        return self._captured[source]

    @torch.inference_mode()
    def _capture(self, source: Source) -> _CapturedFrame:
        """Capture a frame that reads the buffer of its input, with the current capacity of the tile lists."""

        def work() -> Tensor:
            return self._draw(self._estimate_from_crops() if source == "images" else self._parameters)

        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside), fixed_lists(FixedLists(self._capacity)):
            for _ in range(_WARM_UP):  # libraries initialise outside the capture
                work()
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph, lists = torch.cuda.CUDAGraph(), FixedLists(self._capacity)
        with fixed_lists(lists), torch.cuda.graph(graph):
            pixels = work()
        return _CapturedFrame(graph, pixels, lists.crossings[0])

    def _launch(self, captured: _CapturedFrame) -> None:
        buffer = self._buffers[self._n_submitted % _BUFFERS]
        self._n_submitted += 1
        captured.graph.replay()
        self._read.record()
        buffer.pixels.copy_(captured.pixels)  # the next replay overwrites the graph's own tensor
        buffer.crossings.copy_(captured.crossings)
        self._download.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._download):
            buffer.host_pixels.copy_(buffer.pixels, non_blocking=True)
            buffer.host_crossings.copy_(buffer.crossings, non_blocking=True)
            buffer.done.record()
        self._in_flight.append(buffer)
