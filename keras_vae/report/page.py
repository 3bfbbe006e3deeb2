"""The page itself: HTML from a template, and the card from Markdown."""

import base64
import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from keras_vae.extras import require
from keras_vae.metrics import ACTIVE_VARIANCE
from keras_vae.report.diagnosis import Finding
from keras_vae.report.pictures import Picture
from keras_vae.report.study import Study
from keras_vae.zoo import Info
from keras_vae.zoo.evaluation import NUM_IMAGES_FOR_SAMPLE_SIZE

_LIBRARIES = ("jinja2", "markdown_it", "matplotlib", "sklearn")
_HEADINGS_BELOW = 2  # the card's first heading becomes one of the third level
_PROTOCOL_NAMES = {
    "data": "data",
    "split_seed": "split seed",
    "training_binarization": "binarization in training",
    "test_binarization": "binarization of the test images",
    "num_test_images": "test images",
    "importance_samples": "importance samples per image",
    "elbo_samples": "latent samples per image for the ELBO",
    "seed": "seed of the samples",
    "precision": "precision of the importance samples",
    "units": "units",
}


class Number(NamedTuple):
    """One number of the report.

    Attributes:
        name: What it is.
        value: As text.
        unit: Of the value; may be empty.
        error: Standard error as text, or `None`.
        meaning: In a sentence.
    """

    name: str
    value: str
    unit: str
    error: str | None
    meaning: str


def check_libraries() -> None:
    """Raises an `ImportError` that names the extra, if a library of the report is missing."""
    for library in _LIBRARIES:
        require(library, "report", "A report needs")


def render(
    study: Study,
    findings: list[Finding],
    pictures: list[Picture],
    info: Info,
    *,
    seconds: dict[str, float],
) -> str:
    """Returns the page as HTML.

    Args:
        study: The model and what was measured.
        findings: What the numbers say.
        pictures: What was drawn.
        info: The model's folder, whose card goes onto the page.
        seconds: What each part took, by name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_vae.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _mark_code
    return environment.get_template("report.html").render(
        recipe=study.recipe,
        findings=findings,
        numbers=numbers(study.results, len(study.is_active), study.stored_difference),
        protocol=_protocol(study.results["protocol"]),
        pictures=pictures,
        card=markdown_to_html(info.card, info.folder),
        style=files("keras_vae.report").joinpath("templates", "report.css").read_text("utf-8"),
        seconds={name: f"{value:.0f} s" for name, value in seconds.items()},
        date=datetime.date.today().isoformat(),
        version=version("keras-vae"),
    )


def numbers(results: dict, latent_dim: int, stored_difference: float | None = None) -> list[Number]:
    """Returns the numbers of the report, as they are shown.

    Args:
        results: As `zoo.evaluation.measure` returns them.
        latent_dim: Number of latents.
        stored_difference: As in `Study`.
    """
    test, protocol = results["test"], results["protocol"]
    samples = f"{protocol['importance_samples']:,}"
    num_images = min(NUM_IMAGES_FOR_SAMPLE_SIZE, protocol["num_test_images"])
    origin = ""
    if stored_difference is not None:
        origin = (
            f" From the model's results; {results['slice']['num_images']} of the images, measured "
            f"again, differ by {stored_difference:.3f} nats."
        )

    def mean(key, name, meaning, sign=1.0):
        value, error = sign * test[key]["mean"], test[key]["standard_error"]
        return Number(name, f"{value:.2f}", "nats", f"{error:.2f}", meaning)

    def single(key, name, unit, meaning, digits=2):
        return Number(name, f"{test[key]:.{digits}f}", unit, None, meaning)

    return [
        mean(
            "log_likelihood",
            "NLL",
            f"Negative log-likelihood of an image, from {samples} importance samples. Lower is "
            f"better.{origin}",
            -1.0,
        ),
        mean(
            "elbo",
            "ELBO",
            "Lower bound of the log-likelihood, whatever training minimised. Higher is better.",
        ),
        mean(
            "reconstruction",
            "Reconstruction",
            "What decoding the code leaves unexplained; the distortion.",
        ),
        mean("kl", "KL", "What the code costs, as a divergence from the prior; the rate."),
        single(
            "bits_per_dimension",
            "Bits per dimension",
            "bits",
            "The NLL for each value of the image, in bits.",
            4,
        ),
        Number(
            "Active units",
            f"{test['active_units']} of {latent_dim}",
            "",
            None,
            f"Latents whose posterior mean has a variance above {ACTIVE_VARIANCE:g} over the "
            "images.",
        ),
        single(
            "mutual_information",
            "Mutual information",
            "nats",
            "What a code tells about which image it came from; at most the logarithm of their "
            "number.",
        ),
        single(
            "marginal_kl",
            "Marginal KL",
            "nats",
            "How far all codes together lie from the prior. With the mutual information it makes "
            "the KL.",
        ),
        Number(
            "Effective sample size",
            f"{test['effective_sample_size']:.1f}",
            f"of {samples}",
            None,
            f"Importance samples that count, mean of {num_images} images; on the worst of them "
            f"{test['smallest_effective_sample_size']:.1f}.",
        ),
    ]


def markdown_to_html(text: str, folder: Path) -> str:
    """Returns Markdown as HTML that asks the network for nothing and runs nothing.

    HTML in it is shown as text. Pictures that lie in the folder go into the page; all others give
    way to their descriptions.

    Args:
        text: Markdown.
        folder: Where its pictures lie.
    """
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{min(6, int(token.tag[1]) + _HEADINGS_BELOW)}"
        for child in token.children or ():
            if child.type == "image":
                _embed(child, folder)
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704


def _mark_code(text):
    """Returns text as HTML, what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = [
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _embed(image, folder):
    source = str(image.attrs["src"])
    path = folder / source
    if Path(source).name == source and path.suffix == ".png" and path.is_file():
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
        image.attrs["src"] = f"data:image/png;base64,{encoded}"
    else:
        image.type, image.tag, image.attrs = "text", "", {}


def _protocol(protocol):
    return {
        _PROTOCOL_NAMES.get(key, key): f"{value:,}" if key.startswith("num_") else str(value)
        for key, value in protocol.items()
        if value is not None
    }
