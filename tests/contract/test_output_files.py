"""Output files: complete under their name or absent, with the mode of the replaced file, and without temporary files."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offloop.errors import InvalidTask, OffloopError, TaskFailed
from offloop.runtime.files import output_files
from offloop.runtime.files.output_files import OutputFile, destination_path


@pytest.fixture(params=["unnamed", "named"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """File systems with files without a name (O_TMPFILE), and without."""
    if request.param == "named":
        monkeypatch.setattr(output_files, "_UNNAMED", os.O_WRONLY | os.O_CLOEXEC)  # of a directory: EISDIR, as there
    before = os.umask(0o027)
    yield request.param
    os.umask(before)


def written(path: Path, data: bytes = b"new") -> OutputFile:
    output = OutputFile(str(path))
    output.check()
    assert output.open() is None
    os.write(output.descriptor, data)
    return output


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_its_name_only_when_it_is_published_and_a_mode_by_the_umask(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    output = written(path)
    names = [entry.name for entry in tmp_path.iterdir()]
    assert names == [] if kind == "unnamed" else (len(names) == 1 and names[0].startswith(".offloop-"))
    output.publish(3)
    output.discard()
    assert [*tmp_path.iterdir()] == [path]
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o640)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666, 0o755, 0o400])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path, other = tmp_path / "file", tmp_path / "hard link"
    path.write_bytes(b"old")
    path.chmod(mode)
    os.link(path, other)
    output = written(path)
    assert path.read_bytes() == b"old"
    output.publish(3)
    assert (path.read_bytes(), mode_of(path), other.read_bytes()) == (b"new", mode, b"old")
    assert {*tmp_path.iterdir()} == {path, other}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.usefixtures("kind")
def test_a_file_that_is_replaced_keeps_its_owner_where_the_server_may_give_it_away(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    path.chmod(0o6750)
    written(path).publish(3)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 23456, 0o6750)


def test_a_file_whose_owner_cannot_be_kept_loses_its_setuid_and_setgid_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o6755)
    monkeypatch.setattr(os, "fchown", refuse)
    written(path).publish(3)
    assert mode_of(path) == 0o755


@pytest.mark.usefixtures("kind")
def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link, dangling, loop = (tmp_path / name for name in ("target", "link", "dangling", "loop"))
    target.write_bytes(b"old")
    target.chmod(0o600)
    for path, to in ((link, target), (dangling, "nowhere"), (loop, loop)):
        path.symlink_to(to)
        written(path).publish(3)
        assert not path.is_symlink()
        assert (path.read_bytes(), mode_of(path)) == (b"new", 0o640)
    assert target.read_bytes() == b"old"


@pytest.mark.usefixtures("kind")
def test_a_file_that_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    output = written(tmp_path / "file")
    output.discard()
    assert [*tmp_path.iterdir()] == []
    assert output.open() is None, "its task is over: nothing is opened, and nothing is an error"
    assert [*tmp_path.iterdir()] == []


@pytest.mark.usefixtures("kind")
def test_a_file_that_is_opened_again_is_another_one(tmp_path: Path) -> None:
    output = written(tmp_path / "file", b"from a worker that died")
    assert output.open() is None
    os.write(output.descriptor, b"new")
    output.publish(3)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


@pytest.mark.usefixtures("kind")
def test_a_file_that_is_not_as_long_as_the_worker_says_is_not_published(tmp_path: Path) -> None:
    output = written(tmp_path / "file")
    with pytest.raises(TaskFailed, match="wrote 3 bytes, and said 4") as caught:
        output.publish(4)
    assert caught.value.code == "cannot_write"
    assert [*tmp_path.iterdir()] == []


@pytest.mark.usefixtures("kind")
def test_a_directory_that_was_created_under_the_name_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    output = written(tmp_path / "file")
    (tmp_path / "file").mkdir()
    with pytest.raises(OffloopError, match="directory"):
        output.publish(3)
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


@pytest.mark.usefixtures("kind")
def test_many_writers_of_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    outputs = [written(path, bytes([number]) * 1000) for number in range(16)]
    threads = [threading.Thread(target=output.publish, args=(1000,)) for output in outputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*tmp_path.iterdir()] == [path]
    assert (len(path.read_bytes()), len(set(path.read_bytes()))) == (1000, 1)


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("/", "names a directory"),
        ("", "names a directory"),
        (".", "names a directory"),
        ("a/..", "names a directory"),
        ("a/", "names a directory"),
        ("a\0b", "NUL"),
        ("a\ud800", "surrogates not allowed"),
        (3, "not int"),
        (None, "not NoneType"),
    ],
    ids=repr,
)
def test_an_invalid_path_is_refused(to: Any, reason: str) -> None:
    with pytest.raises(InvalidTask, match=reason) as caught:
        destination_path(to)
    assert caught.value.public_message == "the result cannot be written"


def test_a_path_becomes_absolute_and_is_not_normalized() -> None:
    class Where:
        def __fspath__(self) -> bytes:
            return b"/x/\xff"

    assert destination_path("link/../b") == os.path.join(os.getcwd(), "link/../b")
    assert destination_path(Path("/a/b")) == "/a/b"
    assert destination_path(Where()) == "/x/\udcff"  # type: ignore[arg-type]


def test_a_relative_path_in_a_directory_that_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidTask, match="No such file"):
        destination_path("file")


def checked(path: Path | str) -> OffloopError:
    with pytest.raises(OffloopError) as caught:
        OutputFile(str(path)).check()
    return caught.value


def test_a_path_where_no_file_can_be_written_is_refused_before_the_task_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path in ("missing/x", "file/x", "loop/x", "n" * 256, "p/" * 5000 + "x"):
        error = checked(tmp_path / path)
        assert isinstance(error, TaskFailed)
        assert error.code == "cannot_write"


def test_a_file_that_is_not_regular_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "fifo", tmp_path / "directory", Path("/dev/null")):
        assert isinstance(checked(path), InvalidTask)
        error = OutputFile(str(path)).open()
        assert isinstance(error, InvalidTask)
        assert "is there; give the path of a regular file" in str(error)


def test_a_file_system_that_refuses_a_new_file_is_an_error_of_open() -> None:
    error = OutputFile("/proc/self/x").open()
    assert isinstance(error, TaskFailed)
    assert error.code == "cannot_write"
