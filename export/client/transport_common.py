"""What the transports share: how patient they are, and the extra that they need."""

from types import ModuleType

from keras_vae.extras import require

# Every signature is stateless, so what was lost or turned away may be asked again.
BACKOFF_SECONDS = 0.1


def check_patience(timeout: float, retries: int, most: int | None = None) -> None:
    """Raises a `ValueError` if `timeout` is not above 0, or `retries` not from 0 to `most`."""
    if not timeout > 0:
        raise ValueError(f"`timeout` should be > 0, in seconds. Received: timeout={timeout}.")
    if retries < 0 or (most is not None and retries > most):
        allowed = ">= 0" if most is None else f"between 0 and {most}"
        raise ValueError(f"`retries` should be {allowed}. Received: retries={retries}.")


def import_extra(name: str) -> ModuleType:
    """Returns a module of the serving extra, or says how to install it."""
    return require(name, "serving", "The client needs")
