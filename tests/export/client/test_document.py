"""docs/serving.md against the code; run as a module, this writes its generated parts anew."""

import contextlib
import json
import re
import tempfile
from pathlib import Path

import numpy as np

from keras_vae import DenseVAE
from keras_vae.distributions import SharedScaleNormal
from keras_vae.export.signatures import PARTS, signatures
from tests.export.client.stand_in import Refusal, StandIn

DOCUMENT = Path(__file__).parents[3] / "docs" / "serving.md"
REQUESTS = {
    "status": ("", None),
    "decode": (
        ":predict",
        {"signature_name": "decode", "inputs": {"z": [[0.0, 0.0], [1.0, -1.0]]}},
    ),
    "decode-rows": (
        ":predict",
        {"signature_name": "decode", "instances": [{"z": [0.0, 0.0]}, {"z": [1.0, -1.0]}]},
    ),
    "encode": (
        ":predict",
        {"signature_name": "encode", "instances": [{"image": [[[0.0], [1.0]], [[1.0], [0.0]]]}]},
    ),
    "score": (
        ":predict",
        {"signature_name": "score", "inputs": {"image": [[[[0.0], [1.0]], [[1.0], [0.0]]]]}},
    ),
    "sample": (
        ":predict",
        {"signature_name": "sample", "inputs": {"num_samples": 1, "seed": [7, 0]}},
    ),
    "label": ("/versions/1", None),
    "no-signature": (":predict", {"signature_name": "draw", "inputs": {"z": [[0.0, 0.0]]}}),
    "no-version": ("/versions/9:predict", {"inputs": {"z": [[0.0, 0.0]]}}),
}


def curl(server, what, body):
    """Returns a request as one types it, and what the stand-in answers to it."""
    path = f"/v1/models/tiny{what}"
    try:
        answer = server.answer("GET" if body is None else "POST", path, body)
    except Refusal as refusal:
        answer = {"error": refusal.said}
    data = "" if body is None else f"-d '{json.dumps(body)}' \\\n    "
    command = f"$ curl {data}http://localhost:8501{path}"
    return f"```console\n{command}\n{json.dumps(answer)}\n```"


def signature_table():
    """Returns what `signatures` offers, in Markdown; sizes that no shape has stand for names."""
    settings = {"event_shape": (5, 6, 1), "latent_dim": 3, "hidden_units": (4,)}
    plain, normal = DenseVAE(**settings), DenseVAE(**settings, likelihood=SharedScaleNormal())
    names = {(None, 5, 6, 1): "(batch, *event_shape)", (None, 3): "(batch, latent_dim)"}
    names |= {(None,): "(batch,)"}

    def show(specs):
        shapes = [names.get(tuple(spec.shape), tuple(spec.shape)) for spec in specs]
        return [
            f"`{spec.name}` {spec.dtype.name} `{shape}`"
            for spec, shape in zip(specs, shapes, strict=True)
        ]

    lines = ["| part | signature | inputs | outputs |", "|---|---|---|---|"]
    for part in PARTS:
        offers = zip(signatures(plain, part), signatures(normal, part), strict=True)
        for i, (always, scaled) in enumerate(offers):
            name = f"`{always.name}`" + (" = `serving_default`" if i == 0 else "")
            outputs = show(always.outputs)
            more = (output for output in show(scaled.outputs) if output not in outputs)
            outputs += [f"{output} if the likelihood is a normal" for output in more]
            cells = part, name, ", ".join(show(always.inputs)), ", ".join(outputs)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def python_blocks():
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@contextlib.contextmanager
def documented_server():
    """Runs the stand-in with the model of the document's first example."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(compile(python_blocks()[0], DOCUMENT, "exec"), {})
        stand_in = StandIn()
        try:
            stand_in.load("tiny", Path("models/tiny/1"))
            stand_in.labels = {"tiny": {"stable": 1}}
            yield stand_in
        finally:
            stand_in.close()


def document(server):
    """Returns docs/serving.md with its generated parts made anew."""
    blocks = {name: curl(server, *request) for name, request in REQUESTS.items()}
    blocks["signatures"] = signature_table()
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def test_the_document_shows_what_is_offered_asked_and_answered():
    with documented_server() as server:
        expected = document(server)
        client_example = python_blocks()[1].replace("http://localhost:8501", server.url)
        exec(compile(client_example, DOCUMENT, "exec"), {})
    number = r"-?\d+\.\d+(?:e-?\d+)?"
    found = DOCUMENT.read_text(encoding="utf-8")
    mend = "docs/serving.md is stale; write it anew: python -m tests.export.client.test_document"
    assert re.sub(number, "0.0", found) == re.sub(number, "0.0", expected), mend
    values = [[float(value) for value in re.findall(number, text)] for text in (found, expected)]
    # Other processors add in another order.
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5, err_msg=mend)


if __name__ == "__main__":
    with documented_server() as running_server:
        DOCUMENT.write_text(document(running_server), encoding="utf-8")
