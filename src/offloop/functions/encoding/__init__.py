"""Encoding of the arguments and results of functions: typed values, and the parts of them that travel in shared memory."""
