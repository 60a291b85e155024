"""The head model that a command uses: the user's FLAME file, or the open head, with its face-mesh landmarks found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ffavatar_model.head import load_head, save_head, with_landmarks
from ffavatar_model.head.open_head import open_head_path as model_head_path
from infra.console import CallError, say
from pipelines.faces.weight_cache import cache_dir


def open_head_path() -> Path:
    """Where the open head is kept, made or not."""
    return model_head_path(cache_dir())


def head_file(given: str | None) -> Path:
    """A head file that training and use can load, made where it is missing (the open head: half a minute, once).

    ``given`` is None (the open head), a head file or a FLAME pickle, which are kept in the cache under their digest.

    Raises:
        CallError: no such file.
        ValueError: the file is no head model.
    """
    if given is None:
        path = open_head_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not (path.is_file() and load_head(path).n_landmarks):
                from pipelines.studio.landmark_search import open_head_with_landmarks

                open_head_with_landmarks(cache_dir(), _detector)
        return path
    source = Path(given)
    if not source.is_file():
        raise CallError(f"--head {given}: no such file; give a FLAME pickle or a head file, or leave it out")
    if source.suffix == ".safetensors":
        head = load_head(source)
    else:
        from ffavatar_model.head.flame import load_flame

        head = load_flame(source)
    path = kept_head(head.name, head.digest)
    if not path.is_file():
        if not head.n_landmarks:
            from pipelines.studio.landmark_search import find_landmarks

            found = find_landmarks(head, _detector())
            head = with_landmarks(head, found.index, found.triangles, found.barycentric)
        save_head(head, path)
    return path


def head_command(given: str | None, teeth: bool, out: Path) -> None:
    """``ffavatar head``."""
    head = load_head(head_file(given))
    if teeth:
        from ffavatar_model.head.teeth import with_teeth

        head = with_teeth(head)
    save_head(head, out)
    say(
        "head {name}: {n} vertices, {shape} shape and {expression} expression directions, {landmarks} landmarks; use "
        "it with --head {out}",
        name=head.name,
        n=head.n_vertices,
        shape=head.n_shape,
        expression=head.n_expression,
        landmarks=head.n_landmarks,
        out=out,
    )


def kept_head(name: str, digest: str) -> Path:
    """Where a head that the user gave is kept, so that a checkpoint or an avatar made with it finds it again."""
    return cache_dir() / "heads" / f"{name}-{digest}.safetensors"


def _detector() -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """The face mesh detector: a crop to its 468 points."""
    from pipelines.faces.mesh_detector import MeshDetector

    mesh = MeshDetector.load()
    return lambda crop: mesh.detect(crop)[0]
