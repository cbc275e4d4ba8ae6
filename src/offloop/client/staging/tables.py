"""Arrow tables as sources: objects with the Arrow PyCapsule interface, such as those of pyarrow, polars and pandas.

A worker sees the bytes of an Arrow IPC stream. pyarrow writes them straight into shared memory; without it, polars writes them
into the server's memory, and they are copied.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import msgspec

from ...errors import InvalidTask
from ..sources import Bytes, TableObject

__all__ = ["Table", "table_of"]


class Table(msgspec.Struct, frozen=True):
    """A table of known length, which writes itself."""

    nbytes: int  # length of the IPC stream
    write: Callable[[memoryview], None]  # writes the IPC stream into memory of this length; keeps no reference to it


def table_of(table: TableObject) -> Table | Bytes:
    """The table as a source. Blocks, because the object may make its data now, and its length is measured.

    Raises:
        InvalidTask: neither pyarrow nor polars is installed, or the object's interface is broken.
    """
    kind = type(table.source).__name__
    try:
        if find_spec("pyarrow") is not None:
            return _of_pyarrow(table.source)
        if find_spec("polars") is not None:
            return _of_polars(table.source)
    except Exception as error:  # raised by the object's own code
        raise InvalidTask(f"a {kind} cannot be sent as an Arrow table: {error}") from None
    raise InvalidTask(f"a {kind} is sent as an Arrow table, which needs pyarrow or polars in the server: install one of them")


def _of_pyarrow(source: Any) -> Table:
    pyarrow: Any = import_module("pyarrow")
    import_module("pyarrow.ipc")
    table = pyarrow.table(source)
    measured = pyarrow.MockOutputStream()
    _write_stream(pyarrow, table, measured)
    return Table(measured.size(), partial(_write_into, pyarrow, table))


def _write_into(pyarrow: Any, table: Any, memory: memoryview) -> None:
    with pyarrow.FixedSizeBufferWriter(pyarrow.py_buffer(memory)) as sink:
        _write_stream(pyarrow, table, sink)


def _write_stream(pyarrow: Any, table: Any, sink: Any) -> None:
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _of_polars(source: Any) -> Bytes:
    polars: Any = import_module("polars")
    file = io.BytesIO()
    polars.DataFrame(source).write_ipc_stream(file)
    return Bytes(file.getbuffer(), private=True)
