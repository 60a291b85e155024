"""``ffavatar doctor``: what is here, what is missing, and how to get it. Downloads nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import psutil

from flows.avatar.heads import open_head_path
from infra.console import say, table
from infra.settings import Settings
from pipelines.faces.pack import pack_status
from pipelines.faces.weight_cache import cache_dir
from pipelines.faces.weight_files import describe_weights

PACKAGES = (
    "torch",
    "gsplat",
    "ray",
    "prefect",
    "mlflow",
    "duckdb",
    "pyarrow",
    "decord",
    "av",
    "insightface",
    "onnxruntime",
    "ffmpeg-python",
    "imageio-ffmpeg",
    "s3fs",
    "anny",
    "opencv-python-headless",
)

OPTIONAL = (
    (
        "DINOv2 (encoder of the base and paper sizes)",
        "random weights",
        "train with --set model.encoder.backbone.weights=FOLDER, a folder or name for transformers",
    ),
    (
        "FLAME head",
        "the open head",
        "register at the FLAME project's site, download FLAME 2023 or 2020, train with --head FILE",
    ),
    (
        "buffalo_l or another insightface pack",
        "the embedded pack",
        "mine with --pack NAME or FOLDER; a calibration.json beside its files says the clustering threshold",
    ),
)
"""What can be brought along: the thing, what serves without it, and how to use it."""


def doctor(settings: Settings) -> None:
    """Print tables of versions, machine, services, face stack, head models and optional weights."""
    table("machine", ("what", "value"), _machine())
    table("packages", ("package", "version"), [(name, _version(name)) for name in PACKAGES])
    table(
        "places",
        ("what", "where"),
        [
            ("home (FFAVATAR_HOME)", settings.home),
            ("cache (FFAVATAR_CACHE)", cache_dir()),
            ("tracking (MLFLOW_TRACKING_URI)", settings.tracking_uri),
            ("Ray (RAY_ADDRESS)", settings.ray_address or "started on this machine, per command"),
            ("Prefect (PREFECT_API_URL)", os.environ.get("PREFECT_API_URL") or "embedded server, per command"),
        ],
    )
    table(
        "face weights",
        ("name", "role", "from", "licence", "state"),
        [
            (row["name"], row["role"], row["package"], row["licence"], "ready" if row["present"] else row["get"])
            for row in describe_weights()
        ],
    )
    table(
        "face packs",
        ("name", "licence", "state"),
        [
            (row["name"], row["licence"], "ready" if row["present"] else row["get"])
            for row in (pack_status(), pack_status("buffalo_l"))
        ],
    )
    head = open_head_path()
    table(
        "head models",
        ("name", "licence", "state"),
        [
            ("open head (from anny)", "data CC0, code Apache-2.0", "ready" if head.exists() else "built at first use"),
            ("FLAME", "its own, needs a registration", f"{_kept_flame()} converted in the cache"),
        ],
    )
    table("optional", ("what", "without it", "how to use it"), OPTIONAL)
    missing = [name for name in PACKAGES if _version(name) == "missing"]
    if missing:
        say("missing packages: {names}; run make install", names=", ".join(missing))


def _machine() -> list[tuple[str, object]]:
    import imageio_ffmpeg
    import torch

    memory = psutil.virtual_memory()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        ("python", platform.python_version()),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("cores", os.cpu_count()),
        ("memory", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} free"),
        ("disk here", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB free"),
        ("GPU", ", ".join(gpus) or "none: everything runs on the CPU, with the PyTorch reference renderer"),
        ("ffmpeg", f"{imageio_ffmpeg.get_ffmpeg_version()} (from imageio-ffmpeg)"),
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _kept_flame() -> int:
    """Heads in the cache that came from the user's files."""
    return sum(not p.name.startswith("open-head") for p in (cache_dir() / "heads").glob("*.safetensors"))
