"""LPIPS: against a plain reference, its gradient against finite differences, under autocast, and as a loss term."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffavatar_model import losses
from ffavatar_model.data.dataset import IdentityDataset
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.lpips import LPIPS, load_lpips, parameters_by_file_name
from ffavatar_model.training import recipe
from ffavatar_model.training.objective import Objective

PLACES = {"vgg": [[0, 2], [5, 7], [10, 12, 14], [17, 19, 21], [24, 26, 28]], "alex": [[0], [3], [6], [8], [10]]}


def random_weights(trunk: str) -> dict[str, Tensor]:
    """A file's content: names and shapes of the package, random values."""
    torch.manual_seed(3)
    found = {}
    for name, parameter in parameters_by_file_name(LPIPS(trunk)).items():
        shape = (1, len(parameter), 1, 1) if name.startswith("lin") else parameter.shape
        value = torch.rand(shape) if name.startswith("lin") else 0.1 * torch.randn(shape)
        found[name] = nn.init.kaiming_normal_(value) if len(shape) == 4 and name.startswith("net") else value
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "alex.pt"
    torch.save(random_weights("alex"), path)
    return path


def pair(size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    a = torch.rand(2, 3, size, size, generator=random)
    b = (a + torch.tensor([0.05, 0.3])[:, None, None, None] * torch.randn(a.shape, generator=random)).clamp(0, 1)
    return a.to(dtype), b.to(dtype)


def reference(trunk: str, weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """The paper's equation 1, written out, in float64."""
    total = torch.zeros(len(a), dtype=torch.float64)
    kept = []
    for x in (a, b):
        x = x.double() * 2 - 1 - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1).double()
        x = x / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1).double()
        layers = []
        for i, places in enumerate(PLACES[trunk]):
            if i and (trunk == "vgg" or i < 3):
                x = F.max_pool2d(x, 2 if trunk == "vgg" else 3, 2)
            for p in places:
                w, bias = (weights[f"net.slice{i + 1}.{p}.{kind}"].double() for kind in ("weight", "bias"))
                stride, padding = (1, w.shape[-1] // 2) if w.shape[-1] < 11 else (4, 2)
                x = F.relu(F.conv2d(x, w, bias, stride, padding))
            layers.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        kept.append(layers)
    for i, (ours, theirs) in enumerate(zip(*kept, strict=True)):
        total += F.conv2d((ours - theirs) ** 2, weights[f"lin{i}.model.1.weight"].double()).mean((1, 2, 3))
    return total


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_it_is_what_the_equation_says(trunk: str, tmp_path: Path) -> None:
    given = random_weights(trunk)
    torch.save(given, tmp_path / "weights.pt")
    a, b = pair(35)
    found = load_lpips(tmp_path / "weights.pt")(a, b)
    torch.testing.assert_close(found.double(), reference(trunk, given, a, b), rtol=1e-5, atol=1e-7)
    assert found[1] > 2 * found[0] > 0
    assert load_lpips(tmp_path / "weights.pt")(a, a).tolist() == [0, 0]


def test_its_gradient_is_that_of_finite_differences(weights: Path) -> None:
    network = load_lpips(weights).double()
    a, b = pair(35, torch.float64)
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(losses.perceptual(network, a, b).sum(), a)
    random = torch.Generator().manual_seed(1)
    for _ in range(4):
        way = torch.randn(a.shape, generator=random, dtype=torch.float64)
        with torch.no_grad():
            ahead, behind = (losses.perceptual(network, a + s * 1e-7 * way, b).sum() for s in (1, -1))
        assert float((ahead - behind) / 2e-7) == pytest.approx(float((gradient * way).sum()), rel=1e-4)


def test_a_place_without_any_feature_has_no_gradient_but_a_number(weights: Path) -> None:
    network = load_lpips(weights)
    with torch.no_grad():
        for name, parameter in parameters_by_file_name(network).items():
            if name.endswith("bias"):
                parameter.fill_(-100.0)
    a, b = pair(35)
    distance = network(a.requires_grad_(), b)
    distance.sum().backward()
    assert distance.tolist() == [0, 0] and a.grad is not None and torch.isfinite(a.grad).all()


def test_under_autocast_it_stays_what_it_is(weights: Path) -> None:
    network = load_lpips(weights)
    a, b = pair(64)
    a.requires_grad_()
    exact = network(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(a, b)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.02, atol=0)
    ways = [torch.autograd.grad(x.sum(), a)[0].flatten() for x in (exact, low)]
    assert torch.cosine_similarity(*ways, dim=0) > 0.97


def test_the_objective_weighs_it_and_the_model_does_not_hold_it(people, head, model_config, weights) -> None:
    config = recipe("pretrain")
    data = IdentityDataset(
        config.data, 32, "digest", people.read, identity_faces=people.identity_faces, faces=people.faces
    )
    batch = data.batch([0, 1])
    torch.manual_seed(0)
    model = FFAvatar(model_config, head)
    on = Objective(replace(config.objective, lpips=0.5, lpips_file=str(weights)), model)
    loss, terms, output = on(batch, 0.0)
    mean = load_lpips(weights)(output.rendered.rgb.flatten(0, 1), batch.drivers.flatten(0, 1)).mean()
    assert float(terms["lpips"]) == pytest.approx(0.5 * mean.item(), rel=1e-5)
    without, others, _ = Objective(config.objective, model)(batch, 0.0)
    assert "lpips" not in others
    assert loss.item() == pytest.approx(without.item() + float(terms["lpips"]), rel=1e-5)
    assert not any("lpips" in name or "slices" in name for name in model.state_dict())
    assert not any(p.requires_grad for p in on.lpips.parameters())


def test_a_weight_without_weights_and_files_that_are_none_are_one_line(weights: Path, tmp_path: Path) -> None:
    config = recipe("pretrain").objective
    with pytest.raises(ValueError, match=r"objective\.lpips=0\.5: .*no weights are given; .*objective\.lpips_file"):
        replace(config, lpips=0.5).load_lpips()
    assert replace(config, lpips_file=str(tmp_path / "unread")).load_lpips() is None
    (tmp_path / "none.pt").write_bytes(b"no weights")
    torch.save({"net.slice1.0.weight": torch.zeros(7)}, tmp_path / "other.pt")
    kept = torch.load(weights, weights_only=True)
    torch.save({**kept, "lin3.model.1.weight": torch.zeros(1, 9, 1, 1)}, tmp_path / "narrow.pt")
    expected = {
        "absent": "no such file",
        "none": "not readable",
        "other": "VGG-16 or AlexNet",
        "narrow": r"lin3\.model\.1\.weight is of shape \(1, 9, 1, 1\), \(256,\) needed",
    }
    for name, message in expected.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
            replace(config, lpips=0.5, lpips_file=str(tmp_path / f"{name}.pt")).load_lpips()
        assert f"{name}.pt" in str(error.value) and "\n" not in str(error.value)
