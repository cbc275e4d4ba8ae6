"""Arrow tables as arguments and results of functions: `pyarrow.Table`, `pyarrow.RecordBatch` and `polars.DataFrame`.

They travel as Arrow IPC streams in shared memory. At the other end a table refers to that memory, without a copy if pyarrow is
installed there. The server copies a worker's table and checks each value, because a worker is not trusted: it may write to
the memory of its results as long as it lives.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ...buffer_protocol import copy_of
from ...processor import Payload, Raster
from .kinds import Attached, Kind

__all__ = ["find_table_kind"]

_TYPES = (("pyarrow", "Table"), ("pyarrow", "RecordBatch"), ("polars", "DataFrame"))


class _AttachedTable(Attached, frozen=True, tag="table"):
    pass


class _Table(Kind):
    attached = _AttachedTable
    is_slow = True

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def accepts(self, value: Any) -> bool:
        return hasattr(value, "__arrow_c_stream__")

    def source_of(self, value: Any) -> Any:
        if not self.accepts(value):
            raise TypeError(f"Expected an Arrow table, got `{type(value).__name__}`")
        return value

    def from_payload(self, payload: Payload) -> Any:
        if isinstance(payload, Raster):
            raise TypeError("Expected an Arrow table, got an array")
        return self._read(memoryview(payload.data), checked=False)

    def memory_of(self, value: Any, index: int, allocate: Callable[[int], memoryview]) -> tuple[memoryview, Attached]:
        if not self.accepts(value):
            raise TypeError(f"a {type(value).__name__} is not an Arrow table")
        attached = _AttachedTable(index=index)
        if find_spec("pyarrow") is None:
            file = io.BytesIO()
            import_module("polars").DataFrame(value).write_ipc_stream(file)
            return file.getbuffer(), attached
        pyarrow: Any = import_module("pyarrow")
        import_module("pyarrow.ipc")
        table, measured = pyarrow.table(value), pyarrow.MockOutputStream()
        _write_stream(pyarrow, table, measured)
        memory = allocate(measured.size())
        with pyarrow.FixedSizeBufferWriter(pyarrow.py_buffer(memory)) as sink:
            _write_stream(pyarrow, table, sink)
        return memory, attached

    def from_memory(self, memory: memoryview, attached: Attached) -> Any:  # noqa: ARG002 (the signature is the base's)
        try:
            return self._read(memory, checked=True)
        except Exception as error:  # of pyarrow or polars, on bytes of a worker
            raise ValueError(f"its table is invalid: {error}") from None

    def _read(self, memory: memoryview, *, checked: bool) -> Any:
        """Read an IPC stream. `checked`: check all offsets and texts in it."""
        if find_spec("pyarrow") is None:
            return import_module("polars").read_ipc_stream(io.BytesIO(memory))
        pyarrow: Any = import_module("pyarrow")
        import_module("pyarrow.ipc")
        buffer = pyarrow.py_buffer(copy_of(memory, bytes) if checked else memory)  # its worker may write there after the check
        table = pyarrow.ipc.open_stream(buffer).read_all()
        if checked:
            table.validate(full=True)
        if self._module == "polars":
            return import_module("polars").from_arrow(table)
        return table if self._name == "Table" else table.combine_chunks().to_batches()[0]


def find_table_kind(annotation: Any) -> Kind | None:
    """Returns the kind of the Arrow tables that an annotation names; None if it names none."""
    for module, name in _TYPES:
        loaded = sys.modules.get(module)  # an annotation of it has imported it
        if loaded is not None and annotation is getattr(loaded, name, None):
            return _Table(module, name)
    return None


def _write_stream(pyarrow: Any, table: Any, sink: Any) -> None:
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
