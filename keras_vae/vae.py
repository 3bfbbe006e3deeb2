"""The engine: a variational autoencoder put together from independent parts."""

import functools

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.checks import check_data
from keras_vae.distributions import (
    Bernoulli,
    DiagonalNormal,
    Likelihood,
    Posterior,
    Prior,
    StandardNormal,
)
from keras_vae.objectives import ELBO, Inference, Losses, Objective, log_weights
from keras_vae.parts import check_parts
from keras_vae.random import fixed_seed, replica_seed
from keras_vae.replicas import share_of_batch, sum_over_replicas
from keras_vae.scoring import elbo_terms, over_examples, over_samples, reconstruction_terms
from keras_vae.stability import add_up, clip, looks_at_gradients, share
from keras_vae.trainer import Trainer

tfd = tfp.distributions


@keras.saving.register_keras_serializable("keras_vae")
class VAE(Trainer):
    """A variational autoencoder: encoder, decoder, and four parts that can each be swapped.

    An encoder maps x to the parameters of a posterior q(z given x), a decoder maps z to those of a
    likelihood p(x given z), and training maximises the evidence lower bound

        ELBO(x) = E_q[log p(x given z)] - KL(q(z given x) || p(z)) <= log p(x)

    or whatever else the objective makes of it. It is a `keras.Model`: `compile`, `fit`, `evaluate`,
    `predict` (reconstructions), callbacks, `.keras` files and `tf.distribute` work as ever. The
    loss is the objective's, so `compile` takes none, and labels given to `fit` are ignored.

    Args:
        encoder: Model from (batch, *event_shape) to the posterior's parameters.
        decoder: Model from (batch, latent_dim) to the likelihood's parameters.
        prior: p(z); a `StandardNormal` if not given.
        posterior: Meaning of the encoder's output; a `DiagonalNormal` if not given.
        likelihood: Meaning of the decoder's output; a `Bernoulli` if not given.
        objective: What training minimises; an `ELBO` if not given.
        name: Name of the model.
        dtype: Keras dtype policy of the model itself. Networks have their own, and Keras scales the
            loss by this one: give "mixed_float16" where they have it. The global one if not given.

    Attributes:
        latent_dim: Number of latents.
        event_shape: Shape of one example.
        step: Optimizer steps taken so far, saved with the weights. Schedules count with it. Where
            the optimizer accumulates the gradients of several batches, each counts.

    Call arguments:
        x: Data. Shape (batch, *event_shape).
        training: Whether layers such as dropout are active.

    Shapes:
        Output: reconstructions, (batch, *event_shape).

    Raises:
        ValueError: If the networks do not fit each other or the parts.

    Example:

    >>> from keras_vae.networks import dense_decoder, dense_encoder
    >>> vae = VAE(dense_encoder((8, 8, 1), 2), dense_decoder(2, (8, 8, 1)))
    >>> vae.compile("adam")
    >>> history = vae.fit(tf.zeros((4, 8, 8, 1)), verbose=0)
    >>> sorted(history.history)
    ['elbo', 'kl', 'loss', 'reconstruction']

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes".
        Rezende et al. 2014, "Stochastic Backpropagation and Approximate Inference in Deep
        Generative Models".
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        prior: Prior | None = None,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.encoder = encoder
        self.decoder = decoder
        self.event_shape = tuple(encoder.input_shape[1:])
        self.latent_dim = decoder.input_shape[-1]
        self.prior = prior or StandardNormal(self.latent_dim)
        self.posterior = posterior or DiagonalNormal()
        self.likelihood = likelihood or Bernoulli()
        self.objective = objective or ELBO()
        check_parts(self)
        if not self.likelihood.built:
            self.likelihood.build(self.event_shape)
        self.seed_generator = keras.random.SeedGenerator()
        self._compile_scores()
        self.build((None, *self.event_shape))

    def build(self, input_shape: tuple) -> None:
        """Creates the step counter; the networks come built."""
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def _lock_state(self):
        # Keras locks what is built, and a VAE is as soon as this constructor is through; that of a
        # class made of it may have layers and metrics of its own to come.
        pass

    # Distributions

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        """Returns q(z given x): batch shape (batch,), event shape (latent_dim,).

        Raises:
            ValueError: If `x` has the wrong shape or values that the likelihood does not allow.
        """
        return self._encode(self._prepare(x))

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        """Returns p(x given z) for z of shape (..., latent_dim): batch shape (...).

        Raises:
            ValueError: If the last axis of `z` is not `latent_dim` long.
        """
        z = tf.cast(z, tf.float32)
        if z.shape.rank == 0 or z.shape[-1] != self.latent_dim:
            raise ValueError(
                f"`z` should have shape (..., {self.latent_dim}). Received: shape={z.shape}."
            )
        return self._decode(z)

    # Images

    def reconstruct(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the mean of p(x given z) at the posterior's mean, (batch, *event_shape)."""
        return self(self._prepare(x), training=False)

    def sample(self, num_samples: int, seed: int | None = None) -> tf.Tensor:
        """Returns the means of p(x given z) for z from the prior.

        Args:
            num_samples: How many, at least 1.
            seed: Any integer; the same one gives the same images.

        Returns:
            Shape (num_samples, *event_shape).
        """
        if num_samples < 1:
            raise ValueError(
                f"`num_samples` should be at least 1. Received: num_samples={num_samples}."
            )
        z = self.prior.distribution().sample(num_samples, seed=fixed_seed(seed))
        return self._decode(z).mean()

    def interpolate(self, x_start: tf.Tensor, x_end: tf.Tensor, num_steps: int = 10) -> tf.Tensor:
        """Decodes points on the straight lines between the posterior means of pairs of examples.

        Args:
            x_start: Shape (batch, *event_shape).
            x_end: Shape (batch, *event_shape).
            num_steps: Points per pair, both ends included, at least 2.

        Returns:
            Shape (batch, num_steps, *event_shape).
        """
        if num_steps < 2:
            raise ValueError(f"`num_steps` should be at least 2. Received: num_steps={num_steps}.")
        start, end = self.encode(x_start).mean(), self.encode(x_end).mean()
        weight = tf.linspace(0.0, 1.0, num_steps)[:, tf.newaxis]
        z = (1.0 - weight) * start[:, tf.newaxis] + weight * end[:, tf.newaxis]
        return self._decode(z).mean()

    # Scores

    def elbo(self, x: tf.Tensor, num_samples: int = 1, seed: int | None = None) -> tf.Tensor:
        """Estimates the evidence lower bound of each example, whatever the objective's weights.

        Args:
            x: Data. Shape (batch, *event_shape). It is worked through in pieces.
            num_samples: Latent samples per example, at least 1.
            seed: Any integer; the same one gives the same estimate.

        Returns:
            Nats per example. Shape (batch,).
        """
        return self._score(self._evaluate_elbo, x, num_samples, seed)

    def expected_log_likelihood(
        self, x: tf.Tensor, num_samples: int = 1, seed: int | None = None
    ) -> tf.Tensor:
        """Estimates E_q[log p(x given z)] of each example: the bound without its KL divergence.

        Args:
            x: Data. Shape (batch, *event_shape). It is worked through in pieces.
            num_samples: Latent samples per example, at least 1.
            seed: Any integer; the same one gives the same estimate.

        Returns:
            Nats per example. Shape (batch,).

        References:
            An and Cho 2015, "Variational Autoencoder based Anomaly Detection using Reconstruction
            Probability".
        """
        return self._score(self._evaluate_reconstruction, x, num_samples, seed)

    def log_likelihood(
        self, x: tf.Tensor, num_samples: int = 1000, seed: int | None = None
    ) -> tf.Tensor:
        """Estimates log p(x) of each example by importance sampling from the posterior.

            log p(x) >= E[log 1/K sum_k p(x, z_k) / q(z_k given x)],    z_k ~ q(z given x)

        The estimate is biased downwards and tightens as the number K of samples grows.

        Args:
            x: Data. Shape (batch, *event_shape). It is worked through in pieces.
            num_samples: K, at least 1. Each takes a few hundred bytes of memory, and no more.
            seed: Any integer; the same one gives the same estimate.

        Returns:
            Nats per example. Shape (batch,).

        References:
            Burda et al. 2016, "Importance Weighted Autoencoders", equation 8.
        """
        return self._score(self._evaluate_log_likelihood, x, num_samples, seed)

    # Keras

    def call(self, x, training=False):
        posterior = self._encode(x, training)
        return self._decode(posterior.mean(), training).mean()

    def freeze(self, *networks: str) -> None:
        """Leaves networks as they are in all training to come, and trains the others.

        A model that is compiled is compiled anew, with the optimizer's state at its start. Single
        layers are frozen as in Keras: by their `trainable`, before `compile`.

        A `.keras` file of a compiled model keeps what is frozen.

        Args:
            *networks: "encoder", "decoder", or none to train both again.

        Raises:
            ValueError: If it is neither of them.
        """
        if unknown := set(networks) - {"encoder", "decoder"}:
            raise ValueError(
                "`freeze` takes 'encoder', 'decoder' or both. "
                f"Received: {', '.join(map(repr, sorted(unknown)))}."
            )
        self.encoder.trainable = "encoder" not in networks
        self.decoder.trainable = "decoder" not in networks
        if self.compiled:
            self._compile_anew()

    def export(self, *args, **kwargs):
        """Exports as `keras.Model.export` does: from data to reconstructions."""
        self(tf.zeros((1, *self.event_shape)))  # Keras exports only what has been called.
        return super().export(*args, **kwargs)

    def train_step(self, data):
        """Takes one optimizer step on a batch; returns the running means."""
        is_good, gradients = self._backward(data)
        if self.guard is None:
            self._apply(gradients)
        else:
            tf.cond(is_good, lambda: self._apply(gradients), lambda: None)
        return self._results()

    def test_step(self, data):
        """Scores one batch; returns the running means."""
        x, sample_weight, _ = share_of_batch(data)
        losses = self._objective_losses(x, training=False)
        self._track(losses, self._penalty(), sample_weight)
        return self._results()

    def predict_step(self, data):
        """Reconstructs one batch."""
        x, _, num_examples = share_of_batch(data)
        return self(x, training=False)[:num_examples]

    def get_config(self) -> dict:
        """Returns the constructor's arguments, serialized."""
        return self.parts_config(
            "encoder", "decoder", "prior", "posterior", "likelihood", "objective"
        )

    def parts_config(self, *parts: str) -> dict:
        """Returns the named attributes serialized, with the name and the dtype policy."""
        config = {part: keras.saving.serialize_keras_object(getattr(self, part)) for part in parts}
        return {**config, "name": self.name, "dtype": self.dtype_policy.name}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "VAE":
        """Rebuilds the model from `get_config()`, with fresh weights."""
        arguments = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            for key, value in config.items()
        }
        return cls(**arguments)

    # Behind the scenes: no checks from here on, x is float32, and everything can be traced.

    def _encode(self, x, training=False):
        return self.posterior.distribution(self.encoder(x, training=training))

    def _decode(self, z, training=False):
        if z.shape.rank == 2:
            return self.likelihood.distribution(self.decoder(z, training=training))
        # The decoder sees one batch axis, whatever the axes in front of the latents.
        params = self.decoder(tf.reshape(z, (-1, self.latent_dim)), training=training)
        shape = tf.concat([tf.shape(z)[:-1], tf.shape(params)[1:]], axis=0)
        params = tf.ensure_shape(
            tf.reshape(params, shape), (*z.shape[:-1], *self.decoder.output_shape[1:])
        )
        return self.likelihood.distribution(params)

    def _infer(self, x, posterior, num_samples, seed, training=False):
        z = posterior.sample(num_samples, seed=seed)
        prior, likelihood = self.prior.distribution(), self._decode(z, training)
        return Inference(x, z, posterior, prior, likelihood)

    def _objective_losses(self, x, training) -> Losses:
        seed = replica_seed(self.seed_generator)
        x = tf.cast(x, tf.float32)
        posterior = self._encode(x, training)
        inference = self._infer(x, posterior, self.objective.num_samples, seed, training)
        return self.objective(inference, tf.convert_to_tensor(self.step))

    def _penalty(self):
        """Returns the sum of what layers add to the loss: regularizers, and `add_loss`."""
        return sum((tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in self.losses), 0.0)

    def _backward(self, data):
        """Returns whether to take a step, and the gradients for it."""
        x, sample_weight, num_examples = share_of_batch(data)
        batch_size = sum_over_replicas(tf.cast(num_examples, tf.float32))
        with tf.GradientTape() as tape:
            losses = self._objective_losses(x, training=True)
            # The optimizer sums over replicas, so each gives its share of the global mean.
            loss = tf.reduce_sum(_weighted(losses.loss, sample_weight)) / batch_size
            penalty = self._penalty()
            loss += penalty / tf.distribute.get_strategy().num_replicas_in_sync
            loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, self.trainable_weights)
        if self.guard or looks_at_gradients(self.optimizer):
            gradients = add_up(gradients)
        is_good = tf.constant(True)
        if self.guard is not None:
            is_good = self.guard.judge(self, x, losses, gradients)
        self.step.assign_add(1)
        self._track(losses, penalty, sample_weight)
        return is_good, gradients

    def _apply(self, gradients):
        is_one = tf.distribute.get_strategy().num_replicas_in_sync == 1
        if not is_one and (self.guard or looks_at_gradients(self.optimizer)):
            gradients = share(clip(self.optimizer, gradients))
        self.optimizer.apply(gradients, self.trainable_weights)

    def _compile_scores(self):
        self._evaluate_elbo, self._evaluate_reconstruction = (
            tf.function(functools.partial(self._mean_of, terms), reduce_retracing=True)
            for terms in (elbo_terms, reconstruction_terms)
        )
        self._evaluate_log_likelihood = tf.function(self._log_likelihood, reduce_retracing=True)

    def _score(self, function, x, num_samples, seed):
        return over_examples(function, self._prepare(x), num_samples, fixed_seed(seed))

    def _mean_of(self, terms, x, *sampling):
        infer = functools.partial(self._infer, x, self._encode(x))
        return tf.reduce_mean(over_samples(terms, infer, *sampling), axis=0)

    def _log_likelihood(self, x, num_samples, *sampling):
        infer = functools.partial(self._infer, x, self._encode(x))
        weights = over_samples(log_weights, infer, num_samples, *sampling)
        return tf.reduce_logsumexp(weights, axis=0) - tf.math.log(tf.cast(num_samples, tf.float32))

    def _prepare(self, x):
        return tf.cast(tf.convert_to_tensor(self._checked(x)), tf.float32)

    def _checked(self, x):
        return check_data(x, self.event_shape, self.likelihood.support)


def _weighted(values, sample_weight):
    return values if sample_weight is None else values * tf.cast(sample_weight, values.dtype)
