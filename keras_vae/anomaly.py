"""Anomaly detection: a score for each example, a threshold, and how well the two tell apart.

A score is higher the less an example looks like the data the model was trained on.
"""

import math
import zlib

import numpy as np

from keras_vae.checks import check_data
from keras_vae.distributions import Bernoulli
from keras_vae.extras import require

METHODS = ("elbo", "reconstruction", "likelihood", "typicality", "input_complexity")


def anomaly_score(
    model,
    x: np.ndarray,
    method: str = "elbo",
    *,
    num_samples: int = 100,
    clean_data: np.ndarray | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """Scores how unlike its training data a VAE finds each example.

        elbo              -ELBO(x)
        reconstruction    -E_q[log p(x given z)]
        likelihood        -log p(x), by importance sampling
        typicality        |-log p(x) - mean of -log p over clean_data|
        input_complexity  -log P(x) - L(x), with L from `image_complexity`

    The first three tend to call blank and other simple images normal, whatever the model was
    trained on, since these are likely under most models of images. The last two mend that.
    Typicality also finds what is too likely. Input complexity sets the nats that the model needs
    for x against those that a general compressor needs, so simplicity cancels; it needs binary
    images if the likelihood is a `Bernoulli`, else 8-bit ones (multiples of 1/255): P is then the
    density times the width of a level for each value, which is near a probability where the density
    hardly changes from one level to the next.

    Args:
        model: A VAE.
        x: Data. Shape (num_examples, *event_shape).
        method: One of the above.
        num_samples: Latent samples per example, at least 1.
        clean_data: For typicality, and for it alone: data without anomalies that the model was not
            trained on. Shape (num_clean, *event_shape).
        seed: Any integer; the same one gives the same scores.

    Returns:
        Nats per example, higher for anomalies. Shape (num_examples,), float64.

    Raises:
        ValueError: If the method is not known, its data is missing, there is data that it does not
            use, or x has the wrong shape or values.

    Example:

    >>> from keras_vae.models import DenseVAE
    >>> vae = DenseVAE((8, 8, 1), 2, hidden_units=(8,))
    >>> anomaly_score(vae, np.zeros((5, 8, 8, 1)), "reconstruction", num_samples=3, seed=0).shape
    (5,)

    References:
        An and Cho 2015, "Variational Autoencoder based Anomaly Detection using Reconstruction
        Probability".
        Nalisnick et al. 2019, "Detecting Out-of-Distribution Inputs to Deep Generative Models Using
        Typicality", for a batch of one example.
        Serra et al. 2020, "Input Complexity and Out-of-distribution Detection with Likelihood-based
        Generative Models".
    """
    if method not in METHODS:
        raise ValueError(f"`method` should be one of {METHODS}. Received: method={method!r}.")
    if method == "typicality" and clean_data is None:
        raise ValueError(
            "Typicality is a distance from clean data. Received: clean_data=None. "
            "Give held-out data that holds no anomalies."
        )
    if method != "typicality" and clean_data is not None:
        raise ValueError(
            f"`clean_data` is for typicality alone. Received: clean_data with method={method!r}."
        )
    if method == "elbo":
        return -np.asarray(model.elbo(x, num_samples, seed), np.float64)
    if method == "reconstruction":
        return -np.asarray(model.expected_log_likelihood(x, num_samples, seed), np.float64)
    complexity = _complexity(model, x) if method == "input_complexity" else 0.0
    log_likelihood = np.asarray(model.log_likelihood(x, num_samples, seed), np.float64)
    if method == "typicality":
        clean = np.asarray(model.log_likelihood(clean_data, num_samples, seed), np.float64)
        return np.abs(log_likelihood - clean.mean())
    return -log_likelihood - complexity


def image_complexity(images: np.ndarray, *, num_levels: int = 256) -> np.ndarray:
    """Estimates how many nats a lossless code needs for each image, with the DEFLATE of PNG.

    Each image is compressed as it is and, as PNG's filters do, as differences along each of its
    axes; the shortest result counts. Binary images are also tried with eight values to the byte.

    Args:
        images: Multiples of 1 / (num_levels - 1) in [0, 1].
            Shape (num_images, height, width, channels), or any other event shape.
        num_levels: How many values there are, from 2 (binary images) to 256 (8-bit ones).

    Returns:
        Nats per image. Shape (num_images,).

    Raises:
        ValueError: If `num_levels` is out of range, or a value is not one of the levels.

    Example:

    >>> flat, noise = np.zeros((16, 16, 1)), np.random.default_rng(0).random((16, 16, 1)).round()
    >>> flat_nats, noise_nats = image_complexity(np.stack([flat, noise]), num_levels=2)
    >>> bool(flat_nats < 50 < 177 < noise_nats < 250)  # 256 random bits hold 177 nats
    True

    References:
        Serra et al. 2020, "Input Complexity and Out-of-distribution Detection with Likelihood-based
        Generative Models".
        Deutsch 1996, "DEFLATE Compressed Data Format Specification", RFC 1951.
    """
    if not 2 <= num_levels <= 256:
        raise ValueError(
            f"`num_levels` should be from 2 to 256. Received: num_levels={num_levels!r}."
        )
    scaled = np.asarray(images, np.float64) * (num_levels - 1)
    levels = np.clip(np.rint(scaled), 0, num_levels - 1)
    # Float32 and float16 hold k / 255 to better than this.
    if not np.allclose(scaled, levels, rtol=0.0, atol=0.1):
        kind = "0 or 1" if num_levels == 2 else f"multiples of 1/{num_levels - 1} in [0, 1]"
        raise ValueError(
            f"A code length needs images whose values are {kind}. Received: others, such as "
            f"{float(scaled.flat[np.argmax(np.abs(scaled - levels))]) / (num_levels - 1):g}."
        )
    num_bytes = [_compressed_size(image, num_levels) for image in levels.astype(np.uint8)]
    return np.array(num_bytes) * 8 * math.log(2.0)


def threshold(clean_scores: np.ndarray, false_positive_rate: float) -> float:
    """Returns the score above which at most a given share of clean data lies.

    It is the smallest of the clean scores with that property; an example is called an anomaly if
    its score is greater than the threshold. The share is that among these scores: take data that
    the model was not trained on, and more than 1 / false_positive_rate examples of it.

    Args:
        clean_scores: Scores of data without anomalies. Shape (num_clean,).
        false_positive_rate: Share of clean data that may be called an anomaly, in [0, 1).

    Raises:
        ValueError: If the rate is out of range, or the scores are not finite or not a vector.

    Example:

    >>> threshold(np.arange(100.0), 0.05)
    94.0
    """
    if not 0.0 <= false_positive_rate < 1.0:
        raise ValueError(
            "`false_positive_rate` should be in [0, 1). "
            f"Received: false_positive_rate={false_positive_rate!r}."
        )
    clean_scores = np.sort(_check_scores("clean_scores", clean_scores))
    most = len(clean_scores) - 1
    allowed = math.floor(len(clean_scores) * false_positive_rate + 1e-9)  # 0.29 * 100 is below 29
    return float(clean_scores[most - min(most, allowed)])


def detection_metrics(clean_scores: np.ndarray, anomalous_scores: np.ndarray) -> dict[str, float]:
    """Returns how well scores tell anomalies from clean data, whatever the threshold.

    The area under the ROC curve is the probability that an anomaly scores higher than clean data,
    0.5 for guesses. The area under the precision-recall curve (average precision, with anomalies as
    the positives) depends on how many of each there are: for guesses, it is the anomalies' share.

    Args:
        clean_scores: Shape (num_clean,).
        anomalous_scores: Shape (num_anomalous,).

    Returns:
        `auroc` and `auprc`, both in [0, 1].

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: If the scores are not finite or not vectors.

    Example:

    >>> detection_metrics([0.0, 1.0, 2.0, 3.0], [2.5, 4.0])
    {'auroc': 0.875, 'auprc': 0.833...}
    """
    sklearn_metrics = require("sklearn.metrics", "data", "Detection metrics need")
    clean_scores = _check_scores("clean_scores", clean_scores)
    anomalous_scores = _check_scores("anomalous_scores", anomalous_scores)
    is_anomaly = np.repeat([0, 1], [len(clean_scores), len(anomalous_scores)])
    scores = np.concatenate([clean_scores, anomalous_scores])
    return {
        "auroc": float(sklearn_metrics.roc_auc_score(is_anomaly, scores)),
        "auprc": float(sklearn_metrics.average_precision_score(is_anomaly, scores)),
    }


def _complexity(model, x):
    """Returns L(x), less what turns a density on [0, 1] into the probability of one of 256."""
    x = np.asarray(check_data(x, model.event_shape, model.likelihood.support))
    if isinstance(model.likelihood, Bernoulli):
        return image_complexity(x, num_levels=2)
    z = np.zeros((1, model.latent_dim))
    # TFP has a bijector to the support of every continuous distribution, and none for others.
    is_density = model.decode(z).experimental_default_event_space_bijector() is not None
    nats_per_value = math.log(255.0) if is_density else 0.0
    return image_complexity(x) - math.prod(model.event_shape) * nats_per_value


def _compressed_size(levels, num_levels):
    axes = [axis for axis, size in enumerate(levels.shape) if size > 1]
    # Bytes wrap around, so differences lose nothing.
    filtered = [levels, *(np.diff(levels, axis=axis, prepend=np.uint8(0)) for axis in axes)]
    if num_levels == 2:
        filtered = [image % 2 for image in filtered]
        filtered += [np.packbits(image) for image in filtered]
    return min(len(_deflate(image.tobytes())) for image in filtered)


def _deflate(data):
    # Without the header and the checksum, which tell nothing and would weigh on small images.
    compressor = zlib.compressobj(level=9, wbits=-15)
    return compressor.compress(data) + compressor.flush()


def _check_scores(name, scores):
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        bad = int(scores.size - np.isfinite(scores).sum())
        raise ValueError(
            f"`{name}` should be a vector of finite numbers, at least one. "
            f"Received: shape {scores.shape}, with {bad} values that are NaN or infinite."
        )
    return scores
