"""Stills of people: files, and the embedding of the largest face on each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flows.avatar.photos import follow, read_photo
from infra.console import CallError, ProgressBar
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.identity.constraints import Vectors

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def stills_by_person(folder: Path) -> dict[str, list[Path]]:
    """Files by person: a folder a person, or one still a person where they lie in ``folder`` itself.

    Raises:
        CallError: no stills in it.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            inside = path.relative_to(folder).parts
            found.setdefault(inside[0] if len(inside) > 1 else path.name, []).append(path)
    if not found:
        raise CallError(f"{folder}: no stills in it; give a folder a person, with {', '.join(SUFFIXES)} files")
    return found


def embed_stills(analyzer: FaceAnalyzer, files: Sequence[Path]) -> tuple[dict[Path, int], Vectors]:
    """(row of each file, (N, D) unit vectors) of the largest faces; a file without a face has no row.

    Raises:
        CallError: a file is missing, or no picture.
    """
    rows: dict[Path, int] = {}
    vectors: list[Vectors] = []
    progress = ProgressBar("embedding")
    for number, path in enumerate(files):
        picture = read_photo(path)
        face = follow(analyzer.detect(picture), None)
        if face is not None:
            rows[path] = len(vectors)
            vectors.append(analyzer.embed(picture, face.landmarks5))
        progress.update(
            "stills", number + 1, len(files), {"no_face": number + 1 - len(rows)} if number + 1 > len(rows) else {}
        )
    progress.close()
    return rows, np.asarray(vectors, np.float32).reshape(len(vectors), analyzer.pack.embedding_width)
