"""Flow ``curriculum``: run the three training stages in turn; a stage begins only if the previous one passed.

A stage passes if it raised its held-out metric by the required gain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.io.weights import MODEL_FILE, model_file
from ffavatar_model.training import RECIPES
from flows.corpus.flow_session import opened, run_flow
from flows.running.flow_parameters import Stage
from flows.train import StoppedError, check_call, show_result, train
from infra.console import CallError, say
from infra.settings import MAX_FAILURES, MODEL_PRESET, TIMEOUT_S
from infra.storage import open_store
from infra.tracking import config_hash, file_digest
from mfhq.catalog import Catalog

RECORD = "curriculum.json"
"""File in the curriculum's folder that lists the stages that passed, each with a digest of its inputs."""
GATE = "psnr"
"""Held-out metric (dB, inside the matte) that a stage must raise before the next stage begins."""


STAGES: tuple[Stage, ...] = get_args(Stage)
"""The stages, in the order in which they are trained."""


class GateError(RuntimeError):
    """Error of a stage that did not raise its held-out metric; the message has the values and what to do."""


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Configuration of the three stages."""

    corpus: str
    """URI of the corpus of people in the wild, which stages pretrain and personalize read."""
    captures: str
    """URI of the corpus of calibrated captures, which stage multiview reads."""
    out: str
    """Folder of the checkpoints; each stage has a folder in it."""
    identity: str
    """Id of the person that stage personalize trains on."""
    init: str = ""
    """Checkpoint that pretraining begins with; empty for random weights."""
    size: str = MODEL_PRESET
    """Preset of the model's size, used if ``init`` is empty."""
    workers: int = 1
    """Number of training workers."""
    gain: float = 0.0
    """Least rise of the held-out PSNR in each stage, dB."""
    overrides: dict[str, list[str]] = field(default_factory=dict)
    """Settings of the recipe by stage, each written ``a.b=c``."""
    head: str = ""
    """Head file; empty for the open head."""
    max_failures: int = MAX_FAILURES
    """Restarts of each stage's job from its last checkpoint, at most."""
    timeout_s: int = TIMEOUT_S
    """Time limits of each stage's job (``infra.ray_train.run_training_job``), seconds."""


def curriculum_command(
    corpus: str,
    captures: str,
    identity: str | None,
    init: str | None,
    size: str,
    workers: int,
    gain: float,
    overrides: Sequence[str],
    head: str | None,
    out: Path,
    max_failures: int = MAX_FAILURES,
    timeout_s: int = TIMEOUT_S,
) -> None:
    """Run ``ffavatar curriculum``.

    Args:
        corpus: URI of the corpus of people in the wild.
        captures: URI of the corpus of calibrated captures.
        identity: Id of the person to personalize for; None for the person with the most chosen faces.
        init: Checkpoint that pretraining begins with; None for random weights.
        size: Preset of the model's size, used if ``init`` is None.
        workers: Number of training workers.
        gain: Least rise of the held-out PSNR in each stage, dB.
        overrides: Settings of one stage (``stage.a.b=c``) or of all stages (``a.b=c``).
        head: Head file; None for the open head.
        out: Folder of the checkpoints.
        max_failures: Restarts of each stage's job, at most.
        timeout_s: Longest time that workers wait for one another, seconds.

    Raises:
        CallError: No person has two images to personalize on, or a stage's folder exists but holds no checkpoint.
        GateError: A stage did not improve; later stages were not begun.
        ValueError: ``flows.train.check_call`` found an error in the arguments.
    """
    config = Curriculum(
        corpus=corpus,
        captures=captures,
        out=str(out.resolve()),
        identity=identity or find_most_chosen(corpus),
        init=str(model_file(Path(init)).resolve()) if init else "",
        size=size,
        workers=workers,
        gain=gain,
        overrides=split_by_stage(overrides),
        head=head or "",
        max_failures=max_failures,
        timeout_s=timeout_s,
    )
    for stage in RECIPES:
        corpus = config.captures if stage == "multiview" else config.corpus
        check_call(stage, corpus, config.init, config.identity, config.overrides[stage], out / stage, config.head)
    run_flow(curriculum, config=config)


@flow(name="curriculum", flow_run_name="curriculum")
def curriculum(config: Curriculum, home: str = "") -> dict[str, dict[str, Any]]:
    """Train the three stages, beginning with the first stage that has not passed yet.

    Args:
        config: The stages; of a deployment, its fields as plain values.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).

    Returns:
        The result of ``flows.train.train`` for each stage.

    Raises:
        GateError: A stage did not improve; later stages were not begun.
        RuntimeError: A stage's job ended before its last step; the message tells what to do.
    """
    c, folder = config, Path(config.out)
    results: dict[str, dict[str, Any]] = {}
    init = c.init
    with opened(home):
        for stage in STAGES:
            corpus = c.captures if stage == "multiview" else c.corpus
            identity = c.identity if stage == "personalize" else ""
            key = _stage_key(c, stage, corpus, identity, init)
            passed = _read_record(folder).get(stage, {})
            if passed.get("key") == key and (folder / stage / MODEL_FILE).is_file():
                say("{stage} has passed before: {path}", stage=stage, path=folder / stage)
                results[stage] = passed["ended"]
            else:
                results[stage] = _train_stage(config, stage, corpus, identity, init, home)
                show_result(stage, results[stage])
                _check_gain(stage, results[stage]["metrics"], c.gain)
                record = _read_record(folder) | {stage: {"key": key, "ended": results[stage]}}
                write_atomically(folder / RECORD, json.dumps(record, indent=1).encode())
            init = str(folder / stage)
    _create_artifact(results)
    return results


def _train_stage(c: Curriculum, stage: Stage, corpus: str, identity: str, init: str, home: str) -> dict[str, Any]:
    """Train one stage; the error of a stage that stopped tells how to continue the curriculum."""
    try:
        result: dict[str, Any] = train(
            stage=stage,
            corpus=corpus,
            init=init,
            identity=identity,
            workers=c.workers,
            size=c.size,
            overrides=c.overrides.get(stage),
            out=str(Path(c.out) / stage),
            head=c.head,
            home=home,
            max_failures=c.max_failures,
            timeout_s=c.timeout_s,
        )
    except StoppedError as error:
        raise RuntimeError(
            f"{error.cause}; call `ffavatar curriculum` with the same settings again: {stage} begins anew, the "
            "stages that passed before it are not repeated"
        ) from error
    return result


def _check_gain(stage: str, metrics: Mapping[str, float], gain: float) -> None:
    before, after = metrics.get(f"start/{GATE}"), metrics.get(f"end/{GATE}")
    if before is None or after is None:
        raise GateError(f"{stage}: nobody is held out, so nothing says whether it helped; give a larger corpus")
    if not after - before >= gain:
        raise GateError(
            f"{stage}: held-out PSNR went from {before:.2f} to {after:.2f} dB, a gain of {gain:g} is needed; the "
            f"next stage was not begun. Train {stage} longer or otherwise (--set {stage}.steps=N) and call this "
            "again, or lower --gain"
        )


def split_by_stage(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the settings of each stage; ``pretrain.steps=9`` applies to one stage, ``steps=9`` to all three."""
    settings: dict[str, list[str]] = {stage: [] for stage in RECIPES}
    for text in overrides:
        first, dot, rest = text.partition(".")
        for stage in [first] if dot and first in RECIPES else RECIPES:
            settings[stage].append(rest if stage == first else text)
    return settings


def find_most_chosen(corpus: str) -> str:
    """Return the id of the person with the most chosen faces.

    People outside of the split ``train`` come first, whatever their number of faces.

    Raises:
        CallError: No person has two chosen faces.
    """
    snapshot = Catalog(open_store(corpus)).open()
    rows = snapshot.query(
        "SELECT identity_id FROM identities WHERE n_faces >= 2 "
        "ORDER BY split = 'train', n_faces DESC, identity_id LIMIT 1"
    )
    if not len(rows):
        raise CallError(f"{corpus}: nobody has two images to personalize on; mine more videos")
    return str(rows["identity_id"][0].as_py())


def _stage_key(c: Curriculum, stage: str, corpus: str, identity: str, init: str) -> str:
    """Return a digest of everything that a stage's result depends on."""
    store = open_store(corpus)
    return config_hash(
        {
            "stage": stage,
            "corpus": store.uri,
            "snapshot": Catalog(store).open().digest,
            "identity": identity,
            "init": file_digest(model_file(Path(init))) if init else "",
            "size": c.size,
            "head": c.head,
            "overrides": c.overrides.get(stage, []),
        }
    )


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record


def _create_artifact(results: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [
        f"| {stage} | {r['steps']} | {r['metrics'][f'start/{GATE}']:.2f} | {r['metrics'][f'end/{GATE}']:.2f} "
        f"| `{r['checkpoint']}` |"
        for stage, r in results.items()
    ]
    table = "\n".join(["| stage | steps | PSNR before | after | checkpoint |", "|---|---|---|---|---|", *rows])
    create_markdown_artifact(f"# Curriculum\n\n{table}", key="curriculum")
