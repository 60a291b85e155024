"""The page holds the corpus's numbers, escapes what comes from data, and its images decode."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines.media.image_codec import decode_image
from pipelines.mining.speed_of_light import MachineLimits
from pipelines.report import render_report
from pipelines.report.history import SnapshotCounts
from pipelines.report.thumbnails import Thumbnails

_VOID = {"meta", "img", "line", "rect", "br", "link", "input"}


class _Page(HTMLParser):
    """Elements, attributes, text; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.cells: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag, f"</{tag}> does not nest"

    def handle_data(self, data: str) -> None:
        words = " ".join(data.split())
        if not words:
            return
        self.text.append(words)
        if self.open and self.cells and {"td", "th"} & set(self.open):
            self.cells[-1][-1] = f"{self.cells[-1][-1]} {words}".strip()

    def row(self, *start: str) -> list[str]:
        found = [cells for cells in self.cells if cells[: len(start)] == list(start)]
        assert len(found) == 1, f"{len(found)} rows begin with {start}"
        return found[0]


def _parse(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture
def page(corpus: Any, tmp_path: Path) -> _Page:
    return _parse(
        render_report(
            corpus.connect(), corpus.read_blob, tmp_path / "out", version="v0007", digest="abc123", corpus="file:///c"
        )
    )


def test_numbers_are_the_corpus_s(page: _Page) -> None:
    assert {"v0007", "abc123", "file:///c"} <= set(page.text)
    tiles = [page.text[page.text.index(name) : page.text.index(name) + 3] for name in ("Videos used", "Identities")]
    assert tiles[0] == ["Videos used", "3", "of 4, 9.6 s"]
    at = page.text.index("Faces chosen")
    assert page.text[at : at + 3] == ["Faces chosen", "11", "of 18 good, 21 kept"]
    assert page.row("videos", "ok")[3:5] == ["3", "75.0 %"]
    assert page.row("", "not_a_video")[2:5] == ["no container that the decoder knows", "1", "25.0 %"]
    assert page.row("train")[1:4] == ["1", "1", "8"]
    assert page.row("Chosen from more")[1:] == ["1", "15", "8", "0.6", "0.5", "0.25", "0.1"]
    assert page.row("All are chosen")[1:] == ["1", "3", "3", "0.3", "0.3", "0.2", "0.2"]
    assert page.row("c.mp4")[7:] == ["60 / 80", "1", "1 / 2", "1"]
    assert page.row("probe")[1:9] == ["4", "4", "4", "0", "0", "1 s", "250 ms", "4.8 kB"]


def test_the_stages_are_compared_with_the_limits_of_their_machine(corpus: Any, tmp_path: Path) -> None:
    limits = MachineLimits(megapixel_s=1.0, score_s=1.0, embed_s=1.0, write_s=0.125, write_byte_s=0.0)
    page = _parse(render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v0007", limits={"h": limits}))
    at = page.text.index("Speed of light")
    assert ["probe", "4", "1 s", "store", "500 ms", "2", "", "holds the rest up"] in page.cells
    assert "Least time" in page.text[at:]


def test_refused_items_stand_under_their_reason(page: _Page) -> None:
    texts = page.text
    for heading, reason in (("Tracks not used", "blurred"), ("Faces not used, in tracks that are", "cut_by_border")):
        at = texts.index(heading)
        assert texts[at + 2 : at + 4] == [reason, "1"] and "1 of 1" in texts[at : at + 6]


def test_what_comes_from_data_is_escaped(corpus: Any, tmp_path: Path) -> None:
    for table, column in (("funnel", "reason"), ("identities", "split"), ("tracks", "reason"), ("videos", "licence")):
        corpus.rows[table][-1][column] = "<img src=x onerror=alert(1)>"
    path = render_report(
        corpus.connect(), corpus.read_blob, tmp_path, version="</title><script>", corpus='"><script>', title="<b>t</b>"
    )
    tags = [tag for tag, _ in _parse(path).tags]
    assert tags.count("script") == 1, "the page's own, whose digest its policy has"
    script = path.read_text().split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in path.read_text() and "innerHTML" not in script
    assert not any(tag == "b" for tag in tags)
    assert not any(name.startswith("on") for _, attrs in _parse(path).tags for name in attrs)
    assert html.escape("<script>alert(1)</script>&.mp4", quote=False) in path.read_text()


def test_images_are_inside_and_decode(page: _Page, corpus: Any) -> None:
    sources = [attrs["src"] or "" for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 2 + 11 + 3 + 1 + 1, "people, their faces, poses, a track, a face"
    for source in sources:
        kind, data = source.split(",", 1)
        assert kind == "data:image/webp;base64"
        assert decode_image(base64.b64decode(data)).shape == (104, 104, 3)
    elsewhere = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href") and v]
    assert all(value.startswith(("data:", "#")) for value in elsewhere)


def test_sql_under_a_figure_gives_its_numbers(page: _Page, corpus: Any, tmp_path: Path) -> None:
    text = render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v1").read_text()
    shown = [html.unescape(sql) for sql in re.findall(r"<pre><code>(.*?)</code></pre>", text, re.S)]
    assert len(shown) == 17
    connection = corpus.connect()
    answers = [connection.execute(sql).fetchall() for sql in shown]
    assert ("videos", "ok", 3, 0.75, 1.5) in answers[1]
    assert not any("embeddings" in sql for sql in shown)


def test_same_snapshot_same_bytes(corpus: Any, tmp_path: Path) -> None:
    first, second = (
        render_report(corpus.connect(), corpus.read_blob, tmp_path / name, version="v1", mattes=True).read_bytes()
        for name in "ab"
    )
    assert first == second
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["report.html"]


def test_matte_dims_what_it_leaves_out(corpus: Any, tmp_path: Path) -> None:
    plain, dimmed = (
        render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v1", mattes=mattes).read_text()
        for mattes in (False, True)
    )
    brightness = []
    for text in (plain, dimmed):
        data = re.findall(r"data:image/webp;base64,([^\"]+)", text)[0]
        brightness.append(decode_image(base64.b64decode(data))[:20].mean())
    assert brightness[1] < 0.6 * brightness[0]


def test_an_image_that_cannot_be_read_is_said_so(corpus: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = {row["face_id"] for row in corpus.rows["identity_faces"]}
    faces = [row for row in corpus.rows["faces"] if row["face_id"] in chosen]
    faces[0]["crop"] = {"uri": "blobs/lost.bin", "offset": 0, "length": 9}
    faces[1]["crop"] = {"uri": "blobs/0.bin", "offset": 3, "length": 9}
    page = _parse(render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v1"))
    assert page.text.count("no image") == 4, "two faces: in a person's strip, and as its first or as one of a pose"
    assert "blobs/lost.bin" in caplog.text


def test_an_empty_corpus_has_a_page(empty_corpus: Any, tmp_path: Path) -> None:
    page = _parse(render_report(empty_corpus.connect(), empty_corpus.read_blob, tmp_path, version="v0001"))
    assert {
        "No identities.",
        "No stages.",
        "No videos.",
        "No faces.",
        "No people.",
        "None.",
        "No attempts recorded.",
    } <= set(page.text)
    assert empty_corpus.reads == []


def test_captures_are_shown_where_there_are_some(corpus: Any, tmp_path: Path) -> None:
    image = corpus.rows["faces"][0]["crop"]
    corpus.add("captures", capture_id="cap", identity_id="i", dataset="studio", n_cameras=2, n_frames=1)
    for camera in "ab":
        corpus.add(
            "views",
            view_id=f"view{camera}",
            capture_id="cap",
            identity_id="i",
            camera_id=camera,
            frame_index=0,
            image=image,
            split="train",
            status="ok",
            reason="",
        )
    page = _parse(render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v1"))
    assert "Multi-view captures" in page.text
    assert any("2 cameras" in text and "2 of 2 views" in text for text in page.text)
    assert sum(tag == "img" for tag, _ in page.tags) == 20


def test_people_beyond_the_bound_are_sampled_and_said(corpus: Any, tmp_path: Path) -> None:
    for number in range(200):
        corpus.add(
            "identities", identity_id=f"r{number:03d}", n_tracks=1, n_videos=1, n_faces=0, cohesion=1.0, split="train"
        )
    page = _parse(render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v1"))
    assert any(text.startswith("72 of 202: those seen in most files first") for text in page.text)
    people = [attrs["id"] for tag, attrs in page.tags if tag == "details" and attrs.get("id")]
    assert len(people) == len(set(people)) == 72 and people[0] == "p-" + "p" * 32


def test_images_beyond_the_page_s_size_are_left_out_and_counted(corpus: Any) -> None:
    places = [row["crop"] for row in corpus.rows["faces"]]
    thumbnails = Thumbnails(corpus.read_blob, most_bytes=4000)
    made = thumbnails.data_uris(places)
    assert sum(map(len, made)) <= 4000 and made[0] and not made[-1]
    assert thumbnails.left_out == made.count("") > 0


def test_changes_and_trends_stand_beside_the_former_snapshot(corpus: Any, tmp_path: Path) -> None:
    connection = corpus.connect()
    connection.execute(
        "CREATE VIEW before_funnel AS SELECT * REPLACE (CASE reason WHEN 'blurred' THEN 5 ELSE items - 1 END AS items)"
        " FROM funnel WHERE reason <> 'not_a_video'"
    )
    history = [
        SnapshotCounts("v0006", "2024-05-01", {"videos": 2, "identities": 1}),
        SnapshotCounts("v0007", "2024-05-02", {"videos": 3, "identities": 2}),
    ]
    path = render_report(
        connection,
        corpus.read_blob,
        tmp_path,
        version="v0007",
        history=history,
        before="v0006",
        settings=[("min_sharpness", 25, 60)],
    )
    page = _parse(path)
    assert page.row("videos", "ok", "2")[2:] == ["2", "3", "+1"]
    assert page.row("videos", "not_a_video", "0")[2:] == ["0", "1", "+1"]
    assert page.row("tracks", "blurred", "5")[2:] == ["5", "1", "−4"]
    assert "25 → 60" in page.text
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert "Videos used: v0006 2, v0007 3" in labels and "People: v0006 1, v0007 2" in labels
