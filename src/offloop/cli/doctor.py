"""`offloop doctor`: shows what a pool could use on this machine, and tries a conversion."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from ..plugins.discovery import BUILT_IN
from .examination import Examination, examine
from .trial import Trial, try_pool
from .wording import size

__all__ = ["advise", "doctor"]

_MIN_DESCRIPTORS = 1024


class Report(msgspec.Struct, frozen=True):
    """The output of `--json`."""

    usable: bool  # whether a worker started, the trial succeeded, and no installed plugin was refused
    problems: list[str]  # descriptions of the problems; empty if `usable`
    advice: list[str]  # changes to this machine or container that would help a pool
    examination: Examination
    trial: Trial


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Show what a pool could use on this machine, and try one conversion.

    Exits with 0 if there is no problem, with 1 if no worker can be started, the conversion fails, or an installed plugin is
    refused.
    """
    examination = examine()
    trial = try_pool([plugin.name for plugin in examination.plugins])
    problems = list(_problems(examination, trial))
    report = Report(not problems, problems, list(advise(examination, trial)), examination, trial)
    click.echo(msgspec.json.format(msgspec.json.encode(report)) if as_json else "\n".join(_lines(report)))
    ctx.exit(0 if report.usable else 1)


def _problems(examination: Examination, trial: Trial) -> Iterator[str]:
    for refused in examination.refused:
        yield f"plugin {refused.name!r} ({refused.distribution or 'not installed'}) was refused: {refused.reason}"
    if examination.libvips_error is not None:
        yield f"libvips cannot be loaded: {examination.libvips_error}"
    if trial.error is not None:
        problem = "a task failed" if trial.worker_started else "no worker could be started"
        yield f"{problem}: {trial.error}"


def advise(examination: Examination, trial: Trial) -> Iterator[str]:
    """Changes to this machine or container that would help a pool, each with its reason."""
    shared, limit_bytes = examination.shared_memory, examination.memory.pool_limit_bytes
    if shared is None:
        yield "mount a tmpfs at /dev/shm, because sources and results are there"
    elif shared.size_bytes < limit_bytes // 2:
        yield (
            f"make /dev/shm larger, because it has {size(shared.size_bytes)} and memory_limit is {size(limit_bytes)}: "
            "docker run --shm-size, or a volume with medium: Memory"
        )
    if not examination.processes.pidfd:
        yield "use Linux 5.3, or let the container's seccomp profile allow pidfd_open, because each worker needs a thread now"
    if examination.processes.max_descriptors < _MIN_DESCRIPTORS:
        yield (
            f"raise the limit of open files (ulimit -n), because it is {examination.processes.max_descriptors}, "
            "and a server needs a few for each worker and each client"
        )
    if examination.cpus.usable == 1:
        yield f"give it a second CPU ({examination.cpus.bound_by}), because a worker and the event loop share one"
    if trial.sandbox is not None:
        for layer, reason in trial.sandbox.missing.items():
            yield f"let workers have the layer {layer} of the sandbox, which is missing: {reason}"


def _lines(report: Report) -> Iterator[str]:
    trial = report.trial
    last = (("sandbox", trial.sandbox_text), ("trial", _trial_text(trial)))
    for name, value in (*_facts(report.examination), *_plugins(report.examination), *last):
        yield f"{name:<14} {value}"
    yield ""
    yield from (f"problem: {problem}" for problem in report.problems)
    yield from (f"advice: {advice}" for advice in report.advice)
    yield "usable" if report.usable else "not usable as it is"


def _facts(examination: Examination) -> Iterator[tuple[str, str]]:
    cpus, memory, shared = examination.cpus, examination.memory, examination.shared_memory
    yield "offloop", f"{examination.offloop}, {'compiled' if examination.compiled else 'interpreted'}"
    yield "python", f"{examination.python} on {examination.platform}"
    yield "event loop", examination.event_loop
    host = f"{cpus.host or 'an unknown number'} in the host, {cpus.affinity} by affinity"
    yield "CPUs", f"{cpus.usable}, bound by {cpus.bound_by} ({host})"
    yield "memory", f"{size(memory.available_bytes)}, by {memory.available_from}"
    yield "memory limit", f"{size(memory.pool_limit_bytes)} for all of a pool: {memory.pool_limit_from}"
    yield "shared memory", "no /dev/shm" if shared is None else f"{size(shared.free_bytes)} free of {size(shared.size_bytes)}"
    yield "pidfd", "yes" if examination.processes.pidfd else "no: a thread waits for each worker"


def _plugins(examination: Examination) -> Iterator[tuple[str, str]]:
    for plugin in examination.plugins:
        group = "" if plugin.group is None else f", in the worker group {plugin.group!r}"
        yield "plugin", f"{plugin.name} ({plugin.distribution or 'not installed'}): {', '.join(plugin.operations)}{group}"
    for refused in examination.refused:
        yield "plugin", f"{refused.name} ({refused.distribution or 'not installed'}): refused"
    if all(plugin.name == BUILT_IN.name for plugin in examination.plugins) and not examination.refused:
        yield "plugin", 'no other is installed; for pictures: pip install "offloop-vips"'
    if examination.libvips is not None:
        yield "libvips", examination.libvips


def _trial_text(trial: Trial) -> str:
    if trial.start_s is None:
        return "no worker"
    started = f"a worker in {trial.start_s:.2f} s"
    if trial.converted is None:
        return f"{started}; nothing was converted, no plugin here does that"
    if trial.task_s is None:
        return f"{started}; the conversion failed"
    return f"{started}, a picture converted in {trial.task_s:.2f} s"
