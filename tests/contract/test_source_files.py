"""Source files: a regular file is read completely if it does not change; other files are refused at once with their kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offloop.errors import InvalidTask
from offloop.runtime.files.source_files import file_nbytes, read_file_head, read_file_into
from offloop.runtime.memory.segments import Segment


@pytest.fixture
def segment() -> Iterator[Segment]:
    segment = Segment(1 << 20, workers_write=False)
    segment.reserve_pages(0, 1 << 20)
    yield segment
    segment.close()


def test_a_file_is_read_from_its_start(tmp_path: Path, segment: Segment) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdefgh")
    assert file_nbytes(str(path)) == 8
    head = read_file_head(str(path), 3)
    assert (head.nbytes, bytes(head.data)) == (8, b"abc")
    assert bytes(read_file_head(str(path), 1 << 40).data) == b"abcdefgh"
    read_file_into(str(path), segment, 100, 8)
    assert segment.read(99, 10) == b"\0abcdefgh\0"


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert file_nbytes(str(tmp_path / "file")) == 0


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


MADE: list[tuple[Callable[[Path], Any], str]] = [
    (fifo, "is a FIFO, and not a regular file"),
    (unix_socket, "is a socket, and not"),
    (Path.mkdir, "is a directory, and not"),
    (loop, "Too many levels of symbolic links"),
    (dangling, "No such file"),
]
NAMED = [
    ("/dev/null", "is a character device, and not"),
    ("/proc/self/status", "has contents but no size, as in /proc"),
    ("a\0b", "embedded null"),
    ("\ud800", "surrogates not allowed"),
    ("/" + "n" * 256, "File name too long"),
    ("/" + "p/" * 5000, "File name too long"),
    ("/etc/passwd/x", "Not a directory"),
]


def refused(path: str, reason: str, segment: Segment) -> None:
    for read in (lambda: file_nbytes(path), lambda: read_file_head(path, 9), lambda: read_file_into(path, segment, 0, 9)):
        with pytest.raises(InvalidTask, match=reason) as caught:
            read()
        assert repr(path) in str(caught.value)
        assert caught.value.public_message == "the source cannot be read"


@pytest.mark.parametrize(("make", "reason"), MADE)
def test_a_file_that_is_not_regular_is_refused_by_each_reader(
    tmp_path: Path, segment: Segment, make: Callable[[Path], Any], reason: str
) -> None:
    make(tmp_path / "it")
    refused(str(tmp_path / "it"), reason, segment)


@pytest.mark.parametrize(("path", "reason"), NAMED)
def test_a_path_that_names_no_regular_file_is_refused_by_each_reader(path: str, reason: str, segment: Segment) -> None:
    refused(path, reason, segment)


class ChangingSegment(Segment):
    """A segment that changes the file while it is read."""

    meddle: Callable[[], object]

    def read_in(self, descriptor: int, offset: int, nbytes: int, is_wanted: Callable[[], bool] = lambda: True) -> int:
        count = super().read_in(descriptor, offset, nbytes, is_wanted)
        self.meddle()
        return count


@pytest.mark.parametrize("data", [b"abcdefghi", b"abc", b""], ids=["grown", "shrunk", "emptied"])
def test_a_file_whose_size_has_changed_is_refused(tmp_path: Path, segment: Segment, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(InvalidTask, match="was changed while it was read"):
        read_file_into(str(path), segment, 0, 8)


@pytest.mark.parametrize("data", [b"abcdefghi", b"abc", b"ABCDEFGH"], ids=["grown", "shrunk", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdefgh")
    os.utime(path, (1, 1))
    segment = ChangingSegment(1 << 16, workers_write=False)
    segment.reserve_pages(0, 1 << 16)
    segment.meddle = lambda: path.write_bytes(data)
    with pytest.raises(InvalidTask, match="was changed while it was read"):
        read_file_into(str(path), segment, 0, 8)
    segment.close()
