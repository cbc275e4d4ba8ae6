"""Computations on samples, with numpy. A picture is never converted as a whole: all of them work on some rows at a time."""
