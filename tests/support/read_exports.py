"""Reader of exports by the libraries that they are made for: ``python read_exports.py FORM FOLDER`` prints JSON.

A script of its own: it runs where this repository's folder ``datasets`` is not on the path.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_webdataset(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the tar files by ``webdataset``."""
    import numpy as np
    import webdataset

    shards = sorted(str(path) for path in folder.glob("*.tar"))
    for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
        row = json.loads(sample["json"])
        assert sample["__key__"] == row["face_id"]
        arrays = {name: sample.get(f"{name}.npy") for name in ("mesh468", "embedding")}
        import io

        read = {n: np.load(io.BytesIO(data)).reshape(-1).tolist() for n, data in arrays.items() if data is not None}
        yield row | read | {"shard": Path(sample["__url__"]).stem, **_images(sample["crop.webp"], sample["matte.png"])}


def read_lance(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the data set by ``lance``."""
    import lance

    for row in lance.dataset(str(folder / "faces.lance")).to_table().to_pylist():
        yield row | _images(row["crop"], row["matte"])


def read_hf(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the folder by Hugging Face's ``datasets``."""
    import datasets

    loaded = datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))
    for split, rows in loaded.items():
        assert rows[0]["crop"].size == (64, 64), "its images decode"
        plain = rows.cast_column("crop", datasets.Image(decode=False)).cast_column(
            "matte", datasets.Image(decode=False)
        )
        for row in plain:
            assert row["split"] == split
            yield row | _images(row["crop"]["bytes"], row["matte"]["bytes"])


def _images(crop: bytes, matte: bytes) -> dict[str, str]:
    return {"crop": hashlib.sha256(crop).hexdigest(), "matte": hashlib.sha256(matte).hexdigest()}


if __name__ == "__main__":
    form, folder = sys.argv[1:]
    readers = {"webdataset": read_webdataset, "lance": read_lance, "hf": read_hf}
    print(json.dumps(list(readers[form](Path(folder)))))
