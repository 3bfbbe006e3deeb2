import json

import pytest

from benchmarks.results import Results, read


def test_a_row_is_measured_once_and_written_at_once(tmp_path):
    results = Results("table", {"epochs": 2}, tmp_path)
    assert results.measure("first", lambda: {"score": 0.5}) == {"score": 0.5}
    with pytest.raises(ZeroDivisionError):
        results.measure("second", lambda: {"score": 1 / 0})
    again = Results("table", {"epochs": 2}, tmp_path)
    assert again.measure("first", lambda: pytest.fail("measured again")) == {"score": 0.5}
    assert list(again.rows) == ["first"]


def test_rows_of_another_protocol_do_not_count(tmp_path):
    Results("table", {"epochs": 2}, tmp_path).measure("row", lambda: {"score": 0.5})
    other = Results("table", {"epochs": 3}, tmp_path)
    assert other.measure("row", lambda: {"score": 0.75}) == {"score": 0.75}


@pytest.mark.parametrize("elsewhere", ["_processor", "version"])
def test_rows_of_another_machine_or_other_versions_do_not_count(tmp_path, monkeypatch, elsewhere):
    monkeypatch.setattr(f"benchmarks.results.{elsewhere}", lambda *_: "another")
    Results("table", {}, tmp_path).measure("row", lambda: {"seconds": 2.0})
    monkeypatch.undo()
    here = Results("table", {}, tmp_path)
    assert here.measure("row", lambda: {"seconds": 1.0}) == {"seconds": 1.0}


def test_rows_are_measured_again_on_demand(tmp_path):
    Results("table", {}, tmp_path).measure("row", lambda: {"score": 0.5})
    again = Results("table", {}, tmp_path, again=True)
    assert read("table", tmp_path)["rows"] == {"row": {"score": 0.5}}  # until there are others
    again.measure("row", lambda: {"score": 0.75})
    assert read("table", tmp_path)["rows"] == {"row": {"score": 0.75}}


def test_tables_lie_side_by_side_in_one_file(tmp_path):
    tables = [Results(name, {}, tmp_path) for name in ("second", "first")]
    for table in tables:
        table.measure("row", lambda table=table: {"name": table.name})
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(written) == ["first", "second"]
    assert all(content["rows"]["row"]["name"] == name for name, content in written.items())


def test_a_table_says_with_what_it_was_measured(tmp_path):
    results = Results("table", {"sizes": (1, 2)}, tmp_path)
    results.measure("row", dict)
    content = read("table", tmp_path)
    assert content["protocol"] == {"sizes": [1, 2]}
    assert content["versions"]["tensorflow"]
    # Tuples come back as lists, and are the same protocol all the same.
    assert list(Results("table", {"sizes": (1, 2)}, tmp_path).rows) == ["row"]
