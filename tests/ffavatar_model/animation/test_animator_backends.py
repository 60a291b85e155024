"""Frames from CUDA graphs are those of the plain model; views that come one by one give the avatar of all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ffavatar_model.animation.animator import Animator, Framing
from ffavatar_model.animation.graph_backend import CudaGraphBackend
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.precision import for_inference, mixed_precision

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIZE = 64


def test_views_add_up(model: FFAvatar) -> None:
    sources = torch.rand(2, 5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        at_once = model.point_features(sources)
        first, rest = model.encode_sources(sources[:, [3]]), model.encode_sources(sources[:, [0, 4]])
        grown = model.query_points(first.merged(rest).merged(model.encode_sources(sources[:, [1, 2]])))
        fewer = model.query_points(first.merged(rest))
    torch.testing.assert_close(grown, at_once, rtol=1e-4, atol=1e-5)
    assert (fewer - at_once).abs().max() > 1e-3, "each view counts"


def test_a_cpu_model_is_refused(model: FFAvatar) -> None:
    avatar = model.reconstruct(torch.rand(1, 1, 3, 32, 32))
    if model.rig.points.is_cuda:
        pytest.skip("the model is on a CUDA device")
    with pytest.raises(ValueError, match="on cpu"):
        CudaGraphBackend(model, avatar, SIZE)


def _moved(model: FFAvatar, n: int, seed: int) -> DrivingParameters:
    random = torch.Generator().manual_seed(seed)
    start = model.rig.start_pose.cpu().expand(n, 1, -1)
    return DrivingParameters(
        0.5 * torch.randn(n, 1, model.estimator.n_expression, generator=random),
        0.1 * torch.randn(n, 1, 5, 3, generator=random),
        start + 0.05 * torch.randn(start.shape, generator=random),
    )


@gpu
@needs_cuda
def test_frames_are_the_models(model: FFAvatar) -> None:
    """Both ways of driving, two avatars at once, with a frame in flight: each image within two grey levels."""
    model = for_inference(model.cuda())
    random = torch.Generator().manual_seed(1)
    with torch.inference_mode(), mixed_precision(torch.device("cuda")):
        avatars = model.reconstruct(torch.rand(2, 3, 3, 32, 32, generator=random).cuda())
    avatars = type(avatars)(*(value.float() for value in avatars.tensors().values()))
    animator = Animator(model, avatars, size=SIZE, backend=CudaGraphBackend)
    K = virtual_intrinsics(SIZE).cuda().expand(2, 1, 3, 3)
    behind = torch.tensor(BACKGROUND).cuda()

    def plain(parameters: DrivingParameters) -> np.ndarray:
        camera = pose_to_camera(parameters.pose, K, SIZE)
        image = model.render(model.animate(avatars, parameters), camera, K, behind, SIZE).rgb[:, 0]
        return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    given = [_moved(model, 2, seed) for seed in range(4)]
    side = model.config.estimator.backbone.image_size
    crops = [np.random.default_rng(seed).integers(0, 256, (2, side, side, 3), np.uint8) for seed in range(4)]
    with torch.inference_mode():
        expected = [plain(DrivingParameters(*(v.cuda() for v in p))) for p in given]
        with mixed_precision(torch.device("cuda")):
            estimates = [model.estimate(torch.from_numpy(c).cuda().permute(0, 3, 1, 2)[:, None] / 255) for c in crops]
        driven = [plain(p) for p in estimates]
    assert np.abs(expected[0].astype(int) - expected[1]).max() > 20, "the frames differ"
    for submit, inputs, images in (
        (animator.submit_parameters, given, expected),
        (animator.submit_images, crops, driven),
    ):
        submit(inputs[0])
        for i in range(4):
            if i < 3:
                submit(inputs[i + 1])
            assert np.abs(animator.collect().astype(int) - images[i]).max() <= 2, i
    for _ in range(2):
        animator.submit_images(crops[1])
    np.testing.assert_array_equal(animator.collect().copy(), animator.collect())


@gpu
@needs_cuda
def test_a_frame_that_needs_longer_lists_makes_room(model: FFAvatar, monkeypatch: pytest.MonkeyPatch) -> None:
    model = for_inference(model.cuda())
    sources = torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1)).cuda()
    with torch.inference_mode(), mixed_precision(torch.device("cuda")):
        avatar = model.reconstruct(sources)
    avatar = type(avatar)(*(value.float() for value in avatar.tensors().values()))
    given = _moved(model, 1, 0)
    complete = Animator(model, avatar, size=SIZE, backend=CudaGraphBackend).render(given)
    with monkeypatch.context() as narrow:
        narrow.setattr("ffavatar_model.animation.graph_backend._ROOM", 0.5)
        animator = Animator(model, avatar, size=SIZE, backend=CudaGraphBackend)
    assert (animator.render(given) != complete).any(), "half of the entries find no room"
    np.testing.assert_array_equal(animator.render(given), complete)


@gpu
@needs_cuda
def test_both_backends_render_the_same_frames(model: FFAvatar) -> None:
    model = for_inference(model.cuda())
    random = torch.Generator().manual_seed(1)
    with torch.inference_mode(), mixed_precision(torch.device("cuda")):
        avatar = model.reconstruct(torch.rand(1, 1, 3, 32, 32, generator=random).cuda())
    avatar = type(avatar)(*(value.float() for value in avatar.tensors().values()))
    plain = Animator(model, avatar, size=SIZE)
    quick = Animator(model, avatar, size=SIZE, backend=CudaGraphBackend)
    same = Framing(np.eye(2, 3), SIZE)
    for time_s in range(3):
        crop = torch.rand(3, 32, 32, generator=random)
        parameters = quick.estimate_parameters(crop, same, time_s)
        with torch.inference_mode(), mixed_precision(torch.device("cuda")):
            estimated = model.estimate(crop.cuda()[None, None])
        torch.testing.assert_close(parameters.expression, estimated.expression.float())
        assert np.abs(quick.render(parameters).astype(int) - plain.render(parameters)).max() <= 2
