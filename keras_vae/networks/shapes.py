"""Checks of the sizes that network builders are given."""

from collections.abc import Sequence


def check_event_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of one example as a tuple.

    Raises:
        ValueError: If it is empty or holds anything but integers of at least 1.
    """
    check_sizes("event_shape", event_shape)
    if not event_shape:
        raise ValueError(
            "`event_shape` should have at least one axis, the last one for channels. "
            f"Received: event_shape={event_shape!r}."
        )
    return tuple(event_shape)


def check_sizes(name: str, sizes: Sequence[int]) -> None:
    """Raises `ValueError` unless all sizes are integers of at least 1."""
    if isinstance(sizes, int) or any(not isinstance(size, int) or size < 1 for size in sizes):
        received = sizes[0] if name == "latent_dim" else sizes
        expected = "an integer >= 1" if name == "latent_dim" else "a sequence of integers >= 1"
        raise ValueError(f"`{name}` should be {expected}. Received: {name}={received!r}.")
