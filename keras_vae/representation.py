"""Latents as features: a scikit-learn transformer, and what codes know about labels.

This module needs scikit-learn and is imported on its own: `import keras_vae.representation`.
"""

import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vae import metrics
from keras_vae.distributions import SharedScaleNormal
from keras_vae.models import DenseVAE
from keras_vae.optimizers import Adam
from keras_vae.vae import VAE

try:
    from scipy.optimize import linear_sum_assignment
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        TransformerMixin,
        clone,
    )
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix
    from sklearn.mixture import GaussianMixture
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'Representations need scikit-learn, 1.6 or later: pip install -U "keras-vae[data]" '
        f"scikit-learn ({error})."
    ) from error

_FLOATS = [np.float64, np.float32]
_BATCH_SIZE = 500
_SCORE_SAMPLES = 10
# Compiling a train step takes as long as taking about ten of them uncompiled.
_MIN_STEPS_TO_COMPILE = 10


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features to posterior means, as a scikit-learn transformer, for pipelines and searches.

    `fit` standardises the features and trains a `DenseVAE` with a normal likelihood, whose scale is
    learned. With a trained `model`, `fit` trains nothing and features are taken as they are, laid
    out as the model's examples; so images can go through a pipeline flat.

    `transform` gives E[z given x] and `inverse_transform` E[x given z]. `score` is the mean ELBO,
    so that searches choose by it. It is a density in the units of X, so features in other units or
    another number of features do not compare.

    Args:
        latent_dim: Number of latents, at least 1.
        hidden_units: Width of each hidden layer of the encoder; the decoder has them reversed.
        epochs: Passes over the data, at least 1.
        batch_size: Examples per optimizer step, at least 1.
        learning_rate: Adam's, above 0.
        random_state: An integer makes `fit` and `score` repeatable, whatever the global seeds; a
            `numpy.random.RandomState` goes on where it was; `None` draws from NumPy's global one.
        model: A trained VAE to use as it is. The arguments before it then say nothing, but for
            `random_state`.

    Attributes:
        model_: The VAE.
        loc_: What is subtracted from each feature, 0 for a given model. Shape (n_features_in_,).
        scale_: What it is then divided by, 1 for a given model. Shape (n_features_in_,).
        n_features_in_: Number of features.
        feature_names_in_: Their names, where X has names that are strings.

    Shapes:
        X (n_samples, n_features); codes (n_samples, latent_dim).

    Raises:
        ValueError: By `fit`, as in all of scikit-learn: if an argument is out of range, or X does
            not fit the model.

    Example:

    >>> from sklearn.datasets import load_iris
    >>> flowers = load_iris().data
    >>> transformer = VAETransformer(2, hidden_units=(8,), epochs=2, random_state=0).fit(flowers)
    >>> codes = transformer.transform(flowers)
    >>> codes.shape, transformer.inverse_transform(codes).shape
    ((150, 2), (150, 4))
    >>> transformer.get_feature_names_out().tolist()
    ['vaetransformer0', 'vaetransformer1']

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes".
        Buitinck et al. 2013, "API design for machine learning software: experiences from the
        scikit-learn project".
    """

    def __init__(
        self,
        latent_dim: int = 2,
        hidden_units: Sequence[int] = (64, 64),
        *,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        random_state: int | np.random.RandomState | None = None,
        model: VAE | None = None,
    ):
        # As scikit-learn has it, arguments are kept as they came and checked by `fit`.
        self.latent_dim = latent_dim
        self.hidden_units = hidden_units
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.model = model

    def fit(self, X, y=None) -> "VAETransformer":
        """Trains the VAE, or takes the given one; `y` is ignored."""
        X = validate_data(self, X, dtype=_FLOATS)
        random_state = check_random_state(self.random_state)
        self._score_seed = _draw_seed(random_state)
        if self.model is not None:
            self._take(self.model)
        else:
            scaler = StandardScaler().fit(X)
            self.loc_, self.scale_ = scaler.mean_, scaler.scale_
            self._train(X, random_state)
        return self

    def transform(self, X) -> np.ndarray:
        """Returns posterior means, (n_samples, latent_dim)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, reset=False)
        return metrics.posterior_means(self.model_, self._to_data(X)).astype(X.dtype)

    def inverse_transform(self, X) -> np.ndarray:
        """Returns the means of p(x given z) for codes z, (n_samples, n_features)."""
        check_is_fitted(self)
        X = check_array(X, dtype=_FLOATS)
        pieces = [X[start : start + _BATCH_SIZE] for start in range(0, len(X), _BATCH_SIZE)]
        means = [self.model_.decode(z).mean() for z in pieces]
        features = np.concatenate(means).reshape(-1, self.n_features_in_)
        return (features * self.scale_ + self.loc_).astype(X.dtype)

    def score(self, X, y=None) -> float:
        """Returns the mean ELBO, in nats per example; `y` is ignored."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, reset=False)
        elbo = self.model_.elbo(self._to_data(X), _SCORE_SAMPLES, self._score_seed)
        # A density of x / scale becomes one of x.
        return float(np.mean(elbo) - np.log(self.scale_).sum())

    @property
    def _n_features_out(self):
        return self.model_.latent_dim

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _take(self, model):
        if math.prod(model.event_shape) != self.n_features_in_:
            raise ValueError(
                f"X should have {math.prod(model.event_shape)} features, as examples of the model "
                f"have shape {model.event_shape}. Received: {self.n_features_in_} features."
            )
        self.model_ = model
        self.loc_, self.scale_ = np.zeros(self.n_features_in_), np.ones(self.n_features_in_)

    def _train(self, X, random_state):
        epochs, batch_size = _size("epochs", self.epochs), _size("batch_size", self.batch_size)
        if not self.learning_rate > 0.0:
            raise ValueError(
                f"`learning_rate` should be > 0. Received: learning_rate={self.learning_rate!r}."
            )
        self.model_ = DenseVAE(
            (self.n_features_in_,),
            _size("latent_dim", self.latent_dim),
            hidden_units=[_size("hidden_units", units) for units in self.hidden_units],
            likelihood=SharedScaleNormal(),
        )
        # Keras draws weights and noise by global seeds, which an estimator leaves alone.
        for weight in self.model_.trainable_variables:
            if weight.shape.rank == 2:
                kernel = keras.initializers.GlorotUniform(seed=_draw_seed(random_state))
                weight.assign(kernel(weight.shape))
        self.model_.seed_generator.state.assign([_draw_seed(random_state), 0])
        steps_per_epoch = math.ceil(len(X) / batch_size)
        self.model_.compile(
            Adam(self.learning_rate),
            jit_compile=False,
            run_eagerly=epochs * steps_per_epoch < _MIN_STEPS_TO_COMPILE,
        )
        batches = _shuffled_epochs(self._to_data(X), epochs, batch_size, _draw_seed(random_state))
        history = self.model_.fit(
            batches, epochs=epochs, steps_per_epoch=steps_per_epoch, verbose=0
        ).history
        if not math.isfinite(history["loss"][-1]):
            raise ValueError(
                "Training diverged; a lower rate may mend it. "
                f"Received: learning_rate={self.learning_rate!r}."
            )

    def _to_data(self, X):
        x = ((X - self.loc_) / self.scale_).astype(np.float32)
        return x.reshape(-1, *self.model_.event_shape)


class Neighbours(NamedTuple):
    """What `retrieve` finds for each query, nearest first.

    Attributes:
        indices: Rows of the codes. Shape (num_queries, num_neighbours).
        distances: Euclidean, in units of the latents. Shape (num_queries, num_neighbours).
    """

    indices: np.ndarray
    distances: np.ndarray


def linear_probe(
    codes: np.ndarray, labels: np.ndarray, *, test_codes: np.ndarray, test_labels: np.ndarray
) -> float:
    """Returns the accuracy of a linear classifier of codes: how much labels are spelled out.

    It is a multinomial logistic regression on standardised codes with scikit-learn's default L2
    penalty (C=1), fitted to convergence. Nothing in it is random.

    Args:
        codes: To fit on. Shape (num_examples, latent_dim).
        labels: Classes of any kind. Shape (num_examples,).
        test_codes: Shape (num_test, latent_dim).
        test_labels: Shape (num_test,).

    Returns:
        Share of the test codes that is classified rightly.

    Example:

    >>> codes, labels = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    >>> linear_probe(codes, labels, test_codes=codes + 0.1, test_labels=labels)
    1.0

    References:
        Alain and Bengio 2017, "Understanding intermediate layers using linear classifier probes".
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    return float(probe.fit(codes, labels).score(test_codes, test_labels))


def nearest_neighbour_accuracy(
    codes: np.ndarray,
    labels: np.ndarray,
    *,
    test_codes: np.ndarray,
    test_labels: np.ndarray,
    num_neighbours: int = 5,
) -> float:
    """Returns the accuracy of the majority label among the nearest codes.

    Args:
        codes: To look in. Shape (num_examples, latent_dim).
        labels: Classes of any kind. Shape (num_examples,).
        test_codes: Shape (num_test, latent_dim).
        test_labels: Shape (num_test,).
        num_neighbours: How many have a vote, from 1 to num_examples.

    Returns:
        Share of the test codes that is classified rightly.

    Example:

    >>> codes, labels = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    >>> nearest_neighbour_accuracy(
    ...     codes, labels, test_codes=codes + 0.1, test_labels=labels, num_neighbours=1
    ... )
    1.0
    """
    classifier = KNeighborsClassifier(_num_neighbours(num_neighbours, codes))
    return float(classifier.fit(codes, labels).score(test_codes, test_labels))


def retrieve(codes: np.ndarray, queries: np.ndarray, *, num_neighbours: int = 10) -> Neighbours:
    """Finds the codes that are nearest to each query.

    Args:
        codes: To look in. Shape (num_examples, latent_dim).
        queries: Shape (num_queries, latent_dim). A query that is among the codes finds itself.
        num_neighbours: From 1 to num_examples.

    Example:

    >>> found = retrieve(np.array([[0.0], [1.0], [5.0]]), np.array([[0.75]]), num_neighbours=2)
    >>> found.indices.tolist(), found.distances.tolist()
    ([[1, 0]], [[0.25, 0.75]])
    """
    index = NearestNeighbors(n_neighbors=_num_neighbours(num_neighbours, codes)).fit(codes)
    distances, indices = index.kneighbors(queries)
    return Neighbours(indices, distances)


def cluster(
    codes: np.ndarray, labels: np.ndarray, *, method: ClusterMixin | GaussianMixture
) -> dict[str, float]:
    """Clusters codes without their labels, and returns how well the clusters agree with them.

    Args:
        codes: Shape (num_examples, latent_dim).
        labels: Classes of any kind. Shape (num_examples,).
        method: Anything of scikit-learn that has `fit_predict`, such as `KMeans(10,
            random_state=0)` or `GaussianMixture(10, random_state=0)`. It is left as it is.

    Returns:
        `nmi`, normalised mutual information, in [0, 1]; `ari`, adjusted Rand index, 0 for random
        clusters and 1 for the classes; and `accuracy`, the share of examples whose cluster stands
        for their class, each cluster for at most one, matched as well as can be.

    Example:

    >>> from sklearn.cluster import KMeans
    >>> codes, labels = np.array([[-2.0], [-1.9], [1.9], [2.0]]), np.array(["a", "a", "b", "b"])
    >>> cluster(codes, labels, method=KMeans(2, random_state=0))
    {'nmi': 1.0, 'ari': 1.0, 'accuracy': 1.0}

    References:
        Xie et al. 2016, "Unsupervised Deep Embedding for Clustering Analysis" (accuracy).
    """
    clusters = clone(method).fit_predict(codes)
    counts = contingency_matrix(labels, clusters)
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return {
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "accuracy": float(matched / counts.sum()),
    }


def _shuffled_epochs(x, epochs, batch_size, seed):
    """Returns the batches of all epochs, each in an order of its own that only `seed` decides."""
    x = tf.constant(x)

    def one_epoch(epoch):
        shuffled = tf.random.experimental.stateless_shuffle(x, tf.stack([seed, epoch]))
        return tf.data.Dataset.from_tensor_slices(shuffled).batch(batch_size)

    return tf.data.Dataset.range(epochs).flat_map(one_epoch)


def _draw_seed(random_state):
    return random_state.randint(2**31 - 1)


def _size(name, size):
    # Searches over NumPy ranges give NumPy's integers, which networks do not take.
    if not isinstance(size, numbers.Integral) or size < 1:
        raise ValueError(f"`{name}` should be integers >= 1. Received: {size!r}.")
    return int(size)


def _num_neighbours(num_neighbours, codes):
    if not 1 <= num_neighbours <= len(codes):
        raise ValueError(
            f"`num_neighbours` should be from 1 to the number of codes, {len(codes)}. "
            f"Received: num_neighbours={num_neighbours!r}."
        )
    return num_neighbours
