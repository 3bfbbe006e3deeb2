"""The page, served: a browser moves a slider, draws, uploads, and talks to this machine alone."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from keras_vae.explore import inputs

if importlib.util.find_spec("gradio") is None:
    pytest.skip(
        'There is no page to explore: pip install "keras-vae[explore]".', allow_module_level=True
    )


@pytest.fixture(scope="module")
def address():
    """Where `keras-vae explore` serves its page, in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "keras_vae.cli", "explore", "dense_digits"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        line = server.stdout.readline()
        (found,) = re.findall(r"http://\S+", line)
        yield found
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture
def shown(browser, address):
    """The page in a browser, with what it asked for and complained of."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    tab = context.new_page()
    tab.hosts, tab.errors = set(), []
    tab.on("request", lambda request: tab.hosts.add(urllib.parse.urlsplit(request.url).hostname))
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.on(
        "console",
        lambda message: tab.errors.append(message.text) if message.type == "error" else None,
    )
    tab.goto(address)
    yield tab
    context.close()


def test_it_binds_to_this_machine_alone(address):
    host, port = urllib.parse.urlsplit(address).netloc.split(":")
    assert host == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    for other in others - {"127.0.0.1", "::1"}:
        if ":" not in other and not other.startswith("127."):
            with socket.socket() as visitor:
                visitor.settimeout(2)
                assert visitor.connect_ex((other, int(port))) != 0


def test_an_upload_of_too_many_bytes_is_refused_by_the_server(address):
    boundary = "border"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    ).encode() + bytes(inputs.MAX_BYTES + 1) + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    request = urllib.request.Request(
        f"{address}gradio_api/upload",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with pytest.raises(urllib.error.HTTPError, match="413") as caught:
        urllib.request.urlopen(request)
    caught.value.close()


@pytest.mark.browser
def test_moving_a_slider_changes_the_image(shown):
    shown.get_by_role("tab", name="Latents").click()
    image = shown.locator("img:visible")
    image.wait_for()
    before = image.get_attribute("src")
    pixels = image.screenshot()
    slider = shown.locator("[id^=latent-] input[type=range]").first
    slider.focus()
    for _ in range(15):
        slider.press("ArrowRight")
    shown.wait_for_function(
        "before => [...document.querySelectorAll('img')].some("
        "image => image.checkVisibility() && image.src !== before)",
        arg=before,
    )
    shown.wait_for_timeout(500)
    assert shown.locator("[id^=latent-] input[type=number]").first.input_value() == "1.5"
    assert image.screenshot() != pixels
    assert shown.errors == []
    assert shown.hosts == {"127.0.0.1"}


@pytest.mark.browser
def test_an_uploaded_image_is_reconstructed_and_a_malformed_one_refused(shown, tmp_path):
    Image.fromarray(np.uint8(np.eye(8) * 255)).save(tmp_path / "eye.png")
    (tmp_path / "fake.png").write_text("not an image")
    shown.get_by_role("tab", name="Reconstruct").click()
    file = shown.locator("input[type=file]:not([disabled])").first
    file.set_input_files(tmp_path / "fake.png")
    shown.get_by_text("The file should be an image: PNG").first.wait_for()
    shown.get_by_label("Clear").or_(shown.get_by_label("Remove this file")).first.click()
    shown.locator("input[type=file]:not([disabled])").first.set_input_files(tmp_path / "eye.png")
    words = shown.get_by_label("in nats")
    shown.wait_for_function(
        "() => [...document.querySelectorAll('textarea, input')].some("
        "field => field.value.startsWith('ELBO '))"
    )
    assert "reconstruction" in words.input_value()


def _click_until(button, told):
    """Clicks as a person would: again, if nothing happens, as on a page that is still loading."""
    from playwright.sync_api import TimeoutError as NothingHappened

    for _ in range(3):
        button.click()
        try:
            return told.wait_for(timeout=10_000)
        except NothingHappened:
            pass
    pytest.fail("Nothing happened at any of three clicks.")


@pytest.mark.browser
def test_a_drawing_is_scored(shown):
    shown.get_by_role("tab", name="Anomaly").click()
    button = shown.get_by_role("button", name="Take the drawing").locator("visible=true")
    canvas = shown.locator("canvas:visible").first
    canvas.wait_for()
    _click_until(button, shown.get_by_text("Draw something first").first)
    shown.get_by_label("Brush").or_(shown.get_by_title("Brush")).locator(
        "visible=true"
    ).first.click()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.mouse.move(x, y - 80)
    shown.mouse.down()
    shown.mouse.move(x, y + 80, steps=20)
    shown.mouse.up()
    button.click()
    shown.wait_for_function(
        "() => [...document.querySelectorAll('textarea, input')].some("
        "field => /^(An|No) anomaly: -ELBO is/.test(field.value))"
    )
