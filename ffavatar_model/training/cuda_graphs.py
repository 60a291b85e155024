"""Complete training steps as CUDA graphs: forward, backward, clipping and the optimizer in one launch.

A step of a small model is hundreds of kernels, and the host takes longer to launch them than the device to run them.
One graph is captured for each batch shape. Values that change from step to step (images, progress, learning rates) are
copied into tensors that the graph reads. A step's metrics may be read after the next step is launched, so the host
prepares a step while the device runs the previous one.

With several workers a step is two graphs. The first writes the gradients into one flat tensor, which is averaged over
the workers by a launch between the graphs; the second clips them and runs the optimizer. So a worker may capture a
graph when the others do not, and all workers decide alike whether a step counts.
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
"""Capacity of the rasterizer's tile lists, relative to the entries needed by the first step with a batch shape."""


@dataclass
class _CapturedStep:
    """A captured graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    update: torch.cuda.CUDAGraph | None
    """With several workers: clipping and the optimizer, after the gradients are averaged."""
    batch: Batch
    precomputed: Precomputed
    capacity: int
    names: list[str]
    """Names of the metrics; ``overflows`` is positive if a worker's tile lists were too short."""
    copied: dict[str, Tensor]
    """Precomputed tensors of the last launch by name; the same tensors need not be copied again."""
    metrics: Tensor
    """(len(names),) metrics, float64 so that counts are exact."""
    on_host: tuple[Tensor, Tensor]
    """Page-locked copies of ``metrics``; successive steps use them alternately."""


@dataclass
class _InFlight:
    """A launched step whose metrics have not been read, with all that is needed to launch it again."""

    batch: Batch
    precomputed: Precomputed
    progress: float
    rates: list[float]
    captured: _CapturedStep
    on_host: Tensor
    done: torch.cuda.Event


def is_finite(metrics: Mapping[str, float]) -> bool:
    """Return True if loss and gradient norm of a step are finite; otherwise the step must not change parameters."""
    return math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])


def graph_key(batch: Batch, precomputed: Precomputed, landmarks_faded: bool) -> Hashable:
    """Return a key that is equal for steps that can share a graph: the same kernels on the same sizes.

    Args:
        batch: The step's batch.
        precomputed: Values that the step does not compute itself.
        landmarks_faded: See ``Objective.landmarks_faded``.
    """
    shapes = ((n, x.shape, x.dtype) for n, x in (batch.tensors() | precomputed.tensors()).items())
    return (*shapes, batch.known, batch.padded, landmarks_faded)


class GraphedSteps:
    """Steps of one model and optimizer as CUDA graphs, at most two of them in flight.

    The optimizer must be built for graphs: fused and capturable, with learning rates in tensors.
    """

    def __init__(
        self, objective: Objective, optimizer: torch.optim.AdamW, clip: float, autocast: bool, world: int = 1
    ) -> None:
        """Prepare to capture graphs; each is captured at the first step that needs it.

        With several workers, all of them must call this together: the parameters become those of rank 0.

        Args:
            objective: The model with its loss.
            optimizer: Result of ``build_optimizer`` with ``graphed=True``.
            clip: Norm to which larger gradients are clipped.
            autocast: True runs the forward pass under bfloat16 autocast.
            world: Number of workers, all in the default group of ``torch.distributed``.
        """
        self.objective, self.optimizer, self.clip, self.autocast = objective, optimizer, clip, autocast
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self._captured: dict[Hashable, _CapturedStep] = {}
        self._progress = torch.zeros((), device=self.device)
        self._broken = torch.zeros((), dtype=torch.bool, device=self.device)
        """() bool: a step failed, and later steps change no parameter until ``collect`` has handled the failure."""
        self._in_flight: deque[_InFlight] = deque()
        self._launched = 0
        self._pool = torch.cuda.graph_pool_handle()
        self._shared = SharedGradients(self.parameters) if world > 1 else None

    def __len__(self) -> int:
        """Return the number of steps in flight."""
        return len(self._in_flight)

    def launch(self, batch: Batch, progress: float, precomputed: Precomputed) -> None:
        """Launch a step; ``collect`` returns its metrics. At most two may be in flight.

        Args:
            batch: A batch on the device.
            progress: Completed share of the run, 0 to 1.
            precomputed: Values that the step does not compute itself.
        """
        rates = [float(group["rate"]) for group in self.optimizer.param_groups]
        self._launch(batch, progress, precomputed, rates, 0)

    def collect(self) -> dict[str, float]:
        """Wait for the oldest step in flight and return its loss, the loss terms and the gradient's norm.

        If the loss or the gradient is not finite, the metrics show it, and the step has changed no parameter. If a step
        needed longer tile lists than the capacity (on any worker), neither it nor the step after it has changed
        parameters; both are launched again, in order, with more capacity.

        Raises:
            IndexError: No step is in flight.
        """
        while True:
            step = self._in_flight.popleft()
            step.done.synchronize()
            metrics = dict(zip(step.captured.names, step.on_host.tolist(), strict=True))
            needed, overflows = int(metrics.pop("tile list entries")), metrics.pop("overflows")
            if not overflows:
                if not is_finite(metrics):
                    self._broken.zero_()
                return metrics
            log.info("a step needed %d entries of tile lists, there was room for %d", needed, step.captured.capacity)
            after = list(self._in_flight)
            self._in_flight.clear()
            self._broken.zero_()
            for again in (step, *after):
                entries = needed if again is step and needed > step.captured.capacity else 0
                self._launch(again.batch, again.progress, again.precomputed, again.rates, entries)

    def _launch(
        self, batch: Batch, progress: float, precomputed: Precomputed, rates: list[float], entries: int
    ) -> None:
        """Launch a step; ``entries`` is the number of tile list entries that it needs, or 0 if that is unknown."""
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
        if captured.update is not None:
            assert self._shared is not None
            self._shared.add_up()
            captured.update.replay()
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
            graph, update = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph() if self._shared else None
            with fixed_lists(lists), torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                metrics = self._forward_backward(batch, precomputed, faded)
                failed = torch.stack([lists.crossings[0] > lists.capacity, ~torch.isfinite(metrics["loss"])]).float()
                if self._shared is None:
                    metrics |= self._update(failed)
                else:
                    self._shared.gather(failed)
                metrics["tile list entries"] = lists.crossings[0]
                row = torch.stack([value.double() for value in metrics.values()])
            if self._shared is not None and update is not None:
                with torch.cuda.graph(update, pool=self._pool, capture_error_mode="thread_local"):
                    updated = self._update(self._shared.scatter())
                    row = torch.cat([row, torch.stack([value.double() for value in updated.values()])])
                metrics |= updated
            del self.optimizer.found_inf  # type: ignore[attr-defined]
            self.optimizer.zero_grad(set_to_none=True)
            on_host = (
                torch.empty_like(row, device="cpu").pin_memory(),
                torch.empty_like(row, device="cpu").pin_memory(),
            )
            return _CapturedStep(graph, update, batch, precomputed, lists.capacity, list(metrics), {}, row, on_host)

    def _update(self, failed: Tensor) -> dict[str, Tensor]:
        """Clip the gradients and run the optimizer, which changes nothing if this or an earlier step failed.

        Args:
            failed: (2,) float: positive if tile lists overflowed; positive if a loss was not finite.

        Returns:
            ``gradient_norm``, NaN if a loss was not finite, and ``overflows``; scalars.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        norm = torch.where(failed[1] > 0, torch.nan, norm)
        self._broken.logical_or_((failed[0] > 0) | ~torch.isfinite(norm))
        self.optimizer.found_inf = self._broken.float()  # type: ignore[attr-defined]  # the fused step then changes no parameter
        self.optimizer.step()
        return {"gradient_norm": norm, "overflows": failed[0]}

    def _warm_up(self, batch: Batch, precomputed: Precomputed, faded: bool, entries: int) -> int:
        """Run steps before the capture, so that libraries initialise; return the number of tile list entries needed."""
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
        # Casts of weights must be part of the graph: casts that autocast cached earlier would be out of date.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            loss, terms, _ = self.objective(batch, self._progress, precomputed, landmarks_faded=faded)
        loss.backward()
        return {"loss": loss.detach(), **terms}

    def _make_optimizer_state(self) -> None:
        """Create Adam's moments before the first capture, without changing parameters."""
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


class SharedGradients:
    """Gradients of all parameters in one flat tensor, which is averaged over the workers of a run in one launch.

    A parameter without a gradient counts with zeros, so that the tensor is the same on all workers.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        """Allocate the tensor, and send rank 0's parameters to all workers, which also sets up the communicator.

        Args:
            parameters: Trainable parameters, float32, in the same order on all workers.
        """
        self.parameters = parameters
        for parameter in parameters:
            torch.distributed.broadcast(parameter.detach(), 0)
        sizes = [p.numel() for p in parameters]
        self._flat = torch.zeros(sum(sizes) + 2, device=parameters[0].device)
        self._views = [x.view_as(p) for x, p in zip(self._flat[:-2].split(sizes), parameters, strict=True)]
        self.add_up()

    def gather(self, failed: Tensor) -> None:
        """Copy the parameters' gradients into the flat tensor.

        Args:
            failed: (2,) flags of this worker, averaged like the gradients.
        """
        pairs = [(x, p.grad) for x, p in zip(self._views, self.parameters, strict=True) if p.grad is not None]
        self._flat.zero_()
        torch._foreach_copy_([x for x, _ in pairs], [grad for _, grad in pairs])
        self._flat[-2:].copy_(failed)

    def add_up(self) -> None:
        """Replace the flat tensor by its sum over the workers, from which ``scatter`` makes the mean."""
        torch.distributed.all_reduce(self._flat)

    def scatter(self) -> Tensor:
        """Make the mean gradients those of the parameters, without a copy; return the mean of the flags, (2,)."""
        self._flat.div_(torch.distributed.get_world_size())
        for view, parameter in zip(self._views, self.parameters, strict=True):
            parameter.grad = view
        return self._flat[-2:]
