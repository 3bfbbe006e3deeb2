"""The report: numbers are those of `evaluate`, the page stands alone, and a browser shows it."""

import base64
import html.parser
import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_vae import models, zoo
from keras_vae.cli import main
from keras_vae.report import page, write_report

LIMIT, NUM_SAMPLES = 60, 20


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    stages = []
    path = write_report(
        "dense_digits",
        folder,
        num_samples=NUM_SAMPLES,
        limit=LIMIT,
        progress=lambda *args: stages.append(args),
    )
    return path, stages


@pytest.fixture(scope="module")
def text(written):
    return written[0].read_text(encoding="utf-8")


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def elements(text, tag):
    return [attrs for name, attrs in Elements(text).found if name == tag]


def test_there_is_one_file_and_progress_goes_from_start_to_end(written):
    path, stages = written
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    fractions = [fraction for fraction, _ in stages]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert [*dict.fromkeys(label for _, label in stages)] == [
        "Loading", "Measuring", "Drawing", "Done"
    ]  # fmt: skip


def test_numbers_are_those_of_evaluate(text):
    results = zoo.evaluate("dense_digits", num_samples=NUM_SAMPLES, limit=LIMIT)
    shown = re.findall(r'<dt>(.*?)</dt>\s*<dd class="value">([^ <]+)', text)
    test = results["test"]
    expected = {
        "NLL": f"{-test['log_likelihood']['mean']:.2f}",
        "ELBO": f"{test['elbo']['mean']:.2f}",
        "Reconstruction": f"{test['reconstruction']['mean']:.2f}",
        "KL": f"{test['kl']['mean']:.2f}",
        "Bits per dimension": f"{test['bits_per_dimension']:.4f}",
        "Active units": f"{test['active_units']}",
        "Mutual information": f"{test['mutual_information']:.2f}",
        "Marginal KL": f"{test['marginal_kl']:.2f}",
        "Effective sample size": f"{test['effective_sample_size']:.1f}",
    }
    assert dict(shown) == expected
    assert f"± {test['log_likelihood']['standard_error']:.2f}" in text
    assert f"<dd>{NUM_SAMPLES}</dd>" in text
    assert f"<dd>{LIMIT}</dd>" in text


@pytest.fixture
def stored(tmp_path):
    """A model whose results say of how they were measured what the report would."""
    folder = shutil.copytree(zoo.info("dense_digits").folder, tmp_path / "dense_digits")
    results = zoo.info(folder).results

    def write(**changes):
        results["test"]["log_likelihood"] = {"mean": -12.34, "standard_error": 0.56}
        (folder / "results.json").write_text(json.dumps(results | changes))
        return folder

    return write


def test_a_log_likelihood_that_is_known_is_taken_once_a_slice_agrees(stored, tmp_path):
    folder = stored()
    text = write_report(folder, tmp_path / "report").read_text(encoding="utf-8")
    assert '<dd class="value">12.34 <span class="error">± 0.56</span>' in text
    assert "From the model&#39;s results; 200 of the images, measured again, differ by 0.0" in text
    fewer = write_report(folder, tmp_path / "fewer", num_samples=2).read_text(encoding="utf-8")
    assert "12.34" not in fewer


def test_a_known_log_likelihood_whose_slice_differs_is_measured_anew(stored, tmp_path, caplog):
    wrong = dict(zoo.info("dense_digits").results["slice"], log_likelihood=-12.0)
    few = dict(zoo.info("dense_digits").results["protocol"], importance_samples=3)
    folder = stored(slice=wrong, protocol=few)
    page = write_report(folder, tmp_path / "report", num_samples=3)
    assert "From the model" not in page.read_text(encoding="utf-8")
    assert "measured anew: a slice of it differs by" in caplog.text


def test_every_picture_is_in_the_file_described_and_not_blank(text):
    images = elements(text, "img")
    assert len(images) == 9 + 2  # of the report, and of the card
    for image in images:
        assert len(image["alt"]) > 10
        kind, encoded = image["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("L"))
        assert pixels.std() > 5


def test_the_page_names_nothing_outside_of_itself(text):
    assert "default-src 'none'" in text
    assert elements(text, "script") == []
    assert [link["href"] for link in elements(text, "link")] == ["data:,"]
    assert "@import" not in text
    assert "url(" not in text


def test_a_page_that_exists_is_kept_unless_told_otherwise(written):
    path, _ = written
    with pytest.raises(FileExistsError, match="exists already"):
        write_report("dense_digits", path.parent)


def test_the_command_writes_the_page(tmp_path):
    arguments = ["report", "dense_digits", "--out", str(tmp_path / "new"), "--limit", "20"]
    result = CliRunner().invoke(main, [*arguments, "--num-samples", "3"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new" / "index.html").stat().st_size > 100_000
    again = CliRunner().invoke(main, [*arguments, "--num-samples", "3"])
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_a_saved_model_of_two_latents_is_reported_on_data_that_is_named(tmp_path):
    vae = models.DenseVAE((6, 6, 1), 2, hidden_units=(8,))
    last = vae.encoder.layers[-1]
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    folder = zoo.save(vae, tmp_path / "mine")
    with pytest.raises(ValueError, match="names no data"):
        write_report(folder, tmp_path / "report")
    path = write_report(folder, tmp_path / "report", data="digits", num_samples=2, limit=20)
    text = path.read_text(encoding="utf-8")
    assert "The plane of the two latents" in text
    assert "The latents have collapsed onto the prior" in text  # every posterior is the prior


def test_images_that_do_not_fit_are_refused(tmp_path):
    vae = models.DenseVAE((8, 8, 3), 2, hidden_units=(8,))
    folder = zoo.save(vae, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"should be of shape \(8, 8, 3\)"):
        write_report(folder, tmp_path / "report", data="digits", num_samples=2, limit=20)


def test_a_card_can_neither_run_anything_nor_call_anyone(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"png")
    markdown = (
        "# Title\n<script>alert(1)</script>\n\n![mine](mine.png) ![away](https://a.b/c.png) "
        "![up](../secret.png) [link](javascript:alert(1)) [good](https://a.b)\n\n"
        "| a |\n|---|\n| 1 |"
    )
    card = page.markdown_to_html(markdown, tmp_path)
    assert "<h3>Title</h3>" in card
    assert "<td>1</td>" in card
    assert elements(card, "script") == []
    sources = [image["src"] for image in elements(card, "img")]
    assert sources == ["data:image/png;base64," + base64.b64encode(b"png").decode()]
    assert "away" in card
    assert [link["href"] for link in elements(card, "a")] == ["https://a.b"]


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("jinja2", "jinja2"),
        ("markdown_it", "markdown-it-py"),
        ("matplotlib", "matplotlib"),
        ("sklearn", "scikit-learn"),
    ],
)
def test_a_missing_library_is_named_before_anything_is_measured(
    tmp_path, monkeypatch, module, library
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {library}.*keras-vae\[report\]"):
        write_report("dense_digits", tmp_path)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(375, 800), (1280, 900)])
def test_a_browser_shows_the_page_at_every_width(browser, written, width, height):
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    shown, complaints, requests = context.new_page(), [], []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("request", lambda request: requests.append(request.url))
    shown.goto(written[0].as_uri())
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [written[0].as_uri()]
    assert shown.title() == "dense_digits: report"
    images = shown.locator("img")
    assert images.count() == 11
    for index in range(images.count()):
        image = images.nth(index)
        image.scroll_into_view_if_needed()
        assert image.is_visible()
        assert image.evaluate("image => image.complete && image.naturalWidth > 50")
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    # Text is no smaller than 11 pixels, and lines are no longer than a reader can follow.
    sizes = shown.locator("p, dd, dt, li, figcaption").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 11
    widths = shown.locator("p").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert max(widths) <= 800
    context.close()
