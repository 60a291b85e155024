"""Whole training steps as CUDA graphs: forward, backward, clipping and the optimizer in one launch.

A step of a small model is hundreds of kernels, and the host takes longer to launch them than the device to run them.
One graph is captured for each shape of batch; what changes from step to step (pictures, progress, learning rates) is
copied into tensors that the graph reads. A step's numbers may be read after the next one is under way: the host then
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
from ffavatar_model.data.resident import DEVICE
from ffavatar_model.renderers.gsplat_cuda import FixedLists, fixed_lists
from ffavatar_model.training.objective import Objective, Precomputed

log = logging.getLogger(__name__)

_WARM_UP = 2
_ROOM = 1.5
"""Capacity of the rasterizer's tile lists, in entries that the first step of a shape needs."""


@dataclass
class _CapturedStep:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    given: Precomputed
    capacity: int
    names: list[str]
    copied: dict[str, Tensor]
    """What was given last: the same tensors need not be copied again."""
    news: Tensor
    """(len(names),) float64: counts must come through whole."""
    landed: tuple[Tensor, Tensor]
    """Where ``news`` of two steps in turn arrive on the host."""


@dataclass
class _UnderWay:
    """A step that was launched and whose numbers were not read; what it takes to launch it again."""

    batch: Batch
    given: Precomputed
    progress: float
    rates: list[float]
    captured: _CapturedStep
    landed: Tensor
    done: torch.cuda.Event


def finite(news: Mapping[str, float]) -> bool:
    """Whether a step's loss and gradient are: the optimizer moves nothing otherwise."""
    return math.isfinite(news["loss"]) and math.isfinite(news["gradient_norm"])


def kind_of(batch: Batch, given: Precomputed, faded: bool) -> Hashable:
    """Steps of one kind are one graph: what decides which kernels run, and on what sizes."""
    shapes = ((n, x.shape, x.dtype) for n, x in (batch.tensors() | given.tensors()).items())
    return (*shapes, batch.known, batch.padded, faded)


class GraphedSteps:
    """Steps of one model and optimizer. The optimizer is built for graphs: fused, capturable, rates in tensors."""

    def __init__(self, objective: Objective, optimizer: torch.optim.AdamW, clip: float, autocast: bool) -> None:
        self.objective, self.optimizer, self.clip, self.autocast = objective, optimizer, clip, autocast
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self._captured: dict[Hashable, _CapturedStep] = {}
        self._progress = torch.zeros((), device=self.device)
        self._broken = torch.zeros((), dtype=torch.bool, device=self.device)
        """A step could not be taken: those after it move nothing until ``collect`` has seen to it."""
        self._under_way: deque[_UnderWay] = deque()
        self._launched = 0
        self._pool = torch.cuda.graph_pool_handle()

    def launch(self, batch: Batch, progress: float, given: Precomputed) -> None:
        """Begin a step on a batch that lies on the device; ``collect`` gives its numbers. At most two are under way."""
        rates = [float(group["rate"]) for group in self.optimizer.param_groups]
        self._launch(batch, progress, given, rates, 0)

    def collect(self) -> dict[str, float]:
        """The loss of the oldest step under way, its terms and the gradient's norm.

        Where the loss or the gradient is not finite the optimizer has moved nothing: the caller finds it in the
        numbers. A step that needed longer tile lists than there was room for has moved nothing, nor has the one after
        it: both are taken again, in their order. Raises ``IndexError`` where no step is under way.
        """
        while True:
            step = self._under_way.popleft()
            step.done.synchronize()
            news = dict(zip(step.captured.names, step.landed.tolist(), strict=True))
            needed = int(news.pop("tile list entries"))
            if needed <= step.captured.capacity:
                if not finite(news):
                    self._broken.zero_()
                return news
            log.info("a step needed %d entries of tile lists, there was room for %d", needed, step.captured.capacity)
            after = list(self._under_way)
            self._under_way.clear()
            self._broken.zero_()
            for again in (step, *after):
                self._launch(again.batch, again.progress, again.given, again.rates, needed if again is step else 0)

    def __len__(self) -> int:
        """Steps under way."""
        return len(self._under_way)

    def _launch(self, batch: Batch, progress: float, given: Precomputed, rates: list[float], room: int) -> None:
        """``room``: entries of tile lists that are needed at least, where that is known."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"].fill_(rate)
        faded = self.objective.faded(progress)
        key = kind_of(batch, given, faded)
        if key not in self._captured or room:
            self._captured[key] = self._capture(batch, given, progress, faded, room)
        captured = self._captured[key]
        pictures, known = captured.batch.tensors(), captured.given.tensors()
        for name, value in batch.tensors().items():
            pictures[name].copy_(value, non_blocking=True)
        for name, value in given.tensors().items():
            if captured.copied.get(name) is not value:
                known[name].copy_(value, non_blocking=True)
                captured.copied[name] = value
        self._progress.fill_(progress)
        captured.graph.replay()
        self._launched += 1
        landed, done = captured.landed[self._launched % 2], torch.cuda.Event()
        landed.copy_(captured.news, non_blocking=True)
        done.record()
        self._under_way.append(_UnderWay(batch, given, progress, rates, captured, landed, done))

    def _capture(self, batch: Batch, given: Precomputed, progress: float, faded: bool, needed: int) -> _CapturedStep:
        with DEVICE:
            return self._capture_alone(batch, given, progress, faded, needed)

    def _capture_alone(
        self, batch: Batch, given: Precomputed, progress: float, faded: bool, needed: int
    ) -> _CapturedStep:
        self._make_optimizer_state()
        batch, given = batch.clone(), given.clone()
        self._progress.fill_(progress)
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):  # libraries set themselves up outside the capture
            for _ in range(_WARM_UP):
                probe = FixedLists(max(1, needed))
                with fixed_lists(probe):
                    self._forward_backward(batch, given, faded)
                needed = max(needed, int(probe.crossings[0]))
            self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        lists = FixedLists(max(1, int(_ROOM * needed)))
        graph = torch.cuda.CUDAGraph()
        with fixed_lists(lists), torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            news = self._forward_backward(batch, given, faded)
            news["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.clip)
            overflow = lists.crossings[0] > lists.capacity
            broken = overflow | ~(torch.isfinite(news["loss"]) & torch.isfinite(news["gradient_norm"]))
            self._broken.logical_or_(broken)
            self.optimizer.found_inf = self._broken.float()  # type: ignore[attr-defined]  # the fused step then moves nothing
            self.optimizer.step()
            news["tile list entries"] = lists.crossings[0]
            row = torch.stack([value.double() for value in news.values()])
        del self.optimizer.found_inf  # type: ignore[attr-defined]
        self.optimizer.zero_grad(set_to_none=True)
        landed = (torch.empty_like(row, device="cpu").pin_memory(), torch.empty_like(row, device="cpu").pin_memory())
        return _CapturedStep(graph, batch, given, lists.capacity, list(news), {}, row, landed)

    def _forward_backward(self, batch: Batch, given: Precomputed, faded: bool) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        # Casts of weights are part of the graph: one that autocast kept from before would be out of date.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            loss, terms, _ = self.objective(batch, self._progress, given, faded=faded)
        loss.backward()
        return {"loss": loss.detach(), **terms}

    def _make_optimizer_state(self) -> None:
        """Adam's moments, before any capture, without moving anything."""
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
