"""One loop for all three stages. It knows nothing of Ray, MLflow or where a corpus lies.

It runs in one process, or as one of ``world`` processes of a ``torch.distributed`` group that the caller has set up
(torchrun, Ray Train).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ffavatar_model.data.batch import Batch
from ffavatar_model.data.dataset import FewToMany
from ffavatar_model.data.mixture import Mixture
from ffavatar_model.data.prefetch import ahead, developed, loaded
from ffavatar_model.data.resident import ResidentData
from ffavatar_model.head import HeadModel
from ffavatar_model.io.weights import check_and_load, load_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training.adversary import Adversary
from ffavatar_model.training.checkpoint import load_state
from ffavatar_model.training.config import TrainConfig
from ffavatar_model.training.cuda_graphs import GraphedSteps, finite
from ffavatar_model.training.objective import Objective, Precomputed
from ffavatar_model.training.optimizer import build_optimizer, set_learning_rate
from ffavatar_model.training.saver import Saver
from ffavatar_model.training.validation import strip, validate

log = logging.getLogger(__name__)

TrainingData = FewToMany | ResidentData | Mixture


class Reporter(Protocol):
    """Where a run's news go. ``report`` is called by every rank at the same steps, ``picture`` by rank 0 alone."""

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Numbers of a step, and the folder of a whole checkpoint when one was just written (rank 0)."""
        ...

    def picture(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """An (H, W, 3) picture."""
        ...


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    checkpoint: Path
    step: int
    metrics: dict[str, float]
    """``start/…`` of the untrained (or initial) model and ``end/…``, on held-out people; seconds by part."""


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
) -> Result:
    """Train a stage to its end.

    Args:
        head: the head model as read from its file.
        training, validation: data sets of disjoint people (``personalize``: of pictures); None for no validation.
        folder: where checkpoints go.
        init: a checkpoint whose weights the stage begins with.
        resume: a checkpoint of this same run to go on from, wins over ``init``.
        rank, world: this process and how many there are.
        device: CUDA where there is one, by default.

    Raises:
        ValueError: a checkpoint does not fit, or the data set is empty.
        FloatingPointError: the loss or its gradient is not finite; the message has the batch's ids.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Trainer(config, head, device, rank, world).run(training, validation, reporter, folder, init, resume)


class Trainer:
    """State of a run: the model, its optimizer, how far it is."""

    def __init__(self, config: TrainConfig, head: HeadModel, device: torch.device, rank: int, world: int) -> None:
        if config.batch % (world * config.accumulate):
            parts = f"{world} workers x accumulate={config.accumulate}"
            raise ValueError(f"batch={config.batch}: a multiple of {parts} is needed")
        self.config, self.device, self.rank, self.world = config, device, rank, world
        torch.manual_seed(config.seed)
        model = FFAvatar(config.model, head)
        if config.stage == "personalize":
            model.add_personal()
        self.objective = Objective(config.objective, model).to(device)
        names = [name for name, _ in model.named_parameters()]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not config.moves or name.startswith(config.moves))
        unused = [m for m in config.moves if not any(name.startswith(m) for name in names)]
        if unused:
            raise ValueError(f"moves={unused[0]!r}: no parameter begins so; they begin with {_beginnings(names)}")
        moving = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._sources_move = any(name.startswith(("encoder.", "query_former.")) for name in moving)
        self._drivers_move = any(name.startswith("estimator.") for name in moving)
        self.adversary = Adversary(config.adversary, device) if config.adversary.weight else None
        alone = world == 1 and config.accumulate == 1 and self.adversary is None
        graphed = config.graphs and self.device.type == "cuda" and alone
        self.optimizer = build_optimizer(config.optimizer, model, graphed)
        self.graphed: GraphedSteps | None = None
        if graphed:
            clip, low = config.optimizer.clip, config.autocast == "bf16"
            self.graphed = GraphedSteps(self.objective, self.optimizer, clip, low)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.step, self.elapsed = 0, 0.0
        self.averaged: dict[str, Tensor] | None = None
        self.seconds = {"data": 0.0, "step": 0.0, "validation": 0.0, "checkpoint": 0.0}
        self.metrics: dict[str, float] = {}
        """Held-out numbers, those of the start included: they go on with the run."""
        self._taken: deque[tuple[int, list[list[str]], float, dict[str, float]]] = deque()
        """Steps whose numbers were not read: number, the batch's ids, learning rate, numbers where they are there."""
        self._news: dict[str, float] = {}
        self._kept: dict[str, Tensor] = {}
        """Of what does not move: features by sources, the estimator's values by driver."""
        self.module: nn.Module = self.objective
        if world > 1:
            self.module = DistributedDataParallel(self.objective, find_unused_parameters=True)

    @property
    def model(self) -> FFAvatar:
        """The model that is trained."""
        return self.objective.model

    @property
    def progress(self) -> float:
        """0 to 1: by steps, or by time where the run has a limit and that comes first."""
        by_time = self.elapsed / self.config.max_seconds if self.config.max_seconds else 0.0
        return min(1.0, max(self.step / self.config.steps, by_time))

    def run(
        self,
        training: TrainingData,
        validation: TrainingData | None,
        reporter: Reporter,
        folder: Path,
        init: Path | None,
        resume: Path | None,
    ) -> Result:
        """See ``train``."""
        config = self.config
        if resume is not None:
            self._restore(resume)
        elif init is not None:
            load_weights(init, self.model)
        if config.ema and self.averaged is None:
            self.averaged = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        if self.step == 0:
            self.metrics = self._validate(validation, reporter, "start")
            reporter.report(0, self.metrics, None)
        begun = self.progress < 1
        saver = Saver(folder, config, self.model)
        batches = self._batches(training)
        while self.progress < 1:
            begin = time.perf_counter()
            batch = next(batches)
            loaded = time.perf_counter()
            self.take_step(batch)
            done = time.perf_counter()
            self.seconds["data"] += loaded - begin
            self.elapsed += self._slowest(done - begin)
            last = self.progress >= 1
            validated = last or (config.validate_every > 0 and self.step % config.validate_every == 0)
            due = last or (config.checkpoint_every > 0 and self.step % config.checkpoint_every == 0)
            told = due or self.step % config.log_every == 0
            news = self.read() | {"seconds": done - begin} if told or validated else {}
            self.seconds["step"] += time.perf_counter() - loaded
            if validated:
                self.metrics |= (held_out := self._validate(validation, reporter, "end" if last else "val"))
                news |= held_out
            if due:
                self._save(saver, last)
            if told:  # on every rank alike
                reporter.report(self.step, news, saver.finished())
        if not begun:
            raise ValueError(f"{resume}: this run is at its end already (step {self.step} of {config.steps})")
        metrics = self.metrics | {f"seconds/{name}": value for name, value in self.seconds.items()}
        return Result(checkpoint=folder / f"step-{self.step:08d}", step=self.step, metrics=metrics)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer on this worker's share of the batch; the loss terms."""
        self._launch(batch)
        return self.read()

    def take_step(self, batch: Batch) -> None:
        """The same without its numbers: where steps are graphs, the next one may be prepared while this one is taken.

        Raises ``FloatingPointError`` for the step before as for this one.
        """
        self._launch(batch)
        # Averaged weights are those after each step: nothing may be under way when they are taken.
        self.read(under_way=1 if self.graphed is not None and self.averaged is None else 0)

    def _launch(self, batch: Batch) -> None:
        if not self.objective.training:
            self.module.train()
        rate = set_learning_rate(self.optimizer, self.config.optimizer, self.step, self.progress)
        if self.graphed is not None:
            part = batch.to(self.device)
            self.graphed.launch(part, self.progress, self._given(part))
            news = {}
        else:
            news = self._plain_step(batch)
        self._taken.append((self.step + 1, batch.ids, rate, news))
        self.step += 1

    def _plain_step(self, batch: Batch) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        total = self.forward_backward(batch)
        total["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip)
        # One copy to the host for all of them: each would wait for the device by itself.
        news = dict(zip(total, torch.stack([value.float() for value in total.values()]).tolist(), strict=True))
        if finite(news):
            self.optimizer.step()
        return news

    def read(self, under_way: int = 0) -> dict[str, float]:
        """Numbers of the newest step that was read, when all but so many are.

        Raises ``FloatingPointError`` with a step's ids where it could not be taken; the run then stands before it.
        """
        while len(self._taken) > under_way:
            step, ids, rate, news = self._taken.popleft()
            if self.graphed is not None:
                news = self.graphed.collect()
            if not finite(news):
                self.step = step - 1
                raise FloatingPointError(
                    f"step {step}, rank {self.rank}: loss {news['loss']}, gradient norm {news['gradient_norm']}; "
                    "the batch: " + "; ".join(" ".join(person) for person in ids)
                )
            if self.averaged is not None:
                self._average()
            self._news = {**news, "lr": rate}
        return self._news

    def forward_backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of ``accumulate`` parts of the batch, averaged; the mean loss and its terms, on the device."""
        parts = _parts(batch, self.config.accumulate)
        total: dict[str, Tensor] = {}
        for part in parts:
            part = part.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast == "bf16"):
                loss, terms, output = self.module(part, self.progress, self._given(part))
            if self.adversary is not None and self.adversary.weight(self.progress):
                terms["adversarial"] = self.adversary.term(output.rendered.rgb, self.progress)
                loss = loss + terms["adversarial"]
                terms["adversarial"] = terms["adversarial"].detach()
            (loss / len(parts)).backward()
            if self.adversary is not None and self.progress >= self.config.adversary.begin:
                terms["critic"] = self.adversary.learn(output.rendered.rgb, part.drivers, self.world)
            for name, value in {"loss": loss.detach(), **terms}.items():
                total[name] = total.get(name, torch.zeros_like(value)) + value / len(parts)
        return total

    def _given(self, batch: Batch) -> Precomputed:
        """What no moving parameter changes, computed once where pictures are the same each time: encoder and query
        former for each set of sources, the estimator for each driver."""
        if not self.config.data.fixed:
            return Precomputed()
        features = estimates = None
        n = batch.drivers.shape[1]
        seen = batch.drivers if batch.seen is None else batch.seen
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast == "bf16"):
            if not self._sources_move:
                masks = batch.source_mask[:, None] if batch.padded else [None] * len(batch.ids)
                rows = [
                    self._once(" ".join(ids[:-n]), self.model.features, sources[None], mask)
                    for ids, sources, mask in zip(batch.ids, batch.sources, masks, strict=True)
                ]
                features = rows[0] if len(rows) == 1 else torch.cat(rows)
            if not self._drivers_move:
                rows = [
                    self._once(driver, self.model.estimates, picture[None, None])
                    for ids, pictures in zip(batch.ids, seen, strict=True)
                    for driver, picture in zip(ids[-n:], pictures, strict=True)
                ]
                estimates = torch.cat(rows, 1).unflatten(1, (len(batch.ids), n))[0]
        return Precomputed(features=features, estimates=estimates)

    def _once(self, key: str, compute: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        if key not in self._kept:
            self._kept[key] = compute(*inputs).float()
        return self._kept[key]

    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        assert self.averaged is not None
        own = [p.detach() for name, p in self.model.named_parameters() if name in self.averaged]
        torch._foreach_lerp_(list(self.averaged.values()), own, 1 - decay)

    def _batches(self, data: TrainingData) -> Iterator[Batch]:
        """This worker's share of each batch from the current step on; batches are the same for any ``world``."""
        share = self.config.batch // self.world
        steps = range(self.step, max(self.config.steps, self.step + 1))
        cursors = [[s * self.config.batch + self.rank * share + i for i in range(share)] for s in steps]
        if isinstance(data, FewToMany):
            raw = loaded(data, cursors, self.config.loader_workers)
            return ahead(developed(each, data.config, self.device) for each in raw)
        return ahead(data.batch(share, self.config.batch) for share in cursors)

    def _validate(self, data: TrainingData | None, reporter: Reporter, name: str) -> dict[str, float]:
        """Held-out metrics by rank 0, of the averaged weights where there are any."""
        if data is None or not len(data) or self.rank:
            return {}
        begin = time.perf_counter()
        own = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in (self.averaged or {})}
        self.model.load_state_dict(self.averaged or {}, strict=False)
        found, shown = validate(self.objective, data, self.config.validation_people, self.device)
        self.model.load_state_dict(own, strict=False)
        reporter.picture(self.step, "sources | drivers | renderings", strip(shown))
        self.seconds["validation"] += time.perf_counter() - begin
        return {f"{name}/{key}": value for key, value in found.items()}

    def _save(self, saver: Saver, last: bool) -> None:
        """Rank 0 begins to write a checkpoint; the last one is waited for."""
        begin = time.perf_counter()
        if self.rank == 0:
            state: dict[str, Any] = {
                "adversary": None if self.adversary is None else self.adversary.state(),
                "step": self.step,
                "elapsed": self.elapsed,
                "metrics": self.metrics,
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            }
            saver.start(state, self.averaged, self.metrics.get("end/psnr" if last else "val/psnr"))
            if last:
                saver.wait()
        self.seconds["checkpoint"] += time.perf_counter() - begin

    def _restore(self, folder: Path) -> None:
        state = load_state(folder)
        check_and_load(state["weights"], self.model, str(folder))
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = int(state["step"]), float(state["elapsed"])
        self.metrics = dict(state.get("metrics", {}))
        if self.adversary is not None and state.get("adversary") is not None:
            self.adversary.load(state["adversary"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state.get("cuda_rng") is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        if state["averaged"] is not None:
            self.averaged = {name: value.to(self.device) for name, value in state["averaged"].items()}
        log.info("going on from step %d of %s", self.step, folder)

    def _slowest(self, seconds: float) -> float:
        """The same number on every worker, so that a time limit ends the run on all at the same step."""
        if self.world == 1 or not self.config.max_seconds:
            return seconds
        value = torch.tensor(seconds, device=self.device)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return float(value)


def _parts(batch: Batch, n: int) -> list[Batch]:
    """A batch cut into ``n`` equal parts."""
    if n == 1:
        return [batch]
    size = len(batch.ids) // n
    fields: dict[str, Any] = dict(batch.tensors())
    cuts = [slice(i * size, (i + 1) * size) for i in range(n)]
    return [replace(batch, ids=batch.ids[cut], **{k: v[cut] for k, v in fields.items()}) for cut in cuts]


def _beginnings(names: list[str]) -> str:
    return ", ".join(sorted({name.split(".")[0] + "." for name in names}))
