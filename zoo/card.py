"""The model card: generated from recipe.toml and results.json, never typed."""

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path

from keras_vae.metrics import ACTIVE_VARIANCE
from keras_vae.zoo.evaluation import NUM_IMAGES_FOR_SAMPLE_SIZE
from keras_vae.zoo.recipe import Recipe, read_recipe
from keras_vae.zoo.store import WEIGHTS, find, read_results, shipped_names

_PICTURES = {
    "samples.png": "Samples from the prior.",
    "reconstructions.png": "Test images, and their reconstructions below.",
    "grid.png": "The plane of the two latents, at the quantiles of the prior, decoded.",
}
_PREPROCESSING = {
    "none": "pixels from 0 to 1, as they come.",
    "fixed": "intensities from 0 to 1, each pixel rounded at random once and for all.",
    "dynamic": "intensities from 0 to 1, each pixel drawn from Bernoulli(intensity) in each epoch.",
}
_ABOUT = Path(__file__).with_name("about.toml")


def write_card(folder: Path, address: str) -> None:
    """Writes README.md into a model folder from what else is in it.

    Args:
        folder: A model folder.
        address: What whoever reads the card gives to `load`.
    """
    (folder / "README.md").write_text(card_of(folder, address), encoding="utf-8")


def card_of(folder: Path, address: str) -> str:
    """Returns the card of a model folder, as `write_card` writes it."""
    pictures = [name for name in _PICTURES if (folder / name).exists()]
    recipe, results = read_recipe(folder / "recipe.toml"), read_results(folder)
    return card(recipe, results, address=address, pictures=pictures)


def card(recipe: Recipe, results: dict, *, address: str, pictures: Sequence[str] = ()) -> str:
    """Returns the card in Markdown.

    Args:
        recipe: What the model is.
        results: Measured numbers with their protocol; may hold no more than `files`.
        address: What `load` takes.
        pictures: Names of the pictures that are there to be shown.
    """
    about = tomllib.loads(_ABOUT.read_text(encoding="utf-8"))
    sections = [f"# {recipe.name}", recipe.summary]
    sections += [
        f"![{caption}]({name})\n\n{caption}"
        for name, caption in _PICTURES.items()
        if name in pictures
    ]
    sections += [_use(address), _model(recipe, results)]
    if recipe.data:
        sections.append(_data(recipe, about["data"]))
    if recipe.training and "training" in results:
        sections.append(_training(recipe, results["training"], about["data"]))
    if "test" in results:
        sections.append(_results(recipe, results, about["published"], address))
        sections.append(_tried(recipe, about["tried"]))
    if results.get("comparisons"):
        sections.append(_comparisons(recipe, results))
    sections += [_citation(recipe, results), _integrity(recipe, results)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _use(address):
    return f"""## Use

```python
import keras_vae

vae = keras_vae.zoo.load("{address}")
images = vae.sample(16, seed=0)     # from the prior
scores = vae.elbo(x)                # (batch,), nats; low for what is unlike the data
vae.fit(x, epochs=5)                # fine-tunes; `vae.freeze("decoder")` keeps a part as it is
keras_vae.export.to_onnx(vae, "decoder.onnx", part="decoder")
```

Meant as a baseline to compare with, a start for fine-tuning, and an example of export and serving.
`keras_vae.zoo.load("{address}", latent_dim=4)` keeps every layer that still fits."""


def _data(recipe, about):
    data = recipe.data
    known = about.get(data.name, {})
    resized = f", resized to {data.image_size[0]}x{data.image_size[1]}" if data.image_size else ""
    lines = [f"Data: {known.get('title', data.name)}{resized}."]
    if known:
        lines[0] += f" Licence: {known['licence']}. [Source]({known['source']})."
    lines.append(f"Preprocessing: {_PREPROCESSING[data.binarization]}")
    if known:
        lines.append(f"Limits: {known['limits']}")
    return "## Data\n\n" + "\n".join(lines)


def _model(recipe, results):
    arguments = ", ".join(
        f"{key}={_show(value)}" for key, value in recipe.model.items() if key != "class"
    )
    return f"""## Model

`{recipe.model["class"]}({arguments})`, {results["parameters"]:,} parameters."""


def _show(value):
    if not isinstance(value, dict):
        return repr(value)
    arguments = ", ".join(f"{key}={_show(v)}" for key, v in value.items() if key != "class")
    return f"{value['class']}({arguments})"


def _training(recipe, facts, about):
    data, training = recipe.data, recipe.training
    rate = f"{training.learning_rate:g}"
    if training.final_learning_rate is not None:
        rate += f" falling to {training.final_learning_rate:g} along a cosine"
        if training.decay_epochs is not None:
            rate += f" of {training.decay_epochs} epochs"
    minutes, best = facts["seconds"] / 60, " (the best one)" if training.patience else ""
    start = f"Starts from the weights of `{training.initial}`. " if training.initial else ""
    if stage := facts.get("initial"):
        start = (
            f"In two stages: first the recipe `{training.initial}` for {stage['epochs']} epochs, "
            f"{stage['seconds'] / 60:.1f} minutes, to a validation ELBO of "
            f"{stage['validation_elbo']:.2f} nats; then from its weights on as follows.\n"
        )
    comes_split = about.get(data.name, {}).get("comes_split")
    split = "in the split that they come with" if comes_split else f"split seed {data.split_seed}"
    return f"""## Training

{start}{facts["num_images"]:,} images, {split}.
Adam, learning rate {rate}, batch size {training.batch_size}, seed {training.seed},
precision {training.dtype}; {facts["epochs"]} epochs in {minutes:.1f} minutes
({facts["hardware"]}, {facts["date"]}). The weights are those of epoch {facts["kept_epoch"]}{best},
validation ELBO {facts["validation_elbo"]:.2f} nats."""


def _results(recipe, results, published, address):
    test, protocol = results["test"], results["protocol"]
    rows = [
        ("ELBO", test["elbo"]),
        ("reconstruction", test["reconstruction"]),
        ("KL", test["kl"]),
        (
            f"log-likelihood, {protocol['importance_samples']:,} importance samples",
            test["log_likelihood"],
        ),
    ]
    table = "\n".join(
        f"| {name} | {value['mean']:.2f} | {value['standard_error']:.2f} |" for name, value in rows
    )
    text = f"""## Results

{protocol["num_test_images"]:,} test images, test binarization: {protocol["test_binarization"]}.
Measure them again with `keras-vae evaluate {address}`; train it anew and compare with
`keras-vae reproduce {address} --out FOLDER`.

| nats per image | mean | standard error |
|---|---|---|
{table}

Bits per dimension {test["bits_per_dimension"]:.4f}; active units {test["active_units"]} of
{recipe.model["latent_dim"]} (variance of the posterior mean above {ACTIVE_VARIANCE:g})."""
    if "effective_sample_size" in test:
        text += (
            f" Of {protocol['importance_samples']:,} importance samples, "
            f"{test['effective_sample_size']:.0f} count (effective sample size, mean of "
            f"{min(NUM_IMAGES_FOR_SAMPLE_SIZE, protocol['num_test_images'])} images)."
        )
    if "mutual_information" in test:
        most = math.log(protocol["num_test_images"])
        text += (
            f"\nMutual information of image and code: {test['mutual_information']:.2f} nats, of at "
            f"most {most:.2f}, the logarithm of the number of images."
        )
    rows = [row for row in published if recipe.name in row["models"]]
    if not rows:
        return text
    ours = test["log_likelihood"]
    lines = [f"| **{recipe.name}** | **{-ours['mean']:.2f}** | this card |"]
    for row in rows:
        error = f" +- {row['error']:.2f}" if "error" in row else ""
        lines.append(f"| {row['name']} | {row['nll']:.2f}{error} | {row['source']} |")
    return f"""{text}

| test NLL, nats per image | | source |
|---|---|---|
{chr(10).join(lines)}"""


def _tried(recipe, tried):
    lines = [
        f"| {row['what']} | {row['nll']:.2f} |" for row in tried if row["model"] == recipe.name
    ]
    if not lines:
        return ""
    return f"""## What else was tried

Single runs, of which no weights and no recipes are kept.

| by the same protocol, else as above | test NLL, nats per image |
|---|---|
{chr(10).join(lines)}"""


def _comparisons(recipe, results):
    def cells(name, entry, note):
        test, num_samples = entry["test"], entry["protocol"]["importance_samples"]
        numbers = (
            f"{entry['training']['kept_epoch']}",
            f"{-test['elbo']['mean']:.2f}",
            f"{-test['log_likelihood']['mean']:.2f} ({num_samples:,})",
            f"{test['active_units']}",
        )
        return f"| {' | '.join((name, note, *numbers))} |"

    rows = [cells(f"**{recipe.name}**", results, "")]
    for entry in results["comparisons"]:
        note = ", ".join(f"`{key}` = {_show(value)}" for key, value in entry["differs"].items())
        rows.append(cells(entry["name"], entry, note))
    return f"""## Beside its twins

Trained and measured by the same protocol, but for what is named.

| | what differs | weights of epoch | -ELBO | NLL (importance samples) | active units |
|---|---|---|---|---|---|
{chr(10).join(rows)}"""


def _citation(recipe, results):
    year = results.get("training", {}).get("date", "")[:4]
    return f"""## Citation

keras_vae, model `{recipe.name}`{f", {year}" if year else ""}; weights by sha256 below."""


def _integrity(recipe, results):
    return f"""## Integrity

Licence of the weights: {recipe.licence}. sha256 of {WEIGHTS}:

    {results["files"][WEIGHTS]}"""


def model_table() -> str:
    """Returns the table of shipped models for README.md, in Markdown."""
    rows = [
        "| name | data | model | parameters | -ELBO | NLL (importance samples) | active units |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in shipped_names():
        folder = find(name)
        recipe, results = read_recipe(folder / "recipe.toml"), read_results(folder)
        test, num_samples = results["test"], results["protocol"]["importance_samples"]
        cells = (
            f"[`{name}`](zoo/models/{name}/README.md)",
            _data_of(recipe.data),
            recipe.model["class"],
            f"{results['parameters']:,}",
            f"{-test['elbo']['mean']:.2f}",
            f"**{-test['log_likelihood']['mean']:.2f}** ({num_samples:,})",
            f"{test['active_units']} of {recipe.model['latent_dim']}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _data_of(wanted):
    if wanted.binarization == "none":
        return wanted.name
    return f"{wanted.name}, {wanted.binarization} binarization"


def insert_model_table(readme: str) -> str:
    """Returns the text of README.md with the table between its marks made anew."""
    start, end = "<!-- models -->\n", "<!-- /models -->"
    before, rest = readme.split(start)
    _, after = rest.split(end)
    return f"{before}{start}{model_table()}\n{end}{after}"


if __name__ == "__main__":
    for name in shipped_names():
        write_card(find(name), name)
    page = Path("README.md")
    page.write_text(insert_model_table(page.read_text(encoding="utf-8")), encoding="utf-8")
