"""``ffavatar curriculum``: the three stages, each from the one before, and only where that one helped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from ffavatar_model.io.atomic import write_atomically
from ffavatar_model.io.weights import MODEL_FILE, model_file
from ffavatar_model.training import RECIPES
from flows.train import StoppedError, check, show, train
from infra.console import CallError, say
from infra.ray_session import ray_session
from infra.settings import MAX_FAILURES, TIMEOUT_S, load_settings
from infra.storage import open_store
from infra.tracking import config_hash, file_digest
from mfhq.catalog import Catalog

RECORD = "curriculum.json"
"""In the curriculum's folder: the stages that passed, and what each was asked for."""
GATE = "psnr"
"""Held-out metric (dB, inside the matte) that a stage has to raise for the next one to begin."""


class GateError(RuntimeError):
    """A stage did not raise its held-out metric; the message has the numbers and the way on."""


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What the three stages are told."""

    corpus: str
    """Of people in the wild: stages pretrain and personalize."""
    captures: str
    """Of calibrated captures: stage multiview."""
    out: str
    """Folder of the checkpoints, one folder a stage."""
    identity: str
    """Whom to personalize for."""
    init: str = ""
    """Checkpoint that pretraining begins with; empty for random weights."""
    size: str = "tiny"
    """Preset of the model, where there is no ``init``."""
    workers: int = 1
    gain: float = 0.0
    """dB by which each stage has to raise the held-out PSNR, at least."""
    overrides: dict[str, list[str]] = field(default_factory=dict)
    """By stage: settings ``a.b=c``."""
    head: str = ""
    home: str = ""
    max_failures: int = MAX_FAILURES
    timeout_s: int = TIMEOUT_S
    """Of each stage's job: see ``infra.ray_train.fit``."""


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
    """``ffavatar curriculum``."""
    settings = load_settings()
    asked = Curriculum(
        corpus=corpus,
        captures=captures,
        out=str(out.resolve()),
        identity=identity or most_pictured(corpus),
        init=str(model_file(Path(init)).resolve()) if init else "",
        size=size,
        workers=workers,
        gain=gain,
        overrides=by_stage(overrides),
        head=head or "",
        home=str(settings.home),
        max_failures=max_failures,
        timeout_s=timeout_s,
    )
    for stage in RECIPES:
        corpus = asked.captures if stage == "multiview" else asked.corpus
        check(stage, corpus, asked.init, asked.identity, asked.overrides[stage], out / stage, asked.head)
    with ray_session(settings):
        curriculum(asdict(asked))


@flow(name="curriculum", validate_parameters=False)
def curriculum(asked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Run what a ``Curriculum`` asks for, from the first stage that did not pass yet.

    Returns:
        For each stage what ``flows.train.train`` returns.

    Raises:
        GateError: a stage did not improve; later ones were not begun.
        RuntimeError: a stage's job ended before its last step; the message has the way on.
    """
    c = Curriculum(**asked)
    folder = Path(c.out)
    ended: dict[str, dict[str, Any]] = {}
    init = c.init
    for stage in RECIPES:
        corpus = c.captures if stage == "multiview" else c.corpus
        identity = c.identity if stage == "personalize" else ""
        key = _key(c, stage, corpus, identity, init)
        passed = _read(folder).get(stage, {})
        if passed.get("key") == key and (folder / stage / MODEL_FILE).is_file():
            say("{stage} has passed before: {path}", stage=stage, path=folder / stage)
            ended[stage] = passed["ended"]
        else:
            try:
                ended[stage] = train(
                    stage=stage,
                    corpus=corpus,
                    init=init,
                    identity=identity,
                    workers=c.workers,
                    size=c.size,
                    overrides=c.overrides.get(stage),
                    out=str(folder / stage),
                    head=c.head,
                    home=c.home,
                    max_failures=c.max_failures,
                    timeout_s=c.timeout_s,
                )
            except StoppedError as error:
                raise RuntimeError(
                    f"{error.why}; call `ffavatar curriculum` with the same settings again: {stage} begins anew, what "
                    "has passed before it is not done again"
                ) from error
            show(stage, ended[stage])
            _gate(stage, ended[stage]["metrics"], c.gain)
            _write(folder, _read(folder) | {stage: {"key": key, "ended": ended[stage]}})
        init = str(folder / stage)
    _artifact(ended)
    return ended


def _gate(stage: str, metrics: Mapping[str, float], gain: float) -> None:
    before, after = metrics.get(f"start/{GATE}"), metrics.get(f"end/{GATE}")
    if before is None or after is None:
        raise GateError(f"{stage}: nobody is held out, so nothing says whether it helped; give a larger corpus")
    if not after - before >= gain:
        raise GateError(
            f"{stage}: held-out PSNR went from {before:.2f} to {after:.2f} dB, a gain of {gain:g} was asked for; what "
            f"comes after was not begun. Train {stage} longer or otherwise (--set {stage}.steps=N) and call this "
            "again, or lower --gain"
        )


def by_stage(overrides: Sequence[str]) -> dict[str, list[str]]:
    """``pretrain.steps=9`` for one stage, ``steps=9`` for all three → settings of each stage."""
    found: dict[str, list[str]] = {stage: [] for stage in RECIPES}
    for text in overrides:
        first, dot, rest = text.partition(".")
        for stage in [first] if dot and first in RECIPES else RECIPES:
            found[stage].append(rest if stage == first else text)
    return found


def most_pictured(corpus: str) -> str:
    """The person with the most chosen pictures, of those held out of training if there are any.

    Raises:
        CallError: nobody has two.
    """
    rows = (
        Catalog(open_store(corpus))
        .open()
        .query(
            "SELECT identity_id FROM identities WHERE n_faces >= 2 "
            "ORDER BY split = 'train', n_faces DESC, identity_id LIMIT 1"
        )
    )
    if not len(rows):
        raise CallError(f"{corpus}: nobody has two pictures to personalize on; mine more videos")
    return str(rows["identity_id"][0].as_py())


def _key(c: Curriculum, stage: str, corpus: str, identity: str, init: str) -> str:
    """What a stage's result depends on."""
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


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_atomically(folder / RECORD, json.dumps(record, indent=1).encode())


def _artifact(ended: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [
        f"| {stage} | {e['steps']} | {e['metrics'][f'start/{GATE}']:.2f} | {e['metrics'][f'end/{GATE}']:.2f} "
        f"| `{e['checkpoint']}` |"
        for stage, e in ended.items()
    ]
    table = "\n".join(["| stage | steps | PSNR before | after | checkpoint |", "|---|---|---|---|---|", *rows])
    create_markdown_artifact(f"# Curriculum\n\n{table}", key="curriculum")
