"""Head model files for commands: the open head or the user's FLAME file, with the landmarks of the face mesh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ffavatar_model.head import load_head, save_head, with_landmarks
from ffavatar_model.head.open_head import open_head_path
from infra.console import CallError, say
from pipelines.faces.weight_cache import cache_dir


def prepare_head_file(source: str | None) -> Path:
    """Return a head file with landmarks, which training and the avatar commands can load; create it if it is missing.

    Creating the open head takes half a minute, once. A head of the user's is copied into the cache under its digest.

    Args:
        source: A head file or a FLAME pickle; None for the open head.

    Returns:
        Path of the head file, in the cache.

    Raises:
        CallError: There is no such file.
        ValueError: The file is not a head model.
    """
    if source is None:
        path = open_head_path(cache_dir())
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not (path.is_file() and load_head(path).n_landmarks):
                from pipelines.studio.landmark_search import open_head_with_landmarks

                open_head_with_landmarks(cache_dir(), _load_detector)
        return path
    file = Path(source)
    if not file.is_file():
        raise CallError(f"--head {source}: no such file; give a FLAME pickle or a head file, or leave it out")
    if file.suffix == ".safetensors":
        head = load_head(file)
    else:
        from ffavatar_model.head.flame import load_flame

        head = load_flame(file)
    path = cached_head_path(head.name, head.digest)
    if not path.is_file():
        if not head.n_landmarks:
            from pipelines.studio.landmark_search import find_landmarks

            found = find_landmarks(head, _load_detector())
            head = with_landmarks(head, found.index, found.triangles, found.barycentric)
        save_head(head, path)
    return path


def head_command(source: str | None, teeth: bool, out: Path) -> None:
    """Run ``ffavatar head``: write a head file, with teeth if ``teeth`` is True.

    Args:
        source: A head file or a FLAME pickle; None for the open head.
        teeth: True to add teeth.
        out: The file to write.
    """
    head = load_head(prepare_head_file(source))
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


def cached_head_path(name: str, digest: str) -> Path:
    """Return the path of a head in the cache; the names in checkpoints and avatars lead to this path."""
    return cache_dir() / "heads" / f"{name}-{digest}.safetensors"


def _load_detector() -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """Return a function that detects the 468 face-mesh points of a crop."""
    from pipelines.faces.mesh_detector import MeshDetector

    mesh = MeshDetector.load()
    return lambda crop: mesh.detect(crop)[0]
