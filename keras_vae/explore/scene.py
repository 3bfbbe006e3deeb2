"""What the page shows: a model, examples, and the pictures and words that its tabs ask for."""

import logging
from pathlib import Path

import numpy as np

from keras_vae import anomaly, metrics, plots, zoo
from keras_vae.plots.canvas import SMALL_SIZE, tile
from keras_vae.plots.latents import slerp
from keras_vae.zoo.evaluation import held_out

_logger = logging.getLogger(__name__)

MAX_SLIDERS = 10
NUM_EXAMPLES = 500
REACH = 3.0  # standard deviations of the prior, either way

_FALSE_POSITIVES = 0.01
_SCORE_SAMPLES = 20
_SMALLEST_SIDE = 320  # pixels of a picture's shorter side on the screen
_COLUMNS = 8


class Scene:
    """A model with examples, and what can be made of them.

    Args:
        model: A VAE of images of one or three channels.
        examples: Shape (num_examples, height, width, channels).
        origin: What the examples are, in a few words.

    Attributes:
        latents: The latents that get a slider, the one with most nats first.
        nats: What each latent carries on the examples. Shape (latent_dim,).
        scores: -ELBO of the examples, nats. Shape (num_examples,).
        threshold: The score above which one example in a hundred lies.

    Raises:
        ValueError: If the model is not one of such images.
    """

    def __init__(self, model, examples: np.ndarray, origin: str):
        shape = model.event_shape
        if len(shape) != 3 or shape[-1] not in (1, 3):
            raise ValueError(
                "A page to explore needs a model of images of shape (height, width, 1) or "
                f"(height, width, 3). Received: event_shape={shape}."
            )
        self.model = model
        self.examples = examples
        self.origin = origin
        self.nats = metrics.kl_per_latent(model, examples).mean(axis=0)
        self.latents = np.argsort(-self.nats, kind="stable")[:MAX_SLIDERS]
        self.scores = self._score(examples)
        self.threshold = anomaly.threshold(self.scores, _FALSE_POSITIVES)
        prior = model.prior.distribution()
        self._loc, self._scale = prior.mean().numpy(), prior.stddev().numpy()

    @classmethod
    def load(cls, name: str | Path) -> "Scene":
        """Loads a model with test images of its recipe; with its own samples if it has none."""
        info = zoo.info(name)
        model, recipe = zoo.load(info.folder, compile=False), info.recipe
        if recipe.data is not None:
            try:
                examples = held_out(recipe)[1][:NUM_EXAMPLES]
            except (ImportError, RuntimeError, ValueError) as error:
                _logger.warning("Exploring with samples in place of test images: %s", error)
            else:
                return cls(model, examples, f"test images of {recipe.data.name}")
        # Not their means, which lack the noise that data have.
        z = model.prior.distribution().sample(NUM_EXAMPLES, seed=(0, 0))
        samples = model.decode(z).sample(seed=(0, 1)).numpy()
        return cls(model, samples, "samples of the model")

    def samples(self, number: int, seed: int) -> np.ndarray:
        """Returns a picture of so many samples from the prior."""
        images = self.model.sample(int(number), seed=int(seed)).numpy()
        columns = min(_COLUMNS, len(images))
        missing = -len(images) % columns
        images = np.pad(images, [(0, missing), *[(0, 0)] * 3], constant_values=0.5)
        return on_screen(images.reshape(-1, columns, *self.model.event_shape))

    def start(self, example: int | None = None) -> np.ndarray:
        """Returns a code in standard deviations of the prior: of an example, or the prior's mean.

        Returns:
            Shape (latent_dim,).
        """
        if example is None:
            return np.zeros(self.model.latent_dim)
        x = self.examples[int(example)][np.newaxis]
        return (self.model.encode(x).mean().numpy()[0] - self._loc) / self._scale

    def decoded(self, code: np.ndarray, *positions: float) -> np.ndarray:
        """Returns a picture of a code, its first latents moved to where their sliders stand."""
        code = np.array(code, np.float64)
        code[self.latents[: len(positions)]] = positions
        z = self._loc + self._scale * code
        return on_screen(self.model.decode(z[np.newaxis]).mean().numpy()[np.newaxis])

    def interpolation(self, first: int, second: int, num_steps: int, arc: bool) -> np.ndarray:
        """Returns a picture of the way between two examples."""
        codes = self.model.encode(self.examples[[int(first), int(second)]]).mean().numpy()
        weights = np.linspace(0.0, 1.0, int(num_steps))[:, np.newaxis]
        if arc:
            z = slerp(codes[0], codes[1], weights)
        else:
            z = (1.0 - weights) * codes[0] + weights * codes[1]
        images = self.model.decode(z).mean().numpy()
        columns = _COLUMNS if len(images) % _COLUMNS == 0 else len(images)
        return on_screen(images.reshape(-1, columns, *self.model.event_shape))

    def reconstruction(self, x: np.ndarray) -> tuple[np.ndarray, str]:
        """Returns a picture of an image beside its reconstruction, and what the ELBO says of it."""
        score = self._score(x)[0]
        kl = metrics.kl_per_latent(self.model, x).sum()
        words = (
            f"ELBO {-score:.1f} nats: reconstruction {score - kl:.1f}, KL {kl:.1f}. "
            f"The mean of {self.origin} is {-self.scores.mean():.1f}."
        )
        both = np.stack([x[0], self.model.reconstruct(x)[0]])
        return on_screen(both[np.newaxis]), words

    def anomaly(self, x: np.ndarray):
        """Returns what the model's score says of an image, and a figure of it among the examples.

        Returns:
            Words, and a `matplotlib.figure.Figure`.
        """
        score = self._score(x)[0]
        higher = (self.scores >= score).mean()
        verdict = "an anomaly" if score > self.threshold else "no anomaly"
        words = (
            f"{verdict.capitalize()}: -ELBO is {score:.1f} nats, the threshold "
            f"{self.threshold:.1f}. {higher:.1%} of the {len(self.scores)} {self.origin} score as "
            "high or higher."
        )
        figure = plots.score_histogram(
            {self.origin: self.scores}, x_label="-ELBO (nats)", threshold=self.threshold
        )
        (axes,) = figure.axes
        axes.axvline(score, color="black", linewidth=2.0)
        axes.annotate(
            "this image",
            (score, 0.05),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=SMALL_SIZE,
            bbox={"boxstyle": "square,pad=0.2", "facecolor": "white", "edgecolor": "none"},
        )
        return words, figure

    def _score(self, x):
        return -np.asarray(self.model.elbo(x, _SCORE_SAMPLES, seed=0), np.float64)


def on_screen(rows: np.ndarray) -> np.ndarray:
    """Returns images as one picture that is large enough to be seen, uint8 of three channels.

    Args:
        rows: Values in [0, 1]. Shape (rows, columns, height, width, channels).
    """
    sheet = np.uint8(np.round(255 * tile(rows)))
    times = -(-_SMALLEST_SIDE // min(sheet.shape[:2]))
    sheet = sheet.repeat(times, axis=0).repeat(times, axis=1)
    return sheet.repeat(3, axis=-1) if sheet.shape[-1] == 1 else sheet
