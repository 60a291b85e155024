"""Whole training steps as CUDA graphs: forward, backward, clipping and the optimizer in one launch.

A step of a small model is hundreds of kernels, and the host takes longer to launch them than the device to run them.
One graph is captured for each shape of batch; what changes from step to step (pictures, progress, learning rates) is
copied into tensors that the graph reads.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffavatar_model.batch import Batch
from ffavatar_model.renderers.gsplat_cuda import FixedLists, fixed_lists
from ffavatar_model.resident import DEVICE
from ffavatar_model.training.objective import Given, Objective

log = logging.getLogger(__name__)

_WARM_UP = 2
_ROOM = 1.5
"""Capacity of the rasterizer's tile lists, in entries that the first step of a shape needs."""


@dataclass
class _Captured:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    given: Given
    capacity: int
    names: list[str]
    copied: dict[str, Tensor]
    """What was given last: the same tensors need not be copied again."""
    news: Tensor
    """(len(names),) float64: counts must come through whole."""


class GraphedSteps:
    """Steps of one model and optimizer. The optimizer is built for graphs: fused, capturable, rates in tensors."""

    def __init__(self, objective: Objective, optimizer: torch.optim.AdamW, clip: float, autocast: bool) -> None:
        self.objective, self.optimizer, self.clip, self.autocast = objective, optimizer, clip, autocast
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self._captured: dict[Hashable, _Captured] = {}
        self._progress = torch.zeros((), device=self.device)
        self._pool = torch.cuda.graph_pool_handle()

    def step(self, batch: Batch, progress: float, given: Given) -> dict[str, float]:
        """One step on a batch that lies on the device: the loss, its terms and the gradient's norm.

        Where the loss or the gradient is not finite the optimizer has moved nothing: the caller finds it in the
        numbers. A batch that needs longer tile lists than there is room for gets room and is taken again.
        """
        faded = self.objective.faded(progress)
        shapes = ((n, x.shape, x.dtype) for n, x in (batch.tensors() | given.tensors()).items())
        key = (*shapes, batch.known, batch.padded, faded)
        room = 0
        while True:
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
            news = dict(zip(captured.names, captured.news.tolist(), strict=True))
            needed = int(news.pop("tile list entries"))
            if needed <= captured.capacity:
                return news
            log.info("a step needed %d entries of tile lists, there was room for %d", needed, captured.capacity)
            room = needed

    def _capture(self, batch: Batch, given: Given, progress: float, faded: bool, needed: int) -> _Captured:
        with DEVICE:
            return self._capture_alone(batch, given, progress, faded, needed)

    def _capture_alone(self, batch: Batch, given: Given, progress: float, faded: bool, needed: int) -> _Captured:
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
            self.optimizer.found_inf = broken.float()  # type: ignore[attr-defined]  # the fused step then moves nothing
            self.optimizer.step()
            news["tile list entries"] = lists.crossings[0]
            row = torch.stack([value.double() for value in news.values()])
        del self.optimizer.found_inf  # type: ignore[attr-defined]
        self.optimizer.zero_grad(set_to_none=True)
        return _Captured(graph, batch, given, lists.capacity, list(news), {}, row)

    def _forward_backward(self, batch: Batch, given: Given, faded: bool) -> dict[str, Tensor]:
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

