import json

import pytest

from benchmarks.results import Results


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


def test_a_file_says_with_what_it_was_measured(tmp_path):
    results = Results("table", {"sizes": (1, 2)}, tmp_path)
    results.measure("row", dict)
    content = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert content["protocol"] == {"sizes": [1, 2]}
    assert content["versions"]["tensorflow"]
    # Tuples come back as lists, and are the same protocol all the same.
    assert list(Results("table", {"sizes": (1, 2)}, tmp_path).rows) == ["row"]
