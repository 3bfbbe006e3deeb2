"""The `keras-vae` command."""

import contextlib
import functools
import json
import sys
from pathlib import Path

import click

# What a user may have got wrong: answered with one line instead of a traceback.
_USER_ERRORS = (ValueError, OSError, ImportError, RuntimeError)


def _command(function):
    """Makes a click command that answers errors in one line."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except _USER_ERRORS as error:
            raise click.ClickException(str(error)) from error

    return wrapper


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keras-vae")
def main():
    """Variational autoencoders: trained, measured, exported."""


@main.command("list")
@_command
def list_():
    """List the shipped models with their measured numbers."""
    from rich.console import Console
    from rich.table import Table

    from keras_vae import zoo

    table = Table("name", "data", "parameters", "MB", "-ELBO", "NLL", "licence")
    for column in table.columns[2:6]:
        column.justify = "right"
    for name in zoo.list_models():
        folder, recipe, results, _ = zoo.info(name)
        megabytes = (folder / "model.weights.h5").stat().st_size / 1e6
        table.add_row(
            name,
            recipe.data.name if recipe.data else "",
            f"{results['parameters']:,}",
            f"{megabytes:.1f}",
            *(_nats(results, key) for key in ("elbo", "log_likelihood")),
            recipe.licence,
        )
    Console().print(table)
    click.echo("-ELBO and NLL: nats per test image; `keras-vae info NAME` has the protocol.")


def _nats(results, key):
    return f"{-results['test'][key]['mean']:.2f}" if "test" in results else ""


@main.command()
@click.argument("name")
@_command
def info(name):
    """Show the card of a model: a shipped NAME, or a folder."""
    from rich.console import Console
    from rich.markdown import Markdown

    from keras_vae import zoo

    card = zoo.info(name).card
    if sys.stdout.isatty():
        Console().print(Markdown(card))
    else:
        click.echo(card)


@main.command()
@click.argument("recipe")
@click.option("--out", required=True, type=click.Path(), help="Folder for the finished model.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@_command
def train(recipe, out, overwrite):
    """Train from RECIPE: a recipe.toml, or a model to train anew.

    Given again after an interruption, it goes on from the last whole epoch.
    """
    from keras_vae import zoo

    with _progress("Measuring") as progress:
        folder = zoo.train(recipe, out, progress=progress, overwrite=overwrite)
    test = zoo.info(folder).results["test"]
    click.echo(f"Wrote {folder}: test ELBO {test['elbo']['mean']:.2f} nats per image.")


@main.command()
@click.argument("name")
@click.option("--num-samples", type=click.IntRange(1), help="Importance samples per image.")
@click.option("--limit", type=click.IntRange(1), help="Test images to use; all by default.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the numbers as JSON.")
@_command
def evaluate(name, num_samples, limit, out):
    """Measure NAME, a shipped model or a folder, on the test images of its recipe."""
    from rich.console import Console
    from rich.table import Table

    from keras_vae import zoo
    from keras_vae.files import atomic_file

    with _progress("Measuring") as progress:
        results = zoo.evaluate(name, num_samples=num_samples, limit=limit, progress=progress)
    table = Table("nats per image", "mean", "standard error", title=str(name))
    for key, value in results["test"].items():
        if isinstance(value, dict):
            table.add_row(key, f"{value['mean']:.3f}", f"{value['standard_error']:.3f}")
        else:
            table.add_row(f"({key})", f"{value:.4g}", "")
    Console().print(table)
    for key, value in {**results["protocol"], "seconds": results["seconds"]}.items():
        click.echo(f"{key}: {value}")
    if out:
        with atomic_file(Path(out)) as draft:
            draft.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


@main.command()
@click.argument("name")
@click.option("--part", default="decoder", show_default=True, help="decoder, encoder or vae.")
@click.option(
    "--format",
    "formats",
    default="saved_model,onnx",
    show_default=True,
    help="Any of saved_model, onnx and litert, with commas between.",
)
@click.option("--out", required=True, type=click.Path(), help="Folder for the exports.")
@click.option("--overwrite", is_flag=True, help="Replace ONNX and LiteRT files that exist.")
@_command
def export(name, part, formats, out, overwrite):
    """Export NAME, a shipped model or a folder; each file is verified before it appears."""
    from keras_vae import export, zoo

    folder = Path(out) / Path(name).name
    exporters = {
        "saved_model": lambda vae: export.to_saved_model(vae, folder / part, part),
        "onnx": lambda vae: export.to_onnx(vae, folder / f"{part}.onnx", part, overwrite=overwrite),
        "litert": lambda vae: export.to_litert(
            vae, folder / f"{part}.tflite", part, overwrite=overwrite
        ),
    }
    formats = formats.split(",")
    if unknown := [choice for choice in formats if choice not in exporters]:
        raise ValueError(
            f"`--format` should name some of {', '.join(exporters)}. Received: {unknown[0]!r}."
        )
    vae = zoo.load(name, compile=False)
    for choice in formats:
        click.echo(f"{exporters[choice](vae)}: agrees with the model.")


@main.command("serving-config")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--out", required=True, type=click.Path(), help="Folder for the files.")
@click.option("--batching", is_flag=True, help="Join requests; `sample` is then refused.")
@click.option("--overwrite", is_flag=True, help="Replace the files of a folder that exists.")
@_command
def serving_config(names, out, batching, overwrite):
    """Write what TensorFlow Serving starts from.

    Each NAME may say which versions to label: NAME@STABLE or NAME@STABLE,CANARY.
    """
    from keras_vae.export.serving import Batching, write_serving_config

    batching = Batching() if batching else None
    folder = write_serving_config(out, names, batching=batching, overwrite=overwrite)
    click.echo(f"Wrote {folder}: `docker compose up --detach --wait` in it starts the server.")


@main.command()
@click.option("--out", default="demo_out", show_default=True, type=click.Path())
@_command
def demo(out):
    """Load, fine-tune, draw, export and serve, all in about two minutes."""
    from keras_vae import demo

    folder = demo.run(out, click.echo)
    click.echo(f"Look at {folder / 'contact_sheet.png'} and {folder / 'report.txt'}.")


@contextlib.contextmanager
def _progress(label):
    """Yields a function from the fraction done to a moving bar, shown from its first call on."""
    from rich.progress import Progress

    with contextlib.ExitStack() as stack:

        @functools.cache
        def bar():
            progress = stack.enter_context(Progress())
            return functools.partial(progress.update, progress.add_task(label, total=1.0))

        yield lambda fraction: bar()(completed=fraction)


if __name__ == "__main__":
    main()
