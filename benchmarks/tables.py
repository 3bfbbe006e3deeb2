"""Writes the measured tables of the documentation: `python -m benchmarks.tables`."""

import functools
from pathlib import Path

from benchmarks.results import read, where_and_when
from benchmarks.speed.comparison import COLUMNS
from benchmarks.speed.sections import COMPARED, SECTIONS, summary
from keras_vae import zoo
from keras_vae.anomaly import METHODS

_ROOT = Path(__file__).parents[1]
_SCORES = {
    "mig": "MIG",
    "sap": "SAP",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "factor_vae": "FactorVAE",
    "beta_vae": "beta-VAE",
    "elbo": "ELBO, nats",
    "active_units": "active units",
}


def collapse():
    """Returns the table of active units and KL of every shipped model."""
    rows = []
    for name in zoo.list_models():
        model, results = zoo.info(name).recipe.model, zoo.info(name).results
        test = results["test"]
        rows.append(
            (
                f"`{name}`",
                f"{test['kl']['mean']:.1f}",
                f"{test['active_units']} of {model['latent_dim']}",
            )
        )
    return _table(("model", "KL, nats per image", "active units"), rows)


def anomaly():
    """Returns the table of AUROC of every method, with the mean over held-out digits."""
    content = read("anomaly")
    measured = content["rows"]
    digits = [row for name, row in measured.items() if name.endswith("held out")]
    shown = {name.replace("_", "-"): _aurocs(row) for name, row in measured.items()}
    if digits:
        columns = zip(*(_aurocs(row) for row in digits), strict=True)
        shown["mean of held-out digits"] = [sum(column) / len(digits) for column in columns]
    rows = [(name, *(f"{value:.3f}" for value in values)) for name, values in shown.items()]
    return _dated(_table(("", *(method.replace("_", " ") for method in METHODS)), rows), content)


def representation():
    """Returns the table of classifiers and clusters on codes."""
    columns = (
        "",
        "linear probe",
        "5 nearest neighbours",
        "k-means: accuracy, NMI, ARI",
        "Gaussian mixture",
    )
    content = read("representation")
    rows = [
        (
            name if name == "pixels" else f"`{name}`",
            f"{row['linear_probe']:.4f}",
            f"{row['nearest_neighbour']:.4f}",
            _agreement(row["k_means"]),
            _agreement(row["gaussian_mixture"]) if "gaussian_mixture" in row else "",
        )
        for name, row in content["rows"].items()
    ]
    return _dated(_table(columns, rows), content)


def disentanglement():
    """Returns the table of scores of the beta-VAE and its twin."""
    content = read("disentanglement")
    rows = [
        (name, *(f"{row[score]:.3g}" for score in _SCORES))
        for name, row in sorted(content["rows"].items())
    ]
    return _dated(_table(("", *_SCORES.values()), rows), content)


def speed(section):
    """Returns the table of a section of the benchmark of speed, and where it was measured."""
    content = read(f"speed_{section}")
    return _dated(_table(*SECTIONS[section].cells(content["rows"])), content)


def speed_summary():
    """Returns the table of ours beside the best peer in everything, and where it was measured."""
    contents = [content for name in COMPARED if (content := read(f"speed_{name}"))["rows"]]
    return _dated(_table(COLUMNS, summary()), *contents)


_SPEED = {
    "speed summary": speed_summary,
} | {
    f"speed {section}": functools.partial(speed, section)
    for section in SECTIONS
    if read(f"speed_{section}")["rows"]
}
# Page -> what stands between its marks.
PAGES = {
    _ROOT / "docs" / "evaluation.md": {
        "collapse": collapse,
        "anomaly": anomaly,
        "representation": representation,
        "disentanglement": disentanglement,
    },
    _ROOT / "docs" / "speed.md": _SPEED,
    _ROOT / "README.md": {"speed": speed_summary},
}


def page(text, tables):
    """Returns the text of a page with every table made anew between its marks."""
    for name, make in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start)
        _, after = rest.split(end)
        text = f"{before}{start}{make()}\n{end}{after}"
    return text


def _dated(table, *contents):
    return f"{table}\n\n{where_and_when(*contents)}"


def _aurocs(row):
    return [row[method]["auroc"] for method in METHODS]


def _agreement(scores):
    return ", ".join(f"{scores[score]:.3f}" for score in ("accuracy", "nmi", "ari"))


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for path, tables in PAGES.items():
        path.write_text(page(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
