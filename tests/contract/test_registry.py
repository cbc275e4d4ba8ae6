"""Plugins are found by metadata and checked. A broken plugin is refused with its distribution and the reason, the others
work."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from offloop.errors import InvalidTask, PluginError
from offloop.operation import Header, Operation
from offloop.plugins import Candidate, Registry, installed_plugins
from offloop.plugins.processor_reference import find_missing_module

GOOD = """
from offloop.operation import Header, Operation, Plugin
class Turn(Operation, frozen=True):
    degrees: int = 90
class Flip(Operation, frozen=True):
    pass
class GoodPlugin(Plugin):
    name = "good"
    operations = (Turn, Flip)
    processor = "this:Processor"
    probe_nbytes = 4
    def probe(self, data):
        return Header(media_type="image/good", width=1, height=2) if bytes(data) == b"GOOD" else None
"""

PROBE = """
class P(Plugin):
    name = "bad"
    operations = (Step,)
    processor = "this:B"
"""

HEAD = "from offloop.operation import Operation, Plugin\nclass Step(Operation, frozen=True): pass\n"

BROKEN = {
    "an import that fails": ("import no_such_module_at_all", "cannot be imported: ModuleNotFoundError: No module named"),
    "an import that raises": ("1 / 0", "cannot be imported: ZeroDivisionError"),
    "an import that exits": ("import sys; sys.exit(3)", "cannot be imported: SystemExit"),
    "no such attribute": ("x = 1", "cannot be imported: AttributeError"),
    "a constructor that raises": (
        HEAD + "class P(Plugin):\n    def __init__(self): raise RuntimeError('boom')\n",
        "cannot be imported: RuntimeError: boom",
    ),
    "another name": (
        HEAD + "class P(Plugin):\n    name = 'other'\n    operations = (Step,)\n    processor = 'this:B'\n",
        "it calls itself 'other'",
    ),
    "no name": (
        HEAD + "class P(Plugin):\n    operations = (Step,)\n    processor = 'this:B'\n",
        "its name must be an identifier",
    ),
    "a name that is no word": (
        HEAD + "class P(Plugin):\n    name = 'a b'\n    operations = (Step,)\n    processor = 'this:B'\n",
        "its name must be an identifier, not 'a b'",
    ),
    "no operations": (HEAD + "class P(Plugin):\n    name = 'bad'\n    processor = 'this:B'\n", "operations must be a tuple"),
    "an empty tuple": (
        HEAD + "class P(Plugin):\n    name = 'bad'\n    operations = ()\n    processor = 'this:B'\n",
        "operations must be a tuple",
    ),
    "a list": (
        HEAD + "class P(Plugin):\n    name = 'bad'\n    operations = [Step]\n    processor = 'this:B'\n",
        "operations must be a tuple",
    ),
    "an instance": (
        HEAD + "class P(Plugin):\n    name = 'bad'\n    operations = (Step(),)\n    processor = 'this:B'\n",
        "operations must be a tuple of Operation subclasses",
    ),
    "the base itself": (
        HEAD + "class P(Plugin):\n    name = 'bad'\n    operations = (Operation,)\n    processor = 'this:B'\n",
        "operations must be a tuple of Operation subclasses",
    ),
    "two operations of one name": (
        HEAD
        + "class Other(Operation, frozen=True, tag='Step'): pass\n"
        + "class P(Plugin):\n    name = 'bad'\n    operations = (Step, Other)\n    processor = 'this:B'\n",
        "two of its operations have the same name",
    ),
    "a processor that is no text": (
        HEAD + "class P(Plugin):\n    name = 'bad'\n    operations = (Step,)\n    processor = Step\n",
        "processor must be text as in 'module:Class'",
    ),
    "a processor without a class": (
        HEAD + "class P(Plugin):\n    name = 'bad'\n    operations = (Step,)\n    processor = 'module'\n",
        "module:Class",
    ),
    "a probe without an argument": (
        HEAD + PROBE + "    def probe(self): pass\n",
        "probe() cannot be called with one argument",
    ),
    "a probe that wants more": (
        HEAD + PROBE + "    def probe(self, data, more): pass\n",
        "probe(data, more) cannot be called with one argument",
    ),
    "a probe that is none": (
        HEAD + PROBE + "    probe = 5\n",
        "it has no method probe",
    ),
    "a probe without a signature": (
        HEAD + PROBE + "    probe = max\n",
        "whose signature cannot be read",
    ),
    "no plugin at all": ("P = 5", "its name must be an identifier"),
}

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs a distribution with one plugin: a module and its metadata. It returns the module's name."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))  # pyright: ignore[reportUnknownMemberType]
    count = 0

    def install_one(name: str, text: str, attribute: str, *, distribution: str | None = None) -> str:
        nonlocal count
        count += 1
        module = f"fake_plugin_{tmp_path.name.replace('-', '_')}_{count}"
        (tmp_path / f"{module}.py").write_text(text)
        distribution = distribution or f"offloop-{name}"
        metadata = tmp_path / f"{distribution.replace('-', '_')}-1.{count}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.{count}\n")
        (metadata / "entry_points.txt").write_text(f"[offloop.processors]\n{name} = {module}:{attribute}\n")
        return module

    yield install_one
    for module in set(sys.modules) - before:
        if module.startswith("fake_plugin_"):
            del sys.modules[module]


def refusals_of(registry: Registry, name: str) -> list[PluginError]:
    return [error for error in registry.refused if error.plugin == name]


def test_discovery_reads_metadata_and_imports_nothing(install: Install) -> None:
    module = install("bad", "raise RuntimeError('imported')", "P")
    found = [candidate for candidate in installed_plugins() if candidate.name == "bad"]
    assert found == [Candidate("bad", f"{module}:P", "offloop-bad 1.1")]
    assert module not in sys.modules


def test_an_installed_plugin_is_registered(install: Install) -> None:
    module = install("good", GOOD, "GoodPlugin")
    registry = Registry()
    assert registry.plugins["good"].candidate == Candidate("good", f"{module}:GoodPlugin", "offloop-good 1.1")
    assert registry.references["good"] == f"{module}:GoodPlugin"
    assert refusals_of(registry, "good") == []


def test_the_processor_stays_text(install: Install) -> None:
    install("good", GOOD, "GoodPlugin")
    Registry()
    assert "this" not in sys.modules


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_refused_by_name_and_the_others_work(
    what: str, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    text, reason = BROKEN[what]
    install("bad", text, "P", distribution="offloop-broken")
    install("good", GOOD, "GoodPlugin")
    with caplog.at_level(logging.WARNING, logger="offloop.plugins"):
        registry = Registry()
    (error,) = refusals_of(registry, "bad")
    assert (error.plugin, error.distribution) == ("bad", "offloop-broken 1.1")
    assert reason in error.reason
    assert str(error).startswith("plugin 'bad' (from offloop-broken 1.1): ")
    assert "good" in registry.plugins
    assert "bad" not in registry.plugins
    assert str(error) in caplog.text


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_that_was_requested_raises_at_once(what: str, install: Install) -> None:
    text, reason = BROKEN[what]
    install("bad", text, "P")
    with pytest.raises(PluginError) as caught:
        Registry(["bad"])
    assert reason in caught.value.reason


def test_of_two_plugins_with_one_name_the_second_is_refused(install: Install) -> None:
    first = install("good", GOOD, "GoodPlugin", distribution="offloop-first")
    install("good", GOOD, "GoodPlugin", distribution="offloop-second")
    registry = Registry()
    assert registry.plugins["good"].candidate.reference == f"{first}:GoodPlugin"
    (error,) = refusals_of(registry, "good")
    assert error.distribution == "offloop-second 1.2"
    assert error.reason == f"its name is taken by {first}:GoodPlugin (offloop-first 1.1)"


def test_an_operation_that_belongs_to_another_plugin_is_refused(install: Install) -> None:
    module = install("good", GOOD, "GoodPlugin")
    thief = f"from {module} import Turn\nfrom offloop.operation import Plugin\n"
    install("thief", thief + "class P(Plugin):\n    name = 'thief'\n    operations = (Turn,)\n    processor = 'this:B'\n", "P")
    registry = Registry()
    (error,) = refusals_of(registry, "thief")
    assert "Turn" in error.reason
    assert "'good'" in error.reason


def test_the_error_of_a_plugin_that_is_not_installed_lists_the_installed_ones(install: Install) -> None:
    install("good", GOOD, "GoodPlugin")
    with pytest.raises(PluginError, match=r"plugin 'godo': no such plugin is installed \(there are: .*good"):
        Registry(["godo"])


def test_only_requested_plugins_are_imported(install: Install) -> None:
    install("good", GOOD, "GoodPlugin")
    broken = install("bad", "raise RuntimeError('imported')", "P")
    assert list(Registry(["good"]).plugins) == ["good"]
    assert broken not in sys.modules


def test_a_plugin_can_be_given_as_a_reference_a_class_or_an_object(install: Install) -> None:
    module = install("good", GOOD, "GoodPlugin")
    by_reference = Registry([f"{module}:GoodPlugin"])
    kind = type(by_reference.plugins["good"].plugin)
    assert list(by_reference.plugins) == list(Registry([kind]).plugins) == list(Registry([kind()]).plugins) == ["good"]


@pytest.mark.parametrize("processor", ["no_such_module:P", "this.processor:P", "no_such_package.processor:P", "offloop.no:P"])
def test_a_processor_whose_module_does_not_exist_is_refused(install: Install, processor: str) -> None:
    install("good", GOOD.replace("this:Processor", processor), "GoodPlugin")
    with pytest.raises(PluginError, match=f"its processor '{processor}' cannot be imported: there is no module"):
        Registry(["good"])


def test_a_processor_is_checked_without_importing_its_module_or_package(install: Install, tmp_path: Path) -> None:
    heavy = tmp_path / "fake_plugin_heavy" / "inner"
    heavy.mkdir(parents=True)
    for file in (heavy.parent / "__init__.py", heavy / "__init__.py", heavy / "processor.py"):
        file.write_text("raise RuntimeError('imported')")
    install("good", GOOD.replace("this:Processor", "fake_plugin_heavy.inner.processor:P"), "GoodPlugin")
    assert list(Registry(["good"]).plugins) == ["good"]
    assert find_missing_module("fake_plugin_heavy.inner.procesor") == "fake_plugin_heavy.inner.procesor"


def test_an_instance_with_its_own_state_is_refused_with_the_names_of_its_attributes(install: Install) -> None:
    module = install("good", GOOD, "GoodPlugin")
    plugin = type(Registry([f"{module}:GoodPlugin"]).plugins["good"].plugin)()
    plugin.__dict__["model"] = "x"
    with pytest.raises(PluginError, match=r"plugin 'good': .*would not reach a worker: model"):
        Registry([plugin])


def test_no_plugins_is_a_choice() -> None:
    registry = Registry([])
    assert (registry.plugins, registry.probe_nbytes, registry.probe(memoryview(b"GOOD"))) == ({}, 0, None)


# Pipelines


@pytest.fixture
def good(install: Install) -> tuple[Registry, type[Operation], type[Operation]]:
    """A registry with one plugin, and its two operations."""
    install("good", GOOD, "GoodPlugin")
    registry = Registry(["good"])
    turn, flip = registry.plugins["good"].plugin.operations
    return registry, turn, flip


Good = tuple[Registry, type[Operation], type[Operation]]


def test_consecutive_operations_of_one_plugin_are_one_stage(good: Good) -> None:
    registry, turn, flip = good
    (stage,) = registry.stages([turn(), flip(), turn()])
    assert stage.plugin == "good"
    assert msgspec.msgpack.decode(stage.operations) == [["Turn", 90], ["Flip"], ["Turn", 90]]


def test_later_operations_of_the_same_plugin_are_another_stage(good: Good, install: Install) -> None:
    registry, turn, _ = good
    text = HEAD + "class P(Plugin):\n    name = 'next'\n    operations = (Step,)\n    processor = 'this:B'\n"
    install("next", text, "P")
    registry = Registry([registry.references["good"], "next"])
    (step,) = registry.plugins["next"].plugin.operations
    turn = registry.plugins["good"].plugin.operations[0]
    assert [stage.plugin for stage in registry.stages([turn(), step(), step(), turn()])] == ["good", "next", "good"]


def test_an_empty_pipeline_is_refused(good: Good) -> None:
    with pytest.raises(InvalidTask, match="the pipeline is empty"):
        good[0].stages([])


def test_a_single_operation_is_refused_with_how_to_write_it(good: Good) -> None:
    with pytest.raises(InvalidTask, match=r"write it as a list: \[Turn\(degrees=90\)\]"):
        good[0].stages(good[1]())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("nonsense", [5, "Turn", None, object()], ids=["a number", "a name", "None", "an object"])
def test_an_object_that_is_not_an_operation_is_refused(good: Good, nonsense: object) -> None:
    with pytest.raises(InvalidTask, match="is not an operation"):
        good[0].stages([good[1](), nonsense])  # pyright: ignore[reportArgumentType]


def test_a_class_in_place_of_an_instance_is_refused(good: Good) -> None:
    with pytest.raises(InvalidTask, match="is not an operation; use instances"):
        good[0].stages([good[1]])  # pyright: ignore[reportArgumentType]


def test_the_error_of_an_operation_of_no_plugin_lists_the_plugins_and_the_refusals(install: Install) -> None:
    install("good", GOOD, "GoodPlugin")
    install("bad", "raise RuntimeError('boom')", "P")

    class Stranger(Operation, frozen=True):
        pass

    with pytest.raises(InvalidTask, match=r"Stranger belongs to no plugin of this pool .*good.*refused: plugin 'bad'.*boom"):
        Registry().stages([Stranger()])


def test_a_plugin_may_refuse_the_order_of_its_operations(install: Install) -> None:
    check = (
        "    def check(self, operations):\n"
        "        if len(operations) > 1:\n"
        "            raise InvalidTask('Step cannot follow Step')\n"
    )
    install("bad", HEAD + "from offloop.errors import InvalidTask\n" + PROBE + check, "P")
    registry = Registry(["bad"])
    (step,) = registry.plugins["bad"].plugin.operations
    assert len(registry.stages([step()])) == 1
    with pytest.raises(InvalidTask, match="Step cannot follow Step"):
        registry.stages([step(), step()])


# Probes


def test_a_probe_gets_at_most_probe_nbytes(good: Good) -> None:
    registry = good[0]
    assert registry.probe_nbytes == 4
    assert registry.probe(memoryview(b"GOOD and more")) == Header(media_type="image/good", width=1, height=2)
    assert registry.probe(memoryview(b"BAD")) is None


def test_a_probe_that_raises_is_named(install: Install) -> None:
    install("bad", HEAD + PROBE + "    def probe(self, data): raise KeyError('oops')\n", "P")
    with pytest.raises(PluginError, match="plugin 'bad': its probe raised KeyError: 'oops'"):
        Registry(["bad"]).probe(memoryview(b"x"))
