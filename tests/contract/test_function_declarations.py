"""`@offloop.function`: what it accepts, and what it refuses when the function is declared."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offloop import Context, InvalidTask, Needs, function, resource
from offloop.functions import declaration
from offloop.functions.declaration import FunctionOptions, find_options
from offloop.functions.encoding.signature import Signature
from offloop.functions.plugin import FunctionsPlugin
from offloop.functions.reference import reference_of


def accepted(value: int, *, context: Context) -> Iterator[np.ndarray]:
    yield np.zeros(value)


def of_a_class(thing: abc.ABC) -> None: ...


def of_two_structures(value: list[int] | tuple[int, int]) -> None: ...


def of_a_deep_class(things: dict[str, list[abc.ABC]]) -> None: ...


def returns_a_class() -> abc.ABC: ...  # pyright: ignore[reportReturnType]


def has_an_option(*, timeout: float) -> None: ...


@function
def is_not_resolved_yet(value: Later) -> None: ...


async def is_async() -> None: ...


class Later:
    """Defined after the function that names it."""


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (of_a_class, r"of_a_class: the parameter thing: .*ABC'> cannot be sent: use a type of msgspec such as a dataclass"),
        (of_a_deep_class, r"the parameter things: .* cannot be sent"),
        (of_two_structures, r"the parameter value: Type unions may not contain more than one array-like"),
        (returns_a_class, r"cannot be sent"),
        (has_an_option, r"the parameter timeout has the name of an option of Pool\.call; rename it"),
        (is_async, r"is_async is async, and a worker has no event loop"),
        (lambda: 1, r"a lambda has no name"),
        (abc.ABC, r"ABC is a class"),
    ],
)
def test_what_no_worker_could_run_is_refused_when_it_is_declared(target: Callable[..., Any], reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        function(target)


def test_a_name_that_is_defined_later_is_checked_at_the_first_call() -> None:
    assert find_options(is_not_resolved_yet) == FunctionOptions()
    with pytest.raises(TypeError, match="the parameter value"):
        Signature(is_not_resolved_yet, "is_not_resolved_yet")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"memory": "much"}, ValueError),
        ({"memory": 0}, ValueError),
        ({"memory": 1.5}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"preload": "numpy"}, TypeError),
        ({"pickle": "results"}, ValueError),
    ],
)
def test_options_are_checked_when_they_are_given(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        function(**options)


def test_the_decorator_changes_nothing_but_declares_options() -> None:
    assert find_options(accepted) is None
    declared = function(memory="1MiB", timeout=None, preload=["numpy"], pickle="arguments")(accepted)
    assert declared is accepted
    assert find_options(declared) == FunctionOptions(
        memory_bytes=1 << 20, timeout_s=None, preload=("numpy",), pickles_arguments=True
    )


def test_a_function_whose_name_leads_to_another_object_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "accepted", is_not_resolved_yet)
    with pytest.raises(InvalidTask, match="is another object now"):
        reference_of(_accepted)
    monkeypatch.delitem(globals(), "accepted")
    with pytest.raises(InvalidTask, match="is not in its module"):
        reference_of(_accepted)


_accepted = accepted


def test_a_function_declares_what_the_sandbox_of_its_workers_allows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(declaration, "_declared", {})
    declare = function(network=True, read=["data"], write=[tmp_path / "output"])
    options = find_options(declare(module_level_function))
    assert options is not None
    assert options.needs == Needs(network=True, read=(str(tmp_path / "data"),), write=(str(tmp_path / "output"),))
    needs = FunctionsPlugin().needs
    assert needs.modules
    assert set(options.needs.read) <= set(needs.read)
    with pytest.raises(TypeError, match="read='data': give a list of paths"):
        function(read="data")


def module_level_function() -> None:
    """Declared by the test above."""


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (lambda: 1, "a lambda has no name"),
        (accepted, "is called without arguments in a worker: missing a required argument: 'value'"),
        (is_async, "is async"),
    ],
)
def test_what_no_worker_could_make_is_refused_as_a_resource(target: Callable[..., Any], reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        resource(target)


def test_the_load_timeout_of_a_resource_is_checked() -> None:
    with pytest.raises(ValueError, match="load_timeout=-1"):
        resource(load_timeout=-1)
    with pytest.raises(TypeError, match="load_timeout='1'"):
        resource(load_timeout="1")  # pyright: ignore[reportCallIssue, reportArgumentType]
