"""The device of the face networks: chosen once by setting, onnxruntime's providers and GPUs, and held to."""

from __future__ import annotations

import onnxruntime
import pytest

from pipelines.engine.state import fingerprints
from pipelines.faces.device import CPU_PROVIDER, CUDA_PROVIDER, choose_device, installed_providers
from pipelines.faces.insightface_loader import load_analysis
from pipelines.mining.config import MiningConfig
from pipelines.mining.steps import AFTER, mining_steps

BOTH = [CUDA_PROVIDER, CPU_PROVIDER]


def test_a_gpu_is_taken_where_there_is_one_that_onnxruntime_can_use():
    assert choose_device("auto", 2, BOTH).name == "cuda"
    assert choose_device("auto", 2, BOTH).reason == "onnxruntime has CUDAExecutionProvider, and there are 2 GPUs"
    no_gpu, no_provider = choose_device("auto", 0, BOTH), choose_device("auto", 2, [CPU_PROVIDER])
    assert (no_gpu.name, no_gpu.reason) == ("cpu", "there is no GPU")
    assert no_provider.name == "cpu" and "onnxruntime-gpu" in no_provider.reason
    assert choose_device("cpu", 2, BOTH).reason == "FFAVATAR_FACES_DEVICE is cpu"


def test_a_wish_that_cannot_be_fulfilled_is_refused():
    with pytest.raises(ValueError, match="is cuda, but there is no GPU; set it to auto or cpu"):
        choose_device("cuda", 0, BOTH)
    with pytest.raises(ValueError, match="has no CUDAExecutionProvider; the package onnxruntime-gpu brings it; set"):
        choose_device("cuda", 1, [CPU_PROVIDER])
    with pytest.raises(ValueError, match="FFAVATAR_FACES_DEVICE is 'tpu'; it must be one of auto, cpu, cuda"):
        choose_device("tpu", 1, BOTH)
    with pytest.raises(ValueError, match=r"MiningConfig\.device is 'auto'"):
        MiningConfig(device="auto")


def test_the_device_asks_ray_for_gpus_and_changes_no_fingerprint():
    cpu, cuda = mining_steps(), mining_steps(MiningConfig(device="cuda"))
    assert [step.name for step in cuda if step.resources.gpus] == ["tracks", "embeddings"]
    assert not any(step.resources.gpus for step in cpu)
    assert fingerprints(cpu, AFTER) == fingerprints(cuda, AFTER)


def test_networks_run_on_the_cpu_unless_told_otherwise(pack):
    for model in load_analysis(pack.root).models.values():
        assert model.session.get_providers() == [CPU_PROVIDER]


@pytest.mark.skipif(CUDA_PROVIDER in onnxruntime.get_available_providers(), reason="onnxruntime has CUDA here")
def test_networks_that_cuda_does_not_start_for_are_an_error(pack):
    assert CPU_PROVIDER in installed_providers()
    with pytest.raises(RuntimeError, match=r"CUDAExecutionProvider does not start: .*set FFAVATAR_FACES_DEVICE=cpu"):
        load_analysis(pack.root, device="cuda")
