"""Stills of people: the list of their files, and the embedding of the largest face in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flows.avatar.photos import follow_face, read_photo
from infra.console import CallError, ProgressBar
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.identity.constraints import Vectors

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def stills_by_person(folder: Path) -> dict[str, list[Path]]:
    """List the stills of each person.

    Each folder inside ``folder`` is one person; each still directly inside ``folder`` is a person of its own.

    Raises:
        CallError: There are no stills in ``folder``.
    """
    people: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            inside = path.relative_to(folder).parts
            people.setdefault(inside[0] if len(inside) > 1 else path.name, []).append(path)
    if not people:
        raise CallError(f"{folder}: no stills in it; give a folder a person, with {', '.join(SUFFIXES)} files")
    return people


def embed_stills(analyzer: FaceAnalyzer, files: Sequence[Path]) -> tuple[dict[Path, int], Vectors]:
    """Embed the largest face of each still.

    Args:
        analyzer: Detector and embedding network.
        files: Image files.

    Returns:
        For each file with a face, its row in the second value: the (N, D) unit vectors.

    Raises:
        CallError: A file is missing, or is not an image.
    """
    rows: dict[Path, int] = {}
    vectors: list[Vectors] = []
    with ProgressBar("embedding") as progress:
        for number, path in enumerate(files, 1):
            image = read_photo(path)
            face = follow_face(analyzer.detect(image), None)
            if face is not None:
                rows[path] = len(vectors)
                vectors.append(analyzer.embed(image, face.landmarks5))
            without_face = number - len(rows)
            progress.update("stills", number, len(files), {"no_face": without_face} if without_face else {})
    return rows, np.asarray(vectors, np.float32).reshape(len(vectors), analyzer.pack.embedding_width)
