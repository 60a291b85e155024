"""Complete training steps as CUDA graphs: forward, backward, clipping and the optimizer in one launch.

A step of a small model is hundreds of kernels, and the host takes longer to launch them than the device to run them.
One graph is captured for each shape of batch; what changes from step to step (images, progress, learning rates) is
copied into tensors that the graph reads. A step's metrics may be read after the next one was launched: the host then
prepares a step while the device takes the one before.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffavatar_model.data.batch import Batch
from ffavatar_model.data.prefetch import DEVICE
from ffavatar_model.renderers.gsplat_cuda import FixedLists, fixed_lists
from ffavatar_model.training.objective import Objective, Precomputed

log = logging.getLogger(__name__)

_WARM_UP = 2
_ROOM = 1.5
"""Capacity of the rasterizer's tile lists, in entries that the first step of a shape needs."""


@dataclass
class _CapturedStep:
    """A graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    precomputed: Precomputed
    capacity: int
    names: list[str]
    copied: dict[str, Tensor]
    """Precomputed tensors of the last launch: the same ones need not be copied again."""
    metrics: Tensor
    """(len(names),) float64, so that counts are exact."""
    on_host: tuple[Tensor, Tensor]
    """Page-locked copies of ``metrics``, of two steps in turn."""


@dataclass
class _InFlight:
    """A step that was launched and whose metrics were not read; what it takes to launch it again."""

    batch: Batch
    precomputed: Precomputed
    progress: float
    rates: list[float]
    captured: _CapturedStep
    on_host: Tensor
    done: torch.cuda.Event


def is_finite(metrics: Mapping[str, float]) -> bool:
    """Return True where loss and gradient norm of a step are finite; otherwise no parameter may be changed by it."""
    return math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])


def graph_key(batch: Batch, precomputed: Precomputed, landmarks_faded: bool) -> Hashable:
    """Return a key that is equal for steps that run the same kernels on the same sizes, and so share a graph.

    Args:
        batch: The step's batch.
        precomputed: Values that the step does not compute.
        landmarks_faded: See ``Objective.landmarks_faded``.
    """
    shapes = ((n, x.shape, x.dtype) for n, x in (batch.tensors() | precomputed.tensors()).items())
    return (*shapes, batch.known, batch.padded, landmarks_faded)


class GraphedSteps:
    """Steps of one model and optimizer as CUDA graphs, at most two of them in flight.

    The optimizer is built for graphs: fused, capturable, rates in tensors.
    """

    def __init__(self, objective: Objective, optimizer: torch.optim.AdamW, clip: float, autocast: bool) -> None:
        """Prepare to capture; nothing is captured yet.

        Args:
            objective: The model with its loss.
            optimizer: See ``build_optimizer`` with ``graphed``.
            clip: Largest norm of the gradient.
            autocast: Run the forward pass in bfloat16.
        """
        self.objective, self.optimizer, self.clip, self.autocast = objective, optimizer, clip, autocast
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self._captured: dict[Hashable, _CapturedStep] = {}
        self._progress = torch.zeros((), device=self.device)
        self._broken = torch.zeros((), dtype=torch.bool, device=self.device)
        """A step failed: those after it change nothing until ``collect`` has handled it."""
        self._in_flight: deque[_InFlight] = deque()
        self._launched = 0
        self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        """Return the number of steps in flight."""
        return len(self._in_flight)

    def launch(self, batch: Batch, progress: float, precomputed: Precomputed) -> None:
        """Launch a step; ``collect`` returns its metrics. At most two may be in flight.

        Args:
            batch: A batch on the device.
            progress: Share of the run that is done, 0 to 1.
            precomputed: Values that the step need not compute.
        """
        rates = [float(group["rate"]) for group in self.optimizer.param_groups]
        self._launch(batch, progress, precomputed, rates, 0)

    def collect(self) -> dict[str, float]:
        """Wait for the oldest step in flight and return its loss, the loss terms and the gradient's norm.

        Where the loss or the gradient is not finite the optimizer has changed nothing; the metrics show it. A step that
        needed longer tile lists than there was room for has changed nothing, nor has the one after it: both are taken
        again, in their order.

        Raises:
            IndexError: No step is in flight.
        """
        while True:
            step = self._in_flight.popleft()
            step.done.synchronize()
            metrics = dict(zip(step.captured.names, step.on_host.tolist(), strict=True))
            needed = int(metrics.pop("tile list entries"))
            if needed <= step.captured.capacity:
                if not is_finite(metrics):
                    self._broken.zero_()
                return metrics
            log.info("a step needed %d entries of tile lists, there was room for %d", needed, step.captured.capacity)
            after = list(self._in_flight)
            self._in_flight.clear()
            self._broken.zero_()
            for again in (step, *after):
                entries = needed if again is step else 0
                self._launch(again.batch, again.progress, again.precomputed, again.rates, entries)

    def _launch(
        self, batch: Batch, progress: float, precomputed: Precomputed, rates: list[float], entries: int
    ) -> None:
        """``entries``: tile list entries that are needed at least, where that is known."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"].fill_(rate)
        faded = self.objective.landmarks_faded(progress)
        key = graph_key(batch, precomputed, faded)
        if key not in self._captured or entries:
            self._captured[key] = self._capture(batch, precomputed, progress, faded, entries)
        captured = self._captured[key]
        batch_inputs, precomputed_inputs = captured.batch.tensors(), captured.precomputed.tensors()
        for name, value in batch.tensors().items():
            batch_inputs[name].copy_(value, non_blocking=True)
        for name, value in precomputed.tensors().items():
            if captured.copied.get(name) is not value:
                precomputed_inputs[name].copy_(value, non_blocking=True)
                captured.copied[name] = value
        self._progress.fill_(progress)
        captured.graph.replay()
        self._launched += 1
        on_host, done = captured.on_host[self._launched % 2], torch.cuda.Event()
        on_host.copy_(captured.metrics, non_blocking=True)
        done.record()
        self._in_flight.append(_InFlight(batch, precomputed, progress, rates, captured, on_host, done))

    def _capture(
        self, batch: Batch, precomputed: Precomputed, progress: float, faded: bool, entries: int
    ) -> _CapturedStep:
        with DEVICE:
            self._make_optimizer_state()
            batch, precomputed = batch.clone(), precomputed.clone()
            self._progress.fill_(progress)
            entries = self._warm_up(batch, precomputed, faded, entries)
            lists = FixedLists(max(1, int(_ROOM * entries)))
            graph = torch.cuda.CUDAGraph()
            with fixed_lists(lists), torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                metrics = self._forward_backward(batch, precomputed, faded)
                metrics["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.clip)
                overflow = lists.crossings[0] > lists.capacity
                broken = overflow | ~(torch.isfinite(metrics["loss"]) & torch.isfinite(metrics["gradient_norm"]))
                self._broken.logical_or_(broken)
                self.optimizer.found_inf = self._broken.float()  # type: ignore[attr-defined]  # the fused step then changes nothing
                self.optimizer.step()
                metrics["tile list entries"] = lists.crossings[0]
                row = torch.stack([value.double() for value in metrics.values()])
            del self.optimizer.found_inf  # type: ignore[attr-defined]
            self.optimizer.zero_grad(set_to_none=True)
            on_host = (
                torch.empty_like(row, device="cpu").pin_memory(),
                torch.empty_like(row, device="cpu").pin_memory(),
            )
            return _CapturedStep(graph, batch, precomputed, lists.capacity, list(metrics), {}, row, on_host)

    def _warm_up(self, batch: Batch, precomputed: Precomputed, faded: bool, entries: int) -> int:
        """Let libraries set themselves up outside the capture; return the tile list entries that a step needs."""
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                probe = FixedLists(max(1, entries))
                with fixed_lists(probe):
                    self._forward_backward(batch, precomputed, faded)
                entries = max(entries, int(probe.crossings[0]))
            self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        return entries

    def _forward_backward(self, batch: Batch, precomputed: Precomputed, faded: bool) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        # Casts of weights are part of the graph: one that autocast kept from before would be out of date.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            loss, terms, _ = self.objective(batch, self._progress, precomputed, landmarks_faded=faded)
        loss.backward()
        return {"loss": loss.detach(), **terms}

    def _make_optimizer_state(self) -> None:
        """Create Adam's moments before any capture, without changing a parameter."""
        if all(p in self.optimizer.state for p in self.parameters):
            return
        rates = [group["lr"].clone() for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"].zero_()
        for p in self.parameters:
            p.grad = torch.zeros_like(p)
        self.optimizer.step()
        for p in self.parameters:
            self.optimizer.state[p]["step"].zero_()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"].copy_(rate)
        self.optimizer.zero_grad(set_to_none=True)
