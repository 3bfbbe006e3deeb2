"""The figures of docs/speed.md, from whatever has been measured."""

from pathlib import Path

import numpy as np

from benchmarks.results import read
from benchmarks.speed import growth, quality, training
from keras_vae.plots.canvas import SMALL_SIZE, TITLE_SIZE, blank, line_styles

FOLDER = Path(__file__).parents[2] / "docs" / "speed"


def draw() -> list[Path]:
    """Writes a figure for each section that has been measured in full, and returns the paths."""
    FOLDER.mkdir(exist_ok=True)
    paths = []
    figures = {"training": draw_training, "quality": draw_quality, "growth": draw_growth}
    for section, draw_one in figures.items():
        if rows := read(f"speed_{section}")["rows"]:
            paths.append(FOLDER / f"{section}.png")
            draw_one(rows).savefig(paths[-1])
    return paths


def draw_training(rows: dict[str, dict]):
    """Shows images per second of every contestant: a group of bars for each case."""
    figure = blank(7.2, 0.75 * len(rows) + 0.9)
    axes = figure.subplots()
    names = [name for name in training.CONTESTANTS if any(name in row for row in rows.values())]
    height = 0.85 / len(names)
    shades = np.linspace(0.1, 0.85, len(names))
    for i, name in enumerate(names):
        cases = [(j, row[name]) for j, row in enumerate(rows.values()) if name in row]
        rates = [measured["images_per_second"] for _, measured in cases]
        spread = [
            [rate - m["smallest"] for rate, (_, m) in zip(rates, cases, strict=True)],
            [m["largest"] - rate for rate, (_, m) in zip(rates, cases, strict=True)],
        ]
        places = [j + (i - (len(names) - 1) / 2) * height for j, _ in cases]
        is_ceiling = name == training.CEILING
        look = {"color": "white", "edgecolor": "black", "hatch": "///"} if is_ceiling else {}
        look = look or {"color": str(shades[i])}
        axes.barh(places, rates, height, xerr=spread, label=name, error_kw={"lw": 0.6}, **look)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=SMALL_SIZE)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=SMALL_SIZE)
    axes.set_xlabel("images per second of training", fontsize=SMALL_SIZE)
    figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL_SIZE, frameon=False)
    return figure


def draw_quality(rows: dict[str, dict]):
    """Shows the test ELBO over seconds of training."""
    (curves,) = rows.values()
    figure = blank(5.6, 3.4)
    axes = figure.subplots()
    for (name, curve), style in zip(curves.items(), line_styles(len(curves)), strict=True):
        every = max(1, len(curve["elbo"]) // 8)
        axes.plot(curve["seconds"], curve["elbo"], label=name, markevery=every, **style)
    axes.axhline(quality.TARGET, color="0.5", linewidth=0.8)
    axes.set_ylim(bottom=quality.TARGET - 20)
    axes.set_xlabel("seconds of training", fontsize=SMALL_SIZE)
    axes.set_ylabel("test ELBO, nats per image", fontsize=SMALL_SIZE)
    axes.tick_params(labelsize=SMALL_SIZE)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    return figure


def draw_growth(rows: dict[str, dict]):
    """Shows microseconds per image and peak memory at every point that has been measured."""
    names = list(growth.AXES)
    figure = blank(2.6 * len(names), 3.8)
    panels = figure.subplots(2, len(names), sharex="col")
    for name, (time, memory) in zip(names, panels.T, strict=True):
        _, values, _ = growth.AXES[name]
        found = [(value, rows.get(f"{name}: {value}")) for value in values]
        measured = [(value, row) for value, row in found if row]
        if not measured:
            continue
        places = [value for value, _ in measured]
        style = {"color": "black", "marker": "o", "markersize": 3, "linewidth": 1}
        time.plot(places, [1e6 / row["images_per_second"] for _, row in measured], **style)
        memory.plot(places, [row["peak_bytes"] / 2**20 for _, row in measured], **style)
        time.set_title(name, fontsize=TITLE_SIZE - 1)
        for axes in (time, memory):
            axes.set_xscale("log")
            axes.set_xticks(places, _short(places), rotation=45)
            axes.minorticks_off()
            axes.set_ylim(bottom=0, top=1.15 * axes.get_ylim()[1])
            axes.tick_params(labelsize=SMALL_SIZE)
    panels[0, 0].set_ylabel("microseconds per image", fontsize=SMALL_SIZE)
    panels[1, 0].set_ylabel("peak memory, MiB", fontsize=SMALL_SIZE)
    return figure


def _short(values):
    """Returns labels that have room: powers of ten where numbers are long, none beside the next."""
    labels = []
    for value, following in zip(values, [*values[1:], None], strict=True):
        exponent = len(str(value)) - 1
        power = f"$10^{exponent}$"
        times = value / 10**exponent
        long = power if times == 1 else rf"${times:g}\cdot{power[1:]}"
        is_crowded = following is not None and following < 1.3 * value
        labels.append("" if is_crowded else long if exponent > 3 else str(value))
    return labels
