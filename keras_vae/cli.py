"""The `keras-vae` command."""

import contextlib
import functools
import json
import logging
import os
import re
import sys
from pathlib import Path

import click

# What a user may have got wrong: answered with one line instead of a traceback.
_PRECISIONS = ("float32", "mixed_bfloat16")
_USER_ERRORS = (ValueError, OSError, ImportError, RuntimeError, FloatingPointError)


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
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from keras_vae import zoo

    columns = ("name", "data", "parameters", "MB", "-ELBO", "NLL", "licence")
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
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
    Console(width=200).print(table, crop=False)  # however narrow the terminal or the pipe
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
@click.option(
    "--strategy",
    type=click.Choice(["default", "mirrored", "multi-worker", "tpu"]),
    default="default",
    show_default=True,
    help="One device, all GPUs, the workers of TF_CONFIG, or a TPU.",
)
@click.option("--every-steps", type=click.IntRange(1), help="Save this often, besides each epoch.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@_command
def train(recipe, out, strategy, every_steps, overwrite):
    """Train from RECIPE: a recipe.toml, or a model to train anew.

    Given again after an interruption, it goes on where it was, to the same weights. SIGTERM makes
    it save and end with status 138; a loss or gradient that is not finite ends it with status 1.
    """
    from keras_vae import replicas, zoo

    _show_log()
    if strategy == "multi-worker":
        strategy = replicas.make_strategy(strategy)
    with _progress("Measuring") as progress:
        folder = zoo.train(
            recipe,
            out,
            strategy=strategy,
            every_steps=every_steps,
            verbose="auto" if sys.stdout.isatty() else 2,
            progress=progress,
            overwrite=overwrite,
        )
    if not isinstance(strategy, str) and not replicas.is_chief(strategy):
        return
    test = zoo.info(Path(folder)).results["test"]
    click.echo(f"Wrote {folder}: test ELBO {test['elbo']['mean']:.2f} nats per image.")


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--restarts", type=click.IntRange(0), default=0, help="How often to start all anew.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def launch(workers, restarts, command):
    """Start worker processes of COMMAND on this machine, such as `-- train RECIPE --out FOLDER`.

    Each is `keras-vae COMMAND`, with a TF_CONFIG that names all of them. When one ends with an
    error, all are stopped, and its status is that of this command; with `--restarts`, all are
    first started anew so many times.
    """
    from keras_vae import launcher

    sys.exit(launcher.launch(command, workers, restarts=restarts, show=click.echo))


@main.command("cluster-config")
@click.argument("recipe")
@click.option("--out", required=True, help="Folder for the model, in one that all workers share.")
@click.option("--into", default=".", show_default=True, type=click.Path(file_okay=False))
@click.option("--workers", default=2, show_default=True)
@click.option("--name", default="keras-vae", show_default=True, help="Of the job.")
@click.option("--cpus", default=4, show_default=True, help="Of each worker.")
@click.option("--memory", default=16, show_default=True, help="Of each worker, gigabytes.")
@click.option("--gpus", default=0, show_default=True, help="Of each worker.")
@click.option("--hours", default=24.0, show_default=True, help="Time limit of one run (Slurm).")
@click.option("--every-steps", default=1000, show_default=True, help="Between checkpoints.")
@click.option("--image", default="keras-vae:latest", show_default=True, help="Kubeflow.")
@click.option("--claim", default="shared", show_default=True, help="Mounted as /shared (Kubeflow).")
@click.option("--overwrite", is_flag=True, help="Replace files of these names.")
@_command
def cluster_config(into, overwrite, **settings):
    """Write what starts a training of RECIPE on a cluster: Kubeflow's TFJob, and Slurm's script."""
    from keras_vae.cluster import ClusterJob, write_cluster_config

    for path in write_cluster_config(ClusterJob(**settings), into, overwrite=overwrite):
        click.echo(f"Wrote {path}")


@main.command()
@click.argument("name")
@click.option("--out", required=True, type=click.Path(), help="Folder for the model trained anew.")
@click.option("--tolerance", default=0.5, show_default=True, help="Nats per image that may differ.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@_command
def reproduce(name, out, tolerance, overwrite):
    """Train NAME anew from its recipe and hold the numbers against the stored ones.

    The exit status is not 0 if one of them differs by more than the tolerance.
    """
    from rich.console import Console
    from rich.table import Table

    from keras_vae import zoo

    with _progress("Measuring") as progress:
        rows = zoo.reproduce(name, out, tolerance=tolerance, progress=progress, overwrite=overwrite)
    table = Table("nats per image", "stored", "reproduced", f"within {tolerance:g}")
    for row in rows:
        numbers = (f"{row.stored:.3f}", f"{row.reproduced:.3f}")
        table.add_row(row.quantity, *numbers, "yes" if row.agrees else "no")
    Console().print(table)
    sys.exit(not all(row.agrees for row in rows))


@main.command()
@click.argument("folder", metavar="NAME|FOLDER")
@click.argument("address", metavar="hf://ORG/NAME")
@click.option("--private", is_flag=True, help="Make a repository that is created private.")
@_command
def push(folder, address, private):
    """Upload a model folder to the Hugging Face Hub, in one commit."""
    from keras_vae import zoo

    click.echo(f"Pushed: keras_vae.zoo.load({zoo.push(folder, address, private=private)!r})")


@main.command()
@click.argument("name")
@click.option("--num-samples", type=click.IntRange(1), help="Importance samples per image.")
@click.option("--dtype", type=click.Choice(_PRECISIONS), help="Precision of these; the recipe's.")
@click.option("--limit", type=click.IntRange(2), help="Test images to use; all by default.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the numbers as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@_command
def evaluate(name, num_samples, dtype, limit, out, overwrite):
    """Measure NAME, a shipped model or a folder, on the test images of its recipe."""
    from rich.console import Console
    from rich.table import Table

    from keras_vae import zoo
    from keras_vae.files import atomic_file, local_path

    if out and local_path(out).exists() and not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another, or give --overwrite.")
    with _progress("Measuring") as progress:
        options = {"num_samples": num_samples, "dtype": dtype, "limit": limit}
        results = zoo.evaluate(name, progress=progress, **options)
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
        with atomic_file(out, overwrite=overwrite) as draft:
            draft.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


@main.command()
@click.argument("name", metavar="NAME|FOLDER")
@click.option("--data", help="Data set to take test images of; the recipe's by default.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder for the page.")
@click.option("--num-samples", type=click.IntRange(1), help="Importance samples per image.")
@click.option("--dtype", type=click.Choice(_PRECISIONS), help="Precision of these; the recipe's.")
@click.option("--limit", type=click.IntRange(2), help="Test images to use; all by default.")
@click.option("--anew", is_flag=True, help="Measure the log-likelihood even if it is known.")
@click.option("--overwrite", is_flag=True, help="Replace a page that exists.")
@_command
def report(name, data, out, overwrite, **options):
    """Write a page about a model: numbers, pictures, a diagnosis in plain words, and its card.

    It is one HTML file, OUT/index.html, which needs no network to be read.
    """
    from keras_vae.report import write_report

    with _progress("Loading") as progress:
        page = write_report(name, out, data=data, overwrite=overwrite, progress=progress, **options)
    click.echo(f"Wrote {page}: open it in a browser.")


@main.command()
@click.argument("name", metavar="NAME|FOLDER")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind to.")
@click.option("--port", type=click.IntRange(1, 65535), help="A free one from 7860 on by default.")
@_command
def explore(name, host, port):
    """Start a local page to play with a model, until Ctrl-C.

    It samples, reconstructs what is uploaded or drawn, moves latents, interpolates and scores
    anomalies. Anybody who reaches the address can use it.
    """
    from keras_vae.explore import serve

    app = serve(name, host=host, port=port)
    click.echo(f"Explore {name} at {app.local_url} (Ctrl-C ends it).")
    app.block_thread()


@main.command()
@click.argument("source", metavar="NAME|FOLDER|FILE.keras")
@click.option("--part", default="decoder", show_default=True, help="decoder, encoder or vae.")
@click.option(
    "--format",
    "formats",
    default="saved_model,onnx",
    show_default=True,
    help="Any of saved_model, onnx and litert, with commas between.",
)
@click.option("--out", required=True, type=click.Path(), help="Folder for the exports.")
@click.option("--quantize", type=click.Choice(["float16", "int8"]), help="Of ONNX and LiteRT.")
@click.option("--uint8", "uint8_images", is_flag=True, help="Take images as uint8, 0 to 255.")
@click.option("--overwrite", is_flag=True, help="Replace ONNX and LiteRT files that exist.")
@click.option("--force", is_flag=True, help="Export a model that is untrained or gives NaN.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@_command
def export(source, part, formats, out, quantize, uint8_images, overwrite, force, as_json):
    """Export a model; each file is verified by what will serve it before it appears.

    The SavedModel goes to OUT/NAME_PART/VERSION, where TensorFlow Serving finds it if OUT is its
    folder of models; the others are OUT/NAME_PART.onnx and .tflite. The exit status is not 0 if
    anything fails.
    """
    from keras_vae import export

    formats = formats.split(",")
    if unknown := [choice for choice in formats if choice not in _SUFFIXES]:
        raise ValueError(
            f"`--format` should name some of {', '.join(_SUFFIXES)}. Received: {unknown[0]!r}."
        )
    if quantize and "saved_model" in formats:
        raise ValueError("`--quantize` is for onnx and litert: name them with `--format`.")
    vae, metadata = _load(source)
    export.signatures.signatures(vae, part)  # refuses an unknown part before anything is written
    options = {"uint8_images": uint8_images, "metadata": metadata, "force": force}
    quantization = {"float16": export.Float16, "int8": export.Int8, None: lambda: None}[quantize]
    file_options = {**options, "overwrite": overwrite, "quantize": quantization()}
    target = Path(out, f"{metadata['name']}_{part}")
    onnx, litert = (f"{target}{_SUFFIXES[choice]}" for choice in ("onnx", "litert"))
    exporters = {
        "saved_model": lambda: export.to_saved_model(vae, target, part, **options),
        "onnx": lambda: export.to_onnx(vae, onnx, part, **file_options),
        "litert": lambda: export.to_litert(vae, litert, part, **file_options),
    }
    _report(((f"{target}{_SUFFIXES[choice]}", exporters[choice]) for choice in formats), as_json)


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@_command
def verify(paths, as_json):
    """Verify exports again: files, versions of a SavedModel, or folders with any of them in.

    Each carries what its model gave for some inputs, and is run by what serves it. The exit status
    is not 0 if anything fails.
    """
    from keras_vae import export

    found = [file for path in paths for file in export.find_exports(path)]
    if not found:
        raise ValueError(f"There is no export in {', '.join(paths)}.")
    _report(((str(file), lambda file=file: file) for file in found), as_json)


_SUFFIXES = {"saved_model": "", "onnx": ".onnx", "litert": ".tflite"}


def _load(source):
    """Returns a model and what its exports should say of where it is from."""
    from keras_vae import zoo

    if source.endswith(".keras"):
        import keras

        import keras_vae

        if not Path(source).is_file():
            raise FileNotFoundError(f"There is no file {source}.")
        try:
            vae = keras.saving.load_model(source, compile=False)
        except TypeError as error:
            unknown = re.search("Could not locate ((?:class|function) '[^']*')", str(error))
            lines = str(error).rpartition("Exception encountered: ")[2].splitlines()
            reason = lines[0] if lines else repr(error)
            if unknown:
                reason = (
                    f"there is no {unknown[1]} here. Export it in the program that has it, by "
                    "`keras_vae.export`."
                )
            raise ValueError(f"{source} cannot be read: {reason}") from error
        if not isinstance(vae, keras_vae.VAE):
            raise ValueError(f"{source} holds a {type(vae).__name__}, not a VAE.")
        return vae, {"name": zoo.Recipe(Path(source).stem, {}).safe_name}
    recipe = zoo.info(source).recipe
    return zoo.load(source, compile=False), {"name": recipe.safe_name, "licence": recipe.licence}


def _report(jobs, as_json):
    """Does (label, function that returns the path of an export) one by one; tells of each.

    Raises:
        SystemExit: With status 1, once all are done, if one of them failed.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = []
    with Console(stderr=True).status("") as status:
        for label, job in jobs:
            status.update(label)
            rows.append({"path": label, **_verified(job)})
    failed = [row for row in rows if "error" in row]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        sys.exit(bool(failed))
    base = _common_folder(row["path"] for row in rows)
    columns = ("export", "kB", "difference", "nats lost", "ms at 1", "ms at 64")
    table = Table(*columns, title=base, box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        if "error" not in row:
            nats, times = row["lost_nats"], row["milliseconds"]
            table.add_row(
                row["path"] if base is None else os.path.relpath(row["path"], base),
                f"{row['bytes'] / 1e3:,.0f}",
                f"{row['largest_difference']:.2g}",
                "" if nats is None else f"{nats:z.4f}",
                *(f"{times[size]:.3g}" for size in sorted(times)),
            )
    if table.rows:
        Console().print(table)
    for row in failed:
        click.echo(f"{row['path']}: {row['error']}", err=True)
    sys.exit(bool(failed))


def _common_folder(paths):
    """Returns the folder that holds all of them, or `None` if they lie on several drives."""
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
    try:
        return os.path.relpath(os.path.commonpath(folders))
    except ValueError:
        return None


def _verified(job):
    from keras_vae import export

    try:
        path = job()
        parity = export.verify(path, time=True)
    except _USER_ERRORS as error:
        return {"error": str(error)}
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {
        "path": str(path),
        "bytes": sum(file.stat().st_size for file in files),
        "largest_difference": parity.largest,
        "lost_nats": parity.lost_nats,
        "milliseconds": dict(parity.milliseconds),
    }


@main.command("serving-config")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--out", required=True, type=click.Path(), help="Folder for the files.")
@click.option("--batching", is_flag=True, help="Join requests; `sample` is then refused.")
@click.option("--overwrite", is_flag=True, help="Replace the files of a folder that exists.")
@_command
def serving_config(names, out, batching, overwrite):
    """Write what TensorFlow Serving starts from.

    Each NAME may say which versions to label: NAME@STABLE or NAME@STABLE,CANARY. Requests are
    joined by the numbers in OUT/config/batching.config, if it is there.
    """
    from keras_vae.export.serving import write_serving_config

    folder = write_serving_config(out, names, batching=batching, overwrite=overwrite)
    click.echo(
        f"Wrote {folder}. In it, `MODELS_DIR=FOLDER_OF_THE_MODELS docker compose up --detach "
        "--wait` starts the server."
    )


@main.command()
@click.option("--out", default="demo_out", show_default=True, type=click.Path())
@_command
def demo(out):
    """Load, fine-tune, draw, export and verify, all in about two minutes."""
    from keras_vae import demo

    folder = demo.run(out, click.echo)
    click.echo(f"Look at {folder / 'contact_sheet.png'} and {folder / 'report.txt'}.")


def _show_log():
    import tensorflow as tf

    logger = logging.getLogger("keras_vae")
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
    tf.get_logger().setLevel(logging.ERROR)


@contextlib.contextmanager
def _progress(label):
    """Yields a function from the fraction done to a moving bar, shown from its first call on.

    It takes a new label, too, where the work has several parts.
    """
    from rich.progress import Progress

    with contextlib.ExitStack() as stack:

        @functools.cache
        def bar():
            progress = stack.enter_context(Progress())
            return functools.partial(progress.update, progress.add_task(label, total=1.0))

        yield lambda fraction, label=label: bar()(completed=fraction, description=label)


if __name__ == "__main__":
    main()
