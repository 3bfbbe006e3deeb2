"""Every shipped model in every part and format, by the one command that users have for it."""

import json

import pytest
from click.testing import CliRunner

from keras_vae import zoo
from keras_vae.cli import main
from keras_vae.export.proof import TOLERANCES


@pytest.mark.parametrize("part", ["decoder", "encoder", "vae"])
@pytest.mark.parametrize("name", zoo.list_models())
def test_a_shipped_model_is_exported_and_proved(name, part, tmp_path):
    arguments = ["export", name, "--part", part, "--format", ",".join(TOLERANCES), "--json"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for format, row in zip(TOLERANCES, json.loads(result.stdout), strict=True):
        # Per unit of the value, and the KL divergence of a shipped model is at most some hundred.
        assert row["largest_difference"] <= 300 * TOLERANCES[format]
