"""Likelihoods p(x given z): what a decoder's parameters mean."""

import abc
import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.bernoullis import IndependentBernoullis
from keras_vae.distributions.part import Part

tfd = tfp.distributions


class Likelihood(Part):
    """Turns a decoder's output into a distribution over the data.

    A decoder asks it how many parameters each value needs (`params_size`), and a VAE builds it with
    the shape of one example and asks it for the distribution. All densities are full: no constant
    is left out.

    Attributes:
        support: Smallest and largest value that data may take.
        bears_rounding: Whether a decoder of mixed precision may compute the parameters in it, as
            all else. Rounded to bfloat16, a parameter errs by up to two thousandths of its size:
            nothing for a logit, too much for the mean of a narrow density.
    """

    support: tuple[float, float] = (-math.inf, math.inf)
    bears_rounding = False

    def build(self, event_shape: tuple[int, ...]) -> None:
        """Takes the shape of one example; `distribution` needs to know its rank."""
        self.event_ndims = len(event_shape)

    def params_size(self) -> int:
        """Returns how many parameters describe one value of the data."""
        return 1

    def distribution(self, params: tf.Tensor) -> tfd.Distribution:
        """Returns p(x given z).

        Args:
            params: Output of the decoder.
                Shape (..., *event_shape[:-1], event_shape[-1] * params_size()).

        Returns:
            A distribution with batch shape (...) and event shape `event_shape`.
        """
        values = self._values(tf.cast(params, tf.float32))
        return tfd.Independent(values, reinterpreted_batch_ndims=self.event_ndims)

    @abc.abstractmethod
    def _values(self, params):
        """Returns the distribution of each value by itself."""

    def get_config(self) -> dict:
        """Returns exactly the constructor's arguments."""
        return {"name": self.name}


@keras.saving.register_keras_serializable("keras_vae")
class Bernoulli(Likelihood):
    """Black or white pixels, p(x given z) = prod_i p_i^x_i (1 - p_i)^(1 - x_i), by logits.

    For binary data. Grey values in [0, 1] are accepted and give the cross-entropy, which is not a
    likelihood: its nats cannot be compared with those of binary data (`ContinuousBernoulli` is the
    normalised density for grey values).

    Example:

    >>> likelihood = Bernoulli()
    >>> likelihood.build((28, 28, 1))
    >>> float(likelihood.distribution(tf.zeros((1, 28, 28, 1))).log_prob(tf.ones((28, 28, 1)))[0])
    -543.4...

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 11.
    """

    support = (0.0, 1.0)
    bears_rounding = True  # Of 86 nats of dense_mnist, bfloat16 takes or gives less than 0.005.

    def distribution(self, params):
        values = self._values(tf.cast(params, tf.float32))
        return IndependentBernoullis(values, reinterpreted_batch_ndims=self.event_ndims)

    def _values(self, params):
        return tfd.Bernoulli(logits=params, dtype=tf.float32)


@keras.saving.register_keras_serializable("keras_vae")
class ContinuousBernoulli(Likelihood):
    """Grey values in [0, 1], p(x given z) = prod_i C(p_i) p_i^x_i (1 - p_i)^(1 - x_i).

    The normalising constant C makes the popular "cross-entropy on grey images" a true density.

    Example:

    >>> likelihood = ContinuousBernoulli()
    >>> likelihood.build((2,))
    >>> likelihood.distribution(tf.zeros((1, 2))).log_prob(tf.fill((2,), 0.3)).numpy().tolist()
    [0.0]

    References:
        Loaiza-Ganem and Cunningham 2019, "The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders", equation 5.
    """

    support = (0.0, 1.0)

    def _values(self, params):
        return tfd.ContinuousBernoulli(logits=params)


@keras.saving.register_keras_serializable("keras_vae")
class FixedScaleNormal(Likelihood):
    """Real values around a mean, p(x given z) = N(x; loc(z), scale^2), with a scale you choose.

    Args:
        scale: Standard deviation, in units of the data, above 0.

    Raises:
        ValueError: If `scale` is not a finite number above 0.

    Example:

    >>> FixedScaleNormal(0.1).params_size()
    1

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 12.
    """

    def __init__(self, scale: float = 1.0, *, name: str | None = None):
        super().__init__(name=name)
        self.scale = _positive("scale", scale)

    def _values(self, params):
        return tfd.Normal(params, self.scale)

    def get_config(self):
        return {"scale": self.scale, **super().get_config()}


@keras.saving.register_keras_serializable("keras_vae")
class SharedScaleNormal(Likelihood):
    """Real values around a mean, p(x given z) = N(x; loc(z), scale^2), with one learned scale.

    Learning the scale balances reconstruction and KL without a hand-set beta.

    Args:
        initial_scale: Standard deviation to start from, in units of the data, above 0.

    Raises:
        ValueError: If `initial_scale` is not a finite number above 0.

    Example:

    >>> likelihood = SharedScaleNormal(0.5)
    >>> likelihood.build((3,))
    >>> float(likelihood.distribution(tf.zeros((1, 3))).stddev()[0, 0])
    0.5

    References:
        Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated Decoders",
        section 4.
    """

    def __init__(self, initial_scale: float = 1.0, *, name: str | None = None):
        super().__init__(name=name)
        self.initial_scale = _positive("initial_scale", initial_scale)

    def build(self, event_shape):
        super().build(event_shape)
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial_scale)),
        )

    def _values(self, params):
        return tfd.Normal(params, tf.exp(tf.convert_to_tensor(self.log_scale)))

    def get_config(self):
        return {"initial_scale": self.initial_scale, **super().get_config()}


@keras.saving.register_keras_serializable("keras_vae")
class PerValueScaleNormal(Likelihood):
    """Real values with a scale of their own, p(x given z) = N(x; loc(z), scale(z)^2).

    The decoder gives `loc` and a raw scale for each value; `scale = min_scale + softplus(raw)`.
    The floor keeps the density from growing without bound on values that never change, such as
    the black border of an image.

    Args:
        min_scale: Smallest standard deviation, in units of the data, above 0.

    Raises:
        ValueError: If `min_scale` is not a finite number above 0.

    Example:

    >>> PerValueScaleNormal().params_size()
    2

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 12.
    """

    def __init__(self, min_scale: float = 0.01, *, name: str | None = None):
        super().__init__(name=name)
        self.min_scale = _positive("min_scale", min_scale)

    def params_size(self):
        return 2

    def _values(self, params):
        loc, raw = tf.split(params, 2, axis=-1)
        return tfd.Normal(loc, self.min_scale + tf.nn.softplus(raw))

    def get_config(self):
        return {"min_scale": self.min_scale, **super().get_config()}


def _positive(name, value):
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"`{name}` should be a finite number > 0. Received: {name}={value!r}.")
    return float(value)
