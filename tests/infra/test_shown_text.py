"""What reaches a terminal, a log, MLflow: no secret, no control character; and who may read the files."""

from __future__ import annotations

import io
import logging
import os
import stat
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from infra import console
from infra.settings import Settings
from infra.shown_text import mask_logs, masked_errors, shown_text
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.masking import MASK, has_credentials, mask_secrets
from mfhq.store import StoreUriError

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\"<>\\&;#,()"), min_size=8)
VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN"),
)


@given(SECRET, st.sampled_from(VARIABLES), st.sampled_from(["{}", "s3://x:{}@bucket/a", "an error ({}) in it", "{!r}"]))
def test_the_value_of_a_variable_is_masked_wherever_it_stands(secret: str, variable: str, text: str) -> None:
    shown = mask_secrets(text.format(secret), {variable: secret})
    assert secret not in shown and MASK in shown


@given(
    st.text(st.sampled_from("abcXYZ019+/=_.-%"), min_size=8),
    st.sampled_from(["http", "https", "postgresql+psycopg", "mysql", "s3", "ray", "ftp"]),
)
def test_a_password_in_a_url_is_masked_also_where_no_variable_holds_it(secret: str, scheme: str) -> None:
    secret = f"p{secret}"  # 8080/a@b would be a port and a path
    url = f"{scheme}://somebody:{secret}@host.example:5432/path?x=1"
    shown = mask_secrets(f"API request to {url} failed", {})
    assert secret not in shown and shown.endswith("@host.example:5432/path?x=1 failed") and has_credentials(url)
    assert secret not in mask_secrets(f"password {secret} refused", {"DATABASE_URL": url}), "by the variable's URL"


@pytest.mark.parametrize(
    "text",
    [
        "https://h/v.mp4?X-Amz-Credential=hidden01&X-Amz-Signature=hidden02&part=1",
        "host=db user=me password=hidden01 dbname=x",
        "Authorization: Basic hidden01",
        "{'authorization': 'Bearer hidden01'}",
        "https://blob/x?sv=2020&sig=hidden01",
        "AWS_SECRET_ACCESS_KEY=hidden01 ffavatar mine",
    ],
)
def test_parameters_and_headers_that_are_named_like_secrets_are_masked(text: str) -> None:
    assert "hidden" not in mask_secrets(text, {})


@pytest.mark.parametrize(
    "text",
    [
        "file:///data/a@b/c",
        "s3://bucket/a@b.mp4",
        "http://127.0.0.1:8080/x@y",
        "n_tokens=128, tokenizer=x, width=3",
        "/videos/key=1/clip.mp4",
        "sqlite:////home/somebody/mlflow.db",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert mask_secrets(text, {"AWS_SECRET_ACCESS_KEY": "short", "HOME": "/home/somebody"}) == text
    assert not has_credentials(text)


def test_control_characters_are_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_text("a\x1b]0;b\x07\x9b2J\u202ec\u2028d\udcff\r\n\te") == (
        "a\\x1b]0;b\\x07\\x9b2J\\u202ec\\u2028d\\xff\\x0d\n\te"
    )
    assert shown_text("naïve 名 🎬 [bold]") == "naïve 名 🎬 [bold]"
    text = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=text, soft_wrap=True))
    monkeypatch.setattr(console, "err", Console(file=text, soft_wrap=True))
    name = "clip\x1b[2J\x07.mp4"
    console.say("failed {uri}", uri=name)
    console.print_table(name, ("a",), [(name,)])
    with console.ProgressBar(name) as bar:
        bar.update(name, 1, 2, {name: 1})
    console.report_error(ValueError(name), None)
    assert "clip" in text.getvalue() and not set(text.getvalue()) & {"\x1b", "\x07"}


def test_logs_hold_no_secret_also_in_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never/shown+0123")
    monkeypatch.setattr(logging.root, "handlers", [])
    before = logging.getLogRecordFactory()
    try:
        mask_logs()
        mask_logs()
        path = console.start_log(tmp_path / "logs", "mine")
        try:
            raise ConnectionError("http://me:hidden01@host: never/shown+0123")
        except ConnectionError:
            logging.getLogger("somebody.else").exception("with %s", "never/shown+0123")
        text = path.read_text()
    finally:
        logging.setLogRecordFactory(before)
    assert "ConnectionError" in text and "Traceback" in text and MASK in text
    assert "hidden01" not in text and "never/shown" not in text
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_error_that_leaves_a_flow_holds_no_secret() -> None:
    class OwnMessage(Exception):
        def __str__(self) -> str:
            return "http://me:hidden01@host"

    with pytest.raises(OSError, match="host") as plain, masked_errors():
        try:
            raise ValueError("http://me:hidden01@cause")
        except ValueError as cause:
            raise OSError("http://me:hidden01@host") from cause
    assert "hidden" not in f"{plain.value} {plain.value.__cause__}"
    with pytest.raises(RuntimeError, match=r"OwnMessage: .*host") as other, masked_errors():
        raise OwnMessage
    assert "hidden" not in str(other.value)


def test_mlflow_gets_no_secret(settings: Settings) -> None:
    config = {"source": "s3://me:hidden01@bucket/x", "list": ["postgresql://me:hidden01@db"]}
    with pytest.raises(RuntimeError), tracked_run(settings, "mine", "a name", config) as run:
        run.set_tags({"note": "https://h?token=hidden01"})
        raise RuntimeError("http://me:hidden01@host failed")
    assert run.read_config()["source"] == f"s3://{MASK}@bucket/x"
    found = [path for path in settings.home.rglob("*") if path.is_file() and b"hidden01" in path.read_bytes()]
    assert not found


def test_a_service_that_does_not_answer_is_named_without_its_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own message repeats the whole address."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = replace(settings, tracking_uri="http://me:hidden01@127.0.0.1:1")
    with (
        pytest.raises(Exception, match=r"127\.0\.0\.1") as refused,
        masked_errors(),
        tracked_run(away, "mine", "a", {}),
    ):
        pass
    assert "hidden01" not in "".join(traceback.format_exception(refused.value))


def test_a_corpus_uri_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreUriError, match="AWS_ACCESS_KEY_ID") as refused:
        open_store("s3://somebody:hid/den01@bucket/prefix")
    assert "den01" not in str(refused.value)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_is_obeyed_and_biometric_files_are_for_the_user_alone(umask: int, mode: int, tmp_path: Path) -> None:
    (tmp_path / "corpus/biometric").mkdir(parents=True, mode=0o755)
    store, before = open_store(tmp_path / "corpus"), os.umask(umask)
    try:
        store.write("tables/faces/a.parquet", b"a")
        assert store.create("snapshots/v0001.json", b"{}")
        store.write("biometric/tables/embeddings/b.parquet", b"b")
        below = open_store(f"{store.uri}/biometric/clusterings/work/x")
        assert below.create("steps/marker", b"c")
    finally:
        os.umask(before)

    def mode_of(path: str) -> int:
        return stat.S_IMODE((tmp_path / "corpus" / path).stat().st_mode)

    assert mode_of("tables/faces/a.parquet") == mode_of("snapshots/v0001.json") == mode
    assert mode_of("tables/faces") == 0o777 & ~umask
    assert (
        mode_of("biometric/tables/embeddings/b.parquet")
        == mode_of("biometric/clusterings/work/x/steps/marker")
        == 0o600
    )
    folders = [path for path in (tmp_path / "corpus/biometric").rglob("*") if path.is_dir()]
    assert len(folders) == 6 and {mode_of(str(path)) for path in [*folders, Path("biometric")]} == {0o700}
