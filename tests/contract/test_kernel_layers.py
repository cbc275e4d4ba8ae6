"""The layers that a kernel lacks are found before any worker is started, and a strict pool refuses to start without them."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from offloop import startup
from offloop.errors import PoolMisused
from offloop.settings import PoolSettings, WorkerGroup
from offloop.system import missing_kernel_layers

LANDLOCK, SECCOMP = 444, 317


def kernel(**errors: int) -> Callable[..., int]:
    """A kernel whose calls fail with these errors."""
    numbers = {LANDLOCK: errors.get("landlock"), SECCOMP: errors.get("seccomp")}

    def call(number: int, *_: object) -> int:
        error = numbers[number]
        return 1 if error is None else -error

    return call


@pytest.mark.parametrize(
    ("errors", "machine", "missing"),
    [
        ({}, "x86_64", {}),
        ({"landlock": errno.ENOSYS}, "x86_64", {"landlock": "Function not implemented"}),
        ({"landlock": errno.EOPNOTSUPP}, "x86_64", {"landlock": "Operation not supported"}),
        ({"seccomp": errno.EINVAL}, "x86_64", {"seccomp": "Invalid argument"}),
        ({}, "riscv64", {"seccomp": "there is no list of system calls for the architecture 'riscv64'"}),
    ],
)
def test_each_missing_layer_has_its_reason(errors: dict[str, int], machine: str, missing: dict[str, str]) -> None:
    assert missing_kernel_layers(kernel(**errors), machine) == missing


def test_this_kernel_is_asked_and_stays_as_it_is() -> None:
    assert missing_kernel_layers() == missing_kernel_layers()


@pytest.mark.anyio
@pytest.mark.parametrize("settings", [{"sandbox": "strict"}, {"groups": [WorkerGroup("models", sandbox="strict")]}])
async def test_a_strict_pool_is_refused_before_any_worker_is_started(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    monkeypatch.setattr(startup, "missing_kernel_layers", lambda: {"landlock": "Function not implemented"})
    with pytest.raises(PoolMisused, match=r"this system lacks: landlock \(Function not implemented\)"):
        await startup.load(PoolSettings(**settings), None)  # pyright: ignore[reportArgumentType]


@pytest.mark.anyio
async def test_other_pools_do_not_need_the_layers(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "missing_kernel_layers", lambda: {"landlock": "Function not implemented"})
    loaded = await startup.load(PoolSettings(plugins=[]), None)
    assert loaded.worker_config.groups["default"].sandbox == "auto"
