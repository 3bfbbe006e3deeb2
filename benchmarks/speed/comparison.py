"""What ours took or gave beside the best peer."""

from typing import NamedTuple

COLUMNS = ["", "keras_vae", "best peer", "which is", "times as fast"]


class Comparison(NamedTuple):
    """A single figure of ours and of the best peer.

    Attributes:
        what: What was measured, with its unit.
        ours: What ours took or gave; `None` if it never arrived.
        peers: The same of each peer, by name, with `None` for those that never arrived.
        digits: How many decimal places are shown.
        smaller_is_better: Whether it is a time.
    """

    what: str
    ours: float | None
    peers: dict[str, float | None]
    digits: int = 0
    smaller_is_better: bool = False

    def cells(self) -> list[str]:
        """Returns a row of the table: what, ours, the best peer's, its name, and the ratio."""
        arrived = {name: value for name, value in self.peers.items() if value is not None}
        if not arrived:
            return [self.what, self._shown(self.ours), "never" if self.peers else "", "", ""]
        best = (min if self.smaller_is_better else max)(arrived, key=arrived.get)
        ratio = ""
        if self.ours is not None:
            times = arrived[best] / self.ours
            ratio = f"{times if self.smaller_is_better else 1 / times:.2f}"
        return [self.what, self._shown(self.ours), self._shown(arrived[best]), best, ratio]

    def _shown(self, value):
        return "never" if value is None else f"{value:,.{self.digits}f}"
