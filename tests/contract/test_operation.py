"""Operations are checked when they are created: types, bounds, and combinations of fields."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
import pytest

from offloop.errors import InvalidTask
from offloop.operation import Operation, Plugin, describe, tag_of


class Scale(Operation, frozen=True):
    width: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    factor: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    fit: Literal["cover", "contain"] = "cover"
    offset: tuple[int, int] = (0, 0)
    name: str | None = None

    def check(self) -> None:
        if self.fit == "contain" and self.offset != (0, 0):
            raise InvalidTask("Scale: offset makes sense with fit='cover' only")


def test_valid_fields_are_accepted_by_position_and_by_name() -> None:
    assert Scale(5) == Scale(width=5, factor=1.0, fit="cover", offset=(0, 0), name=None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 0}, "width=0"),
        ({"width": 1001}, "width=1001"),
        ({"width": "5"}, "width='5'"),
        ({"width": 5.5}, "width=5.5"),
        ({"width": True}, "width=True"),
        ({"width": None}, "width=None"),
        ({"width": 5, "factor": 0}, "factor=0"),
        ({"width": 5, "factor": -1.0}, "factor=-1.0"),
        ({"width": 5, "factor": math.nan}, "factor=nan"),
        ({"width": 5, "fit": "fill"}, "fit='fill'"),
        ({"width": 5, "offset": (1,)}, "offset=(1,)"),
        ({"width": 5, "offset": (1, 2, 3)}, "offset=(1, 2, 3)"),
        ({"width": 5, "offset": ("a", "b")}, "offset=('a', 'b')"),
        ({"width": 5, "name": 5}, "name=5"),
        ({"width": 5, "name": object}, "name=<class 'object'>"),
    ],
    ids=str,
)
def test_an_invalid_value_is_refused_with_the_operation_the_field_and_the_value(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        Scale(**fields)
    assert str(caught.value).startswith(f"Scale({field}): ")


def test_the_error_of_a_literal_lists_the_allowed_values() -> None:
    with pytest.raises(InvalidTask, match="one of 'cover', 'contain'"):
        Scale(5, fit="fill")  # pyright: ignore[reportArgumentType]


def test_a_value_is_converted_if_that_loses_nothing() -> None:
    scale = Scale(5, factor=2, offset=[3, 4])  # pyright: ignore[reportArgumentType]
    assert type(scale.factor) is float
    assert scale.offset == (3, 4)


def test_check_can_refuse_a_combination_of_fields() -> None:
    with pytest.raises(InvalidTask, match="makes sense with fit='cover' only"):
        Scale(5, fit="contain", offset=(1, 1))


def test_a_missing_or_unknown_field_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Scale()  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        Scale(5, colour="red")  # pyright: ignore[reportCallIssue]


def test_an_operation_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Scale(5).width = 6  # pyright: ignore[reportAttributeAccessIssue]


def test_operations_are_encoded_as_arrays_with_their_tag() -> None:
    encoded = msgspec.msgpack.encode(Scale(5, offset=(1, 2)))
    assert msgspec.msgpack.decode(encoded) == ["Scale", 5, 1.0, "cover", [1, 2], None]
    assert msgspec.msgpack.decode(encoded, type=Scale) == Scale(5, offset=(1, 2))
    assert tag_of(Scale) == "Scale"


@pytest.mark.parametrize(
    "fields",
    [["Scale", 0], ["Scale", 5, 1.0, "cover", [1, 2], None, 1], ["Other", 5], ["Scale", 5, 1.0, "contain", [1, 1]]],
    ids=str,
)
def test_the_worker_checks_again(fields: list[Any]) -> None:
    with pytest.raises((msgspec.ValidationError, InvalidTask)):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Scale)


def test_an_operation_is_described_as_python_source() -> None:
    assert describe(Scale(5)) == "Scale(width=5, factor=1.0, fit='cover', offset=(0, 0), name=None)"


def test_operations_compare_and_hash_by_value() -> None:
    assert {Scale(5), Scale(5), Scale(6)} == {Scale(5), Scale(6)}


def test_a_plugin_without_probe_recognizes_no_format() -> None:
    assert Plugin().probe(memoryview(b"anything")) is None
