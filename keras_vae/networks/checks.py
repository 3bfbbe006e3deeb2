"""Checks of what network builders are given."""

from collections.abc import Iterable, Sequence


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


def check_size(name: str, size: int) -> None:
    """Raises `ValueError` unless the size is an integer of at least 1."""
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"`{name}` should be an integer >= 1. Received: {name}={size!r}.")


def check_sizes(name: str, sizes: Sequence[int]) -> None:
    """Raises `ValueError` unless the sizes are a sequence of integers of at least 1."""
    if not isinstance(sizes, Iterable) or any(
        not isinstance(size, int) or size < 1 for size in sizes
    ):
        raise ValueError(
            f"`{name}` should be a sequence of integers >= 1. Received: {name}={sizes!r}."
        )


def check_part(name: str, part, kind: type) -> None:
    """Raises `ValueError` unless a part of a VAE, such as the likelihood, is of its class."""
    if not isinstance(part, kind):
        raise ValueError(f"`{name}` should be of class {kind.__name__}. Received: {name}={part!r}.")
