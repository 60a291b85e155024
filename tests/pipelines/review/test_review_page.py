"""The page in a real browser, by the keyboard alone; and what its server lets nobody do."""

from __future__ import annotations

import http.client
import json

import pytest

from infra.local_app import MAX_BODY_BYTES
from mfhq.decisions import read_decisions


def ask(server, method="GET", path=None, body=None, **headers):
    """(status, headers, body) of one plain request; None takes a header out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sent = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = b"" if body is None else json.dumps(body).encode()
    connection.putrequest(method, path or f"/{server.key}/", skip_host=True)
    for name, value in ({"Content-Length": str(len(data))} | sent).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


SPLIT = {"kind": "split", "identity_id": "ann", "track_ids": ["ann-4"]}


def test_the_page_can_do_no_more_than_it_needs(server):
    status, headers, page = ask(server)
    assert status == 200 and b"Who is who" in page and server.key.encode() not in page
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    assert server.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Host": "evil.example:80"}, "", 421),
        ({"Host": "127.0.0.1"}, "", 421),
        ({"Host": None}, "", 421),
        ({}, "/", 404),
        ({}, "/wrong-key/cases", 404),
        ({}, "/{key}/case/99", 404),
        ({}, "/{key}/case/-1", 404),
        ({}, "/{key}/face/../../etc/passwd", 404),
        ({}, "/{key}/face/eva-0-0", 404),
    ],
)
def test_what_is_not_the_page_is_refused(server, headers, path, status):
    got, _, body = ask(server, path=path.format(key=server.key) if path else None, **headers)
    assert got == status and json.loads(body)["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "evil.example"}, 421),
        ({"Content_Length": None}, 413),
        ({"Content_Length": str(MAX_BODY_BYTES + 1)}, 413),
    ],
)
def test_another_site_cannot_decide(server, review, headers, status):
    got, _, _ = ask(server, "POST", f"/{server.key}/decide", SPLIT, **headers)
    assert got == status and read_decisions(review.store).num_rows == 0


def test_a_decision_from_the_page_is_saved_and_a_broken_one_is_not(server, review):
    path, here = f"/{server.key}/decide", f"http://127.0.0.1:{server.port}"
    assert ask(server, "POST", path, ["x"], Origin=here)[0] == 400
    assert ask(server, "POST", path, {"kind": "accept", "identity_id": "zoe", "track_ids": ["x"]})[0] == 410
    assert ask(server, "POST", path, SPLIT, Origin=here, Sec_Fetch_Site="same-origin")[0] == 200
    assert read_decisions(review.store).num_rows == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"kind":' * 50_000,
        b'{"kind": "accept", "identity_id": "ann", "track_ids": ["\\ud800"]}',
        b'{"kind": "accept", "identity_id": "\\ud800\\u0000", "track_ids": ["ann-4"]}',
        b'{"kind": {"a": []}, "identity_id": ["ann"], "track_ids": {"ann-4": 1}}',
        b'{"kind": "accept", "identity_id": "ann", "track_ids": [["ann-4"], NaN]}',
        b'{"kind": "merge", "identity_id": "ann", "other_id": 1e999}',
        b"1" * 10_000,
        b"\xff\xfe{}",
        b'"' + b"a" * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_json_that_is_deep_or_odd_is_a_bad_request(server, review, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", f"/{server.key}/decide", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 400 and json.loads(answer.read())["error"]
    assert read_decisions(review.store).num_rows == 0
    assert ask(server)[0] == 200, "the page goes on"


def test_a_review_by_the_keyboard_alone(server, review, browser, people_published):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()

    def until(what, why=""):
        return WebDriverWait(browser, 60).until(lambda _: what(), why)

    def text(name):
        return browser.find_element("id", name).text

    def focused():
        return browser.execute_script("return document.activeElement.dataset.track")

    def whole():
        return browser.execute_script(
            "return document.images.length > 3 && [...document.images].every((i) => i.complete && i.naturalWidth > 50)"
        )

    browser.get(server.url)
    until(whole)
    assert text("count") == f"1 of {len(review.cases)}" and text("why") == "least cohesive"
    assert focused() == "ann-4", "the least alike track has the focus"
    assert "<b>ann-4&.mp4" in browser.find_element("css selector", ".place").text, "names are text, not markup"

    press(Keys.ARROW_RIGHT)
    assert focused() == "ann-0"
    press(Keys.ARROW_LEFT, Keys.SPACE)
    assert "Split off 1 track" in text("split-text")
    assert not browser.find_element("id", "accept").is_enabled()
    press(Keys.ESCAPE)
    assert text("split-text") == "Split off"
    press(Keys.SPACE, "s")
    until(lambda: text("said") == "Split off: 1 track, as another person.")
    until(lambda: focused() == "ann-0")
    press("a")
    until(lambda: text("count").startswith("2 of"))
    assert text("said") == "Accepted: 4 tracks."
    press("n", "n")
    until(lambda: text("why") == "nearly merged")
    assert len(browser.find_elements("css selector", ".person")) == 2, "a case that was skipped unseen is not shown"
    assert text("question") == "Are these one person?"
    press("m", "p")
    until(lambda: "dan is cat (one)" in text("facts"), "a key pressed while a decision is saved is not lost")
    rows = read_decisions(review.store).to_pylist()
    assert [row["kind"] for row in rows] == ["split"] + ["accept"] * 4 + ["merge"]
    assert rows[0]["track_id"] == "ann-4" and (rows[5]["identity_id"], rows[5]["other_id"]) == ("cat", "dan")

    press("p")
    until(lambda: text("count").startswith("3 of"))
    people_published(review.store, {"cat-0": "dan", "cat-1": "dan"}, [("cat", "dan")])
    press("a")
    until(lambda: "cat is gone from v0002: it is dan since" in text("said"))
    until(lambda: text("snapshot") == "v0002" and text("count").startswith("1 of"))
    page = browser.page_source
    assert "vector" not in page.replace("vector-effect", "") and "embedding" not in page
    severe = [entry for entry in browser.get_log("browser") if "410" not in entry["message"]]
    assert severe == [], "the page's own policy blocks nothing of it, and no script fails"
