"""Run by an interpreter that has the official kits: answers questions about files, as JSON. Imports nothing of ours.

``python nersemble_kit.py QUESTION ARGUMENT…``; the last line of standard output is the answer.

Shims, the least that makes the kits run beside today's libraries:

- imageio 2.38 opens an mp4 that comes as a file object by pyav only when told to: ``improps`` gets ``plugin="pyav"``.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def data_set(root: str, participant: str, sequence: str, serial: str, frame: str, factor: str) -> dict:
    """Return what ``nersemble_data`` reads: cameras, colour matrix, the corrected frame (downscaled), names."""
    from nersemble_data.data.nersemble_data import NeRSembleDataManager, NeRSembleParticipantDataManager

    manager = NeRSembleParticipantDataManager(root, int(participant))
    calibration = manager.load_camera_calibration()
    image = manager.load_image(
        sequence,
        serial,
        int(frame),
        as_uint8=True,
        apply_color_correction=True,
        downscale_factor=float(factor) if float(factor) != 1 else None,
    )
    plain = manager.load_image(sequence, serial, int(frame), as_uint8=True)
    return {
        "participants": NeRSembleDataManager(root).list_participants(),
        "sequences": sorted(manager.list_sequences()),
        "cameras": sorted(manager.list_cameras(sequence)),
        "timesteps": manager.get_n_timesteps(sequence),
        "world_2_cam": {s: np.asarray(p).tolist() for s, p in calibration.world_2_cam.items()},
        "intrinsics": np.asarray(calibration.intrinsics).tolist(),
        "colours": {s: m.tolist() for s, m in manager.load_color_calibration().items()},
        "corrected": np.asarray(image).tolist(),
        "plain": np.asarray(plain).tolist(),
    }


def constants() -> dict:
    """Return the constants that both kits hold."""
    import nersemble_benchmark.constants as benchmark
    import nersemble_data.constants as data

    return {
        "serials": data.SERIALS,
        "sequences": data.SEQUENCE_NAMES,
        "assets": data.ASSETS,
        "benchmark_assets": benchmark.ASSETS,
        "nvs": benchmark.BENCHMARK_NVS_IDS_AND_SEQUENCES,
        "nvs_held_out": benchmark.BENCHMARK_NVS_HOLD_OUT_SERIALS,
        "nvs_train": benchmark.BENCHMARK_NVS_TRAIN_SERIALS,
        "mono": benchmark.BENCHMARK_MONO_FLAME_AVATAR_IDS,
        "mono_train": benchmark.BENCHMARK_MONO_FLAME_AVATAR_SEQUENCES_TRAIN,
        "mono_test": benchmark.BENCHMARK_MONO_FLAME_AVATAR_SEQUENCES_TEST,
        "mono_serial": benchmark.BENCHMARK_MONO_FLAME_AVATAR_TRAIN_SERIAL,
        "mono_held_out": benchmark.BENCHMARK_MONO_FLAME_AVATAR_HOLD_OUT_SERIALS,
        "svfr": benchmark.BENCHMARK_SVFR_IDS,
    }


def colours(path: str) -> dict:
    """Return the kit's correction of ``pixels`` (N, 3) by each of ``matrices``, all of them in an npz."""
    from nersemble_data.util.color_correction import correct_color

    with np.load(path) as arrays:
        pixels = arrays["pixels"]
        return {name: correct_color(pixels, arrays[name]).tolist() for name in arrays.files if name != "pixels"}


def benchmark_data(root: str, participant: str, sequence: str, serial: str, frame: str) -> dict:
    """Return what the benchmark's managers read, and head points as its FLAME code moves them to the world."""
    import torch
    from nersemble_benchmark.data.benchmark_data import MonoFlameAvatarDataManager
    from nersemble_benchmark.models.flame import FlameProvider

    manager = MonoFlameAvatarDataManager(root, int(participant))
    calibration = manager.load_camera_calibration()
    tracking = manager.load_flame_tracking(sequence)
    provider = FlameProvider.__new__(FlameProvider)  # its constructor wants the licensed FLAME file; the transform none
    provider._separate_transformation = True
    provider.rotation, provider.translation = torch.tensor(tracking.rotation), torch.tensor(tracking.translation)
    provider.scale = torch.tensor(tracking.scale)
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.1, 0.02, 0.03], [-0.05, 0.08, 0.0]]])
    moved = provider.apply_model_to_world_transformation(points, int(frame))[0]
    return {
        "world_2_cam": {s: np.asarray(p).tolist() for s, p in calibration.world_2_cam.items()},
        "intrinsics": {s: np.asarray(k).tolist() for s, k in calibration.intrinsics.items()},
        "tracking": {name: np.asarray(value).tolist() for name, value in vars(tracking).items()},
        "serials": sorted(manager.list_serials(sequence)) if manager_has(manager, sequence) else [],
        "picture": manager.load_image(sequence, serial, int(frame), as_uint8=True).tolist() if serial else [],
        "points": points[0].tolist(),
        "moved": moved.tolist(),
    }


def manager_has(manager: object, sequence: str) -> bool:
    """Return True if the sequence has images (a test sequence has only its tracking)."""
    from pathlib import Path

    return Path(manager.get_images_path(sequence, "x")).parent.is_dir()  # type: ignore[attr-defined]


def submission(task: str, *paths: str) -> list[dict]:
    """Return the kit's verdict on submissions: ``validate_submission`` and ``is_complete``."""
    import imageio.v3 as iio

    ask = iio.improps
    iio.improps = lambda what, **more: ask(what, **{"plugin": "pyav", **more})
    from nersemble_benchmark.constants import BENCHMARK_NVS_IDS_AND_SEQUENCES
    from nersemble_benchmark.data.submission_data import (
        MonoFlameAvatarSubmissionDataReader,
        NVSSubmissionDataReader,
    )

    answers = []
    for path in paths:
        if task == "nvs":
            reader = NVSSubmissionDataReader(path)
            complete = all(reader.is_complete(p, s) for p, s in BENCHMARK_NVS_IDS_AND_SEQUENCES)
        else:
            reader = MonoFlameAvatarSubmissionDataReader(path)
            complete = reader.is_complete()
        issues = reader.validate_submission()
        answers.append({"complete": complete, "issues": issues})
    return answers


if __name__ == "__main__":
    question = {f.__name__: f for f in (data_set, constants, colours, benchmark_data, submission)}[sys.argv[1]]
    print("\n" + json.dumps(question(*sys.argv[2:])))
