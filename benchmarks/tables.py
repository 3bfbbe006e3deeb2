"""Writes the measured tables of docs/evaluation.md: `python -m benchmarks.tables`."""

import json
from pathlib import Path

from benchmarks.results import FOLDER
from keras_vae import zoo
from keras_vae.anomaly import METHODS

PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"
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
    measured = _rows("anomaly")
    digits = [row for name, row in measured.items() if name.endswith("held out")]
    shown = {name.replace("_", "-"): _aurocs(row) for name, row in measured.items()}
    if digits:
        columns = zip(*(_aurocs(row) for row in digits), strict=True)
        shown["mean of held-out digits"] = [sum(column) / len(digits) for column in columns]
    rows = [(name, *(f"{value:.3f}" for value in values)) for name, values in shown.items()]
    return _table(("", *(method.replace("_", " ") for method in METHODS)), rows)


def representation():
    """Returns the table of classifiers and clusters on codes."""
    columns = (
        "",
        "linear probe",
        "5 nearest neighbours",
        "k-means: accuracy, NMI, ARI",
        "Gaussian mixture",
    )
    rows = [
        (
            name if name == "pixels" else f"`{name}`",
            f"{row['linear_probe']:.4f}",
            f"{row['nearest_neighbour']:.4f}",
            _agreement(row["k_means"]),
            _agreement(row["gaussian_mixture"]) if "gaussian_mixture" in row else "",
        )
        for name, row in _rows("representation").items()
    ]
    return _table(columns, rows)


def disentanglement():
    """Returns the table of scores of the beta-VAE and its twin."""
    rows = [
        (name, *(f"{row[score]:.3g}" for score in _SCORES))
        for name, row in sorted(_rows("disentanglement").items())
    ]
    return _table(("", *_SCORES.values()), rows)


def page(text):
    """Returns the text of docs/evaluation.md with every table made anew between its marks."""
    for make in (collapse, anomaly, representation, disentanglement):
        start, end = f"<!-- {make.__name__} -->\n", f"<!-- /{make.__name__} -->"
        before, rest = text.split(start)
        _, after = rest.split(end)
        text = f"{before}{start}{make()}\n{end}{after}"
    return text


def _rows(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["rows"]


def _aurocs(row):
    return [row[method]["auroc"] for method in METHODS]


def _agreement(scores):
    return ", ".join(f"{scores[score]:.3f}" for score in ("accuracy", "nmi", "ari"))


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
