"""A folder of checkpoints: what is written can be read, and what is damaged is passed over."""

import errno
import logging
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from keras_vae.checkpoints import Checkpoint, CheckpointFolder


def checkpoint(number):
    return Checkpoint(number, {"weight": np.full(3, number, np.float32)}, {"epoch": number})


def test_what_is_written_is_read_to_the_bit(tmp_path):
    arrays = {
        "float32": np.array([1 / 3, np.nan, -np.inf], np.float32),
        "int64": np.array(2**60 + 1),
        "bfloat16": np.array([1 / 3, 2.0], ml_dtypes.bfloat16),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 2), np.float16),
    }
    state = {"epoch": 3, "best": None, "history": [{"loss": 0.1 + 0.2}]}
    folder = CheckpointFolder(tmp_path / "new")
    folder.write(Checkpoint(5, arrays, state))
    read = folder.read()
    assert (read.number, read.state) == (5, state)
    assert read.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read.arrays[name].dtype == array.dtype
        assert read.arrays[name].shape == array.shape
        assert read.arrays[name].tobytes() == array.tobytes()


def test_the_newest_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for number in (9, 10, 11):
        folder.write(checkpoint(number))
    assert len(list(tmp_path.iterdir())) == 2
    assert folder.read().number == 11


def test_an_empty_folder_holds_none(tmp_path):
    assert CheckpointFolder(tmp_path / "nowhere").read() is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    folder = CheckpointFolder(tmp_path)
    folder.write(checkpoint(1))
    path = folder.write(checkpoint(2))
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(2).tobytes())] ^= 1
    path.write_bytes({"cut": content[:-30], "flipped": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert folder.read().number == 1
    assert "checkpoint-000000000002.npz cannot be read" in caplog.text
    folder.tidy()
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npz", ".unreadable"]


def test_if_none_can_be_read_all_stay(tmp_path):
    folder = CheckpointFolder(tmp_path)
    paths = [folder.write(checkpoint(number)) for number in (1, 2)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="None of the 2 checkpoints"):
        folder.read()
    folder.tidy()
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_disk_that_does_not_answer_makes_no_checkpoint_unreadable(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    paths = [folder.write(checkpoint(number)) for number in (1, 2)]
    usual = Path.open

    def stale(path, *arguments):
        if path == paths[1]:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return usual(path, *arguments)

    monkeypatch.setattr(Path, "open", stale)
    assert folder.read().number == 1
    folder.tidy()
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_flipped_bit_anywhere_in_the_archive_is_passed_over_or_does_no_harm(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.write(checkpoint(1))
    path = folder.write(checkpoint(2))
    content = path.read_bytes()
    expected = folder.read()
    fell_back = 0
    for position in range(len(content)):
        for bit in (0, 3, 6):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            found = folder.read()
            fell_back += found.number == 1
            if found.number == 2:
                assert found.state == expected.state
                for name, array in expected.arrays.items():
                    np.testing.assert_array_equal(found.arrays[name], array)
    assert fell_back > len(content)


def test_if_none_can_be_read_it_says_so(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.write(checkpoint(1)).write_bytes(b"")
    with pytest.raises(ValueError, match="None of the 1 checkpoints"):
        folder.read()


def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    folder.write(checkpoint(1))

    def full(file, **arrays):
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            folder.write(checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000000001.npz"]
    assert folder.read().number == 1


def test_what_another_process_is_writing_is_left_to_it(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.write(checkpoint(1))
    draft = tmp_path / ".checkpoint-000000000002.npz.0123abcd.kvae.tmp"
    draft.write_bytes(b"half")
    folder.tidy()
    assert folder.read().number == 1
    assert draft.exists()
