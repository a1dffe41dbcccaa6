"""The page in a browser: it classifies drawings and test images, shows when the answer came, and survives errors."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from seqmnist_tf.serve import SavedModel
from seqmnist_tf.serve.ask import SURE
from tests.conftest import serving
from tests.serve.committed import committed_versions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytestmark = pytest.mark.browser

CHROMIUM_FLAGS = (
    "--no-sandbox --headless=new --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
STILL = {**DESKTOP, "reduced_motion": "reduce"}
SIDEWAYS = {"viewport": {"width": 844, "height": 390}, "has_touch": True, "is_mobile": True}
ANSWER = re.compile(r"^(?:It is|I am unsure: it may be) an? (\d) \([\d.]+\s%\)\..* since pixel \d+ of 784\.$")
TRACE_TIMEOUT = 20_000  # ms: six seconds of animation, on a busy machine

Point = tuple[float, float]
Visit = Callable[[dict[str, Any]], "tuple[Page, list[str]]"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the newest version that the project ships."""
    with serving(SavedModel.load(committed_versions()[2])) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS.split())
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    """Open the page afresh and list its faults: errors on the console, requests to other servers."""
    contexts = []

    def open_page(options: dict[str, Any]) -> tuple[Page, list[str]]:
        contexts.append(browser.new_context(**options))
        page, faults, own = contexts[-1].new_page(), list[str](), (f"{url}/", "data:", "blob:")
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith(own) else faults.append(sent.url))
        page.goto(url)
        return page, faults

    yield open_page
    for context in contexts:
        context.close()


def arc(centre: Point, radius: float, start: float, end: float) -> list[Point]:
    """Return points on an arc, its angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * part / 16) for part in range(17)]
    return [(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles]


THREE = arc((130, 95), 42, -150, 80), arc((130, 185), 50, -80, 150)


def draw(page: Page, touch: bool = False) -> None:
    """Draw a 3 in two strokes."""
    box = page.get_by_role("img", name="Drawing area").bounding_box()
    assert box
    session = page.context.new_cdp_session(page)
    for stroke in THREE:
        points = [(box["x"] + x, box["y"] + y) for x, y in stroke]
        if touch:
            for index, (x, y) in enumerate(points):
                event = {"type": "touchMove" if index else "touchStart", "touchPoints": [{"x": x, "y": y}]}
                session.send("Input.dispatchTouchEvent", event)
            session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        else:
            page.mouse.move(*points[0])
            page.mouse.down()
            for x, y in points:
                page.mouse.move(x, y)
            page.mouse.up()


def answer(page: Page) -> int:
    """Wait for the answer and return its digit."""
    expect(page.locator("#answer")).to_have_text(ANSWER, timeout=TRACE_TIMEOUT)
    return int(ANSWER.sub(r"\1", page.locator("#answer").inner_text()))


def bars(page: Page) -> dict[int, float]:
    """Return the percentages next to the bars."""
    rows = page.get_by_role("list", name="Probability of each digit").get_by_role("listitem").all_text_contents()
    return {int(digit): float(number) for digit, number in (re.findall(r"[\d.]+", row) for row in rows)}


def sample(page: Page, digit: int) -> Locator:
    return page.get_by_role("button", name=re.compile(f"^test image of an? {digit}$"))


@pytest.mark.parametrize("screen", [DESKTOP, PHONE, SIDEWAYS], ids=["desktop", "phone", "sideways"])
def test_a_drawing_is_read_pixel_by_pixel(visit: Visit, screen: dict[str, Any]) -> None:
    page, faults = visit(screen)
    draw(page, "has_touch" in screen)
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert page.evaluate("scrollY") == 0
    assert answer(page) == 3
    shown = page.locator("#answer").bounding_box()
    assert shown and shown["y"] + shown["height"] <= screen["viewport"]["height"]  # without scrolling
    at_the_end = bars(page)
    assert list(at_the_end) == list(range(10))
    assert sum(at_the_end.values()) == pytest.approx(100, abs=0.5)  # ten percentages with one decimal
    assert max(at_the_end, key=lambda digit: at_the_end[digit]) == 3
    expect(page.locator("#chart .curve")).to_have_count(10)
    page.get_by_role("slider", name="Pixels read").fill("100")
    expect(page.locator("#count")).to_have_text("100 of 784")
    assert bars(page) != at_the_end
    assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]
    expect(page.locator("footer")).to_contain_text(re.compile(r"Model version \d+, test accuracy .*, pixel order: "))
    assert faults == []


def test_test_images_are_chosen_by_keyboard(visit: Visit) -> None:
    page, faults = visit(STILL)
    for digit in range(10):
        sample(page, digit).focus()
        page.keyboard.press("Enter")
        assert answer(page) == digit
    assert faults == []


def test_an_empty_drawing_is_an_error_and_the_page_goes_on(visit: Visit) -> None:
    page, _ = visit(STILL)
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"\w+ \w+"))
    draw(page)
    assert answer(page) == 3
    expect(page.get_by_role("alert")).to_be_empty()


def test_an_unsure_answer_says_so(visit: Visit) -> None:
    page, _ = visit(STILL)
    rows = [[0.1] * 10] * 783 + [[SURE - 0.01, 1 - SURE + 0.01, *[0.0] * 8]]
    document = json.dumps({"predictions": [rows]})
    page.route("**/v1/**", lambda route: route.fulfill(body=document, content_type="application/json"))
    sample(page, 0).click()
    assert answer(page) == 0
    expect(page.locator("#answer")).to_contain_text("I am unsure: it may be a 0 (79.0\u00a0%).")


def test_a_layer_without_a_trace_is_said(visit: Visit) -> None:
    page, _ = visit(STILL)
    answered = {
        "version": 3,
        "test_accuracy": 0.9,
        "pixel_order": list(range(784)),
        "config": {"model": {"layer": "GRU"}},
    }
    document = json.dumps({**answered, "difference_from_keras": {"logits": 0}})
    page.route("**/model.json", lambda route: route.fulfill(body=document, content_type="application/json"))
    sample(page, 0).click()
    expect(page.get_by_role("alert")).to_have_text(
        "This version (GRU) has no probabilities after each pixel. Use the command client."
    )
