"""Types of sources that a user may pass, and the errors for other types."""

from __future__ import annotations

import array
import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offloop.client.sources import ArrayObject, Bytes, File, Samples, classify, samples_of
from offloop.errors import InvalidTask


class WithInterface:
    """An object with the array interface and without the buffer protocol, like Pillow's."""

    def __init__(self, **interface: Any) -> None:
        self.__array_interface__ = interface


def picture(**changes: Any) -> WithInterface:
    return WithInterface(**{"shape": (1, 2, 3), "typestr": "|u1", "data": b"123456", "version": 3, **changes})


def samples(source: Any) -> Samples:
    """Returns the samples of a source with an array interface."""
    classified = classify(source)
    if isinstance(classified, ArrayObject):
        classified = samples_of(classified)
    assert isinstance(classified, Samples)
    return classified


def flat(source: Any) -> tuple[memoryview, bytes]:
    classified = classify(source)
    assert isinstance(classified, Bytes)
    view = classified.data
    assert (view.ndim, view.format, view.contiguous) == (1, "B", True)
    return view, bytes(view)


@pytest.mark.parametrize(
    "source",
    [
        b"abcd",
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(b"abcdefgh")[:4],
        array.array("B", b"abcd"),
        (ctypes.c_ubyte * 4)(*b"abcd"),
        memoryview(b"abcd").cast("B", (2, 2)),
    ],
    ids=lambda source: type(source).__name__,
)
def test_bytes_like_objects_are_bytes_in_place(source: Any) -> None:
    view, data = flat(source)
    assert data == b"abcd"
    assert view.nbytes == 4


def test_contiguous_memory_is_not_copied() -> None:
    data = bytearray(b"abcd")
    view, _ = flat(data)
    data[0] = ord("x")
    assert bytes(view) == b"xbcd"


def test_the_length_of_wider_items_is_in_bytes() -> None:
    assert flat(array.array("d", [1.0, 2.0]))[0].nbytes == 16


@pytest.mark.parametrize("view", [memoryview(b"abcdef")[::2], memoryview(b"abc")[::-1]], ids=["gaps", "backwards"])
def test_a_view_with_gaps_is_not_copied_yet(view: memoryview) -> None:
    classified = classify(view)
    assert isinstance(classified, Bytes)
    assert (classified.data.strides, classified.nbytes) == (view.strides, 3)


@pytest.mark.parametrize(
    ("source", "private"),
    [
        (b"abc", True),
        (bytearray(b"abc"), True),
        (memoryview(b"abc")[1:], True),
        (np.zeros((2, 2), "u1"), True),
        (np.zeros((4, 4), "u1")[1:, ::2].T, True),
        (np.frombuffer(b"abc", "u1"), True),
        (mmap.mmap(-1, 4), False),
        (memoryview(mmap.mmap(-1, 4))[1:], False),
        (np.frombuffer(mmap.mmap(-1, 4), "u1")[::2], False),
        (array.array("B", b"abc"), False),
        ((ctypes.c_ubyte * 4).from_buffer(mmap.mmap(-1, 4)), False),
    ],
)
def test_memory_is_private_only_if_that_is_known(source: Any, private: bool) -> None:
    classified = classify(source)
    assert isinstance(classified, Bytes | Samples)
    assert classified.private is private


@pytest.mark.parametrize(
    "empty", [b"", bytearray(), memoryview(b""), memoryview(b"abc")[:0]], ids=["bytes", "bytearray", "memoryview", "slice"]
)
def test_empty_bytes_are_a_source(empty: Any) -> None:
    assert flat(empty)[0].nbytes == 0


def test_a_mapped_file_is_bytes() -> None:
    with mmap.mmap(-1, 10) as mapped:
        view, data = flat(mapped)
        assert data == bytes(10)
        view.release()


def test_paths_are_files_and_become_absolute() -> None:
    assert classify(Path("a/b.jpg")) == File(os.path.join(os.getcwd(), "a/b.jpg"))


def test_a_path_is_not_normalized_because_a_directory_may_be_a_symbolic_link() -> None:
    assert classify(Path("/link/../b.jpg")) == File("/link/../b.jpg")


def test_a_str_is_refused_and_the_message_names_the_path_class() -> None:
    with pytest.raises(InvalidTask, match=r"a str is no source: give pathlib\.Path\(\.\.\.\)"):
        classify("/etc/passwd")


def test_a_relative_path_in_a_removed_working_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidTask, match="no path that can be read"):
        classify(Path("a.jpg"))


def test_an_object_whose_path_is_no_path_is_refused() -> None:
    class Where:
        def __fspath__(self) -> Any:
            return 5

    with pytest.raises(InvalidTask, match="no path that can be read"):
        classify(Where())


def test_any_path_like_object_is_a_file() -> None:
    class Where:
        def __fspath__(self) -> bytes:
            return b"/x/\xff"

    assert classify(Where()) == File(os.fsdecode(b"/x/\xff"))


@pytest.mark.parametrize("dtype", ["|u1", "|i1", "<u2", ">u2", "<f2", "<f4", ">f4", "<f8", "|b1", "<c8"])
def test_arrays_of_numbers_are_samples(dtype: str) -> None:
    samples = np.arange(24).reshape(2, 4, 3).astype(dtype)
    classified = classify(samples)
    assert isinstance(classified, Samples)
    assert (classified.shape, classified.dtype) == ((2, 4, 3), samples.dtype.str)
    assert (classified.data.ndim, classified.data.format) == (1, "B")
    assert bytes(classified.data) == samples.tobytes()


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 2, 3, 1), (1,) * 8, (0, 4), (4, 0, 3), (2, 2, 0), (0,)], ids=str)
def test_an_array_of_any_shape_keeps_it(shape: tuple[int, ...]) -> None:
    classified = classify(np.zeros(shape, "u1"))
    assert isinstance(classified, Samples)
    assert classified.shape == shape


@pytest.mark.parametrize("view", ["transposed", "fortran", "strided", "flipped"])
def test_an_array_in_another_order_is_not_copied_yet(view: str) -> None:
    whole = np.arange(48, dtype="u2").reshape(4, 4, 3)
    views = {
        "transposed": whole.transpose(1, 0, 2),
        "fortran": np.asfortranarray(whole),
        "strided": whole[::2, 1:],
        "flipped": whole[::-1],
    }
    classified = classify(views[view])
    assert isinstance(classified, Samples)
    assert (classified.data.strides, classified.data.nbytes) == (views[view].strides, views[view].nbytes)


def test_an_array_with_contiguous_rows_is_not_copied() -> None:
    samples = np.zeros((2, 2, 3), "u1")
    classified = classify(samples)
    assert isinstance(classified, Samples)
    samples[0, 0, 0] = 9
    assert classified.data[0] == 9


@pytest.mark.parametrize("dtype", ["O", "S4", "U4", "M8[s]", "m8[s]", [("a", "u1")], "V3"], ids=str)
def test_an_array_of_another_type_is_refused(dtype: Any) -> None:
    with pytest.raises(InvalidTask, match=r"is no source: .* is not a plain numeric type"):
        samples(np.zeros((2, 2), dtype))


@pytest.mark.parametrize("shape", [(), (1,) * 9], ids=len)
def test_an_array_of_no_dimension_or_of_too_many_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTask, match=r"dimensions; give 1 to 8"):
        classify(np.zeros(shape, "u1"))


def test_bytes_with_the_array_interface_are_samples() -> None:
    classified = samples(picture())
    assert (classified.shape, classified.dtype, bytes(classified.data)) == ((1, 2, 3), "|u1", b"123456")


@pytest.mark.parametrize(
    "source",
    [
        picture(data=b"12345"),
        picture(data=b"1234567"),
        picture(data=(1234, True)),
        picture(data=None),
        picture(shape=None),
        picture(shape=("a", 2, 3)),
        picture(shape=(-1, -2, 3)),
        picture(shape=5),
        picture(typestr="|O8"),
        picture(typestr=None),
        WithInterface(),
        WithInterface(shape=(1, 2, 3), typestr="|u1"),
        WithInterface(shape=(1, 2, 3), data=b"123456"),
    ],
    ids=lambda source: str(source.__array_interface__),
)
def test_a_broken_array_interface_is_refused(source: Any) -> None:
    with pytest.raises(InvalidTask):
        samples(source)


class Copying:
    """An object whose array interface copies the picture at each access, like Pillow's `Image`."""

    looks = 0

    @property
    def __array_interface__(self) -> dict[str, Any]:
        self.looks += 1
        return picture().__array_interface__


def test_an_array_interface_that_copies_is_read_once_in_a_thread() -> None:
    image = Copying()
    classified = classify(image)
    assert (classified, image.looks) == (ArrayObject(image), 0)
    assert isinstance(classified, ArrayObject)
    assert bytes(samples_of(classified).data) == b"123456"
    assert image.looks == 1


@pytest.mark.parametrize("nonsense", [None, 5, 1.5, [1, 2], {"a": 1}, object(), iter(b"abc")], ids=lambda n: type(n).__name__)
def test_an_invalid_source_is_refused_and_the_message_lists_valid_types(nonsense: Any) -> None:
    with pytest.raises(
        InvalidTask, match=rf"a {type(nonsense).__name__} is no source; give something bytes-like, a pathlib.Path"
    ):
        classify(nonsense)


def test_a_released_view_is_refused() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(InvalidTask, match="released"):
        classify(view)
