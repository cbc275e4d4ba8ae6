"""`run_inline` refuses the same results as a worker; numbers of numpy become numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop import Encoded, InvalidTask, PluginError, Raster
from offloop.testing import run_inline


class Returning:
    """A processor that returns a given object."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def open(self, worker: object) -> None: ...

    def run(self, payload: object, operations: object, task: object) -> Any:
        return self.result


def returned(result: Any) -> Any:
    return run_inline(Returning(result), Encoded(b""), [])


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (b"bytes", "returned bytes, not Encoded or Raster"),
        (Encoded(memoryview(b"abcd")[::2]), "not contiguous"),
        (Raster(b"abc", (2, 2), "|u1"), "does not fill"),
        (Raster(b"abc", (3,), "|O8"), "not a plain numeric type"),
        (Raster(b"a", (), "|u1"), "give 1 to 8"),
        (Encoded(b"", {"a": object()}), "cannot be sent"),
        (Encoded(b"", {"a": np.zeros(3)}), "cannot be sent"),
        (Encoded(b"", {"a": {"b": {"c": 1}}}), "not what can be sent"),
        (Encoded(b"", {"a": "x" * 70_000}), "and the limit is"),
    ],
)
def test_a_result_that_a_worker_refuses_is_refused_inline(result: Any, reason: str) -> None:
    with pytest.raises(PluginError, match=reason):
        returned(result)


def test_numbers_of_numpy_are_numbers() -> None:
    info = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": np.bool_(1),
        "d": [np.uint8(7)],
        "e": {"f": np.float64(2)},
        "g": np.array(4),
    }
    assert returned(Encoded(b"", info)).info == {"a": 3, "b": 0.5, "c": True, "d": [7], "e": {"f": 2.0}, "g": 4}


def test_an_error_of_the_processor_is_not_changed() -> None:
    class Refusing(Returning):
        def run(self, payload: object, operations: object, task: object) -> Any:
            raise InvalidTask("no")

    with pytest.raises(InvalidTask, match="no"):
        run_inline(Refusing(None), Encoded(b""), [])
