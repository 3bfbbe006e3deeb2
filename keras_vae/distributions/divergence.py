"""KL divergences of a posterior from a prior, in nats."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def kl_divergence(posterior: tfd.Distribution, prior: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
    """Returns KL(q || p): in closed form where TFP has one, else estimated from samples.

    Args:
        posterior: q(z given x), batch shape (batch,).
        prior: p(z), no batch shape.
        z: Samples of the posterior, used by the estimate only.
            Shape (num_samples, batch, latent_dim).

    Returns:
        Nats per example. Shape (batch,).

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix B.
    """
    try:
        return tfd.kl_divergence(posterior, prior)
    except NotImplementedError:
        return tf.reduce_mean(posterior.log_prob(z) - prior.log_prob(z), axis=0)


def kl_per_latent(posterior: tfd.Distribution, prior: tfd.Distribution) -> tf.Tensor:
    """Returns the part of KL(q || p) that each latent carries, for normals.

    With q = N(m, L L^T) and p = N(a, diag(s^2)), latent j given the ones before it has mean
    m_j + sum_k<j L_jk e_k and scale L_jj. The chain rule of the KL divergence then gives

        KL_j = ((m_j - a_j)^2 + sum_k L_jk^2) / (2 s_j^2) - 1/2 - log(L_jj / s_j),

    each at least 0, and their sum is the whole divergence.

    Args:
        posterior: A normal with diagonal or lower triangular scale, batch shape (batch,).
        prior: A normal with diagonal scale, no batch shape.

    Returns:
        Nats per example and latent. Shape (batch, latent_dim).

    Raises:
        ValueError: If either is no such distribution.
    """
    normals = (tfd.MultivariateNormalDiag, tfd.MultivariateNormalTriL)
    if not isinstance(posterior, normals) or not isinstance(prior, tfd.MultivariateNormalDiag):
        raise ValueError(
            "The KL divergence per latent (and with it, free bits) needs a normal posterior and "
            "a normal prior with a diagonal scale. "
            f"Received: posterior={type(posterior).__name__}, prior={type(prior).__name__}."
        )
    prior_scale = prior.scale.diag_part()
    if isinstance(posterior, tfd.MultivariateNormalDiag):
        diagonal = posterior.scale.diag_part()
        row_square = tf.square(diagonal)
    else:
        scale_tril = posterior.scale.to_dense()
        # Not `diag_part`, which LiteRT lacks.
        diagonal = tf.reduce_sum(scale_tril * tf.eye(scale_tril.shape[-1]), axis=-1)
        row_square = tf.reduce_sum(tf.square(scale_tril), axis=-1)
    square = (tf.square(posterior.loc - prior.loc) + row_square) / tf.square(prior_scale)
    return 0.5 * (square - 1.0) - tf.math.log(diagonal / prior_scale)
