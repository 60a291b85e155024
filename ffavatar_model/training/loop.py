"""The training loop of all three stages. It does not depend on Ray, MLflow or the location of a corpus.

It runs in one process, or in each of the ``world`` processes of a ``torch.distributed`` group that the caller has set
up (by torchrun or Ray Train).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ffavatar_model.data.batch import Batch, TrainingData
from ffavatar_model.data.prefetch import prefetch
from ffavatar_model.head import HeadModel
from ffavatar_model.io.weights import check_and_load, load_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training.adversary import Adversary
from ffavatar_model.training.checkpoint import load_state
from ffavatar_model.training.config import TrainConfig
from ffavatar_model.training.cuda_graphs import GraphedSteps, is_finite
from ffavatar_model.training.objective import Objective, Precomputed
from ffavatar_model.training.optimizer import build_optimizer, set_learning_rate
from ffavatar_model.training.saver import Saver
from ffavatar_model.training.validation import tile_renderings, validate

log = logging.getLogger(__name__)

_AGREE_EVERY = 10
"""Steps after which workers agree on the elapsed time."""


class Reporter(Protocol):
    """Interface of a receiver of a run's metrics, images and checkpoints."""

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Receive the metrics of a step; all ranks call this at the same steps.

        Args:
            step: Number of steps taken.
            metrics: Loss terms, learning rate, seconds, and held-out metrics if they were measured.
            checkpoint: Folder of a checkpoint that has just been completed (on rank 0 only), or None.
        """
        ...

    def image(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """Receive an image (H, W, 3); only rank 0 calls this."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """Result of a completed run."""

    checkpoint: Path
    step: int
    metrics: dict[str, float]
    """Metrics on held-out people, ``start/…`` of the initial and ``end/…`` of the final model, and ``seconds/…``."""


def train(
    config: TrainConfig,
    head: HeadModel,
    training: TrainingData,
    validation: TrainingData | None,
    reporter: Reporter,
    folder: Path,
    *,
    init: Path | None = None,
    resume: Path | None = None,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str | None = None,
) -> TrainOutcome:
    """Run a training stage to its end.

    Args:
        config: The run's configuration.
        head: Head model before subdivision.
        training: People to train on (for ``personalize``, images of one person).
        validation: Held-out people (for ``personalize``, images); None does not validate.
        reporter: Receiver of metrics, images and checkpoints.
        folder: Folder in which checkpoints are written.
        init: Checkpoint whose weights are the initial ones; None for random weights.
        resume: Checkpoint of the same run from which to resume; ``init`` is then ignored.
        rank: Number of this process.
        world: Number of processes.
        device: Device of the training; None uses CUDA if available, otherwise the CPU.

    Raises:
        ValueError: A checkpoint does not fit, or the data set is empty.
        FloatingPointError: The loss or its gradient is not finite; the message lists the batch's ids.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Trainer(config, head, device, rank, world).train(training, validation, reporter, folder, init, resume)


class _PendingStep(NamedTuple):
    """A launched step whose metrics have not been read."""

    number: int
    ids: list[list[str]]
    rate: float
    metrics: dict[str, float]
    """Metrics of the step; empty if it is a CUDA graph."""


class Trainer:
    """State of a run: the model, its optimizer and the progress."""

    def __init__(self, config: TrainConfig, head: HeadModel, device: torch.device, rank: int, world: int) -> None:
        """Build the model and its optimizer.

        Args:
            config: The run's configuration; its ``moves`` determines the trainable parameters.
            head: Head model before subdivision.
            device: Device of the training.
            rank: Number of this process.
            world: Number of processes.

        Raises:
            ValueError: The batch cannot be divided evenly, or an entry of ``moves`` matches no parameter.
        """
        if config.batch % (world * config.accumulate):
            parts = f"{world} workers x accumulate={config.accumulate}"
            raise ValueError(f"batch={config.batch}: a multiple of {parts} is needed")
        self.config, self.device, self.rank, self.world = config, device, rank, world
        torch.manual_seed(config.seed)
        model = FFAvatar(config.model, head)
        if config.stage == "personalize":
            model.add_personal()
        self.objective = Objective(config.objective, model).to(device)
        trainable = _freeze(model, config.moves)
        self._sources_trained = any(name.startswith(("encoder.", "query_former.", "identity.")) for name in trainable)
        self._drivers_trained = any(name.startswith("estimator.") for name in trainable)
        self.adversary = Adversary(config.adversary, device) if config.adversary.weight else None
        plain = config.accumulate == 1 and self.adversary is None
        graphed = config.graphs and self.device.type == "cuda" and plain
        self.optimizer = build_optimizer(config.optimizer, model, graphed)
        self.graphed: GraphedSteps | None = None
        if graphed:
            clip, low_precision = config.optimizer.clip, config.autocast == "bf16"
            self.graphed = GraphedSteps(self.objective, self.optimizer, clip, low_precision, world)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.step, self.elapsed = 0, 0.0
        self._unshared = 0.0
        """Seconds that are not in ``elapsed`` yet."""
        self.averaged: dict[str, Tensor] | None = None
        self.seconds = {"data": 0.0, "step": 0.0, "validation": 0.0, "checkpoint": 0.0}
        self.held_out_metrics: dict[str, float] = {}
        """Last held-out metrics, including those at the start; checkpoints contain them."""
        self._pending: deque[_PendingStep] = deque()
        self._last_metrics: dict[str, float] = {}
        self._precomputed: dict[str, Tensor] = {}
        """Values that do not depend on trainable parameters: features by sources, the estimator's values by driver."""
        self.module: nn.Module = self.objective
        if world > 1 and not graphed:
            self.module = DistributedDataParallel(self.objective, find_unused_parameters=True)

    @property
    def model(self) -> FFAvatar:
        """Model in training."""
        return self.objective.model

    @property
    def progress(self) -> float:
        """Completed share of the run, 0 to 1: of its steps, or of its time limit if that share is larger."""
        by_time = self.elapsed / self.config.max_seconds if self.config.max_seconds else 0.0
        return min(1.0, max(self.step / self.config.steps, by_time))

    def train(
        self,
        training: TrainingData,
        validation: TrainingData | None,
        reporter: Reporter,
        folder: Path,
        init: Path | None,
        resume: Path | None,
    ) -> TrainOutcome:
        """Run the training to its end: see the function ``train``."""
        config = self.config
        if resume is not None:
            self._restore(resume)
        elif init is not None:
            load_weights(init, self.model)
        if config.ema and self.averaged is None:
            self.averaged = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        if self.step == 0:
            self.held_out_metrics = self._validate(validation, reporter, "start")
            reporter.report(0, self.held_out_metrics, None)
        if self.progress >= 1:
            raise ValueError(f"{resume}: this run is at its end already (step {self.step} of {config.steps})")
        saver = Saver(folder, config, self.model)
        batches = self.batches(training)
        while self.progress < 1:
            begin = time.perf_counter()
            batch = next(batches)
            loaded = time.perf_counter()
            self.launch_step(batch)
            done = time.perf_counter()
            self.seconds["data"] += loaded - begin
            self._add_elapsed(done - begin)
            last = self.progress >= 1
            validates = last or (config.validate_every > 0 and self.step % config.validate_every == 0)
            saves = last or (config.checkpoint_every > 0 and self.step % config.checkpoint_every == 0)
            reports = saves or self.step % config.log_every == 0
            metrics = self.read_metrics() | {"seconds": done - begin} if reports or validates else {}
            self.seconds["step"] += time.perf_counter() - loaded
            if validates:
                held_out = self._validate(validation, reporter, "end" if last else "val")
                self.held_out_metrics |= held_out
                metrics |= held_out
            if saves:
                self._save(saver, last)
            if reports:  # at the same steps on all ranks
                reporter.report(self.step, metrics, saver.finished())
        ended = self.held_out_metrics | {f"seconds/{name}": value for name, value in self.seconds.items()}
        return TrainOutcome(checkpoint=folder / f"step-{self.step:08d}", step=self.step, metrics=ended)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Take one optimizer step on this worker's share of a batch, and return its metrics.

        Raises:
            FloatingPointError: See ``read_metrics``.
        """
        self._begin_step(batch)
        return self.read_metrics()

    def launch_step(self, batch: Batch) -> None:
        """Launch one optimizer step; if steps are CUDA graphs, this returns before the step is complete.

        Raises:
            FloatingPointError: This step or the one before it failed: see ``read_metrics``.
        """
        self._begin_step(batch)
        # Weights are averaged after each step, when no step may be in flight.
        self.read_metrics(in_flight=1 if self.graphed is not None and self.averaged is None else 0)

    def read_metrics(self, in_flight: int = 0) -> dict[str, float]:
        """Read the metrics of pending steps except the newest ``in_flight``, and return those of the last step read.

        Raises:
            FloatingPointError: A step's loss or gradient is not finite; the message lists the batch's ids. The run is
                then in its state before that step.
        """
        while len(self._pending) > in_flight:
            number, ids, rate, metrics = self._pending.popleft()
            if self.graphed is not None:
                metrics = self.graphed.collect()
            if not is_finite(metrics):
                self.step = number - 1
                raise FloatingPointError(
                    f"step {number}, rank {self.rank}: loss {metrics['loss']}, "
                    f"gradient norm {metrics['gradient_norm']}; "
                    "the batch: " + "; ".join(" ".join(person) for person in ids)
                )
            if self.averaged is not None:
                self._average()
            self._last_metrics = {**metrics, "lr": rate}
        return self._last_metrics

    def _begin_step(self, batch: Batch) -> None:
        if not self.objective.training:
            self.module.train()
        rate = set_learning_rate(self.optimizer, self.config.optimizer, self.step, self.progress)
        metrics: dict[str, float] = {}
        if self.graphed is not None:
            batch = batch.to(self.device)
            self.graphed.launch(batch, self.progress, self._precompute(batch))
        else:
            metrics = self._eager_step(batch)
        self._pending.append(_PendingStep(self.step + 1, batch.ids, rate, metrics))
        self.step += 1

    def _eager_step(self, batch: Batch) -> dict[str, float]:
        """Take a step without a CUDA graph; if its loss or gradient is not finite, no parameter changes."""
        self.optimizer.zero_grad(set_to_none=True)
        values = self.forward_backward(batch)
        values["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip)
        # One copy to the host for all values, because each copy would wait for the device.
        on_host = torch.stack([value.float() for value in values.values()]).tolist()
        metrics = dict(zip(values, on_host, strict=True))
        if is_finite(metrics):
            self.optimizer.step()
        return metrics

    def forward_backward(self, batch: Batch) -> dict[str, Tensor]:
        """Accumulate the gradients of a batch, over ``accumulate`` micro-batches.

        Returns:
            The mean loss and its terms: scalar tensors on the device.
        """
        micro_batches = _split_batch(batch, self.config.accumulate)
        total: dict[str, Tensor] = {}
        for micro_batch in micro_batches:
            part = micro_batch.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast == "bf16"):
                loss, terms, output = self.module(part, self.progress, self._precompute(part))
            if self.adversary is not None and self.adversary.weight(self.progress):
                terms["adversarial"] = self.adversary.term(output.rendered.rgb, self.progress)
                loss = loss + terms["adversarial"]
                terms["adversarial"] = terms["adversarial"].detach()
            (loss / len(micro_batches)).backward()
            if self.adversary is not None and self.progress >= self.config.adversary.begin:
                terms["critic"] = self.adversary.train_step(output.rendered.rgb, part.drivers, self.world)
            for name, value in {"loss": loss.detach(), **terms}.items():
                total[name] = total.get(name, torch.zeros_like(value)) + value / len(micro_batches)
        return total

    def _precompute(self, batch: Batch) -> Precomputed:
        """Return values that do not depend on trainable parameters; each is computed once, if images are not augmented.

        They are the results of encoder and query former per set of sources, and of the estimator per driver.
        """
        if not self.config.data.fixed:
            return Precomputed()
        features = estimates = shape = None
        n = batch.drivers.shape[1]
        drivers = batch.drivers if batch.estimator_drivers is None else batch.estimator_drivers

        def compute_once(key: str, compute: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
            if key not in self._precomputed:
                self._precomputed[key] = compute(*inputs).float()
            return self._precomputed[key]

        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast == "bf16"):
            if not self._sources_trained:
                masks = batch.source_mask[:, None] if batch.padded else [None] * len(batch.ids)
                rows = [
                    compute_once(" ".join(ids[:-n]), self.model.point_features, sources[None], mask)
                    for ids, sources, mask in zip(batch.ids, batch.sources, masks, strict=True)
                ]
                features = rows[0] if len(rows) == 1 else torch.cat(rows)
                if self.model.identity is not None:
                    rows = [
                        compute_once(" ".join(["shape", *ids[:-n]]), self._shape_of, sources[None], mask)
                        for ids, sources, mask in zip(batch.ids, batch.sources, masks, strict=True)
                    ]
                    shape = torch.cat(rows)
            if not self._drivers_trained:
                rows = [
                    compute_once(driver, self.model.estimate_raw, image[None, None])
                    for ids, images in zip(batch.ids, drivers, strict=True)
                    for driver, image in zip(ids[-n:], images, strict=True)
                ]
                estimates = torch.cat(rows, 1).unflatten(1, (len(batch.ids), n))[0]
        return Precomputed(features=features, estimates=estimates, shape=shape)

    def _shape_of(self, sources: Tensor, mask: Tensor | None) -> Tensor:
        _, shape = self.model.features_and_shape(sources, mask)
        assert shape is not None
        return shape

    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        assert self.averaged is not None
        current = [p.detach() for name, p in self.model.named_parameters() if name in self.averaged]
        torch._foreach_lerp_(list(self.averaged.values()), current, 1 - decay)

    def batches(self, data: TrainingData) -> Iterator[Batch]:
        """Yield this worker's share of each batch, from the current step on; batches are the same for any ``world``."""
        config, share = self.config, self.config.batch // self.world
        steps = range(self.step, max(config.steps, self.step + 1))
        cursors = [[s * config.batch + self.rank * share + i for i in range(share)] for s in steps]
        made = data.batches(cursors, people=config.batch, workers=config.loader_workers, device=self.device)
        return prefetch(made)

    def _validate(self, data: TrainingData | None, reporter: Reporter, name: str) -> dict[str, float]:
        """Measure held-out metrics on rank 0, with the averaged weights if there are any."""
        if data is None or not len(data) or self.rank:
            return {}
        begin = time.perf_counter()
        current = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in (self.averaged or {})}
        self.model.load_state_dict(self.averaged or {}, strict=False)
        metrics, renderings = validate(self.objective, data, self.config.validation_people, self.device)
        self.model.load_state_dict(current, strict=False)
        reporter.image(self.step, "sources | drivers | renderings", tile_renderings(renderings))
        self.seconds["validation"] += time.perf_counter() - begin
        return {f"{name}/{key}": value for key, value in metrics.items()}

    def _save(self, saver: Saver, last: bool) -> None:
        """Start to write a checkpoint on rank 0; if it is the run's last, wait until it is written."""
        begin = time.perf_counter()
        if self.rank == 0:
            state: dict[str, Any] = {
                "adversary": None if self.adversary is None else self.adversary.state_dict(),
                "step": self.step,
                "elapsed": self.elapsed,
                "metrics": self.held_out_metrics,
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            }
            saver.start(state, self.averaged, self.held_out_metrics.get("end/psnr" if last else "val/psnr"))
            if last:
                saver.wait()
        self.seconds["checkpoint"] += time.perf_counter() - begin

    def _restore(self, folder: Path) -> None:
        state = load_state(folder)
        check_and_load(state["weights"], self.model, str(folder))
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = int(state["step"]), float(state["elapsed"])
        self.held_out_metrics = dict(state.get("metrics", {}))
        if self.adversary is not None and state.get("adversary") is not None:
            self.adversary.load_state_dict(state["adversary"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state.get("cuda_rng") is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        if state["averaged"] is not None:
            self.averaged = {name: value.to(self.device) for name, value in state["averaged"].items()}
        log.info("going on from step %d of %s", self.step, folder)

    def _add_elapsed(self, seconds: float) -> None:
        """Add a step's seconds to ``elapsed``, so that a time limit ends the run at the same step on each worker.

        Workers agree on the slowest one's seconds at every tenth step, since that waits for the device.
        """
        self._unshared += seconds
        limited = self.world > 1 and self.config.max_seconds > 0
        if limited and self.step % _AGREE_EVERY:
            return
        if limited:
            slowest = torch.tensor(self._unshared, device=self.device)
            torch.distributed.all_reduce(slowest, torch.distributed.ReduceOp.MAX)
            self._unshared = float(slowest)
        self.elapsed += self._unshared
        self._unshared = 0.0


def _freeze(model: FFAvatar, moves: tuple[str, ...]) -> list[str]:
    """Freeze all parameters whose names have no prefix in ``moves``, and return the names of the trainable ones.

    An empty ``moves`` freezes no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not moves or name.startswith(moves))
    unused = [beginning for beginning in moves if not any(name.startswith(beginning) for name in names)]
    if unused:
        beginnings = ", ".join(sorted({name.split(".")[0] + "." for name in names}))
        raise ValueError(f"moves={unused[0]!r}: no parameter begins so; they begin with {beginnings}")
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _split_batch(batch: Batch, n: int) -> list[Batch]:
    """Split a batch into ``n`` equal micro-batches."""
    if n == 1:
        return [batch]
    size = len(batch.ids) // n
    cuts = [slice(i * size, (i + 1) * size) for i in range(n)]
    return [
        batch.with_tensors({"ids": batch.ids[cut], **{name: x[cut] for name, x in batch.tensors().items()}})
        for cut in cuts
    ]
