"""Files and folders appear whole or not at all, whatever interrupts the writer."""

import errno
import os
import time

import pytest

from keras_vae.files import atomic_directory, atomic_file, remove_directory


class Interruption(Exception):
    pass


def write(path, content, *, interrupted=False, **options):
    """Writes a file, or a folder of two files, that holds `content`."""
    if path.suffix:
        with atomic_file(path) as temporary:
            temporary.write_text(content)
            if interrupted:
                raise Interruption
    else:
        with atomic_directory(path, **options) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / "one").write_text(content)
            if interrupted:
                raise Interruption
            (temporary / "two").write_text(content)


def read(path):
    if path.suffix:
        return path.read_text()
    (content,) = {(path / "deep" / "one").read_text(), (path / "two").read_text()}
    return content


@pytest.fixture
def as_nobody(tmp_path):
    """Takes away root's right to write anywhere."""
    if os.geteuid():
        mode = tmp_path.stat().st_mode
        tmp_path.chmod(0o555)
        yield
        tmp_path.chmod(mode)
        return
    folders = [folder for folder in tmp_path.parents if folder.stat().st_uid == 0]
    modes = [(folder, folder.stat().st_mode) for folder in (tmp_path, *folders)]
    for folder, mode in modes:
        folder.chmod(mode | 0o555)
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        for folder, mode in modes:
            folder.chmod(mode)


@pytest.fixture
def without_exchange(monkeypatch):
    """Takes away the system's way to let two folders change places."""

    def fail(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("keras_vae.files._exchange", fail)


@pytest.fixture(params=["file.txt", "folder"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_what_is_written_is_there_and_nothing_else(path):
    write(path, "new")
    assert read(path) == "new"
    assert list(path.parent.iterdir()) == [path]


def test_missing_folders_above_are_created(tmp_path):
    for name in ("a/b/file.txt", "c/d/folder"):
        write(tmp_path / name, "new")
        assert read(tmp_path / name) == "new"


def test_the_usual_permissions_are_given(path):
    path.parent.joinpath("usual").mkdir()
    path.parent.joinpath("usual.txt").touch()
    usual = path.parent / f"usual{path.suffix}"
    write(path, "new")
    assert path.stat().st_mode == usual.stat().st_mode


def test_nothing_is_at_the_path_while_it_is_written(tmp_path):
    for context, name in ((atomic_file, "file.txt"), (atomic_directory, "folder")):
        with context(tmp_path / name) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert not (tmp_path / name).exists()
            if context is atomic_file:
                temporary.touch()


def test_an_error_leaves_the_old_as_it_was(path):
    write(path, "old")
    with pytest.raises(Interruption):
        write(path, "new", interrupted=True, overwrite=True)
    assert read(path) == "old"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_takes_the_created_folders_away(tmp_path):
    for name in ("a/b/file.txt", "c/d/folder"):
        with pytest.raises(Interruption):
            write(tmp_path / name, "new", interrupted=True)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_unless_overwrite_is_set(tmp_path):
    path = tmp_path / "folder"
    write(path, "old")
    with pytest.raises(FileExistsError, match="folder"):
        write(path, "new")
    assert read(path) == "old"
    write(path, "new", overwrite=True)
    assert read(path) == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("without_exchange")
def test_an_existing_folder_is_replaced_where_two_cannot_change_places(tmp_path):
    test_an_existing_folder_is_refused_unless_overwrite_is_set(tmp_path)


def test_a_folder_never_replaces_a_file(tmp_path):
    path = tmp_path / "folder"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        write(path, "new", overwrite=True)
    assert path.read_text() == "old"


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(FileExistsError, match="folder"), atomic_directory(path):
        write(path, "other")
    assert read(path) == "other"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize("when", ["syncing", "moving"])
def test_a_full_disk_leaves_the_old_as_it_was(path, monkeypatch, when):
    write(path, "old")
    moving = "replace" if path.suffix else "rename"

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync" if when == "syncing" else moving, fail)
    with pytest.raises(OSError, match="No space left"):
        write(path, "new", overwrite=True)
    assert read(path) == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_fails_while_folders_change_places_leaves_the_old(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write(path, "old")

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("keras_vae.files._exchange", fail)
    with pytest.raises(OSError, match="error"):
        write(path, "new", overwrite=True)
    assert read(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_write_left_is_removed_after_a_day(path):
    mine, theirs = (
        path.parent / f".{path.name}{end}" for end in (".notes.kvae.tmp", ".01234567.tmp")
    )
    young, old = (path.parent / f".{path.name}.0123456{digit}.kvae.tmp" for digit in (7, 8))
    older = path.parent / ".another.01234567.kvae.tmp"  # such as a version that was never finished
    for left in (young, old, older):
        if path.suffix:
            left.touch()
        else:
            (left / "deep").mkdir(parents=True)
            (left / "deep" / "one").touch()
    mine.touch()
    theirs.touch()
    two_days_ago = time.time() - 2 * 86_400
    for entry in (mine, theirs, old, *old.rglob("*"), older, *older.rglob("*")):
        os.utime(entry, (two_days_ago, two_days_ago))
    write(path, "new")
    assert sorted(path.parent.iterdir()) == sorted([path, mine, theirs, young])


def test_through_a_link_the_folder_that_it_leads_to_is_replaced_and_removed(tmp_path):
    real, link = tmp_path / "disk" / "folder", tmp_path / "link"
    write(real, "old")
    link.symlink_to(real)
    write(link, "new", overwrite=True)
    assert read(real) == "new"
    assert link.is_symlink()
    remove_directory(link)
    assert [*tmp_path.rglob("*")] == [real.parent]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_came_meanwhile_is_kept_unless_it_may_be_replaced(
    tmp_path, monkeypatch, has_links
):
    def fail(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if not has_links:
        monkeypatch.setattr(os, "link", fail)
    path = tmp_path / "file.txt"

    def write_ours(meanwhile=None):
        with atomic_file(path, overwrite=False) as temporary:
            temporary.write_text("ours")
            if meanwhile:
                path.write_text(meanwhile)

    with pytest.raises(FileExistsError, match="It exists already"):
        write_ours(meanwhile="theirs")
    assert path.read_text() == "theirs"
    path.unlink()
    write_ours()
    assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_removed_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write(path, "old")
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # killed right here
    remove_directory(path)
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        remove_directory(path)


@pytest.mark.usefixtures("without_exchange")
def test_the_old_folder_returns_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path, rename = tmp_path / "folder", os.rename
    write(path, "old")

    def fail_second_time(source, target):
        if os.fspath(source).endswith(".tmp"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_second_time)
    with pytest.raises(OSError, match="error"):
        write(path, "new", overwrite=True)
    assert read(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_above_is_named(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for name in ("taken/file.txt", "taken/folder", "taken/deep/folder"):
        with pytest.raises(NotADirectoryError, match="taken"):
            write(tmp_path / name, "new")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(path, as_nobody):
    with pytest.raises(PermissionError, match="Cannot write into this folder.*" + path.parent.name):
        write(path, "new")


# A child kills itself at each step in turn: before every call that Python audits (open, mkdir,
# rename, remove and so on) and before every fsync.
KILLED_AT_EVERY_STEP = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from keras_vae.files import atomic_directory, atomic_file

def write(path, content, **options):
    if path.suffix:
        with atomic_file(path) as temporary:
            temporary.write_text(content)
    else:
        with atomic_directory(path, overwrite=True) as temporary:
            for name in ("one", "two"):
                (temporary / name).write_text(content)

def read(path):
    if not path.exists():
        return None
    files = [path / "one", path / "two"] if path.is_dir() else [path]
    (content,) = {file.read_text() for file in files}
    return content

def killed(path, step):
    child = os.fork()
    if child == 0:
        steps = itertools.count()
        fsync = os.fsync
        def count(*_):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
        def counted_fsync(descriptor):
            count()
            fsync(descriptor)
        os.fsync = counted_fsync
        sys.addaudithook(count)
        write(path, "new")
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

for name in ("file.txt", "folder"):
    for old in (None, "old"):
        seen = []
        for step in itertools.count():
            folder = Path(f"{name}-{old}-{step}")
            folder.mkdir()
            path = folder / name
            if old:
                write(path, old)
            was_killed = killed(path, step)
            seen.append(read(path))
            if not was_killed:
                break
        print(name, old, step, *sorted(set(map(str, seen))))
"""


def test_kill_at_any_moment_leaves_the_old_or_the_new_whole(run_python):
    lines = [line.split() for line in run_python(KILLED_AT_EVERY_STEP).splitlines()]
    assert len(lines) == 4
    for _name, old, steps, *seen in lines:
        assert seen == sorted([old, "new"])
        assert int(steps) > 5
