"""Exports as WebDataset shards: tar files in which a face is a few members with the same beginning of their names."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.sharing.exported_faces import EMBEDDING, MESH, FaceBatch
from pipelines.sharing.image_kinds import image_suffix

_VECTORS = (MESH.name, EMBEDDING.name)


def write_webdataset(folder: Path, batches: Iterator[FaceBatch]) -> Iterator[tuple[FaceBatch, str]]:
    """Write the shards; the same faces give the same bytes.

    A face has ``{face_id}.crop.webp``, ``.matte.png`` (both as they are stored in the corpus) and ``.json``; meshes
    and embeddings are ``.mesh468.npy`` (468, 3) and ``.embedding.npy``, float32.

    Args:
        folder: Folder of the export, which gets ``{split}-{number}.tar``.
        batches: Faces, shard by shard.

    Yields:
        Each batch, and the path of its file relative to the folder.
    """
    for shard, group in groupby(batches, key=lambda batch: batch.shard):
        name = f"{shard}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as file:
            for batch in group:
                for row, crop, matte in zip(batch.rows.to_pylist(), batch.crops, batch.mattes, strict=True):
                    for member, data in _members(row, crop, matte):
                        _add_member(file, member, data)
                yield batch, name


def _members(row: dict[str, Any], crop: bytes, matte: bytes | None) -> Iterator[tuple[str, bytes]]:
    key = row["face_id"]
    yield f"{key}.crop.{image_suffix(crop)}", crop
    if matte is not None:
        yield f"{key}.matte.{image_suffix(matte)}", matte
    for name in _VECTORS:
        if row.get(name) is not None:
            buffer, vector = io.BytesIO(), np.asarray(row[name], np.float32)
            np.save(buffer, vector.reshape(-1, 3) if name == MESH.name else vector)
            yield f"{key}.{name}.npy", buffer.getvalue()
    facts = {name: value for name, value in row.items() if name not in _VECTORS}
    yield f"{key}.json", json.dumps(facts, sort_keys=True).encode()


def _add_member(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    file.addfile(info, io.BytesIO(data))
