"""The page and its server, on Gradio: tabs, sliders, and errors that say what is wrong."""

import functools
import os
from pathlib import Path

import numpy as np

from keras_vae.explore.inputs import FORMATS, MAX_BYTES, image_from_drawing, image_from_file
from keras_vae.explore.scene import REACH, Scene
from keras_vae.extras import require

_EXTENSIONS = [f".{name.lower()}" for name in FORMATS] + [".jpg"]
_MAX_SEED = 2**31 - 1
_CACHE_SECONDS = 3600  # Gradio keeps uploads and pictures on the disk


def serve(name: str | Path, *, host: str = "127.0.0.1", port: int | None = None):
    """Starts the page of a model and returns at once; `app.close()` ends it.

    It talks to nobody but its visitors: no statistics, no fonts or scripts from elsewhere. Anybody
    who reaches the address can use it, so it binds to this machine alone unless told otherwise.

    Args:
        name: Name of a shipped model, path of a model folder, or address on the Hugging Face Hub.
        host: Address to bind to; `"0.0.0.0"` opens the page to the whole network.
        port: A free one, from 7860 on, if not given.

    Returns:
        The `gradio.Blocks`, whose `local_url` is the page's address.

    Raises:
        ImportError: If the `explore` extra is not installed.
        ValueError: If there is no such model, or it is not one of images.
        OSError: If the port is taken.
    """
    gradio = _gradio()
    app = build(Scene.load(name), title=f"{name}: explore")
    app.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        quiet=True,
        enable_monitoring=False,
        footer_links=[],
        show_error=True,
        max_file_size=MAX_BYTES,
        prevent_thread_lock=True,
        # The default theme fetches its fonts.
        theme=gradio.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
    )
    return app


def build(scene: Scene, *, title: str = "explore"):
    """Returns the page, not served yet.

    Args:
        scene: What it shows.
        title: Of the page.
    """
    gradio = _gradio()
    cache = (_CACHE_SECONDS, _CACHE_SECONDS)
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=cache) as app:
        gradio.Markdown(f"# {title}\nExamples are {scene.origin}.")
        for label, fill in (
            ("Sample", _sample_tab),
            ("Reconstruct", _reconstruct_tab),
            ("Latents", _latents_tab),
            ("Interpolate", _interpolate_tab),
            ("Anomaly", _anomaly_tab),
        ):
            with gradio.Tab(label):
                fill(gradio, scene)
    return app


def _gradio():
    # It reads these once, when it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return require("gradio", "explore", "A page to explore needs")


def _sample_tab(gradio, scene):
    number = gradio.Slider(1, 64, 32, step=1, label="images")
    seed = gradio.Number(0, precision=0, minimum=0, maximum=_MAX_SEED, label="seed")
    draw = gradio.Button("Sample", variant="primary")
    picture = _picture(gradio, "samples from the prior", scene.samples(32, 0))
    draw.click(scene.samples, [number, seed], picture, api_name="sample")


def _reconstruct_tab(gradio, scene):
    inputs = _inputs(gradio)
    picture = _picture(gradio, "input, and its reconstruction")
    words = gradio.Textbox(label="in nats", interactive=False)
    _connect(gradio, scene, inputs, scene.reconstruction, [picture, words], "reconstruct")


def _latents_tab(gradio, scene):
    code = gradio.State(scene.start())
    with gradio.Row():
        with gradio.Column():
            example = gradio.Slider(0, len(scene.examples) - 1, 0, step=1, label="example")
            with gradio.Row():
                from_example = gradio.Button("Start from the example")
                from_prior = gradio.Button("Start from the middle of the prior")
            sliders = [
                gradio.Slider(
                    -REACH,
                    REACH,
                    0.0,
                    step=0.1,
                    label=f"latent {latent}: {scene.nats[latent]:.2f} nats",
                    elem_id=f"latent-{latent}",
                )
                for latent in scene.latents
            ]
        with gradio.Column():
            picture = _picture(gradio, "decoded", scene.decoded(scene.start()))
    gradio.Markdown(
        "Sliders are in standard deviations of the prior, the most telling latent first."
    )
    gradio.on(
        [slider.change for slider in sliders],
        scene.decoded,
        [code, *sliders],
        picture,
        show_progress="hidden",
        trigger_mode="always_last",
        api_name="decode",
    )

    def start(example=None):
        code = scene.start(example)
        positions = np.clip(code[scene.latents], -REACH, REACH)
        return code, scene.decoded(code, *positions), *positions.tolist()

    outputs = [code, picture, *sliders]
    from_example.click(start, example, outputs, api_name=False)
    from_prior.click(start, None, outputs, api_name=False)


def _interpolate_tab(gradio, scene):
    last = len(scene.examples) - 1
    first = gradio.Slider(0, last, 0, step=1, label="from example")
    second = gradio.Slider(0, last, min(1, last), step=1, label="to example")
    num_steps = gradio.Slider(2, 32, 16, step=1, label="steps")
    arc = gradio.Checkbox(label="on an arc about the origin")
    inputs = [first, second, num_steps, arc]
    values = [control.value for control in inputs]
    picture = _picture(gradio, "from the first to the second", scene.interpolation(*values))
    gradio.on(
        [control.change for control in inputs],
        scene.interpolation,
        inputs,
        picture,
        show_progress="hidden",
        trigger_mode="always_last",
        api_name="interpolate",
    )


def _anomaly_tab(gradio, scene):
    inputs = _inputs(gradio)
    words = gradio.Textbox(label="verdict", interactive=False)
    figure = gradio.Plot(label="among the examples")
    _connect(gradio, scene, inputs, scene.anomaly, [words, figure], "anomaly")


def _picture(gradio, label, value=None):
    return gradio.Image(value, label=label, format="png", interactive=False, buttons=["download"])


def _inputs(gradio):
    """Places a field for files and a canvas side by side; returns both, and the canvas' button."""
    with gradio.Row():
        upload = gradio.File(label="an image file", file_types=_EXTENSIONS, type="filepath")
        with gradio.Column():
            canvas = gradio.Sketchpad(
                label="or a drawing",
                canvas_size=(280, 280),
                fixed_canvas=True,
                layers=False,
                brush=gradio.Brush(default_size=24, colors=["#000000"], color_mode="fixed"),
                transforms=(),
            )
            button = gradio.Button("Take the drawing", variant="primary")
    return upload, canvas, button


def _connect(gradio, scene, inputs, function, outputs, api_name):
    """Runs a function on each image that is uploaded or drawn."""
    upload, canvas, button = inputs

    def from_file(path):
        return function(image_from_file(path, scene.model))

    def from_drawing(drawing):
        return function(image_from_drawing(drawing and drawing["composite"], scene.model))

    upload.upload(_told(gradio, from_file), upload, outputs, api_name=api_name)
    button.click(_told(gradio, from_drawing), canvas, outputs, api_name=f"{api_name}_drawing")


def _told(gradio, function):
    """Lets a function's errors be shown as they are; Gradio hides those that are not its own."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    return wrapper
