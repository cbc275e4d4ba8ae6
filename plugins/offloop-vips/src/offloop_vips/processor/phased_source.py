"""Source of libvips that reads memory in C, in pieces whose ends are known, and knows how far a decoder has read.

The JPEG decoder of libvips fills a buffer of 4,096 bytes whenever the last one is used up. A memory source gives it everything
at once, and a read callback in Python takes 4 to 6 microseconds each time. Here the signal "read" of a custom source calls
`vips_source_read` of a memory source, which has the right signature if the arguments are swapped. Only the first read is a
function in Python: it gives fewer bytes, so that a later piece ends at the wanted offset.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, cast

import pyvips

__all__ = ["PhasedSource"]

_SWAPPED = 2  # G_CONNECT_SWAPPED: the data of the connection is the first argument, and the object the last
_FROM_HERE = 1  # whence of `seek`
_ReadFunction = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
_SeekFunction = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p)
_VIPS = cast("Any", pyvips)  # some names are made at run time, where a type checker cannot see them


def _open_library() -> Any:
    """Returns the library that pyvips has loaded. pyvips does not declare these functions."""
    module = sys.modules.get("_libvips")
    path = module.__file__ if _VIPS.API_mode and module is not None else _VIPS.library_name("vips", 42)
    library: Any = ctypes.CDLL(path)
    library.g_signal_connect_data.restype = ctypes.c_ulong
    library.g_signal_connect_data.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_int]
    library.g_object_ref.restype = ctypes.c_void_p
    library.g_object_ref.argtypes = [ctypes.c_void_p]
    for change in (library.g_signal_handler_block, library.g_signal_handler_unblock):
        change.restype = None
        change.argtypes = [ctypes.c_void_p, ctypes.c_ulong]
    library.vips_source_read.restype = ctypes.c_int64
    library.vips_source_read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.vips_source_seek.restype = ctypes.c_int64
    library.vips_source_seek.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    return library


_LIBRARY = _open_library()


class PhasedSource:
    """Memory that libvips reads from the start to the end, several times if it seeks back to the start."""

    def __init__(self, data: memoryview, piece_end: int) -> None:
        """Args:
        data: the memory. It must exist until the decoder has ended.
        piece_end: offset at which a piece ends if the decoder reads equal pieces up to there.
        """
        self._memory = pyvips.Source.new_from_memory(data)
        self.source = pyvips.SourceCustom()
        """What a loader of libvips takes. This object must exist until the decoder has ended."""
        handlers = _Handlers(_address_of(self.source), _address_of(self._memory), piece_end)
        self._functions = handlers.connect()

    @property
    def position(self) -> int:
        """Offset after the bytes that the decoder has got."""
        position: int = _LIBRARY.vips_source_seek(_address_of(self._memory), 0, _FROM_HERE)
        return position


class _Handlers:
    """The handlers of the signals "read" and "seek": one for the first piece, in Python, and one for the others, in C.

    It has addresses and no objects of pyvips, because a reference cycle would free the memory late.
    """

    def __init__(self, source: int, memory: int, piece_end: int) -> None:
        self._source = source
        self._memory = memory
        self._piece_end = piece_end
        self._of_first = 0
        self._of_others = 0
        self._is_first = False

    def connect(self) -> list[object]:
        """Connects the handlers, and returns the functions, which must exist as long as libvips may call them."""
        first, seek = _ReadFunction(self._read_first), _SeekFunction(self._seek)
        # the handler of the other pieces comes first, because unblocking it must not call it in the same emission
        held = _LIBRARY.g_object_ref(self._memory)  # until the source is gone
        self._of_others = self._connect(b"read", _LIBRARY.vips_source_read, held, _LIBRARY.g_object_unref, _SWAPPED)
        _LIBRARY.g_signal_handler_block(self._source, self._of_others)
        self._of_first = self._connect(b"read", first)
        self._is_first = True
        self._connect(b"seek", seek)
        return [first, seek]

    def _connect(self, signal: bytes, function: Any, data: int = 0, destroy: Any = None, flags: int = 0) -> int:
        addresses = [None if one is None else ctypes.cast(one, ctypes.c_void_p) for one in (function, destroy)]
        handler: int = _LIBRARY.g_signal_connect_data(self._source, signal, addresses[0], data or None, addresses[1], flags)
        return handler

    def _read_first(self, _source: int, buffer: int, nbytes: int, _data: int | None) -> int:
        self._switch(is_first=False)
        read: int = _LIBRARY.vips_source_read(self._memory, buffer, self._piece_end % nbytes or nbytes)
        return read

    def _seek(self, _source: int, offset: int, whence: int, _data: int | None) -> int:
        position: int = _LIBRARY.vips_source_seek(self._memory, offset, whence)
        if position == 0:
            self._switch(is_first=True)
        return position

    def _switch(self, *, is_first: bool) -> None:
        if is_first == self._is_first:
            return
        self._is_first = is_first
        blocked, unblocked = (self._of_others, self._of_first) if is_first else (self._of_first, self._of_others)
        _LIBRARY.g_signal_handler_block(self._source, blocked)
        _LIBRARY.g_signal_handler_unblock(self._source, unblocked)


def _address_of(source: pyvips.Source) -> int:
    address: int = _VIPS.ffi.cast("uintptr_t", cast("Any", source).pointer)
    return int(address)
