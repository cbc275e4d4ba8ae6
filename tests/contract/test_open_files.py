"""Open source files: what is kept of a file, when its descriptor is closed, and which changes are noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from open_descriptors import descriptors

from offloop.errors import InvalidTask, PoolClosed
from offloop.runtime.files.open_files import FileAllowances, TaskFiles
from offloop.runtime.memory.segments import Segment, digest_of
from offloop.runtime.memory.source_file import SourceFile

KIB, MIB = 1 << 10, 1 << 20
CONTENTS = os.urandom(3 * MIB + 5)


@pytest.fixture
def segment() -> Iterator[Segment]:
    segment = Segment(16 * MIB, workers_write=False)
    yield segment
    segment.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENTS)
    os.utime(path, (1, 1))
    return path


def opened(files: TaskFiles, path: Path, head_nbytes: int = 100) -> SourceFile:
    head, file = files.open(str(path), head_nbytes)
    assert (head.nbytes, bytes(head.data)) == (len(CONTENTS), CONTENTS[:head_nbytes])
    assert isinstance(file, SourceFile)
    assert file.nbytes == len(CONTENTS)
    return file


def test_a_file_is_read_as_often_as_it_is_needed_and_closed_with_its_task(path: Path, segment: Segment) -> None:
    files = TaskFiles(FileAllowances())
    file = opened(files, path)
    assert descriptors(path) == 1
    for offset in (0, 7 * MIB, 7 * MIB):  # onto fresh pages, and onto those that were filled
        file.read_into(segment, offset)
        assert segment.read(offset, len(CONTENTS)) == CONTENTS
    assert digest_of(file.pieces()) == digest_of([memoryview(CONTENTS)])
    for _ in range(2):
        files.close()
        assert descriptors(path) == 0
    with pytest.raises(PoolClosed):
        file.read_into(segment, 0)


def test_a_file_that_is_held_is_closed_when_it_is_released(path: Path, segment: Segment) -> None:
    files = TaskFiles(FileAllowances())
    file = opened(files, path)
    assert file.hold()
    files.close()
    assert descriptors(path) == 1
    file.read_into(segment, 0)
    file.release()
    assert descriptors(path) == 0
    assert not file.hold()


def test_a_file_that_is_forgotten_is_closed(path: Path) -> None:
    opened(TaskFiles(FileAllowances()), path)
    assert descriptors(path) == 0


def test_a_reading_ends_when_it_is_not_wanted_any_more(path: Path, segment: Segment) -> None:
    files = TaskFiles(FileAllowances())
    pieces: list[None] = []

    def is_wanted() -> bool:
        pieces.append(None)
        return len(pieces) < 3

    opened(files, path).read_into(segment, 0, is_wanted)
    read = segment.read(0, len(CONTENTS))
    assert 0 < len(read.rstrip(b"\0")) < len(CONTENTS)
    assert CONTENTS.startswith(read.rstrip(b"\0"))
    files.close()


@pytest.mark.parametrize("data", [CONTENTS + b"x", CONTENTS[:-1], b"", CONTENTS[::-1]], ids=["grown", "cut", "empty", "new"])
def test_a_file_that_has_changed_is_refused_by_each_reading(path: Path, segment: Segment, data: bytes) -> None:
    files = TaskFiles(FileAllowances())
    file = opened(files, path)
    path.write_bytes(data)
    with pytest.raises(InvalidTask, match="was changed before its task had ended") as caught:
        file.read_into(segment, 0)
    assert caught.value.public_message == "the source cannot be read"
    with pytest.raises(InvalidTask, match="was changed"):
        digest_of(file.pieces())
    files.close()
    assert descriptors(path) == 0


class ChangingSegment(Segment):
    """A segment that changes the file after its first piece was read."""

    path: Path
    data: bytes

    def write(self, offset: int, data: memoryview) -> None:
        super().write(offset, data)
        self.path.write_bytes(self.data)


@pytest.mark.parametrize("data", [CONTENTS[: MIB // 2], CONTENTS[::-1]], ids=["cut", "new"])
def test_a_file_that_changes_while_it_is_read_is_refused(path: Path, data: bytes) -> None:
    files = TaskFiles(FileAllowances())
    segment = ChangingSegment(16 * MIB, workers_write=False)
    segment.path, segment.data = path, data
    with pytest.raises(InvalidTask, match="was changed"):
        opened(files, path).read_into(segment, 0)
    files.close()
    segment.close()


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_whose_name_is_removed_or_given_to_another_one_stays_the_source(
    path: Path, segment: Segment, replace: bool
) -> None:
    files = TaskFiles(FileAllowances())
    file = opened(files, path)
    if replace:
        (path.parent / "other").write_bytes(b"other")
        (path.parent / "other").rename(path)
    else:
        path.unlink()
    file.read_into(segment, 0)
    assert segment.read(0, len(CONTENTS)) == CONTENTS
    files.close()


def test_a_file_that_cannot_be_read_is_an_error_of_its_task(path: Path, segment: Segment) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    file = SourceFile(str(path), descriptor, os.fstat(descriptor), lambda: None)
    for read in (lambda: file.read_into(segment, 0), lambda: digest_of(file.pieces())):
        with pytest.raises(InvalidTask, match="cannot be read: Bad file descriptor") as caught:
            read()
        assert caught.value.public_message == "the source cannot be read"
    file.close()


def test_a_short_file_is_kept_as_bytes(path: Path) -> None:
    files = TaskFiles(FileAllowances())
    for data in (b"", b"short", bytes(100)):
        path.write_bytes(data)
        head, kept = files.open(str(path), 100)
        assert (head.nbytes, kept) == (len(data), memoryview(data))
        assert descriptors(path) == 0
    path.write_bytes(bytes(101))
    assert isinstance(files.open(str(path), 100)[1], SourceFile)
    files.close()


def test_too_many_short_files_are_kept_open_and_too_many_open_files_are_not_kept(path: Path) -> None:
    allowances = FileAllowances()
    allowances.contents_nbytes.left, allowances.files.left = 10, 2
    path.write_bytes(b"contents")
    tasks = [TaskFiles(allowances) for _ in range(4)]
    kept = [files.open(str(path), 100)[1] for files in tasks]
    assert [type(each) for each in kept] == [memoryview, SourceFile, SourceFile, type(None)]
    assert descriptors(path) == 2
    for files in tasks:
        files.close()
    assert descriptors(path) == 0
    assert (allowances.contents_nbytes.left, allowances.files.left) == (10, 2)


def test_only_so_many_bytes_are_read_ahead(path: Path) -> None:
    allowances = FileAllowances()
    before = allowances.ahead_nbytes.left = 2 * len(CONTENTS)
    tasks = [TaskFiles(allowances) for _ in range(3)]
    for files in tasks:
        opened(files, path)
    assert allowances.ahead_nbytes.left == 0
    for files in tasks:
        files.close()
    assert allowances.ahead_nbytes.left == before


def test_a_file_that_is_opened_when_its_task_has_ended_is_not_kept(path: Path) -> None:
    allowances = FileAllowances()
    before = (allowances.contents_nbytes.left, allowances.files.left)
    files = TaskFiles(allowances)
    files.close()
    for head_nbytes in (100, len(CONTENTS)):
        assert files.open(str(path), head_nbytes)[1] is None
    assert descriptors(path) == 0
    assert (allowances.contents_nbytes.left, allowances.files.left) == before


def test_a_path_that_is_no_regular_file_is_refused_and_leaves_no_descriptor(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("fifo", "nothing", "."):
        with pytest.raises(InvalidTask):
            TaskFiles(FileAllowances()).open(str(tmp_path / name), 100)
    assert len(os.listdir("/proc/self/fd")) == before
