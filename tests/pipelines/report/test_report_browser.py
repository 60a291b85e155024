"""The page in a real browser: by the keyboard, on a phone, dark, and on paper."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pipelines.report import render_report


@pytest.fixture
def page(corpus: Any, tmp_path: Any, browser: Any) -> Any:
    path = render_report(corpus.connect(), corpus.read_blob, tmp_path, version="v0007", corpus="file:///c")
    browser.get(path.as_uri())
    return browser


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def test_people_are_found_and_opened_by_the_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def opened() -> list[str]:
        return page.execute_script(
            "return [...document.querySelectorAll('.sheet > details[open]')].map((d) => d.id[2])"
        )

    def shown() -> list[str]:
        return page.execute_script(
            "return [...document.querySelectorAll('.sheet > details:not([hidden])')].map((d) => d.id[2])"
        )

    assert shown() == ["p", "q"] and opened() == []
    press(page, "j", "j")
    assert page.execute_script("return document.activeElement.textContent") == "People"
    press(page, Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)
    assert opened() == ["p"]
    press(page, Keys.ARROW_RIGHT, Keys.ENTER)
    assert opened() == ["p", "q"]
    press(page, Keys.ESCAPE)
    assert opened() == []
    press(page, "/", "q", "q")
    assert shown() == ["q"] and "1 of 2 shown" in page.find_element("id", "found").text
    press(page, Keys.ESCAPE)
    page.execute_script("document.querySelector('#find').value = ''")
    page.execute_script("document.querySelector('[data-split=val]').click()")
    assert shown() == ["q"]
    assert page.get_log("browser") == [], "nothing is refused by the policy, and nothing fails"


def test_nothing_hangs_over_the_edge_of_a_phone(page: Any) -> None:
    measure = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", measure)
    try:
        page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_and_paper_have_colours_of_their_own(page: Any) -> None:
    def ground(**media: Any) -> str:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    try:
        assert ground(features=dark) == "rgb(16, 19, 26)"
        assert ground(media="print", features=dark) == "rgb(255, 255, 255)"
        assert page.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
