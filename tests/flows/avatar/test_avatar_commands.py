"""The commands for users of avatars, run as a user runs them: the last line, the status, and what is refused."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation

from ffavatar_model.head import load_head, save_head
from ffavatar_model.io.avatar import AvatarHeader, load_avatar, save_avatar
from ffavatar_model.io.ply import read_ply
from flows.avatar.driver_face import DriverFace
from flows.avatar.heads import prepare_head_file
from flows.avatar.photos import FaceAligner
from flows.avatar.reconstruct import check_same_person
from flows.cli import main
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.image_codec import encode_png, read_photograph
from pipelines.media.video_writer import write_video

HEIC = Path(__file__).parents[2] / "golden" / "astronaut.heic"
"""A crop of ``skimage.data.astronaut`` as a phone stores photographs."""


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``call(word, …)``: the status of a command, and what it said without line breaks."""
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))

    def run(*words: object) -> tuple[int, str]:
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = capsys.readouterr()
        return status, f"{captured.out} {captured.err}".replace("\n", " ")

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """``photo(image, name)``: writes an image as a PNG file."""

    def write(image: np.ndarray, name: str = "photo.png") -> Path:
        (tmp_path / name).write_bytes(encode_png(np.ascontiguousarray(image)))
        return tmp_path / name

    return write


def test_every_verb_ends_with_status_0_and_a_line_that_names_its_file(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    avatar, model = tmp_path / "a.safetensors", ("--checkpoint", performer.checkpoint)
    status, said = call("reconstruct", photo(skimage.data.astronaut()), "--fast", *model, "-o", avatar)
    assert (status, f"avatar {avatar} from 1 photo;" in said) == (0, True), said
    status, said = call("animate", avatar, "--driver", performer.driver, "-o", tmp_path / "a.mp4")
    assert (status, f"{tmp_path / 'a.mp4'}: 6 frames" in said) == (0, True), said
    n = load_avatar(avatar)[0].offsets.shape[1]
    status, said = call("export", avatar, "-o", tmp_path / "a.ply")
    assert (status, f"{n} Gaussians in {tmp_path / 'a.ply'}" in said) == (0, True), said
    status, said = call("export", avatar, "--html", tmp_path / "a.html")
    assert (status, f"a.html: {(tmp_path / 'a.html').stat().st_size / 1e6:.1f} MB" in said) == (0, True), said
    status, said = call("export", avatar, "--driver", performer.driver, "-o", tmp_path / "frames")
    assert (status, f"6 frames in {tmp_path / 'frames'}" in said) == (0, True), said


def test_the_default_makes_the_avatar_like_the_person(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("reconstruct", photo(skimage.data.astronaut()), "--checkpoint", performer.checkpoint, "-o")
    status, said = call(*words, tmp_path / "two.safetensors", "--personalize", 1)
    assert status == 0 and said.index("1 steps, about 1 s each") < said.index("steps 1/1") < said.index("avatar "), said
    assert not torch.equal(
        load_avatar(tmp_path / "two.safetensors")[0].colours, load_avatar(performer.avatar)[0].colours
    )


def test_an_avatar_opens_where_its_head_was_built_with_other_rounding(
    call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels of another processor change the open head by 2e-12 metres, and so its digest."""
    head = load_head(prepare_head_file(None))
    noise = torch.from_numpy(np.random.default_rng(0).normal(scale=1e-9, size=head.template.shape)).float()
    other = tmp_path / "cache"
    save_head(replace(head, template=head.template + noise), other / prepare_head_file(None).relative_to(cache_dir()))
    for folder in ("weights", "models", "checkpoints"):
        if (cache_dir() / folder).is_dir():
            (other / folder).symlink_to(cache_dir() / folder)
    monkeypatch.setenv("FFAVATAR_CACHE", str(other))
    assert load_head(prepare_head_file(None)).digest != load_avatar(performer.avatar)[1].head_digest
    status, said = call("export", performer.avatar, "-o", tmp_path / "a.ply")
    assert status == 0, said
    status, said = call("animate", performer.avatar, "--driver", performer.driver, "-o", tmp_path / "a.mp4")
    assert status == 0, said


def test_an_avatar_of_another_version_of_the_open_head_says_so(
    call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path
) -> None:
    avatar, header = load_avatar(performer.avatar)
    values = {**vars(header), "open_head_version": 2, "head_digest": "0" * 32}
    save_avatar(tmp_path / "old.safetensors", avatar, AvatarHeader(**values))
    status, said = call("export", tmp_path / "old.safetensors", "-o", tmp_path / "x.ply")
    assert status == 2 and "open head of version 2, this program's is 3; make the avatar again" in said
    assert not (tmp_path / "x.ply").exists()


def turned_astronaut(degrees: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((225, 120), degrees, 1)
    matrix[:, 2] += (31, 136)
    return cv2.warpAffine(skimage.data.astronaut(), matrix, (512, 512), borderValue=(120, 120, 120))


def test_a_photo_is_turned_until_its_face_is_upright(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    aligner = FaceAligner()
    upright = aligner.align_photo(photo(turned_astronaut(0)))
    assert upright.turned_deg == 0
    for degrees in (30, 70, 90, 140, 180, 230, 270, 320):
        found = aligner.align_photo(photo(turned_astronaut(degrees)))
        assert found.embedding @ upright.embedding > 0.6, degrees
        assert np.abs(found.face.mesh - upright.face.mesh)[:, :2].mean() < 0.04 * len(found.face.crop), degrees
    one = photo(turned_astronaut(90))
    words = ("reconstruct", one, "--fast", "--checkpoint", performer.checkpoint, "-o", tmp_path / "a.safetensors")
    status, said = call(*words)
    assert status == 0 and f"{one}: turned by -90 degrees" in said, said


def test_a_large_photo_shows_one_face(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    large = photo(cv2.resize(skimage.data.astronaut()[30:240, 120:320], (4800, 5040), interpolation=cv2.INTER_CUBIC))
    status, said = call(
        *("reconstruct", large, "--fast", "--checkpoint", performer.checkpoint),
        *("-o", tmp_path / "a.safetensors"),
    )
    assert status == 0 and "from 1 photo" in said, said


def test_photos_of_two_people_are_refused_with_their_similarity(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path, six_people: Path
) -> None:
    one = photo(skimage.data.astronaut())
    words = ("reconstruct", one, f"{six_people}:6", "--fast", "--checkpoint", performer.checkpoint, "-o")
    status, said = call(*words, tmp_path / "a.safetensors")
    assert status == 2 and "similarity" in said and "--force" in said and not (tmp_path / "a.safetensors").exists()
    status, said = call(*words, tmp_path / "a.safetensors", "--force")
    assert status == 0 and "seems to show another person" in said and "from 2 photos" in said, said
    aligner = FaceAligner()
    mirrored = photo(skimage.data.astronaut()[:, ::-1], "mirrored.png")
    same = [aligner.align_photo(path).embedding for path in (one, mirrored)]
    check_same_person([one, mirrored], same, aligner.least_similarity)


@pytest.fixture
def six_people() -> Path:
    """A photograph of six people that a face library brings."""
    from importlib import resources

    with resources.as_file(resources.files("insightface") / "data" / "images" / "t1.jpg") as path:
        return path


def test_photos_that_show_no_whole_sharp_large_face_are_refused_with_a_number(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    whole = skimage.data.astronaut()
    cases = {
        "half.png": (whole[:, 225:], "53 % of the face is in the photo"),
        "blurred.png": (cv2.GaussianBlur(whole, (0, 0), 3), "sharpness 6"),
        "small.png": (cv2.resize(whole, (180, 180), interpolation=cv2.INTER_AREA), "pixels wide; at least 40"),
    }
    for name, (image, number) in cases.items():
        out = tmp_path / "a.safetensors"
        status, said = call(
            "reconstruct", photo(image, name), "--fast", "--checkpoint", performer.checkpoint, "-o", out
        )
        assert status == 2 and name in said and number in said and not out.exists(), said


def test_what_is_under_a_transparent_pixel_is_not_the_person(
    call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path
) -> None:
    rgb, alpha = skimage.data.astronaut(), np.full((512, 512), 255, np.uint8)
    alpha[:60] = 0
    avatars = []
    for name, hidden in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        image = rgb.copy()
        image[:60] = hidden
        PIL.Image.fromarray(np.dstack([image, alpha])).save(tmp_path / f"{name}.png")
        avatars.append(tmp_path / f"{name}.safetensors")
        words = ("--fast", "--checkpoint", performer.checkpoint, "-o", avatars[-1])
        status, said = call("reconstruct", tmp_path / f"{name}.png", *words)
        assert status == 0, said
    red, blue = (load_avatar(path)[0] for path in avatars)
    assert all(torch.equal(red.tensors()[name], blue.tensors()[name]) for name in red.tensors())


def test_a_photo_of_a_phone_opens(call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    status, said = call("reconstruct", HEIC, "--fast", "--checkpoint", performer.checkpoint, "-o", out)
    assert status == 0 and "turned" not in said and len(load_avatar(out)[1].sources) == 1, said


def test_an_output_is_never_an_input(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    avatar = shutil.copy(performer.avatar, tmp_path / "a.safetensors")
    driver = shutil.copy(performer.driver, tmp_path / "d.mp4")
    model = shutil.copy(performer.checkpoint, tmp_path / "m.safetensors")
    one = photo(skimage.data.astronaut(), "p.safetensors")  # formats of photos do not depend on the name
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    for words, named in {
        ("reconstruct", one, "--checkpoint", model, "-o", one): "input",
        ("reconstruct", one, "--checkpoint", model, "-o", model): "input",
        ("animate", avatar, "--driver", driver, "-o", driver): "input",
        ("animate", avatar, "--driver", driver, "-o", tmp_path / "x.txt"): ".mp4 or .webm or .gif",
        ("animate", avatar, "--driver", driver, "-o", tmp_path): "folder",
        ("export", avatar, "-o", avatar): ".ply",
        ("export", avatar, "--html", driver): ".html",
    }.items():
        status, said = call(*words)
        assert status == 2 and named in said, (words, said)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_a_ply_has_y_down_or_up(call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path) -> None:
    assert call("export", performer.avatar, "-o", tmp_path / "down.ply")[0] == 0
    assert call("export", performer.avatar, "--y-up", "-o", tmp_path / "up.ply")[0] == 0
    (down, turned, *_), (up, rest, *_) = (read_ply(tmp_path / f"{name}.ply") for name in ("down", "up"))
    avatar, head = load_avatar(performer.avatar)[0], load_head(prepare_head_file(None))
    torch.testing.assert_close(up, head.template + avatar.offsets[0])
    half_turn = torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(down, up * half_turn)
    expected = half_turn.diag() @ quaternion_to_matrix(rest)
    torch.testing.assert_close(quaternion_to_matrix(turned), expected, atol=1e-5, rtol=0)


def quaternion_to_matrix(quaternions: torch.Tensor) -> torch.Tensor:
    matrices = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]].numpy()).as_matrix()
    return torch.from_numpy(matrices).float()


def test_damaged_files_are_named_in_one_line(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    avatar, header = load_avatar(performer.avatar)
    half = type(avatar)(**{name: value[:, :99] for name, value in avatar.tensors().items()})
    save_avatar(tmp_path / "half.safetensors", half, header)
    flat = avatar._replace(scales=torch.zeros_like(avatar.scales))
    save_avatar(tmp_path / "flat.safetensors", flat, header)
    with safe_open(performer.checkpoint, "pt") as opened:
        notes = opened.metadata()
    tensors = load_file(performer.checkpoint)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", notes)
    one = photo(skimage.data.astronaut())
    for words, named in {
        ("export", tmp_path / "half.safetensors", "-o", tmp_path / "x.ply"): "has 99 Gaussians, its head 4538 points",
        ("export", tmp_path / "flat.safetensors", "-o", tmp_path / "x.ply"): "the Gaussians are flat",
        ("reconstruct", one, "--checkpoint", tmp_path / "nan.safetensors", "-o", tmp_path / "x"): "not finite",
    }.items():
        status, said = call(*words)
        assert status == 2 and said.count("ffavatar: ") == 1 and named in said, said
    assert not list(tmp_path.glob("x*"))


def test_the_driving_person_is_followed_across_cuts_and_nobody_else_drives(
    call: Callable[..., tuple[int, str]], performer: Any, six_people: Path, tmp_path: Path
) -> None:
    """Four frames of one person, four of others, then the first person elsewhere and at twice the size."""
    person, others = skimage.data.astronaut()[:320, 60:380], read_photograph(six_people)[60:700, 500:1140]
    near = cv2.resize(person[30:190, 80:240], (320, 320), interpolation=cv2.INTER_CUBIC)
    shots = [person] * 4 + [cv2.resize(others, (320, 320), interpolation=cv2.INTER_AREA)] * 4 + [near] * 4
    write_video(tmp_path / "cuts.mp4", shots, 10)
    status, said = call("animate", performer.avatar, "--driver", tmp_path / "cuts.mp4", "-o", tmp_path / "a.mp4")
    assert status == 0 and "12 frames" in said and "the driving face was away for 0.4 s" in said, said
    decoder = ProcessDecoder()
    frames = [frame.rgb.astype(int) for frame in decoder.frames(tmp_path / "a.mp4")]
    decoder.close()
    driver, avatar = np.stack(frames)[:, :, :256], np.stack(frames)[:, :, 256:]
    assert np.abs(avatar[3:7] - avatar[4:8]).mean() < 0.5, "it holds still while others are shown"
    driver = driver[:, 80:176, 80:176]  # the face; what is around it is outside the last shot
    assert np.abs(driver[2] - driver[10]).mean() < 25 < np.abs(driver[2] - driver[6]).mean(), "framed alike"
    aligner = FaceAligner()
    face = DriverFace(aligner, 256)
    assert face.follow(person) is not None and face.framing is not None
    framing = face.framing
    assert face.follow(shots[6]) is None and face.framing is framing, "a face of somebody else is none"


def test_a_variable_frame_rate_keeps_its_times(
    call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path
) -> None:
    """Frames at 0, 0.1, 1.1 and 1.2 s: the third is at 1.1 s of the video too, and was at 0.6 s before."""
    times = (0, 100, 1100, 1200)
    with av.open(str(tmp_path / "v.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 320, 320, "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms, image in zip(times, performer.frames[1:5], strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    status, said = call("animate", performer.avatar, "--driver", tmp_path / "v.mp4", "-o", tmp_path / "a.mp4")
    assert status == 0, said
    decoder = ProcessDecoder()
    frames = list(decoder.frames(tmp_path / "a.mp4"))
    decoder.close()
    changes = [
        after.time_s
        for before, after in itertools.pairwise(frames)
        if np.abs(before.rgb[:, :256].astype(int) - after.rgb[:, :256]).mean() > 2
    ]
    half_frame = frames[1].time_s / 2
    assert any(abs(change - 1.1) <= half_frame for change in changes), (changes, half_frame)


def test_an_animation_is_written_in_the_format_that_its_ending_says(
    call: Callable[..., tuple[int, str]], performer: Any, tmp_path: Path
) -> None:
    for ending, codec in ((".webm", "vp9"), (".gif", "gif")):
        out = tmp_path / f"a{ending}"
        assert call("animate", performer.avatar, "--driver", performer.driver, "-o", out)[0] == 0
        with av.open(str(out)) as file:
            assert file.streams.video[0].codec_context.name.endswith(codec)
            assert sum(1 for _ in file.decode(video=0)) == 6


def test_ctrl_c_says_that_nothing_was_written(
    call: Callable[..., tuple[int, str]], performer: Any, photo: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("reconstruct", photo(skimage.data.astronaut()), "--personalize", 400, "--checkpoint", performer.checkpoint)
    interrupt = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    try:
        status, said = call(*words, "-o", tmp_path / "a.safetensors")
    finally:
        interrupt.cancel()
    assert status == 130 and "interrupted; its output was not written" in said, said
    assert not list(tmp_path.glob("*.safetensors"))
