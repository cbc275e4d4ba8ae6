"""Memory of callers is copied piece by piece, in any layout. A missing page of a mapping is an error instead of SIGBUS."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.errors import InvalidTask
from offloop.runtime.memory import source_memory
from offloop.runtime.memory.source_memory import copy_strided, read_head

WITH_AND_WITHOUT_NUMPY = pytest.mark.parametrize("numpy", [np, None], ids=["numpy", "python"])


def copied(source: Any, numpy: Any) -> bytes:
    view = memoryview(source)
    target = bytearray(view.nbytes)
    copy_strided(view, memoryview(target), numpy)
    return bytes(target)


def truncated(path: Path, nbytes: int) -> mmap.mmap:
    """Returns a mapping whose file was truncated to its first page."""
    path.write_bytes(b"\1" * nbytes)
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    os.truncate(path, mmap.PAGESIZE)
    return mapped


WHOLE = np.arange(300 * 200 * 3, dtype="u1").reshape(300, 200, 3)  # 180,000 bytes: several pieces without numpy
LARGE = np.arange(1500 * 1000, dtype="<u4").reshape(1500, 1000)  # several pieces with numpy, too

VIEWS: dict[str, Any] = {
    "cropped": WHOLE[:, 8:-8],
    "transposed": WHOLE.transpose(1, 0, 2),
    "bands first": WHOLE.transpose(2, 0, 1),
    "every second": WHOLE[::2, ::3],
    "BGR to RGB": WHOLE[..., ::-1],
    "upside down": WHOLE[::-1],
    "turned": WHOLE[::-1, ::-1].transpose(1, 0, 2),
    "column": WHOLE[:, 5, 1],
    "one row": WHOLE[:1, ::2],
    "fortran": np.asfortranarray(WHOLE),
    "contiguous": WHOLE,
    "large transposed": LARGE.T,
    "large turned": LARGE[::-1, ::-1].T,
    "wide": LARGE.reshape(1, 1, -1)[:, :, ::2],
    "far apart": LARGE.reshape(3, -1)[:, 7::100_000],
    "big-endian": LARGE[:400].astype(">f8")[:, ::-1],
    "complex": WHOLE[:40, :40, 0].astype("c16").T,
    "wide items": np.zeros((30, 30), [("a", "V3")])["a"][:, ::2],
    "repeated": np.broadcast_to(WHOLE[:, :1], (300, 700, 3)),
    "one item repeated": np.broadcast_to(np.float32(7), (900, 500)),
    "windows": np.lib.stride_tricks.sliding_window_view(WHOLE[:, 0, 0], 250),
}


@WITH_AND_WITHOUT_NUMPY
@pytest.mark.parametrize("name", VIEWS)
def test_an_array_of_any_strides_is_copied_in_the_order_of_its_items(name: str, numpy: Any) -> None:
    array = VIEWS[name]
    assert copied(array, numpy) == array.tobytes()


@WITH_AND_WITHOUT_NUMPY
def test_a_view_of_no_items_is_copied(numpy: Any) -> None:
    assert copied(WHOLE[:, :0, ::2], numpy) == b""


@given(data=st.data(), shape=st.lists(st.integers(1, 7), min_size=1, max_size=5), numpy=st.sampled_from([np, None]))
@settings(max_examples=300, deadline=None)
def test_arrays_of_any_layout_are_copied_with_pieces_of_any_size(data: st.DataObject, shape: list[int], numpy: Any) -> None:
    dtype = data.draw(st.sampled_from(["u1", "<u2", ">f8", "c16"]))
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    axes = data.draw(st.permutations(range(len(shape))))
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2, -3]))) for _ in shape)
    view = array.transpose(axes)[steps]
    scratch = data.draw(st.integers(1, 200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_memory, "_SCRATCH_NBYTES", scratch)
        patch.setattr(source_memory, "_PYTHON_SCRATCH_NBYTES", scratch)
        assert copied(view, numpy) == view.tobytes()


@WITH_AND_WITHOUT_NUMPY
@pytest.mark.parametrize("step", [1, 2, -1])
def test_a_strided_view_of_a_truncated_mapping_is_an_error(tmp_path: Path, numpy: Any, step: int) -> None:
    view = memoryview(truncated(tmp_path / "file", 400_000))[::step]
    with pytest.raises(InvalidTask, match="mapped file that was truncated"):
        copied(view, numpy)


def test_a_head_is_a_copy_of_the_first_bytes() -> None:
    assert read_head(memoryview(b"abcdefgh"), 3) == b"abc"
    assert read_head(memoryview(b"abcdefgh")[::-2], 3) == b"hfd"
    assert read_head(memoryview(cast("Any", np.arange(4, dtype="<u4")))[::2], 6) == b"\0\0\0\0\2\0"
    assert read_head(memoryview(b"abc"), 100) == b"abc"


def test_the_head_of_a_truncated_mapping_is_an_error_if_its_page_is_missing(tmp_path: Path) -> None:
    mapped = truncated(tmp_path / "file", 400_000)
    assert read_head(memoryview(mapped), 4096) == b"\1" * 4096
    with pytest.raises(InvalidTask, match="mapped file that was truncated"):
        read_head(memoryview(mapped), 4097)
