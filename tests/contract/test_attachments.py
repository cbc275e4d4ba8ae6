"""Attachments: sources in the fields of operations. A worker gets their indices, and the plans of tasks have no sources."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offloop.client.sources import MAX_SOURCES, classify_all
from offloop.errors import InvalidTask
from offloop.operation import Attachment, Estimate, Header, Operation, Plugin, SourceHeader, decoder_for
from offloop.plugins import Planner, Registry
from offloop.plugins.estimator import Estimator, SourceHead


class Join(Operation, frozen=True):
    other: Attachment
    more: tuple[Attachment, ...] = ()
    mask: Attachment | None = None


class Plain(Operation, frozen=True):
    number: int = 0


class JoiningPlugin(Plugin):
    name = "joining"
    operations = (Join, Plain)
    processor = "this:Processor"
    probe_nbytes = 4

    def __init__(self) -> None:
        self.checked: list[Operation] = []
        self.estimated: list[tuple[Sequence[SourceHeader], Sequence[Operation]]] = []

    def check(self, operations: Sequence[Operation]) -> None:
        self.checked += operations

    def probe(self, data: memoryview) -> Header | None:
        return Header(media_type=bytes(data).decode(), width=len(data), height=1) if data else None

    def estimate_sources(self, sources: Sequence[SourceHeader], operations: Sequence[Operation]) -> Estimate | None:
        self.estimated.append((sources, operations))
        return Estimate(peak_bytes=sum(source.nbytes for source in sources), work_s=1.0)


class Bytes(bytearray):
    """Bytes that a weak reference may have."""


@pytest.fixture
def planner() -> Planner:
    return Planner(Registry([JoiningPlugin]), {"default": (JoiningPlugin.name,)})


def plugin_of(planner: Planner) -> JoiningPlugin:
    plugin = planner._registry.plugins["joining"].plugin
    assert isinstance(plugin, JoiningPlugin)
    return plugin


def test_a_source_in_a_field_is_wrapped_whatever_its_kind() -> None:
    array = memoryview(b"abc")
    join = Join(array, more=[b"x", Path("y")], mask=None)  # pyright: ignore[reportArgumentType]
    assert (join.other.source, join.mask) == (array, None)
    assert [attachment.source for attachment in join.more] == [b"x", Path("y")]
    assert Join(Attachment(array)) == Join(array)  # pyright: ignore[reportArgumentType]
    assert repr(join.other) == "Attachment(<memoryview>)"


def test_operations_with_attachments_are_equal_and_hashable_by_the_identity_of_the_source() -> None:
    data = bytes(100)
    assert Join(Attachment(data)) == Join(Attachment(data)) != Join(Attachment(bytes(bytearray(100))))
    assert len({Join(Attachment(data)), Join(Attachment(data))}) == 1


def test_a_worker_gets_the_indices_of_the_attachments(planner: Planner) -> None:
    first, second, third = b"first", b"second", b"third"
    pipeline = [Join(Attachment(first), (Attachment(second), Attachment(first))), Plain(), Join(Attachment(third))]
    plan = planner.plan(pipeline)
    assert plan.attachments == (first, second, third)
    (stage,) = plan.stages
    join, plain, last = decoder_for((Join, Plain)).decode(stage.operations)
    assert isinstance(join, Join)
    assert isinstance(last, Join)
    assert (plain, join.mask) == (Plain(), None)
    assert [attachment.index for attachment in (join.other, *join.more, last.other)] == [1, 2, 1, 3]
    assert join.other.source is None


def test_tasks_that_differ_only_in_their_attachments_share_a_plan(planner: Planner) -> None:
    first, second = planner.plan([Join(Attachment(b"a"))]), planner.plan([Join(Attachment(b"b"))])
    assert first.stages is second.stages
    assert (first.attachments, second.attachments, planner.plan([Plain()]).attachments) == ((b"a",), (b"b",), ())
    two = planner.plan([Join(Attachment(b"a"), (Attachment(b"b"),))])
    assert two.stages is not first.stages


def test_a_plan_keeps_no_attachment_alive(planner: Planner) -> None:
    source = Bytes(b"large")
    reference = weakref.ref(source)
    join = Join(Attachment(source))
    planner.plan([join])
    with pytest.raises(InvalidTask):
        planner.plan([join, Unknown()])
    del source, join
    gc.collect()
    assert reference() is None
    assert plugin_of(planner).checked == [Join(Attachment.at(1))]


class Unknown(Operation, frozen=True):
    """Belongs to no plugin."""


def test_named_pipelines_number_their_attachments_together_and_equal_sources_once(planner: Planner) -> None:
    logo, mask = b"logo", b"mask"
    pipelines = {"a": [Join(Attachment(logo))], "b": [Join(Attachment(mask))], "c": [Join(Attachment(logo))]}
    plan = planner.plan_many(pipelines)
    joins = [decoder_for((Join,)).decode(stage.operations)[0] for stage in plan.stages]
    assert [join.other.index for join in joins if isinstance(join, Join)] == [1, 2, 1]
    assert plan.attachments == (logo, mask)


def test_a_value_that_cannot_be_sent_is_still_refused_by_name() -> None:
    planner = Planner(Registry([OddPlugin]), {"default": ("odd",)})
    with pytest.raises(InvalidTask, match="cannot be sent to a worker: Encoding objects of type set_iterator is unsupported"):
        planner.plan([Odd(iter({1}))])


class Odd(Operation, frozen=True):
    value: Any = None


class OddPlugin(Plugin):
    name = "odd"
    operations = (Odd,)
    processor = "this:Processor"


def test_a_field_of_another_type_is_checked_as_before() -> None:
    with pytest.raises(InvalidTask, match="Expected `int`, got `str`"):
        Plain("x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(msgspec.ValidationError):
        decoder_for((Join,)).decode(msgspec.msgpack.encode([["Join", "no index"]]))


def test_a_task_has_at_most_so_many_sources_and_each_is_classified() -> None:
    assert len(classify_all(b"", [b""] * (MAX_SOURCES - 1))) == MAX_SOURCES
    with pytest.raises(InvalidTask, match=f"the task has {MAX_SOURCES + 1} sources, and {MAX_SOURCES} is the limit"):
        classify_all(b"", [b""] * MAX_SOURCES)
    with pytest.raises(InvalidTask, match="a str is no source"):
        classify_all(b"", ["logo.png"])


def test_an_estimate_sees_the_header_and_the_length_of_each_source() -> None:
    plugin = JoiningPlugin()
    heads = [SourceHead(10, memoryview(b"jpegs")), SourceHead(30, memoryview(b"png")), SourceHead(6, None, (1, 2, 3))]
    estimate, media_type = Estimator([(plugin, (Plain(),))]).estimate(heads)
    assert (estimate, media_type) == (Estimate(peak_bytes=46, work_s=1.0), "jpeg")
    ((sources, operations),) = plugin.estimated
    assert [(source.header and source.header.media_type, source.nbytes) for source in sources] == [
        ("jpeg", 10),
        ("png", 30),
        ("", 6),
    ]
    assert operations == (Plain(),)


def test_a_later_stage_sees_the_attachments_and_no_first_source() -> None:
    first, later = JoiningPlugin(), JoiningPlugin()
    Estimator([(first, ()), (later, ())]).estimate([SourceHead(10, memoryview(b"jpeg")), SourceHead(30, memoryview(b"png"))])
    ((sources, _),) = later.estimated
    assert [(source.header is None, source.nbytes) for source in sources] == [(True, 0), (False, 30)]


def test_by_default_a_plugin_estimates_by_the_first_source_alone() -> None:
    class Simple(JoiningPlugin):
        estimate_sources = Plugin.estimate_sources

        def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
            return Estimate(peak_bytes=nbytes, work_s=2.0)

    heads = [SourceHead(10, memoryview(b"jpeg")), SourceHead(30, memoryview(b"png"))]
    assert Estimator([(Simple(), ())]).estimate(heads)[0] == Estimate(peak_bytes=10, work_s=2.0)
