"""Exports for Hugging Face's library ``datasets``: Parquet shards per split, whose images the library decodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sharing.exported_faces import FaceBatch, Selection
from pipelines.sharing.image_kinds import image_suffix

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURES = {"info": {"features": {"crop": {"_type": "Image"}, "matte": {"_type": "Image"}}}}


def write_hf(folder: Path, batches: Iterator[FaceBatch], selection: Selection) -> Iterator[tuple[FaceBatch, str]]:
    """Write ``data/{split}-{number}.parquet``, which ``datasets.load_dataset(FOLDER)`` reads with its splits.

    Args:
        folder: Folder of the export.
        batches: Faces, shard by shard.
        selection: Choice of columns.

    Yields:
        Each batch, and the path of its file relative to the folder.
    """
    (folder / "data").mkdir()
    images = [pa.field("crop", _IMAGE), pa.field("matte", _IMAGE)]
    schema = pa.schema([*selection.schema, *images], metadata={"huggingface": json.dumps(_FEATURES)})
    for shard, group in groupby(batches, key=lambda batch: batch.shard):
        name = f"data/{shard}.parquet"
        with pq.ParquetWriter(folder / name, schema, compression="zstd") as writer:
            for batch in group:
                keys = batch.rows["face_id"].to_pylist()
                columns = [*batch.rows.columns, _images(keys, batch.crops), _images(keys, batch.mattes)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                yield batch, name


def hf_front_matter(splits: list[str], licence: str) -> str:
    """Return the beginning of ``README.md``, by which the library finds the splits and the hub the licence.

    Args:
        splits: Names of the splits.
        licence: The hub's name of the licence, for example ``cc-by-4.0``, or ``other``.
    """
    files = "".join(f"      - split: {split}\n        path: data/{split}-*.parquet\n" for split in splits)
    return f"---\nlicense: {licence}\nconfigs:\n  - config_name: default\n    data_files:\n{files}---\n\n"


def _images(keys: list[str], images: list[bytes] | list[bytes | None]) -> pa.Array:
    rows = [
        None if image is None else {"bytes": image, "path": f"{key}.{image_suffix(image)}"}
        for key, image in zip(keys, images, strict=True)
    ]
    return pa.array(rows, _IMAGE)
