"""Functions for the tests of `Pool.call`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import attrs
import msgspec
import numpy as np
import numpy.typing as npt

from offloop import Context, TaskFailed, function, resource

type_ = type


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = dataclasses.field(default_factory=list[str])


@attrs.define
class Box:
    corner: Point
    size: int


class Person(msgspec.Struct):
    name: str
    born: dt.date | None = None


class Options(TypedDict, total=False):
    quality: int
    name: str


class Pair(NamedTuple):
    first: int
    second: str


@function
def echo_number(value: int) -> int:
    return value


@function
def echo_anything(value: Any) -> Any:
    return value


@function  # pyright: ignore[reportUnknownArgumentType]
def echo_untyped(value):  # pyright: ignore  # noqa: PGH003 (it has no annotation on purpose)
    return value  # pyright: ignore  # noqa: PGH003


@function
def echo_bytes(value: bytes) -> bytes:
    assert type(value) is bytes
    return value


@function
def echo_bytearray(value: bytearray) -> bytearray:
    assert type(value) is bytearray
    return value


@function
def echo_view(value: memoryview) -> memoryview:
    assert isinstance(value, memoryview)
    return value


@function
def echo_array(value: np.ndarray) -> np.ndarray:
    assert isinstance(value, np.ndarray)
    return value


@function
def echo_octets(value: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return value


@function
def wrong_octets() -> npt.NDArray[np.uint8]:
    return np.zeros(3)  # pyright: ignore[reportReturnType]


@function
def echo_point(value: Point) -> Point:
    assert isinstance(value, Point)
    return value


@function
def echo_box(value: Box) -> Box:
    assert isinstance(value, Box)
    return value


@function
def echo_person(value: Person) -> Person:
    assert isinstance(value, Person)
    return value


@function
def echo_colour(value: Colour) -> Colour:
    assert isinstance(value, Colour)
    return value


@function
def echo_time(value: dt.datetime) -> dt.datetime:
    return value


@function
def echo_duration(value: dt.timedelta) -> dt.timedelta:
    return value


@function
def echo_decimal(value: decimal.Decimal) -> decimal.Decimal:
    return value


@function
def echo_uuid(value: uuid.UUID) -> uuid.UUID:
    return value


@function
def echo_path(value: Path) -> Path:
    assert isinstance(value, Path)
    return value


@function
def echo_options(value: Options) -> Options:
    return value


@function
def echo_pair(value: Pair) -> Pair:
    assert isinstance(value, Pair)
    return value


@function
def echo_set(value: set[int]) -> set[int]:
    return value


@function
def echo_tuple(value: tuple[int, str]) -> tuple[int, str]:
    assert isinstance(value, tuple)
    return value


@function
def echo_union(value: int | str | list[float] | None) -> int | str | list[float] | None:
    return value


@function
def echo_choice(value: Literal["a", "b"]) -> Literal["a", "b"]:
    return value


@function
def echo_maybe(value: memoryview | None = None) -> memoryview | str:
    return "nothing" if value is None else value


@function
def arrays_of(count: int, nbytes: int) -> tuple[list[np.ndarray], dict[str, bytes]]:
    return [np.full(nbytes, index, np.uint8) for index in range(count)], {"rest": b"x" * nbytes}


@function
def texts_of(count: int) -> list[str]:
    return [str(index) for index in range(count)]


@function
def filled(nbytes: int, context: Context) -> np.ndarray:
    array = np.frombuffer(context.allocate(nbytes), np.uint8)
    array[:] = 7
    return array


@function
def scalar_of_numpy() -> float:
    return np.float32(0.5)  # pyright: ignore[reportReturnType]


@function
def add(first: int, /, second: int = 10, *rest: int, scale: int = 1, **named: int) -> int:
    return scale * (first + second + sum(rest)) + sum(named.values())


@function
def wrong_result() -> int:
    return "text"  # pyright: ignore[reportReturnType]


@function
def unsendable_result() -> Any:
    return object()


@function
def huge_result() -> list[int]:
    return list(range(1_000_000))


@function
def fail(text: str) -> None:
    raise ValueError(text)


class OwnError(Exception):
    """An exception that the server could not make."""


@function
def fail_in_own_way() -> None:
    raise OwnError("own")


@function
def refuse() -> None:
    raise TaskFailed("too_small", "the page is too small")


@function
def leave() -> None:
    raise SystemExit(3)


@function
def die() -> None:
    os._exit(7)


@function
def hang() -> None:
    while True:
        time.sleep(1)


@function(timeout=0.2)
def hang_briefly() -> None:
    while True:
        time.sleep(1)


@function
def watch(context: Context) -> str:
    context.progress(0.25)
    assert context.threads >= 1
    assert not context.cancelled
    stopped: list[int] = []
    with context.on_cancel(lambda: stopped.append(1)):
        while not stopped:
            time.sleep(0.01)
    context.checkpoint()
    return "not stopped"


@function
def count_to(limit: int) -> Iterator[int]:
    yield from range(limit)


@function
def frames_of(count: int, nbytes: int) -> Iterator[np.ndarray]:
    for index in range(count):
        yield np.full(nbytes, index, np.uint8)


@function
def talk(text: str) -> None:
    print(text)  # noqa: T201 (it is the subject)
    logging.getLogger("jobs").warning("logged %s", text)


@function
def pid() -> int:
    return os.getpid()


@function(memory="3GiB")
def heavy() -> int:
    return 1


class Unsendable:
    """A class that msgspec cannot carry."""

    def __init__(self, value: int) -> None:
        self.value = value


@function(pickle="arguments")
def value_of(thing: Unsendable, other: Any = None, data: bytes = b"") -> tuple[int, str, int]:
    return thing.value, type_(other).__name__, len(data)


def undeclared(value: int) -> int:
    return value + 1


@resource
class Counter:
    """Takes longer to make than the calls that need it may take."""

    def __init__(self) -> None:
        time.sleep(0.4)
        self.calls = 0


def make_text() -> str:
    return "made"


text_resource = resource(load_timeout=5)(make_text)


@resource
class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("there is no model")


@function(timeout=0.3)
def count_calls(step: int, counter: Counter, text: Annotated[str, text_resource]) -> tuple[int, str]:
    counter.calls += step
    return counter.calls, text


@function
def needs_broken(broken: Broken) -> None:
    raise AssertionError(broken)


@function
def total_of(first: np.ndarray, parts: list[memoryview], *, last: bytes | None = None) -> tuple[int, list[int], int]:
    return int(first.sum()), [sum(part) for part in parts], len(last or b"")


@function
def allocate(nbytes: int) -> int:
    return len(np.ones(nbytes, np.uint8))


@function
def fail_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("no more")


@function
def labels_of(context: Context) -> dict[str, str]:
    return dict(context.labels)


@function
def labels_again(count: int, context: Context) -> Iterator[dict[str, str]]:
    for _ in range(count):
        yield dict(context.labels)
