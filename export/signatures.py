"""What each part of an exported model offers: said once, for every format."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions import kl_divergence, kl_per_latent
from keras_vae.networks.upsampling import in_general_operations
from keras_vae.vae import VAE

tfd = tfp.distributions

PARTS = {
    "decoder": ("decode", "sample"),
    "encoder": ("encode",),
    "vae": ("reconstruct", "encode", "decode", "sample", "score"),
}


@dataclass(frozen=True)
class Signature:
    """One function of an exported model: tensors in, named float32 tensors out.

    The names, dtypes and shapes below are stable; the batch is unknown in all of them. An `image`
    has shape (batch, *event_shape), whatever the data is. The first of each part is also offered as
    `serving_default`, and it is the one that an ONNX file holds.

        part     signature    inputs                         outputs
        decoder  decode       z (batch, latent_dim)          image: mean of p(x given z);
                                                             scale, like image: its standard
                                                             deviation, if it is a normal
                 sample       num_samples () int32,          image: means of p(x given z) for z
                              seed (2,) int32                from the prior
        encoder  encode       image                          loc, scale (batch, latent_dim): mean
                                                             and standard deviation of q(z given x);
                                                             kl (batch,), from the prior, nats
        vae      reconstruct  image                          image
                 encode, decode, sample                      as above
                 score        image                          elbo, reconstruction, kl (batch,),
                                                             nats, with z at the posterior's mean

    `sample` is stateless: the same seed gives the same images, and `seed=[s, 0]` those of
    `vae.sample(num_samples, seed=s)`. With `uint8_images`, every input called `image` is uint8,
    from 0 to 255, and divided by 255 in the graph; what comes out stays float32.

    `elbo` is no lower bound: with z at the mean instead of drawn, it lies above `vae.elbo`, in
    dense_mnist by 8.6 nats, and by 5.5 above log p(x). Compare it, and set thresholds, with scores
    of this signature only, never with `vae.elbo` or `anomaly_score`. `kl` is exact where TFP has a
    closed form; elsewhere, as for a prior of one's own that is a mixture, it is
    log q(z given x) - log p(z) at that one z.

    Attributes:
        name: Under which the function is called.
        function: What computes it. Takes the inputs in order, returns the outputs by name.
        inputs: Names, dtypes and shapes.
        outputs: Names, dtypes and shapes.
    """

    name: str
    function: Callable[..., dict[str, tf.Tensor]]
    inputs: tuple[tf.TensorSpec, ...]
    outputs: tuple[tf.TensorSpec, ...]

    @functools.cached_property
    def compiled(self) -> Callable[..., dict[str, tf.Tensor]]:
        """The function as a `tf.function`, which is traced once, for any batch."""
        return tf.function(self.function, input_signature=self.inputs)


def signatures(model: VAE, part: str, *, uint8_images: bool = False) -> tuple[Signature, ...]:
    """Returns what a part of the model offers, the one to serve by default first.

    Args:
        model: The model.
        part: "decoder", "encoder" or "vae".
        uint8_images: Whether images come as uint8, from 0 to 255, and are scaled in the graph.

    Raises:
        TypeError: If `model` is not a `VAE`.
        ValueError: If there is no such part.

    Example:

    >>> from keras_vae.networks import dense_decoder, dense_encoder
    >>> vae = VAE(dense_encoder((8, 8, 1), 2), dense_decoder(2, (8, 8, 1)))
    >>> [signature.name for signature in signatures(vae, "vae")]
    ['reconstruct', 'encode', 'decode', 'sample', 'score']
    """
    if not isinstance(model, VAE):
        raise TypeError(f"`model` should be a VAE. Received: a {type(model).__name__}.")
    if part not in PARTS:
        names = ", ".join(repr(name) for name in PARTS)
        raise ValueError(f"`part` should be one of {names}. Received: part={part!r}.")

    def likelihood_of(z):
        with in_general_operations(model.decoder):
            return model.decode(z)

    def decode(z):
        likelihood = likelihood_of(z)
        scale = {"scale": likelihood.stddev()} if _is_normal(likelihood) else {}
        return {"image": likelihood.mean(), **scale}

    def sample(num_samples, seed):
        z = model.prior.distribution().sample(num_samples, seed=seed)
        return {"image": likelihood_of(z).mean()}

    def encode(image):
        posterior = model.encode(to_float(image))
        return {"loc": posterior.mean(), "scale": _stddev(posterior), "kl": kl(posterior)}

    def reconstruct(image):
        return {"image": likelihood_of(model.encode(to_float(image)).mean()).mean()}

    def score(image):
        image = to_float(image)
        posterior = model.encode(image)
        reconstruction = -likelihood_of(posterior.mean()).log_prob(image)
        divergence = kl(posterior)
        elbo = -(reconstruction + divergence)
        return {"elbo": elbo, "reconstruction": reconstruction, "kl": divergence}

    def kl(posterior):
        prior = model.prior.distribution()
        if isinstance(posterior, tfd.MultivariateNormalTriL) and _is_diagonal_normal(prior):
            return tf.reduce_sum(kl_per_latent(posterior, prior), axis=-1)
        return kl_divergence(posterior, prior, posterior.mean()[tf.newaxis])

    def to_float(image):
        return tf.cast(image, tf.float32) / 255.0 if uint8_images else image

    images, latents = _batches(image=model.event_shape), _batches(z=(model.latent_dim,))
    taken = images
    if uint8_images:
        taken = (tf.TensorSpec(images[0].shape, tf.uint8, "image"),)
    moments = _batches(loc=(model.latent_dim,), scale=(model.latent_dim,), kl=())
    nats = _batches(elbo=(), reconstruction=(), kl=())
    seeding = (tf.TensorSpec((), tf.int32, "num_samples"), tf.TensorSpec((2,), tf.int32, "seed"))
    decoded = images
    if _is_normal(model.decode(tf.zeros((1, model.latent_dim)))):
        decoded += _batches(scale=model.event_shape)
    offered = {
        "reconstruct": (reconstruct, taken, images),
        "encode": (encode, taken, moments),
        "decode": (decode, latents, decoded),
        "sample": (sample, seeding, images),
        "score": (score, taken, nats),
    }
    return tuple(Signature(name, *offered[name]) for name in PARTS[part])


def onnx_signature(model: VAE, part: str, *, uint8_images: bool = False) -> Signature:
    """Returns the one function that an ONNX file of the part holds: the one to serve by default.

    An ONNX graph has one name for each tensor, so `reconstruct` gives `image_out` for `image`.
    """
    default = signatures(model, part, uint8_images=uint8_images)[0]
    taken = {spec.name for spec in default.inputs}

    def unlike_inputs(name):
        return f"{name}_out" if name in taken else name

    def function(value):
        return {unlike_inputs(name): output for name, output in default.function(value).items()}

    outputs = tuple(
        tf.TensorSpec(spec.shape, spec.dtype, unlike_inputs(spec.name)) for spec in default.outputs
    )
    return replace(default, function=function, outputs=outputs)


def offered_signatures(
    model: VAE, part: str, format: str, *, uint8_images: bool = False
) -> dict[str, Signature]:
    """Returns what a file of a format offers, by the names under which it is called.

    A SavedModel offers all that `signatures` lists; an ONNX or LiteRT file the first of them.
    """
    if format == "onnx":
        default = onnx_signature(model, part, uint8_images=uint8_images)
        return {default.name: default}
    offered = signatures(model, part, uint8_images=uint8_images)
    return served(offered) if format == "saved_model" else {offered[0].name: offered[0]}


def served(offered: Sequence[Signature]) -> dict[str, Signature]:
    """Returns the signatures by the names under which a server finds them."""
    return {"serving_default": offered[0]} | {signature.name: signature for signature in offered}


@contextlib.contextmanager
def full_precision(model: VAE) -> Iterator[None]:
    """Lets a model of mixed precision compute in float32, as its weights are, within the block."""
    mixed = [
        (layer, layer.dtype_policy)
        for layer in model._flatten_layers()
        if layer.compute_dtype != layer.variable_dtype
    ]
    try:
        for layer, _ in mixed:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in mixed:
            layer.dtype_policy = policy


def _batches(**shapes):
    return tuple(tf.TensorSpec((None, *shape), tf.float32, name) for name, shape in shapes.items())


def _is_normal(likelihood):
    return isinstance(getattr(likelihood, "distribution", None), tfd.Normal)


def _is_diagonal_normal(distribution):
    return isinstance(distribution, tfd.MultivariateNormalDiag)


def _stddev(posterior):
    # What TFP does for a triangular scale, and for its KL divergence, needs operations that LiteRT
    # lacks.
    if isinstance(posterior, tfd.MultivariateNormalTriL):
        return tf.sqrt(tf.reduce_sum(tf.square(posterior.scale.to_dense()), axis=-1))
    return posterior.stddev()
