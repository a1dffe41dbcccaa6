"""The page in a browser: it computes what TensorFlow does, on the server and as static files, and survives errors."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from seqmnist_tf.data import encode, load_mnist
from seqmnist_tf.serve import SavedModel, app, prepare_picture, read_description
from seqmnist_tf.serve.ask import SURE
from tests.conftest import serving
from tests.serve.photographs import SAMPLES, blank_photographs, encoded_photographs
from tests.serve.test_picture import DIGIT, SAME, committed_model, difference, to_mnist
from tests.serve.test_saved_model import COMMITTED
from tests.toy import ROOT, toy_mnist

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Locator, Page, Route

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
ANSWER = re.compile(
    r"^(?:The model reads|The model is unsure: it may be) an? (\d) \([\d.]+\s%\)\..* since pixel \d+ of 784\.$"
)
TRACE_TIMEOUT = 20_000  # ms: six seconds of animation, on a busy machine

Point = tuple[float, float]
Visit = Callable[..., "tuple[Page, list[str]]"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the newest version that the project ships."""
    with serving(SavedModel.load(COMMITTED[2])) as url:
        yield url


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build the documentation and serve its files."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
    """Open a page afresh and list its faults: errors on the console, requests to other servers."""
    contexts = []

    def open_page(options: dict[str, Any], url: str = url, **answers: Any) -> tuple[Page, list[str]]:
        """``answers`` has what answers in the server's place, by the first word of a file's name."""
        contexts.append(browser.new_context(**options))
        page, faults, own = contexts[-1].new_page(), list[str](), (f"{url}/", "data:", "blob:")
        for name, answer in answers.items():
            page.route(f"**/{name}.*", answer)
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


def draw(page: Page, touch: bool = False, frame: FrameLocator | None = None) -> None:
    """Draw a 3 in two strokes."""
    box = (frame or page).get_by_role("img", name="Drawing area").bounding_box()
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


def answer(page: Page | FrameLocator) -> int:
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
    expect(page.locator("#chart image")).to_have_count(2)  # the pixels and the heat map
    page.get_by_role("slider", name="Pixels read").fill("100")
    expect(page.locator("#count")).to_have_text("100 of 784")
    assert bars(page) != at_the_end
    assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]
    expect(page.locator("footer")).to_contain_text(re.compile(r"Model version \d+, test accuracy .*, pixel order: "))
    assert faults == []


def test_a_small_laptop_shows_heat_map_and_slider_without_scrolling(visit: Visit) -> None:
    page, _ = visit({"viewport": {"width": 1024, "height": 768}, "reduced_motion": "reduce"})
    sample(page, 3).click()
    assert answer(page) == 3
    for part in ("#chart", "#slider"):
        box = page.locator(part).bounding_box()
        assert box and box["y"] + box["height"] <= 768
    assert page.evaluate("scrollY") == 0


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
    weights = np.zeros(67_850, "<f4")
    weights[-10:] = [math.log(SURE - 0.01), math.log(1 - SURE + 0.01), *[-99] * 8]  # the bias of the logits
    page, _ = visit(STILL, weights=lambda route: route.fulfill(body=weights.tobytes()))
    sample(page, 0).click()
    assert answer(page) == 0
    expect(page.locator("#answer")).to_contain_text("The model is unsure: it may be a 0 (79.0\u00a0%).")


def test_another_layer_is_said(visit: Visit) -> None:
    described = {**read_description(COMMITTED[2]), "config": {"model": {"layer": "GRU"}}}
    missing = {"weights": lambda route: route.fulfill(status=404)}
    page, _ = visit(STILL, model=lambda route: route.fulfill(json=described), **missing)
    said = "This page reads with a stock LSTM, and this version has another layer (GRU)."
    expect(page.get_by_role("alert")).to_have_text(said)
    sample(page, 0).click()
    expect(page.get_by_role("alert")).to_have_text(said)


def test_missing_weights_are_named(visit: Visit) -> None:
    page, _ = visit(STILL, weights=lambda route: route.abort())
    expect(page.get_by_role("alert")).to_contain_text("weights.bin")


def test_only_the_newest_request_is_answered(visit: Visit) -> None:
    waiting: list[Route] = []
    page, faults = visit(STILL, weights=lambda route: waiting.append(route))
    sample(page, 1).click()
    expect(page.locator("#answer")).to_have_text("Reading.")
    page.get_by_role("button", name="Clear").click()
    waiting[0].continue_()
    page.wait_for_timeout(2000)
    expect(page.locator("#answer")).to_have_text("Draw a digit or choose a picture.")
    sample(page, 2).click()
    assert answer(page) == 2
    assert faults == []


def test_the_heat_map_shows_the_states(visit: Visit) -> None:
    page, faults = visit(STILL)
    sample(page, 7).click()
    assert answer(page) == 7
    opacity = {}
    for state in ("Hidden state", "Forget gate", "Input gate"):
        page.get_by_role("combobox", name="Heat map of the units").select_option(state)
        href = page.locator("#chart image").last.get_attribute("href") or ""
        with Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))) as picture:
            opacity[state] = np.asarray(picture.getchannel("A"), float) / 255
    assert {array.shape for array in opacity.values()} == {(128, 784)}

    forget, inputs, hidden = 1 - 0.001 ** opacity["Forget gate"], opacity["Input gate"] ** 2, opacity["Hidden state"]
    assert np.diff(forget.mean(1)).max() < 0.005  # long memories first
    assert inputs.mean() < 0.5 < forget.mean()
    (encoded,) = (row["pixels"] for row in json.loads((app.WEB / "samples.json").read_text()) if row["label"] == 7)
    image = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(1, 28, 28)
    pixels, zeros = encode(image, "standard", np.arange(784)), np.zeros((1, 128), np.float32)
    h = SavedModel.load(COMMITTED[2])("step", pixels=pixels, h=zeros, c=zeros)["h_next"]
    np.testing.assert_allclose(np.sort(hidden[:, -1] ** 2), np.sort(abs(h[0])), rtol=0, atol=0.005)
    assert faults == []


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_site_reads_a_drawing_without_a_server(visit: Visit, site: str, screen: dict[str, Any]) -> None:
    page, faults = visit({"reduced_motion": "reduce", **screen}, url=site)
    frame = page.frame_locator("iframe.live")
    expect(frame.locator("footer")).to_contain_text("test accuracy")
    draw(page, "has_touch" in screen, frame)
    assert answer(frame) == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= screen["viewport"]["width"]
    fits = "const root = document.documentElement; [innerHeight - root.scrollHeight, innerWidth - root.scrollWidth]"
    assert page.frames[1].evaluate(fits) == [0, 0]
    if screen is DESKTOP:
        background = "getComputedStyle(document.querySelector('.panel')).backgroundColor"
        assert page.frames[1].evaluate(background) == "rgb(255, 255, 255)"
        page.get_by_title("Dark mode").click()
        page.wait_for_function("document.body.dataset.mdColorScheme == 'slate'")
        assert page.frames[1].evaluate(background) == "rgb(26, 30, 36)"
        page.goto(f"{site}/live/about.html")
        page.get_by_role("link", name="plateau").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Why training starts near chance")
    assert faults == []


def traced(page: Page, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (n, 784, 10) that the page's modules compute in the browser."""
    script = """async (images) => {
        const { readWeights, trace } = await import("./lstm.js");
        const description = await (await fetch("model.json")).json();
        const { hidden_size: units, output_size: classes } = description.config.model;
        const weights = readWeights(await (await fetch("weights.bin")).arrayBuffer(), units, classes);
        const traces = images.map((image) => trace(description, weights, image));
        return JSON.stringify(traces.map((steps) => steps.map(({ probabilities }) => probabilities)));
    }"""
    return np.array(json.loads(page.evaluate(script, images.reshape(len(images), 784).tolist())))


@pytest.mark.network
def test_the_browser_computes_what_tensorflow_does(visit: Visit) -> None:
    images = load_mnist("auto", None, ("test",))["test"].images[:100]
    page, _ = visit(STILL)
    expected = SavedModel.load(COMMITTED[2])("trace", images=images)["probabilities"]
    np.testing.assert_allclose(traced(page, images), expected, rtol=0, atol=1e-5)


def test_the_browser_knows_pixel_order_and_normalization(visit: Visit, toy_versions: Path) -> None:
    model = SavedModel.load(toy_versions / "1")
    images = toy_mnist()["test"].images[:10]
    with serving(model) as url:
        page, _ = visit(STILL, url=url)
        expected = model("trace", images=images)["probabilities"]
        np.testing.assert_allclose(traced(page, images), expected, rtol=0, atol=1e-5)


def prepared_by(page: Page, file: bytes) -> np.ndarray | None:
    """Return the digit of a picture's file as the page prepares it, (28, 28), or None where there is none."""
    script = """async (bytes) => {
        const { prepare } = await import("./picture.js");
        return prepare(new Blob([Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0))]));
    }"""
    levels = page.evaluate(script, base64.b64encode(file).decode())
    return None if levels is None else np.reshape(levels, (28, 28))


@pytest.mark.parametrize("digit", SAMPLES)
def test_the_page_reads_photographs_as_the_client_does(visit: Visit, digit: int) -> None:
    page, _ = visit(STILL)
    model = committed_model()
    for name, file in encoded_photographs(digit).items():
        prepared = prepared_by(page, file)
        by_client = prepare_picture(io.BytesIO(file))
        assert prepared is not None and by_client is not None, name  # the browser reduces with another filter
        assert model(images=np.stack([prepared, by_client]))["class_id"].tolist() == [digit, digit], name


def test_the_page_sees_no_digit_on_blank_paper(visit: Visit) -> None:
    page, _ = visit(STILL)
    model = committed_model()
    for name, blank in blank_photographs().items():
        file = io.BytesIO()
        blank.save(file, "PNG")
        prepared = prepared_by(page, file.getvalue())
        assert prepared is None or model(images=prepared[None])["probabilities"].max() < SURE, name


def test_the_page_prepares_pictures_as_the_client_does(visit: Visit) -> None:
    page, _ = visit(STILL)
    mnist = Image.fromarray(to_mnist(DIGIT))
    in_mnists_form = {"MNIST": mnist, "MNIST, dark on light": ImageOps.invert(mnist)}
    exact = in_mnists_form | {name: SAME[name] for name in ("56 pixels", "100 pixels", "cut out tightly")}
    for name, picture in {**SAME, **exact}.items():
        if picture.mode in ("CMYK", "F", "I;16"):  # browsers read no such files
            continue
        file = io.BytesIO()
        picture.save(file, "PNG")
        prepared = prepared_by(page, file.getvalue())
        assert prepared is not None, name
        if name in exact:
            np.testing.assert_array_equal(prepared, to_mnist(picture), err_msg=name)
        else:  # the browser reduced it with another filter
            assert difference(prepared, to_mnist(picture)) < 10, name
