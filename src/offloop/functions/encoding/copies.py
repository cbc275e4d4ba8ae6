"""Copies of large memory without the GIL.

`bytes(view)` holds the GIL while it copies: 36 MiB held up the event loop for 17 ms, also from a thread.
"""

from __future__ import annotations

import ctypes

__all__ = ["copy_of"]

_LARGE_NBYTES = 1024 * 1024


class _Buffer(ctypes.Structure):
    """`Py_buffer` of the C API."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_SIMPLE = 0  # PyBUF_SIMPLE: contiguous bytes
_get_buffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_Buffer))(("PyBuffer_Release", ctypes.pythonapi))
_NAMES = {bytes: "PyBytes", bytearray: "PyByteArray"}
_new_type = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)
_address_type = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)
# with NULL for the data, these return a new object whose contents are still to be written
_new = {type_: _new_type((f"{name}_FromStringAndSize", ctypes.pythonapi)) for type_, name in _NAMES.items()}
_address_of = {type_: _address_type((f"{name}_AsString", ctypes.pythonapi)) for type_, name in _NAMES.items()}


def copy_of(view: memoryview, type_: type[bytes | bytearray]) -> bytes | bytearray:
    """Returns a copy of contiguous memory; more than a megabyte is copied without the GIL, for threads.

    Raises:
        BufferError: the memory is large and not contiguous.
    """
    if view.nbytes <= _LARGE_NBYTES:
        return type_(view)
    copied: bytes | bytearray = _new[type_](None, view.nbytes)
    buffer = _Buffer()
    _get_buffer(view, ctypes.byref(buffer), _SIMPLE)
    try:
        ctypes.memmove(_address_of[type_](copied), buffer.buf, view.nbytes)
    finally:
        _release_buffer(ctypes.byref(buffer))
    return copied
