"""``ffavatar evaluate --nersemble-benchmark``: what is rendered where, what is refused, and what the kit says of it."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ffavatar_model.head import load_head
from ffavatar_model.head.flame import load_flame
from flows.avatar.heads import prepare_head_file
from flows.avatar.load_models import open_model
from flows.cli import main
from flows.evaluation.nersemble_rendering import head_to_camera, read_person_cameras, read_tracked_frames
from flows.evaluation.nersemble_submission import find_head_origins, render_submissions
from flows.evaluation.submission_zip import SubmissionWriter
from infra.console import CallError
from nersemble.benchmark import (
    MONO,
    MONO_TEST_SEQUENCES,
    NVS,
    BenchmarkTask,
    SubmissionVideo,
    read_frame_counts,
    write_metadata,
)
from nersemble.errors import NersembleError
from nersemble.flame_tracking import read_tracking, write_tracking
from nersemble.layout import tracking_path
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.decoder import ProcessDecoder
from pipelines.studio.captures.capture_studio import open_capture_studio
from pipelines.studio.captures.nersemble_benchmark_layout import HIDDEN, BenchmarkSpec, write_benchmark
from pipelines.studio.captures.nersemble_layout import TRUTH_FILE

PERSON, SEQUENCE = 393, "FREE"
WHITE = 240
SPEC = BenchmarkSpec(tasks=(MONO,), frames=1, train_sequences=("EXP-1-head",), test_sequences=(SEQUENCE,))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    """One person of the mono task, a frame a video."""
    root = tmp_path_factory.mktemp("benchmark")
    assert list(write_benchmark(open_capture_studio(cache_dir()), root, SPEC)) == [root / MONO.name / f"{PERSON}"]
    return root


@pytest.fixture
def own(benchmark, tmp_path) -> Path:
    """A copy that may be harmed."""
    shutil.copytree(benchmark, tmp_path / "own")
    return tmp_path / "own"


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in ProcessDecoder().frames(path)]


def overlap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Intersection over union of what is not white."""
    mine, true = ((image < WHITE).any(-1) for image in (ours, theirs))
    return float((mine & true).sum() / (mine | true).sum())


def test_the_zip_holds_what_the_task_asks_for_and_shows_the_head_where_it_is(benchmark, performer, tmp_path, capsys):
    made = render_submissions(performer.checkpoint, benchmark, tmp_path)
    assert made == {tmp_path / "mono_flame_avatar.zip": False}, "one person is no whole submission"
    assert "4 of 80 videos" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "mono_flame_avatar.zip") as archive:
        assert archive.namelist() == [f"393/FREE/cam_{serial}.mp4" for serial in MONO.serials]
        archive.extractall(tmp_path / "videos")
    for serial in MONO.serials:
        path = tmp_path / "videos" / SubmissionVideo(PERSON, SEQUENCE, serial).member
        facts = ProcessDecoder().probe(path)
        assert (facts["codec"], facts["width"], facts["height"], facts["n_frames"]) == ("h264", 512, 512, 1)
        assert facts["fps"] == pytest.approx(24.3, abs=0.01)
        truth = frames_of(benchmark / HIDDEN / MONO.name / f"{PERSON}" / SEQUENCE / path.name)
        for ours, theirs in zip(frames_of(path), truth, strict=True):
            # Random weights, so the mean head: it stands where the person stands, in every camera.
            # The mean head has no shoulders, so what lies below it is left out.
            below = np.argwhere((ours < WHITE).any(-1))[:, 0].max() + 1
            assert overlap(ours[:below], theirs[:below]) > 0.55
            centres = [np.argwhere((image[:below] < WHITE).any(-1)).mean(0) for image in (ours, theirs)]
            assert np.abs(centres[0] - centres[1]).max() < 40


def test_the_tracked_head_lies_where_the_truth_has_it(benchmark, performer):
    """Euler angles, scale and shift, through the calibration: vertices within 0.1 px of the truth's own cameras."""
    folder = benchmark / MONO.name / f"{PERSON}"
    model, _ = open_model(performer.checkpoint)
    driven = read_tracked_frames(model, folder, SEQUENCE, np.zeros(3))
    truth = [r for r in pq.read_table(benchmark / TRUTH_FILE).to_pylist() if r["sequence"] == SEQUENCE]
    tracking = read_tracking(tracking_path(folder, SEQUENCE))
    assert float(tracking.scale[0, 0]) != 1
    for serial, camera in read_person_cameras(MONO, folder).items():
        poses = head_to_camera(camera, driven.head_to_world)
        for i, row in enumerate(truth):
            vertices = np.array(row["vertices"]).reshape(-1, 3)[::50]
            place = np.array(row["head_to_world"]).reshape(3, 4)
            world = 1.05 * (vertices @ place[:, :3].T + place[:, 3])  # the benchmark's world is 1.05 times the rig's
            known, depth = camera.project(world)
            seen = (vertices @ poses[i, :, :3].T + poses[i, :, 3]) @ camera.K.T
            assert np.abs(seen[:, :2] / seen[:, 2:] - known).max() < 0.1, serial
            assert (depth > 0.5).all() and np.linalg.det(poses[i, :, :3]) == pytest.approx(1, abs=1e-4)
            for wrong in (
                replace(tracking, scale=np.float32([[1.0]])),
                replace(tracking, rotation=tracking.rotation[:, ::-1]),
                replace(tracking, rotation=-tracking.rotation),
                replace(tracking, translation=1000 * tracking.translation),
            ):
                pose = head_to_camera(camera, wrong.head_to_world())[i]
                off = (vertices @ pose[:, :3].T + pose[:, 3]) @ camera.K.T
                assert np.abs(off[:, :2] / off[:, 2:] - known).max() > 0.5
    n = driven.expression.shape[1]  # the model may use fewer directions than the head has
    np.testing.assert_allclose(driven.expression[0], truth[0]["expression"][:n], atol=1e-6)
    np.testing.assert_allclose(driven.rotations[0, 1:].ravel(), truth[0]["rotations"][3:], atol=1e-6)


def test_parameters_of_another_head_are_refused(own, performer, tmp_path):
    path = tracking_path(own / MONO.name / f"{PERSON}", SEQUENCE)
    tracking = read_tracking(path)
    write_tracking(path, tracking)  # as the organisers', FLAME's
    with pytest.raises(CallError, match="open head; train with --head"):
        render_submissions(performer.checkpoint, own, tmp_path / "out")
    write_tracking(path, tracking, {"name": "open", "digest": "another"})
    with pytest.raises(CallError, match="another"):
        render_submissions(performer.checkpoint, own, tmp_path / "out")
    write_tracking(path, tracking)
    model, _ = open_model(performer.checkpoint)
    model.head_name = "flame2023"
    with pytest.raises(CallError, match="--head FILE"):
        find_head_origins(model, [path], None)
    assert not (tmp_path / "out").exists()


def test_flames_parameters_drive_a_model_of_the_same_file_to_the_same_place(own, performer, as_flame, tmp_path):
    """The open head written as a FLAME file with another origin, and tracking in that file's frame."""
    folder = own / MONO.name / f"{PERSON}"
    path, (model, _) = tracking_path(folder, SEQUENCE), open_model(performer.checkpoint)
    marked = read_tracked_frames(model, folder, SEQUENCE, np.zeros(3)).head_to_world
    head = load_head(prepare_head_file(None))
    given = as_flame(head, tmp_path / "flame2023.pkl")
    flame = load_flame(given)
    tracking = read_tracking(path)
    moved = head.template[0].double().numpy() + np.array([0.01, 0.1, 0.02]) - flame.template[0].double().numpy()
    shift = tracking.translation - (tracking.head_to_world()[..., :3] @ moved).astype(np.float32)
    write_tracking(path, replace(tracking, translation=shift))
    model.head_name, model.head_digest = flame.name, flame.digest
    origins = find_head_origins(model, [path], given)
    np.testing.assert_allclose(origins[path], moved, atol=1e-6)
    driven = read_tracked_frames(model, folder, SEQUENCE, origins[path])
    np.testing.assert_allclose(driven.head_to_world, marked, atol=1e-6)
    other = replace(head, template=head.template * 1.01)
    with pytest.raises(CallError, match="not the file that the checkpoint was made with"):
        find_head_origins(model, [path], as_flame(other, tmp_path / "other.pkl"))


@pytest.mark.parametrize(
    ("words", "named"), [((), "--corpus URI or --nersemble-benchmark DIR"), (("--nersemble-benchmark", "x"), "-o DIR")]
)
def test_the_command_wants_something_to_measure_and_somewhere_to_write(words, named, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "checkpoint", *words])
    assert ended.value.code == 2 and named in capsys.readouterr().err


def test_a_benchmark_that_lacks_something_says_what(own, performer, tmp_path):
    def refused(named: str, error: type[Exception] = NersembleError) -> None:
        with pytest.raises(error) as caught:
            render_submissions(performer.checkpoint, own, tmp_path / "out")
        assert named in str(caught.value) and not list((tmp_path / "out").glob("*"))

    write_metadata(own, MONO, {(PERSON, SEQUENCE): 3})
    refused("1 frames, and the task's metadata.json says 3")
    (own / MONO.name / "metadata.json").unlink()
    refused("metadata.json: missing")
    write_metadata(own, MONO, {(PERSON, SEQUENCE): 1})
    shutil.rmtree(own / MONO.name / f"{PERSON}" / "sequences" / "EXP-1-head" / "images")
    refused("no image with a face", CallError)
    shutil.rmtree(own / MONO.name)
    refused("nersemble-benchmark-download", CallError)


@pytest.mark.parametrize("task", [MONO, NVS], ids=lambda t: t.name)
def test_a_submission_takes_only_what_the_task_asks_for(task, tmp_path):
    (participant, sequence), *_ = task.recordings
    good = np.zeros((task.height, task.width, 3), np.uint8)
    video = SubmissionVideo(participant, sequence, task.serials[0])
    for wrong, frames, named in (
        (video, [good], "1 frames, and the recording has 2"),
        (video, [good[:, :-2]] * 2, "a frame of uint8"),
        (video._replace(sequence="EXP-4-lips"), [good] * 2, "no video of the task"),
        (video._replace(serial="222200036"), [good] * 2, "no video of the task"),
        (video._replace(participant=18), [good] * 2, "no video of the task"),
    ):
        path = tmp_path / "zip" / f"{task.name}.zip"
        with (
            pytest.raises(ValueError, match=named),
            SubmissionWriter(path, task, {(participant, sequence): 2}) as writer,
        ):
            writer.add(wrong, frames)
        assert not list(path.parent.iterdir()), "no half of a submission is left"


def whole(
    task: BenchmarkTask, path: Path, encoded: bytes, leave_out: str = "", other: dict[str, bytes] | None = None
) -> Path:
    """A zip with one video's bytes under every name of the task, less one, or with others in some places."""
    with zipfile.ZipFile(path, "w") as archive:
        for video in task.videos():
            if not leave_out or leave_out not in video.member:
                archive.writestr(video.member, (other or {}).get(video.member, encoded))
    return path


@pytest.mark.soak
@pytest.mark.parametrize("task", [MONO, NVS], ids=lambda t: t.name)
def test_the_kit_takes_a_whole_submission_and_sees_what_is_wrong_with_another(task, kit, tmp_path):
    """Videos as ``SubmissionWriter`` encodes them; the kit's reader, ``is_complete`` and ``validate_submission``."""
    write_metadata(tmp_path, task, dict.fromkeys(task.recordings, 3))
    assert read_frame_counts(tmp_path, task) == dict.fromkeys(task.recordings, 3)
    frame = np.full((task.height, task.width, 3), 200, np.uint8)
    first = next(iter(task.videos()))

    def encoded(size: BenchmarkTask, n: int) -> bytes:
        path = tmp_path / "one.zip"
        image = frame[: size.height, : size.width]
        with SubmissionWriter(path, size, dict.fromkeys(task.recordings, n)) as writer:
            writer.add(first, [image] * n)
        return zipfile.ZipFile(path).read(first.member)

    good, short, small = encoded(task, 3), encoded(task, 2), encoded(replace(task, width=task.width - 2), 3)
    sequence = task.recordings[-1][1]
    paths = [
        whole(task, tmp_path / "good.zip", good),
        whole(task, tmp_path / "frame.zip", good, other={first.member: short}),
        whole(task, tmp_path / "size.zip", good, other={first.member: small}),
        whole(task, tmp_path / "sequence.zip", good, leave_out=f"/{sequence}/"),
    ]
    answers = kit("submission", task.name, *paths, benchmark=tmp_path)
    assert answers[0] == {"complete": True, "issues": {}}
    assert answers[1]["issues"] == {"wrong_frame_counts": [[first.member, 2, 3]]}
    assert list(answers[2]["issues"]) == ["wrong_resolutions"]
    assert not answers[3]["complete"] and list(answers[3]["issues"]) == ["missing_files"]
    n_gone = len(answers[3]["issues"]["missing_files"])
    assert n_gone == len([v for v in task.videos() if v.sequence == sequence])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_kit_takes_what_is_rendered_for_everybody(kit, performer, tmp_path):
    """All of both tasks: 95 videos of rendered people, one frame each."""
    spec = BenchmarkSpec(identities=5, frames=1, cameras=3, train_sequences=("EXP-1-head",))
    assert spec.test_sequences == MONO_TEST_SEQUENCES
    assert len(list(write_benchmark(open_capture_studio(cache_dir()), tmp_path / "data", spec))) == 10
    made = render_submissions(performer.checkpoint, tmp_path / "data", tmp_path / "out")
    assert list(made.values()) == [True, True]
    for path in made:
        (answer,) = kit("submission", path.stem, path, benchmark=tmp_path / "data")
        assert answer == {"complete": True, "issues": {}}
    with zipfile.ZipFile(tmp_path / "out/nvs.zip") as archive:
        archive.extractall(tmp_path / "videos")
    for video in NVS.videos():
        (ours,), (theirs,) = (frames_of(f / video.member) for f in (tmp_path / "videos", tmp_path / "data/hidden/nvs"))
        assert overlap(ours, theirs) > 0.5, video.member


def test_the_studios_head_is_the_checkpoints(performer):
    model, _ = open_model(performer.checkpoint)
    assert model.head_digest == load_head(prepare_head_file(None)).digest
