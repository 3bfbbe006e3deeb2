"""The model card: generated from recipe.toml and results.json, never typed."""

from pathlib import Path

from keras_vae.zoo.recipe import Recipe, read_recipe
from keras_vae.zoo.store import WEIGHTS, find, read_results, shipped_names


def write_card(folder: Path) -> None:
    """Writes README.md into a model folder from what else is in it."""
    recipe = read_recipe(folder / "recipe.toml")
    text = card(recipe, read_results(folder), picture=(folder / "samples.png").exists())
    (folder / "README.md").write_text(text, encoding="utf-8")


def card(recipe: Recipe, results: dict, *, picture: bool) -> str:
    """Returns the card in Markdown.

    Args:
        recipe: What the model is.
        results: Measured numbers with their protocol; may hold no more than `files`.
        picture: Whether samples.png is there to be shown.
    """
    sections = [f"# {recipe.name}", recipe.summary]
    if picture:
        sections.append(f"![Samples of {recipe.name}](samples.png)\n\nSamples from the prior.")
    sections += [_use(recipe), _model(recipe, results)]
    if recipe.data and recipe.training and "training" in results:
        sections.append(_training(recipe, results["training"]))
    if "test" in results:
        sections.append(_results(recipe, results))
    sections.append(
        f"## Integrity\n\nLicence of the weights: {recipe.licence}. "
        f"sha256 of {WEIGHTS}:\n\n    {results['files'][WEIGHTS]}"
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _use(recipe):
    return f"""## Use

```python
import keras_vae

vae = keras_vae.zoo.load("{recipe.name}")
images = vae.sample(16, seed=0)               # from the prior
keras_vae.export.to_onnx(vae, "decoder.onnx", part="decoder")
```"""


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


def _training(recipe, facts):
    data, training = recipe.data, recipe.training
    rate = f"{training.learning_rate:g}"
    if training.final_learning_rate is not None:
        rate += f" falling to {training.final_learning_rate:g} along a cosine"
    minutes, best = facts["seconds"] / 60, " (the best one)" if training.patience else ""
    return f"""## Training

Data: {facts["num_images"]:,} images of `{data.name}`, split seed {data.split_seed}, binarization:
{data.binarization}.
Adam, learning rate {rate}, batch size {training.batch_size}, seed {training.seed},
precision {training.dtype}; {facts["epochs"]} epochs in {minutes:.1f} minutes
({facts["hardware"]}, {facts["date"]}). The weights are those of epoch {facts["kept_epoch"]}{best},
validation ELBO {facts["validation_elbo"]:.2f} nats.
Repeat it with `keras-vae train {recipe.name} --out FOLDER`."""


def _results(recipe, results):
    test, protocol = results["test"], results["protocol"]
    rows = [
        ("ELBO", test["elbo"]),
        ("reconstruction", test["reconstruction"]),
        ("KL", test["kl"]),
        (
            f"log-likelihood, {protocol['importance_samples']} importance samples",
            test["log_likelihood"],
        ),
    ]
    table = "\n".join(
        f"| {name} | {value['mean']:.2f} | {value['standard_error']:.2f} |" for name, value in rows
    )
    return f"""## Results

{protocol["num_test_images"]:,} test images, test binarization: {protocol["test_binarization"]}.
Measure them again with `keras-vae evaluate {recipe.name}`.

| nats per image | mean | standard error |
|---|---|---|
{table}

Bits per dimension {test["bits_per_dimension"]:.4f}; active units {test["active_units"]}."""


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
            f"{recipe.data.name}, {recipe.data.binarization} binarization",
            recipe.model["class"],
            f"{results['parameters']:,}",
            f"{-test['elbo']['mean']:.2f}",
            f"**{-test['log_likelihood']['mean']:.2f}** ({num_samples:,})",
            f"{test['active_units']} of {recipe.model['latent_dim']}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def insert_model_table(readme: str) -> str:
    """Returns the text of README.md with the table between its marks made anew."""
    start, end = "<!-- models -->\n", "<!-- /models -->"
    before, rest = readme.split(start)
    _, after = rest.split(end)
    return f"{before}{start}{model_table()}\n{end}{after}"


if __name__ == "__main__":
    for name in shipped_names():
        write_card(find(name))
    page = Path("README.md")
    page.write_text(insert_model_table(page.read_text(encoding="utf-8")), encoding="utf-8")
