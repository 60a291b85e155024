"""Random credentials in every variable and argument, and every command made to fail: nothing shows or stores them."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, sys
from flows.cli import main
for words in json.load(sys.stdin):
    try:
        main(words)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    sys.stdout.flush(); sys.stderr.flush()
    print("ended", status, " ".join(words)[:40].split("://")[0], flush=True)
"""
"""Commands, one after the other, in one process."""

URLS = {
    "MLFLOW_TRACKING_URI": "http://{user}:{password}@127.0.0.1:1",
    "FFAVATAR_S3_ENDPOINT": "http://{user}:{password}@127.0.0.1:1",
    "PREFECT_API_URL": "http://{user}:{password}@127.0.0.1:1/api",
    "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://{user}:{password}@127.0.0.1:1/prefect",
    "RAY_ADDRESS": "ray://{user}:{password}@127.0.0.1:1",
}
PLAIN = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PREFECT_API_KEY"),
    *("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
)


def credentials() -> tuple[dict[str, str], list[str]]:
    """A random value for each variable, and all that must not be seen."""
    values = {name: secrets.token_urlsafe(24) for name in PLAIN}
    hidden = list(values.values())
    for name, url in URLS.items():
        user, password = secrets.token_hex(8), secrets.token_urlsafe(18) + "%2Fx"
        values[name] = url.format(user=user, password=password)
        hidden += [user, password, password.replace("%2F", "/")]
    return values, hidden


def commands(folder: Path, key: str) -> list[list[str]]:
    """Calls of the commands that all fail, on a service that is not there or on what they are given."""
    videos, plain = folder / "videos", folder / "corpus"
    videos.mkdir()
    (videos / "letter.mp4").write_text("a letter, and not a video\n" * 40)
    url, s3 = f"http://me:{key}@127.0.0.1:1/driver.mp4?token={key}", f"s3://me:{key}@bucket/x"
    signed = f"https://127.0.0.1:1/clip.mp4?X-Amz-Signature={key}"
    there = ["--corpus", "s3://bucket/corpus"]
    return [
        ["doctor"],
        ["mine", s3, "--corpus", str(plain)],
        ["mine", signed, "--corpus", str(plain)],
        ["mine", str(videos), "--corpus", s3],
        ["mine", str(videos), *there],
        ["mine", "s3://bucket/videos", "--corpus", str(plain)],
        ["plan", "s3://bucket/videos", *there],
        ["studio", "--layout", "captures", "--identities", "1", "--cameras", "1", "-o", s3],
        *([name, *there] for name in ("publish", "cluster", "retry", "overlap", "takedown", "review")),
        ["recrop", "--size", "64", *there],
        ["replay", "x", "--step", "probe", *there],
        ["convert", "ava256", signed, *there],
        ["convert", "ava256", "s3://bucket/captures", "--corpus", str(plain)],
        ["sql", f"SELECT '{url}' FROM nowhere", *there],
        ["diff", "v1", "v2", *there],
        ["report", "-o", str(folder / "report"), *there],
        ["train", "pretrain", *there],
        ["curriculum", "--captures", s3, "-o", str(folder / "c"), *there],
        ["evaluate", str(folder / "none"), *there],
        ["reconstruct", signed, "-o", str(folder / "a")],
        ["animate", "a.safetensors", "--driver", url, "-o", "x.mp4"],
        ["export", signed, "-o", "x.ply"],
        ["view", signed, "--driver", signed],
    ]


@pytest.mark.soak  # each call of a store that does not answer is tried for 20 seconds
def test_no_command_shows_or_stores_a_secret_when_it_fails(tmp_path: Path) -> None:
    values, hidden = credentials()
    key = secrets.token_urlsafe(18)
    environment = os.environ | values | {"FFAVATAR_HOME": str(tmp_path / "home"), "PREFECT_CLIENT_MAX_RETRIES": "0"}
    environment |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "us-east-1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
    asked = commands(tmp_path, key)
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, input=json.dumps(asked), capture_output=True, text=True, timeout=400
    )
    ended = [line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("ended")]
    assert len(ended) == len(asked), done.stderr[-3000:]
    assert ended[0] == "0" and "0" not in ended[1:], list(zip(ended, asked, strict=True))
    texts = {"standard output": done.stdout.encode(), "standard error": done.stderr.encode()}
    texts |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    seen = [(name, where) for name, where in texts.items() for secret in [*hidden, key] if secret.encode() in where]
    assert not seen, [(name, where[-500:]) for name, where in seen]
    assert b"***" in texts["standard output"] and b"***" in texts["standard error"]
