"""Choice of the device that the face packs' networks run on, made once for a run and passed to its workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEVICES = ("auto", "cpu", "cuda")
"""Values of the setting, the default first."""

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
"""Names that onnxruntime gives the code that runs a network."""

SETTING = "FFAVATAR_FACES_DEVICE"
"""Environment variable of the setting."""

GPU_SHARE = 1 / 16
"""Share of a GPU that one worker of a step reserves: its network is small, and decoding keeps it waiting."""


@dataclass(frozen=True)
class FaceDevice:
    """Device that was chosen, and why."""

    name: str
    """``cpu`` or ``cuda``."""
    reason: str


def installed_providers() -> list[str]:
    """Return the names of onnxruntime's providers on this machine, the preferred one first."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def choose_device(wanted: str, gpus: float, installed: Sequence[str]) -> FaceDevice:
    """Choose the device of the face networks.

    Args:
        wanted: The setting, one of ``DEVICES``; ``auto`` takes a GPU if there is one that onnxruntime can use.
        gpus: Number of GPUs that may be used: those of the Ray cluster, or of this machine.
        installed: Names of onnxruntime's providers (``installed_providers``).

    Raises:
        ValueError: There is no such device, or ``cuda`` is wanted and cannot be had.
    """
    if wanted not in DEVICES:
        raise ValueError(f"{SETTING} is {wanted!r}; it must be one of {', '.join(DEVICES)}")
    if wanted == "cpu":
        return FaceDevice("cpu", f"{SETTING} is cpu")
    if CUDA_PROVIDER not in installed:
        lacking = f"onnxruntime has no {CUDA_PROVIDER}; the package onnxruntime-gpu brings it"
    elif gpus <= 0:
        lacking = "there is no GPU"
    else:
        return FaceDevice("cuda", f"onnxruntime has {CUDA_PROVIDER}, and there are {gpus:g} GPUs")
    if wanted == "cuda":
        raise ValueError(f"{SETTING} is cuda, but {lacking}; set it to auto or cpu")
    return FaceDevice("cpu", lacking)


def providers_of(device: str) -> list[str]:
    """Return the providers that a session asks for.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    return [CUDA_PROVIDER, CPU_PROVIDER] if device == "cuda" else [CPU_PROVIDER]
