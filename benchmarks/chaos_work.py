"""The jobs of the soak test: real work with a known output, and work with a known fault."""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from offloop import Operation, PluginError, QueueTimeout, TaskFailed, TaskTimeout, WorkerDied
from offloop.testing.faults import (
    Allocate,
    CallBackBadly,
    Echo,
    Exit,
    Hang,
    Kill,
    LeaveChild,
    Noop,
    PrintText,
    Raise,
    ReturnNonsense,
    Say,
    Wait,
    WriteStderr,
)
from offloop_vips import Avif, Blur, Grayscale, Jpeg, Png, Raw, Resize, Rotate, Sharpen, Webp

__all__ = ["Job", "Work", "digest"]

PHOTOS = Path(__file__).resolve().parent.parent / "docs" / "photos"
NOISE_NBYTES = 4 * 1024 * 1024
LONG_S = 120.0  # time-out in seconds that no job reaches, not even if its worker is stopped for a while


def digest(data: memoryview | bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One task, or two of which the second uses the result of the first, and its allowed outcomes."""

    kind: str
    recipe: str  # key of the output: tasks with the same recipe have the same output
    data: bytes = b""
    path: Path | None = None  # file with the same bytes
    form: str = "bytes"  # kind of the source: bytes, path, buffer, stream
    pipeline: tuple[Operation, ...]
    then: tuple[Operation, ...] = ()  # operations of the second task
    to_file: bool = False
    timeout_s: float = LONG_S
    queue_timeout_s: float | None = None
    cancel_after_s: float | None = None
    hold_s: float = 0.0  # seconds for which the result's view is kept
    may_succeed: bool = True
    any_output: bool = False  # whether a successful task may have any output
    errors: tuple[type[Exception], ...] = ()  # errors that are allowed outcomes
    poison: bool = False  # whether the task harms its worker


class Work:
    """Makes jobs, each from its own seed, so that each can be repeated."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._photos = {path.name: path.read_bytes() for path in sorted(PHOTOS.iterdir()) if path.suffix != ".md"}
        self._noise = random.Random(seed).randbytes(NOISE_NBYTES)
        self.recipes = {job.recipe: job for job in self._recipes()}
        self.outputs: dict[str, str] = {}  # recipe -> digest, from a run without faults

    def job(self, number: int) -> Job:
        """Returns the job with this number."""
        choice = random.Random(f"{self._seed} {number}")
        makers: list[tuple[int, Callable[[random.Random], Job]]] = [
            (40, self._picture),
            (20, self._echo),
            (8, self._corrupt),
            (8, self._flood),
            (6, self._hurried),
            (4, self._overdue),
            (4, self._refused),
            (4, self._deadly),
        ]
        (maker,) = choice.choices([maker for _, maker in makers], [weight for weight, _ in makers])
        job = maker(choice)
        if choice.random() < 0.12:
            job = replace(job, cancel_after_s=choice.choice([0.0, choice.uniform(0, 0.01), choice.uniform(0, 0.3)]))
        if choice.random() < 0.05:
            job = replace(job, queue_timeout_s=choice.uniform(0.01, 0.5), errors=(*job.errors, QueueTimeout))
        return job

    def _recipes(self) -> Iterator[Job]:
        endings = {
            "thumbnail": (Resize(160, 120), Webp()),
            "card": (Resize(320, 240, fit="cover", position="attention"), Sharpen(), Jpeg(quality=75)),
            "avif": (Resize(96, 96), Avif(effort=0)),
            "blur": (Resize(300), Blur(4), Png(compression_level=1)),
            "turned": (Resize(200), Rotate(90), Grayscale(), Png(compression_level=1)),
        }
        for name, data in self._photos.items():
            for ending, pipeline in endings.items():
                yield Job(kind=ending, recipe=f"{name}: {ending}", data=data, path=PHOTOS / name, pipeline=pipeline)
            raw = Job(kind="samples", recipe=f"{name}: samples", data=data, path=PHOTOS / name, pipeline=(Resize(256), Raw()))
            yield raw
            yield replace(raw, kind="chain", recipe=f"{name}: chain", then=(Blur(2), Webp()))

    # Real work

    def _picture(self, choice: random.Random) -> Job:
        job = self.recipes[choice.choice(list(self.recipes))]
        form = choice.choice(["bytes", "path", "buffer", "stream"])
        hold_s = choice.choice([0.0, choice.uniform(0, 2)])
        to_file = job.kind != "samples" and choice.random() < 0.2
        return replace(job, form=form, hold_s=hold_s, to_file=to_file)

    def _echo(self, choice: random.Random) -> Job:
        nbytes = int(2 ** choice.uniform(0, 21.5)) - 1
        start = choice.randrange(NOISE_NBYTES - nbytes)
        then = (Echo(),) if choice.random() < 0.3 else ()
        return Job(
            kind="echo",
            recipe="echo",
            data=self._noise[start : start + nbytes],
            form=choice.choice(["bytes", "buffer", "stream"]) if nbytes else "bytes",
            pipeline=(Echo(),),
            then=then,
            hold_s=choice.choice([0.0, choice.uniform(0, 1)]),
            to_file=choice.random() < 0.1,
        )

    def _hurried(self, choice: random.Random) -> Job:
        """Returns a job that may exceed its time-out."""
        return replace(self._picture(choice), kind="hurried", timeout_s=choice.uniform(0.001, 0.1), errors=(TaskTimeout,))

    def _flood(self, choice: random.Random) -> Job:
        noise = self._noise[: choice.randrange(2000)].decode("latin-1")
        flood = choice.choice([WriteStderr(choice.randrange(2_000_000)), PrintText(noise), PrintText("\n" * 5000)])
        return replace(self._echo(choice), kind="flood", pipeline=(flood, Echo()))

    # Faults

    def _corrupt(self, choice: random.Random) -> Job:
        """Returns a job with a corrupt source. Its outcome is a picture or a refusal, and it must not harm its worker."""
        data = bytearray(choice.choice(list(self._photos.values())))
        if choice.random() < 0.5:
            del data[choice.randrange(len(data)) :]
        for _ in range(choice.choice([0, 1, 10, 100]) if data else 0):
            data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
        pipeline = (Resize(64), Webp(effort=0))
        return Job(kind="corrupt", recipe="corrupt", data=bytes(data), pipeline=pipeline, any_output=True, errors=(TaskFailed,))

    def _refused(self, choice: random.Random) -> Job:
        operation, error = choice.choice(
            [
                *((Raise(kind), TaskFailed) for kind in ("ordinary", "unpicklable", "textless", "system_exit", "task_failed")),
                (Say("error"), TaskFailed),
                (Say("nested info"), PluginError),
                (Say("surrogate info"), PluginError),
                (ReturnNonsense(), PluginError),
            ]
        )
        return Job(kind="refused", recipe=repr(operation), pipeline=(operation,), may_succeed=False, errors=(error,))

    def _overdue(self, choice: random.Random) -> Job:
        operation = choice.choice([Wait(60), Hang("sleep"), Hang("spin"), Hang("hold_gil"), CallBackBadly()])
        return Job(
            kind="overdue",
            recipe=repr(operation),
            pipeline=(operation,),
            timeout_s=choice.uniform(0.01, 0.2),
            may_succeed=False,
            errors=(TaskTimeout,),
            poison=True,
        )

    def _deadly(self, choice: random.Random) -> Job:
        if choice.random() < 0.2:
            return Job(kind="deadly", recipe="leave child", pipeline=(LeaveChild(), Noop()), any_output=True, poison=True)
        half_done = (Allocate(choice.randrange(1, 500_000)),) if choice.random() < 0.5 else ()
        signals = (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM)
        end = choice.choice([Exit(choice.randrange(256)), *(Kill(number) for number in signals)])
        return Job(
            kind="deadly", recipe=repr(end), pipeline=(*half_done, end), may_succeed=False, errors=(WorkerDied,), poison=True
        )
