"""The decorator `@offloop.resource`: declares what functions need once per worker, such as a model or a connection."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin, overload

from .reference import find_objection

__all__ = ["declared_resources", "find_resource", "load_timeout_of", "resource"]

ResourceT = TypeVar("ResourceT", bound=Callable[[], Any])

_MARK = "__offloop_resource__"  # attribute of a declared resource: seconds in which it must be made
_MAX_SECONDS = 1e9

_declared: dict[str, Callable[[], Any]] = {}  # declared resources by module and qualified name


@overload
def resource(target: ResourceT, /) -> ResourceT: ...


@overload
def resource(*, load_timeout: float = 60.0) -> Callable[[ResourceT], ResourceT]: ...


def resource(target: Callable[[], Any] | None = None, /, *, load_timeout: float = 60.0) -> Any:
    """Declare a class, or a function, without parameters as a resource: each worker calls it once, before its first task.

        @resource(load_timeout=120)
        class Model:
            def __init__(self) -> None:
                self.session = onnxruntime.InferenceSession("model.onnx")

        @function
        def classify(picture: memoryview, model: Model) -> list[float]: ...

    A function gets the resource by the annotation of a parameter: the class; or `Annotated[Model, load_model]` for a resource
    that the function `load_model` returns. Callers do not pass it. Workers make the resources of all functions that are
    declared when the pool is entered, before they are ready, so that no task's time includes it. A later resource is made in
    the first task that needs it. If it raises, the calls that need it fail with `PluginError`.

    Args:
        target: the class or the function, if the decorator is used without parentheses.
        load_timeout: seconds in which it must be made, in addition to the pool's `load_timeout`. A worker that takes longer is
            killed.

    Raises:
        TypeError: no worker can import it, or it needs arguments.
        ValueError: `load_timeout` is out of its range.
    """
    if isinstance(load_timeout, bool) or not isinstance(load_timeout, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"load_timeout={load_timeout!r}: must be a number of seconds")
    if not 0 <= load_timeout <= _MAX_SECONDS:
        raise ValueError(f"load_timeout={load_timeout!r}: must be from 0 to {_MAX_SECONDS:,.0f} seconds")

    def declare(target: ResourceT) -> ResourceT:
        _check(target)
        setattr(target, _MARK, float(load_timeout))
        _declared[f"{target.__module__}:{target.__qualname__}"] = target
        return target

    return declare if target is None else declare(target)


def find_resource(annotation: Any) -> Callable[[], Any] | None:
    """Returns the resource that an annotation names; None if it names none."""
    candidates = get_args(annotation)[1:] if get_origin(annotation) is Annotated else (annotation,)
    return next((one for one in candidates if load_timeout_of(one) is not None), None)


def load_timeout_of(target: Any) -> float | None:
    """Returns the seconds in which a resource must be made; None if it is no resource. A subclass of one is none."""
    found = getattr(target, "__dict__", {}).get(_MARK)
    return found if isinstance(found, float) else None


def declared_resources() -> list[Callable[[], Any]]:
    """Returns the resources that this process has declared until now."""
    return list(_declared.values())


def _check(target: Any) -> None:
    if isinstance(target, type):
        if "<locals>" in target.__qualname__:
            raise TypeError(f"@offloop.resource: {target.__qualname__} is defined inside a function; move it to the top level")
    elif (objection := find_objection(target)) is not None:
        raise TypeError(f"@offloop.resource: {objection}")
    try:
        inspect.signature(target).bind()
    except (TypeError, ValueError) as error:
        raise TypeError(f"@offloop.resource: {target.__qualname__} is called without arguments in a worker: {error}") from None
