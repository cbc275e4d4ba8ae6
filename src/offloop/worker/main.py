"""Sets up the worker process from inherited descriptors, and runs one task after another.

The order of the set-up matters. The descriptors are moved first, because code that is loaded later must not find them. Then
`watch_parent` is called, because a worker must not survive its supervisor. Then the first message configures the worker. The
sandbox is narrowed before plugins are loaded, and again after that, before the first task: see `isolation.sandbox`.
"""

from __future__ import annotations

import os
import signal
import sys

from ..processor import Encoded, Payload, Raster
from ..wire.claims import claim_run
from ..wire.handles import INBOX, EncodedAt, Handle, RasterAt
from ..wire.messages import Configure, Loading, Ready, Retire, Run
from ..wire.start import START_MARK
from .channel import Channel
from .failures import keep_source_lines
from .idle_memory import trim_heaps
from .isolation.descriptors import isolate_fd
from .isolation.kernel import Kernel
from .isolation.memory_limits import PrivateMemory
from .isolation.parent_death import watch_parent
from .isolation.priority import lower_priority, yield_timeslice
from .isolation.sandbox import Sandbox
from .isolation.terminal import detach_tty
from .logs import forward_logs
from .output import open_output
from .processors import ProcessorCache
from .segments import Segment
from .task_runner import TaskRunner

__all__ = ["main", "run_from_command_line", "serve"]


def run_from_command_line(
    channel_type: type[Channel] = Channel, runner_type: type[TaskRunner] = TaskRunner, kernel: Kernel | None = None
) -> None:
    """Run the worker with the descriptors that are the first four arguments of the program. All arguments are removed, because
    plugin code may read them."""
    descriptors = [int(argument) for argument in sys.argv[1:5]]
    del sys.argv[1:]
    main(descriptors, channel_type, runner_type, kernel or Kernel())


def main(descriptors: list[int], channel_type: type[Channel], runner_type: type[TaskRunner], kernel: Kernel) -> None:
    """Set up the process, load the plugins and serve until `Retire` arrives or the supervisor dies.

    Args:
        descriptors: the channel, the read end of the lifeline (see `isolation.parent_death`), the inbox, the outbox.
        channel_type, runner_type, kernel: the classes of the worker's parts, and the kernel of its sandbox; tests have
            subclasses of them.
    """
    os.environ.pop(START_MARK, None)  # because a program that a processor starts is not a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # because the server handles a terminal's Ctrl-C
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # because a worker inherits SIG_IGN, and then `wait` returns no exit code
    detach_tty()
    channel_fd, lifeline_fd, inbox_fd, outbox_fd = (isolate_fd(fd) for fd in descriptors)
    watch_parent(lifeline_fd)
    open_output()
    channel = channel_type(channel_fd)
    configure = channel.next_message()
    assert isinstance(configure, Configure), "the first message is Configure"
    lower_priority(configure.nice)
    forward_logs(configure.log_level)
    inbox = Segment(inbox_fd, configure.inbox_nbytes, writable=False)
    outbox = Segment(outbox_fd, configure.outbox_nbytes, writable=True)
    processors = ProcessorCache(configure.slot, configure.plugins)
    memory = PrivateMemory()
    if configure.max_private_bytes is not None:
        memory.set_hard_limit(configure.max_private_bytes)
    sandbox = Sandbox(configure.sandbox, configure.needs, kernel)
    sandbox.before_loading(_max_file_nbytes(configure))
    queues_runs = kernel.register_barrier()  # before the filter of system calls
    channel.send(Loading(os.getpid()))
    failed = processors.load_all(outbox.first_page)
    runner = runner_type(channel, outbox, processors, memory)
    if configure.sandbox != "off":
        keep_source_lines(processors.packages)
    sandbox.after_loading()
    channel.start_control(trim_heaps)  # between the two, because the filter may forbid threads, and Landlock is inherited
    posture = sandbox.filter_calls(lifeline_fd)
    channel.send(Ready(os.getpid(), memory.rebaseline(), failed, posture, queues_runs))
    serve(channel, runner, inbox, outbox)


def _max_file_nbytes(configure: Configure) -> int | None:
    """Returns the length of the longest result, which may go into a file; None: no limit."""
    if configure.max_private_bytes is None:
        return None
    return configure.outbox_nbytes + configure.max_private_bytes


def serve(channel: Channel, runner: TaskRunner, inbox: Segment, outbox: Segment) -> None:
    """Run tasks until `Retire` arrives."""
    while True:
        match channel.next_message():
            case Run() as run:
                if claim_run(outbox.first_page, run.number) and not runner.retiring:
                    yield_timeslice(runner.run(run, _sources_of(run, inbox, outbox)))
                else:
                    runner.skip(run)
            case Retire():
                return
            case _:
                pass  # a `Grant` or `File` for a task that has ended


def _sources_of(run: Run, inbox: Segment, outbox: Segment) -> tuple[Payload, ...]:
    return tuple([_payload_of(source, inbox, outbox) for source in run.sources])


def _payload_of(source: EncodedAt | RasterAt, inbox: Segment, outbox: Segment) -> Payload:
    data = memoryview(b"") if source.block is None else _view_of(source.block, inbox, outbox)
    return Encoded(data) if isinstance(source, EncodedAt) else Raster(data, source.shape, source.dtype)


def _view_of(handle: Handle, inbox: Segment, outbox: Segment) -> memoryview:
    segment = inbox if handle.segment == INBOX else outbox
    return segment.view(handle).toreadonly()
