"""Exports as a Lance data set: one table with the images in it, for random access and filters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from pipelines.sharing.exported_faces import FaceBatch, Selection

NAME = "faces.lance"
"""Folder of the data set in an export."""


def write_lance(folder: Path, batches: Iterator[FaceBatch], selection: Selection) -> Iterator[tuple[FaceBatch, str]]:
    """Write one data set; ``crop`` and ``matte`` are columns of encoded images.

    Args:
        folder: Folder of the export.
        batches: Faces, by split.
        selection: Choice of columns.

    Yields:
        Each batch, and the name of the data set.
    """
    import lance

    images = [pa.field("crop", pa.large_binary()), pa.field("matte", pa.large_binary())]
    schema, path = pa.schema([*selection.schema, *images]), str(folder / NAME)
    for _, group in groupby(batches, key=lambda batch: batch.shard):
        tables = []
        for batch in group:
            tables.append(_with_images(batch, schema))
            yield batch, NAME
        mode = "append" if (folder / NAME).exists() else "create"
        lance.write_dataset(pa.concat_tables(tables), path, mode=mode, data_storage_version="2.1")


def _with_images(batch: FaceBatch, schema: pa.Schema) -> pa.Table:
    images = [pa.array(values, pa.large_binary()) for values in (batch.crops, batch.mattes)]
    return pa.Table.from_arrays([*batch.rows.columns, *images], schema=schema)
