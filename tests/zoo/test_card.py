"""The table of shipped models in README.md, against what generates it."""

from pathlib import Path

from keras_vae import zoo
from keras_vae.zoo.card import insert_model_table

README = Path(__file__).parents[2] / "README.md"


def test_the_table_of_the_readme_is_what_the_results_generate():
    text = README.read_text(encoding="utf-8")
    assert insert_model_table(text) == text, "stale: run `make cards`"


def test_all_but_the_table_stays_as_it_is():
    text = "before\n<!-- models -->\nold\n<!-- /models -->\nafter\n"
    table = insert_model_table(text)
    assert table.startswith("before\n<!-- models -->\n| name |")
    assert table.endswith("|\n<!-- /models -->\nafter\n")
    assert "old" not in table
    assert table.count("[`") == len(zoo.list_models())
