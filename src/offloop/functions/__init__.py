"""The built-in plugin that runs any importable Python function: `await pool.call(function, ...)`.

`calls` is the server's half, and `processor` the worker's. Both import the other modules: the decorator, import paths,
signatures, and the encoding of arguments and results.

Arguments and results are never pickled by default. The annotations of a function become types of msgspec. The server encodes
the arguments, and a worker decodes them strictly; the result comes back in the same way. Bytes, arrays and tables travel in
shared memory beside the encoded value.
"""
