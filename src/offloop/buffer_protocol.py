"""Addresses and copies of memory, by the buffer protocol of the C API."""

from __future__ import annotations

import ctypes

__all__ = ["address_of", "copy_of"]

_LARGE_NBYTES = 1024 * 1024


class _PyBuffer(ctypes.Structure):
    """`Py_buffer` of the stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_FULL_READ_ONLY = 0x011C  # PyBUF_FULL_RO

_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None

_NAMES = {bytes: "PyBytes", bytearray: "PyByteArray"}
_new_type = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)
_data_type = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)
# with NULL for the data, these return a new object whose contents are still to be written
_new = {type_: _new_type((f"{name}_FromStringAndSize", ctypes.pythonapi)) for type_, name in _NAMES.items()}
_data_of = {type_: _data_type((f"{name}_AsString", ctypes.pythonapi)) for type_, name in _NAMES.items()}


def address_of(view: memoryview) -> int:
    """The address of a buffer's first item. The caller keeps the buffer alive while it uses the address.

    `ctypes` itself gives the address of writable, contiguous buffers only.
    """
    buffer = _PyBuffer()
    _get_buffer(view, ctypes.byref(buffer), _FULL_READ_ONLY)
    try:
        return int(buffer.buf)
    finally:
        _release_buffer(ctypes.byref(buffer))


def copy_of(view: memoryview, type_: type[bytes | bytearray]) -> bytes | bytearray:
    """Returns a copy of contiguous memory; more than a megabyte is copied without the GIL, for threads.

    `bytes(view)` holds the GIL while it copies: 36 MiB held up the event loop for 17 ms, also from a thread.

    Raises:
        BufferError: the memory is large and not contiguous.
    """
    if view.nbytes <= _LARGE_NBYTES:
        return type_(view)
    if not view.c_contiguous:
        raise BufferError("large memory that is not contiguous cannot be copied without the GIL")
    copied: bytes | bytearray = _new[type_](None, view.nbytes)
    ctypes.memmove(_data_of[type_](copied), address_of(view), view.nbytes)
    return copied
