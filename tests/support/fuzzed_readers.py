"""``python -m tests.support.fuzzed_readers READER SECONDS SEED``: feed one reader damaged and hostile files.

The process may have ``MEMORY`` more than it has after the imports. An audit hook ends it when the reader starts a
process, connects, or opens another file than its own. An error that is not the reader's own, and an input that takes
longer than ``LIMIT_S``, end it too. At the end it prints the number of inputs.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from infra.console import _raised_by_us

MEMORY = 3 << 30
"""Address space that a reader may take, bytes; most readers' own limits are far below."""
LIMIT_S = 20
"""Longest time for one input, seconds."""
GOLDEN = Path(__file__).parents[1] / "golden" / "format_1"
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.", "ctypes.dlopen", "pty.")
"""Beginnings of the names of audit events that no reader of files has."""

Reader = Callable[[bytes, Path], object]


def read_zip(data: bytes, path: Path) -> object:
    from ava256.archive import Archive

    with Archive("x.zip", io.BytesIO(data)) as archive:
        return [len(archive.read(name, 100_000) or b"") for name in archive.names()[:20]]


def read_tracking(data: bytes, path: Path) -> object:
    from nersemble.flame_tracking import read_head_mark, read_tracking

    return read_head_mark(path), read_tracking(path)


def read_pickle(data: bytes, path: Path) -> object:
    from ffavatar_model.head.safe_pickle import read_arrays

    return read_arrays(data)


def read_avatar(data: bytes, path: Path) -> object:
    from ffavatar_model.io.avatar import load_avatar

    return load_avatar(path)


def read_head(data: bytes, path: Path) -> object:
    from ffavatar_model.head import load_head

    return load_head(path)


def read_checkpoint(data: bytes, path: Path) -> object:
    from ffavatar_model.io.weights import read_header

    return read_header(path)


def read_manifest(data: bytes, path: Path) -> object:
    from mfhq.manifest import Manifest

    return Manifest.from_json(data)


def read_cameras(data: bytes, path: Path) -> object:
    from ava256.camera_calibration import read_calibration

    return read_calibration(data)


def read_camera_params(data: bytes, path: Path) -> object:
    from nersemble.camera_params import read_camera_params

    return read_camera_params(path)


def read_list(data: bytes, path: Path) -> object:
    from pipelines.mining.source_listing import list_sources

    return [list_sources(path.with_suffix(suffix)) for suffix in (".txt",)]


def read_table_list(data: bytes, path: Path) -> object:
    from pipelines.mining.source_listing import list_sources

    return list_sources(path.with_suffix(".csv"))


def read_parquet_list(data: bytes, path: Path) -> object:
    from pipelines.mining.source_listing import list_sources

    return list_sources(path.with_suffix(".parquet"))


def read_container(data: bytes, path: Path) -> object:
    from pipelines.media.containers import check_container

    return check_container(path)


def zips() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.writestr("cam/000001.avif", bytes(range(256)) * 4)
            archive.writestr("../evil", b"x" if method == zipfile.ZIP_STORED else b"")
            archive.writestr("cam/000002.avif", b"\0" * 3_000_000)
        made.append(out.getvalue())
    return made


def trackings() -> list[bytes]:
    out = io.BytesIO()
    np.savez_compressed(out, shape=np.zeros((1, 300), "f4"), expression=np.zeros((2, 100), "f4"), frames=np.arange(2))
    return [out.getvalue(), *zips()]


def pickles() -> list[bytes]:
    arrays = {"v_template": np.zeros((4, 3)), "f": np.zeros((2, 3), np.uint32), "name": "x"}
    return [
        *(pickle.dumps(arrays, protocol=protocol) for protocol in range(6)),
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04Q.",
        b"r\xff\xff\xff\xff.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"(lp0\n" * 2000,
    ]


def manifests() -> list[bytes]:
    with zipfile.ZipFile(GOLDEN / "corpus.zip") as corpus:
        return [corpus.read(name) for name in corpus.namelist() if name.startswith("snapshots/")]


def cameras() -> list[bytes]:
    one = {"cameraId": "400940", "K": np.eye(3).tolist(), "T": np.eye(4).tolist(), "distortion": [], "width": 4}
    return [json.dumps({"KRT": [one, one]}).encode(), b'{"KRT": [{"K": [[1e999]]}]}', b"[" * 5000, b'{"KRT": NaN}']


def camera_params() -> list[bytes]:
    pose = np.eye(4).tolist()
    whole = {"world_2_cam": {"222200037": pose}, "intrinsics": [[1, 0, 1], [0, 1, 1], [0, 0, 1]]}
    return [json.dumps(whole).encode(), json.dumps({**whole, "intrinsics": {"222200037": pose}}).encode(), b"[" * 5000]


def lists() -> list[bytes]:
    return [
        b"uri,licence,consent\r\na.mp4,CC0,yes\r\n/b.mp4,,\r\n",
        b"a.mp4\n# a comment\n../b.mp4\nfile:///c.mp4\ns3://bucket/x.mp4\nhttp://me:secret@host/x\n",
        "uri\n\u2028clip\u202e.mp4\n\ud7ff\n".encode(),
        b"\xff\xfeu\0r\0i\0",
        b'uri,"a\nb"\n"x""y",\x00\n',
    ]


def parquet_lists() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = []
    for columns in ({"uri": ["a.mp4", None]}, {"uri": [1, 2]}, {"uri": ["/b.mp4"], "licence": [True]}):
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out)
        made.append(out.getvalue())
    return made


def containers() -> list[bytes]:
    return [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b'<?xml version="1.0"?><MPD><Period><BaseURL>file:///etc/passwd</BaseURL></Period></MPD>',
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\x00\x00\x00\x08free",
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
        b"RIFF\x24\x00\x00\x00AVI LIST\x04\x00\x00\x00hdrl",
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02",
    ]


READERS: dict[str, tuple[Reader, Callable[[], list[bytes]]]] = {
    "zip": (read_zip, zips),
    "tracking": (read_tracking, trackings),
    "pickle": (read_pickle, pickles),
    "avatar": (read_avatar, lambda: [(GOLDEN / "avatar.safetensors").read_bytes()]),
    "head": (read_head, lambda: [(GOLDEN / "head.safetensors").read_bytes()]),
    "checkpoint": (read_checkpoint, lambda: [(GOLDEN / "checkpoint/model.safetensors").read_bytes()[:40_000]]),
    "manifest": (read_manifest, manifests),
    "cameras": (read_cameras, cameras),
    "camera_params": (read_camera_params, camera_params),
    "list": (read_list, lists),
    "csv_list": (read_table_list, lists),
    "parquet_list": (read_parquet_list, parquet_lists),
    "container": (read_container, containers),
}
"""Each reader, and files from which its inputs are made."""

CHANGE = st.tuples(
    st.sampled_from(["flip", "insert", "delete", "repeat", "number"]),
    st.floats(0, 1),
    st.integers(1, 64),
    st.binary(max_size=16),
)


def change(data: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """Apply changes to a file, each at a place that is a share of its length."""
    for kind, share, length, fill in changes:
        at = int(share * max(len(data) - 1, 0))
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 << length % 8)]) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + fill + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + length * 8 :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + length] * 3 + data[at + length :]
        elif kind == "number":  # a length or an offset that is far too large
            data = data[:at] + b"\xff\xff\xff\x7f"[: 1 + length % 4] + data[at + 1 + length % 4 :]
    return data


def main(name: str, seconds: float, number: int) -> None:
    reader, made = READERS[name]
    seeds, folder = made(), Path(tempfile.mkdtemp(prefix="ffavatar-fuzz-"))
    path, inputs, reading = folder / "input.bin", 0, False

    def forbid(event: str, arguments: tuple[Any, ...]) -> None:
        if not reading:
            return
        elsewhere = False
        if event == "open" and isinstance(arguments[0], str | bytes):
            opened = os.fsdecode(arguments[0])
            writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            ours = opened.startswith((str(folder), sys.prefix, sys.base_prefix, str(GOLDEN.parents[2]), "/proc/self/"))
            elsewhere = bool(writes) or not ours
        if event.startswith(FORBIDDEN) or elsewhere:
            sys.stderr.write(f"{name}: {event} {arguments!r}\n")
            os._exit(3)

    def run(data: bytes) -> None:
        nonlocal inputs, reading
        inputs += 1
        for suffix in (".bin", ".txt", ".csv", ".parquet"):
            path.with_suffix(suffix).write_bytes(data)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        reading = True
        try:
            reader(data, path)
        except Exception as error:
            if not _raised_by_us(error):
                raise
        finally:
            reading = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    for data in seeds:  # imports what the reader needs, before memory is limited
        run(data)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sys.addaudithook(forbid)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        quick = settings(
            max_examples=200,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )

        @quick
        @seed(number)
        @given(st.sampled_from(seeds), st.lists(CHANGE, max_size=6), st.binary(max_size=64), st.booleans())
        def fuzz(start: bytes, changes: list[tuple[str, float, int, bytes]], noise: bytes, is_noise: bool) -> None:
            run(noise if is_noise and len(noise) % 8 == 0 else change(start, changes))

        fuzz()
        number += 1
    sys.stdout.write(json.dumps({"reader": name, "inputs": inputs}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
