"""The device of the face networks of a run on Ray, from the setting and the cluster."""

from __future__ import annotations

from infra.console import say
from infra.settings import load_settings
from pipelines.engine.ray_data import cluster_gpus
from pipelines.faces.device import FaceDevice, choose_device, installed_providers


def faces_device() -> FaceDevice:
    """Choose the device of a run's face networks, and say it if it is not the CPU; Ray is running.

    Raises:
        ValueError: The setting (``FFAVATAR_FACES_DEVICE``) cannot be fulfilled.
    """
    device = choose_device(load_settings().faces_device, cluster_gpus(), installed_providers())
    if device.name != "cpu":
        say("face networks run on {name}: {reason}", name=device.name, reason=device.reason)
    return device
