"""Independent Bernoullis whose log-density takes one logarithm for many values."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

_LARGEST_GROUP = 64  # values under one logarithm: their product is at least 2^-64


class IndependentBernoullis(tfd.Independent):
    """TFP's independent Bernoullis by finite logits l, with a log-density that is cheaper to take.

    TFP takes log p and log(1 - p) of each value; one softplus would do. Here a whole group of
    values shares a logarithm:

        sum_i x_i l_i - softplus(l_i)  =  sum_i (x_i l_i - max(l_i, 0)) + log prod_i sigmoid(|l_i|)

    With that, and not the softplus, `log_likelihood` of the network 784-512-512-16 took 0.91 times
    as long on two AMD EPYC cores in float32, and 0.86 in bfloat16; a training step took as long.

    Args:
        distribution: `tfd.Bernoulli` by logits, of a known event shape.
        reinterpreted_batch_ndims: Rank of one example, at least 1.
    """

    def _log_prob(self, event):
        logits = self.distribution.logits
        return _log_density(tf.cast(event, logits.dtype), logits, self.event_shape.rank)


def _log_density(event, logits, rank):
    axes = list(range(-rank, 0))
    size = math.prod(logits.shape[-rank:])
    group = math.gcd(size, _LARGEST_GROUP)

    @tf.custom_gradient  # TensorFlow's gradient of a product is slow
    def log_density(event, logits):
        probs = tf.sigmoid(logits)  # the gradient's, too: a graph takes it once
        likelier = tf.maximum(1 - probs, probs)  # sigmoid(|l|), with the slope at 0 that relu lacks
        grouped = tf.concat([tf.shape(logits)[:-rank], [group, size // group]], axis=0)
        products = tf.reduce_prod(tf.reshape(likelier, grouped), axis=-2)
        linear = tf.reduce_sum(event * logits - tf.nn.relu(logits), axes)

        def gradient(upstream):
            upstream = tf.reshape(upstream, tf.concat([tf.shape(upstream), [1] * rank], axis=0))
            of_event, of_logits = upstream * logits, upstream * (event - tf.sigmoid(logits))
            return _summed_to(event, of_event), _summed_to(logits, of_logits)

        return linear + tf.reduce_sum(tf.math.log(products), axis=-1), gradient

    return log_density(event, logits)


def _summed_to(like, gradient):
    """Returns the gradient of a tensor from that of the broadcast one."""
    if like.shape.is_fully_defined() and like.shape == gradient.shape:
        return gradient
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(like), s1=tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(like))
