"""The page in a real browser: its images against the PyTorch renderer's, its controls, and that it calls nobody."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffavatar_model.camera import pose_to_camera, rotation_to_6d, virtual_intrinsics
from ffavatar_model.head import HeadModel, axis_angle_to_matrix, subdivide
from ffavatar_model.io.avatar import AvatarHeader
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.rig import Rig
from ffavatar_model.renderers import render_gaussians
from ffavatar_model.viewer import avatar_page, pack_avatar, pack_track

SIZE = 128
MEAN_ERROR, NEARLY_ALL, MAX_ERROR = 0.35, 1.5, 12.0
"""Tolerances, of 255: of the mean, of 999 in 1,000 values, of any.

The canvas rounds to 8 bits and blends with 16-bit floats; two Gaussians within microns of one depth may swap.
"""


def with_everything(head: HeadModel) -> HeadModel:
    """The egg with pose correctives (FLAME has them), eyes and two named actions."""
    g = torch.Generator().manual_seed(5)
    weights = head.skinning_weights.clone()
    for j, side in ((3, 1.0), (4, -1.0)):
        near = (head.template - torch.tensor([0.032 * side, 0.0, 0.02])).norm(dim=-1) < 0.02
        weights[near] = torch.nn.functional.one_hot(torch.tensor(j), 5).float()
    return replace(
        head,
        skinning_weights=weights,
        pose_correctives=0.01 * torch.randn(head.n_vertices, 3, 36, generator=g),
        action_names=("jawOpen", "mouthSmileLeft"),
        action_expression=torch.tensor([[0.5, 0.0], [0.0, 2.0]]),
        action_rotations=torch.tensor([[[0.0] * 3, [0.0] * 3, [0.3, 0, 0], [0.0] * 3, [0.0] * 3], [[0.0] * 3] * 5]),
    )


def dressed(rig: Rig, seed: int) -> CanonicalAvatar:
    """Gaussians such as training makes: about as large as their spacing, mostly opaque, of any colour."""
    g = torch.Generator().manual_seed(seed)
    n = len(rig.points)
    smooth = (60 * rig.points).sin() * 0.5 + 0.5
    return CanonicalAvatar(
        0.002 * torch.randn(1, n, 3, generator=g),
        torch.nn.functional.normalize(torch.randn(1, n, 4, generator=g), dim=-1),
        rig.spacing[None, :, None] * (0.3 + 0.5 * torch.rand(1, n, 3, generator=g)),
        0.2 + 0.8 * torch.rand(1, n, generator=g),
        (0.8 * smooth[None] + 0.2 * torch.rand(1, n, 3, generator=g)),
    )


def poses(rig: Rig) -> list[DrivingParameters]:
    """At rest; talking with the head turned; everything far out."""
    start = rig.start_pose
    turned = rotation_to_6d(axis_angle_to_matrix(torch.tensor([0.15, 0.5, -0.1])))
    pose = torch.cat((turned, start[6:] + torch.tensor([0.1, 0.12, -0.05])))
    joints = torch.tensor([[0, 0, 0], [0.1, 0.2, -0.1], [0.3, 0.05, 0], [0.1, 0.3, 0], [0.1, 0.3, 0]]).float()
    return [
        DrivingParameters(torch.zeros(1, 1, 2), torch.zeros(1, 1, 5, 3), start[None, None]),
        DrivingParameters(torch.tensor([[[1.2, -0.4]]]), 0.5 * joints[None, None], pose[None, None]),
        DrivingParameters(torch.tensor([[[-3.0, 3.0]]]), 1.5 * joints[None, None], start[None, None]),
    ]


def expected(rig: Rig, avatar: CanonicalAvatar, parameters: DrivingParameters) -> np.ndarray:
    """(SIZE, SIZE, 3) 0 to 255, by PyTorch."""
    K = virtual_intrinsics(SIZE)
    camera = pose_to_camera(parameters.pose[0, 0], K, SIZE)
    means, rotations = rig.pose(avatar, parameters)
    image = render_gaussians(
        means[:, 0], rotations[:, 0], *avatar[2:5], camera[None, None], K[None, None], SIZE, SIZE, torch.ones(3)
    )
    return 255 * image.rgb[0, 0].clamp(0, 1).permute(1, 2, 0).numpy()


def request(parameters: DrivingParameters) -> dict[str, Any]:
    expression, rotations, pose = (value[0, 0].tolist() for value in parameters)
    return {"expression": expression, "rotations": rotations, "pose": pose, "size": SIZE}


def opened(browser: Any, page: Path) -> None:
    """Load a page and wait for the avatar."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, 90).until(lambda b: b.execute_script("return !!window.ffavatar"))


def shown(browser: Any, asked: dict[str, Any]) -> np.ndarray:
    data = browser.execute_script("return ffavatar.render(arguments[0])", asked)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(SIZE, SIZE, 4)[..., :3].astype(float)


@pytest.mark.parametrize("subdivisions", [0, 2])
def test_the_page_draws_what_the_renderer_draws(browser: Any, head: HeadModel, subdivisions: int, tmp_path: Path):
    head = with_everything(head)
    fine = head
    for _ in range(subdivisions):
        fine = subdivide(fine)
    rig = Rig(fine, 2)
    avatar = dressed(rig, subdivisions)
    header = AvatarHeader(head="egg", head_digest=head.digest, subdivisions=subdivisions)
    page = tmp_path / "avatar.html"
    page.write_text(avatar_page(pack_avatar(avatar, header, head, 2), "egg"))
    opened(browser, page)
    images = []
    for parameters in poses(rig):
        truth = expected(rig, avatar, parameters)
        error = np.abs(shown(browser, request(parameters)) - truth)
        found = error.mean(), np.quantile(error, 0.999), error.max()
        assert (np.array(found) <= (MEAN_ERROR, NEARLY_ALL, MAX_ERROR)).all(), found
        print(f"{len(rig.points)} points: mean {found[0]:.3f}, 99.9 % {found[1]:.2f}, max {found[2]:.2f} of 255")
        images.append(truth)
    assert np.abs(images[0] - images[1]).mean() > 5 and np.abs(images[0] - images[2]).mean() > 2
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe


@pytest.fixture
def page(browser: Any, head: HeadModel, tmp_path: Path) -> dict[str, Any]:
    """The page of an avatar with named actions and a track of two frames, opened; what it was made from."""
    head = with_everything(head)
    rig = Rig(head, 2)
    avatar = dressed(rig, 7)
    header = AvatarHeader(
        head="egg", head_digest=head.digest, subdivisions=0, licence="CC0-1.0", consent="</script><b id=injected>"
    )
    track = pack_track(poses(rig)[:2], [0.0, 0.04])
    packed = pack_avatar(avatar, header, head, 2, track)
    path = tmp_path / "avatar.html"
    path.write_text(avatar_page(packed, "<i>Egg & co</i>"))
    browser.set_window_size(1020, 640)
    opened(browser, path)
    return {"path": path, "rig": rig, "avatar": avatar, "browser": browser, "head": head}


def stage_of(browser: Any) -> np.ndarray:
    """Return the stage's grey values when all that was requested has been drawn."""
    script = """
    const done = arguments[arguments.length - 1], small = document.createElement("canvas");
    small.width = small.height = 48;
    const context = small.getContext("2d");
    const look = () => {
      if (!ffavatar.still()) return setTimeout(look, 30);
      ffavatar.redraw();   // read in the same task, before the image is cleared
      context.drawImage(document.getElementById("stage"), 0, 0, 48, 48);
      done([...context.getImageData(0, 0, 48, 48).data]);
    };
    look();
    """
    values = np.array(browser.execute_async_script(script), float).reshape(48, 48, 4)
    assert values[..., 3].min() == 255
    return values[..., :3].mean(-1)


def moved(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.abs(before - after).mean())


def press(browser: Any, *keys: str) -> np.ndarray:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()
    return stage_of(browser)


def slide(browser: Any, label: str, value: float) -> np.ndarray:
    """Move a slider by its label, as an input event of the browser."""
    script = """
    const [label, value] = arguments;
    const found = [...document.querySelectorAll("#panel label")].find((l) => l.textContent === label);
    const input = document.getElementById(found.htmlFor);
    input.value = value;
    input.dispatchEvent(new Event("input"));
    """
    browser.execute_script(script, label, value)
    return stage_of(browser)


def test_sliders_presets_keys_and_the_mouse_move_the_head(page: dict[str, Any]):
    from selenium.webdriver.common.action_chains import ActionChains

    browser = page["browser"]
    browser.execute_script("ffavatar.controls.setPlaying(false); ffavatar.controls.reset()")
    rest = stage_of(browser)
    assert rest.std() > 10 and moved(rest, stage_of(browser)) == 0, "at rest it stands still"
    for label, value in [
        ("Jaw open", 0.4),
        ("Eyes left and right", 0.5),
        ("Neck turn", 0.4),
        ("smile, left", 1.0),
        ("open", 1.0),
        ("Turn", 0.8),
        ("Zoom", 2.0),
    ]:
        assert moved(rest, slide(browser, label, value)) > 0.05, label
        browser.execute_script("ffavatar.controls.reset()")
        assert moved(rest, stage_of(browser)) < 0.05, f"{label}: put back"
    browser.execute_script("document.activeElement.blur()")
    turned = press(browser, "\ue014", "\ue014", "\ue014")  # arrow right
    assert moved(rest, turned) > 0.5
    assert moved(rest, press(browser, "+", "+")) > 0.5
    assert moved(rest, press(browser, "0")) < 0.05
    surprised = press(browser, "4")
    pressed = browser.execute_script("return document.querySelector('#presets [aria-pressed=true]').textContent")
    assert pressed == "Surprise" and moved(rest, surprised) > 0.05
    assert moved(rest, press(browser, "1")) < 0.05
    stage = browser.find_element("id", "stage")
    mouse = ActionChains(browser).move_to_element_with_offset(stage, -300, 0).click_and_hold()
    mouse.move_by_offset(120, 30).release().perform()
    dragged = browser.execute_script("return [ffavatar.orbit.yaw, ffavatar.orbit.pitch]")
    assert dragged[0] > 0.3 and dragged[1] < -0.05 and moved(rest, stage_of(browser)) > 0.5
    press(browser, "r")
    shown_before = browser.execute_script("return document.getElementById('panel').hidden")
    press(browser, "c")
    assert browser.execute_script("return document.getElementById('panel').hidden") != shown_before
    press(browser, "c")


def test_a_track_plays_and_can_be_stopped(page: dict[str, Any]):
    browser, (first, second) = page["browser"], poses(page["rig"])[:2]
    assert browser.execute_script("return ffavatar.actor.playing"), "a page with a track plays it"
    press_space = browser.execute_script
    press_space("ffavatar.controls.setPlaying(false)")
    for place, truth in ((0.0, first), (0.9, second)):
        script = """
        const scrub = document.getElementById("scrub");
        scrub.value = arguments[0];
        scrub.dispatchEvent(new Event("input"));
        const { expression, rotations, pose } = ffavatar.actor.parameters();
        return [...expression, ...rotations.flat(), ...pose];
        """
        got = browser.execute_script(script, place)
        np.testing.assert_allclose(got, torch.cat([v.flatten() for v in truth]).numpy(), atol=1e-3)


def test_the_page_asks_for_nothing_and_runs_nothing_that_it_is_told(page: dict[str, Any]):
    browser, text = page["browser"], page["path"].read_text()
    browser.execute_script("ffavatar.controls.setPlaying(false); ffavatar.controls.preset('Smile')")
    stage_of(browser)
    asked = set()
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            asked.add(event["params"]["request"]["url"].partition(",")[0])
    others = {url for url in asked if not url.startswith(("data:", "blob:")) and url != page["path"].as_uri()}
    assert page["path"].as_uri() in asked and not others, others
    assert not re.findall(r"<[^>]*\s(?:src|href)=|@import|url\(|import\(|XMLHttpRequest|WebSocket|https?://", text)
    refused = browser.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('went out'), () => done('refused'))"
    )
    assert refused == "refused", "its own policy forbids it"
    assert browser.execute_script("return document.getElementById('injected')") is None
    said = browser.execute_script("return [document.title, document.getElementById('about').textContent]")
    assert said[0] == "<i>Egg & co</i>" and "CC0-1.0" in said[1] and "</script>" in said[1]


def test_an_avatar_of_another_head_is_not_packed(head: HeadModel):
    rig = Rig(head, 2)
    header = AvatarHeader(head="egg", head_digest=head.digest, subdivisions=1)
    with pytest.raises(ValueError, match="400 Gaussians on a head of 1594 points"):
        pack_avatar(dressed(rig, 0), header, head, 2)
