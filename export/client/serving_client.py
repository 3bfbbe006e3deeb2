"""The client: a model on a server, and its methods."""

import contextlib
import operator
from collections.abc import Sequence

import numpy as np

from keras_vae.export.client.inputs import fit_inputs
from keras_vae.export.client.protocol import Servable, ServingError, VersionStatus
from keras_vae.export.client.transport_grpc import Grpc
from keras_vae.export.client.transport_rest import Rest


class ServingClient:
    """A model on a server, with the methods that `keras_vae.export.signatures` lists.

    NumPy arrays go in, and a dictionary of NumPy arrays comes out, by the names of that table. What
    the server says of the model is asked once, and inputs are held against it before they are sent;
    if they do not fit, it is asked again first, since a new version may be there.

    Args:
        name: Name of the model in the server's configuration.
        transport: `Rest` or `Grpc`; `Rest()`, which is this machine's port 8501, if not given.
        version: One version; the newest one if neither this nor `label` is given.
        label: The version that bears this label, such as "stable".

    Raises:
        ValueError: If both `version` and `label` are given.

    Example:

    >>> with ServingClient("conv_mnist", Rest("http://models.example:8501"), label="stable") as vae:
    ...     vae.servable
    Servable(name='conv_mnist', version=None, label='stable')

    Where that server is, `vae.sample(16, seed=0)["image"]` has shape (16, 28, 28, 1), and
    `vae.score(images)["elbo"]`, in nats, shape (batch,).
    """

    def __init__(
        self,
        name: str,
        transport: Rest | Grpc | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
    ):
        if version is not None and label is not None:
            raise ValueError(
                "Of `version` and `label` at most one should be given. "
                f"Received: version={version!r}, label={label!r}."
            )
        self.servable = Servable(name, version, label)
        self.transport = Rest() if transport is None else transport
        self._signatures = None

    def decode(self, z) -> dict[str, np.ndarray]:
        """Returns `image`, the mean of p(x given z), and `scale` where the likelihood has one.

        Args:
            z: Latents, (batch, latent_dim).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("decode", z=z)

    def encode(self, images) -> dict[str, np.ndarray]:
        """Returns `loc` and `scale` of q(z given x), and `kl`, (batch,), from the prior in nats.

        Args:
            images: (batch, *event_shape).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("encode", image=images)

    def reconstruct(self, images) -> dict[str, np.ndarray]:
        """Returns `image`, decoded from the posterior's mean.

        Args:
            images: (batch, *event_shape).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("reconstruct", image=images)

    def score(self, images) -> dict[str, np.ndarray]:
        """Returns `elbo`, `reconstruction` and `kl`, each (batch,), in nats.

        They are taken with z at the posterior's mean, so `elbo` is no lower bound, and mostly lies
        above that of `vae.elbo`. Compare it, and set thresholds, with scores of this method only.

        Args:
            images: (batch, *event_shape).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("score", image=images)

    def sample(self, num_samples: int, seed: int | Sequence[int] = 0) -> dict[str, np.ndarray]:
        """Returns `image`, decoded from the prior; the same seed gives the same images.

        A server that batches requests refuses this one, whose inputs have no batch axis.

        Args:
            num_samples: How many.
            seed: Any integer, as in `vae.sample`, or two of int32.

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or `num_samples` is below 1.
        """
        if num_samples < 1:
            raise ValueError(f"`num_samples` should be >= 1. Received: num_samples={num_samples}.")
        if np.ndim(seed) == 0:
            seed = operator.index(seed)
            seed = (seed & 0x7FFFFFFF, (seed >> 31) & 0x7FFFFFFF)  # as in keras_vae/random.py
        return self.predict("sample", num_samples=num_samples, seed=seed)

    def predict(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Returns the outputs of any signature by name.

        Args:
            signature: Its name, such as "serving_default".
            **inputs: Its inputs by name. Arrays of `bytes` are for inputs that are strings, and go
                over REST in base64.

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape or dtype.
        """
        expected, tensors = self._prepare(signature, inputs)
        try:
            return self.transport.predict(self.servable, signature, tensors, expected.outputs)
        except ServingError:
            self._signatures = None
            raise

    def status(self) -> list[VersionStatus]:
        """Returns the versions that the server knows: of the model, or the one asked for.

        Asked for the status of a label, TensorFlow Serving answers with that of all versions. So it
        is asked first which version bears the label.

        Raises:
            ServingError: If the server does not know the model, or does not answer; or has not
                loaded the version that bears the label, or knows no such label.
        """
        servable = self.servable
        if servable.label is not None:
            servable = Servable(servable.name, version=self.transport.version(servable))
        return self.transport.status(servable)

    def close(self) -> None:
        """Closes the transport."""
        self.transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _prepare(self, signature, inputs):
        known = self._signatures  # read once: another thread may have it forgotten at any time
        if known is not None:
            with contextlib.suppress(ValueError):
                return fit_inputs(self.servable.name, known, signature, inputs)
        known = self._signatures = self.transport.signatures(self.servable)
        return fit_inputs(self.servable.name, known, signature, inputs)
