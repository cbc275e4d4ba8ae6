"""`to_dict()` of statistics, histograms, timings, headers and infos returns values for `json.dumps`."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from offloop import GroupStatistics, Header, Histogram, Info, Posture, Statistics, Timings
from offloop.core.telemetry.histogram_recorder import Recorder


class PhotoHeader(Header, frozen=True, kw_only=True):
    """A plugin's own header."""

    lens: str


def histogram() -> Histogram:
    recorder = Recorder()
    recorder.record(0.5)
    return recorder.snapshot()


def statistics() -> Statistics:
    """Returns statistics with a value in each field: a number, a mapping or a histogram."""
    examples: dict[str, Any] = {
        "int": 3,
        "float": 0.5,
        "str": "closed",
        "str | None": None,
        "dict[str, int]": {"": 2},
        "dict[int, int]": {-1: 2},
        "Histogram": histogram(),
        "dict[str, str]": {"bad": "its load hangs"},
        "Posture | None": Posture(mode="auto", missing={"seccomp": "no table"}, limits={"core": 0}),
    }
    group = GroupStatistics(**{name: examples[kind] for name, kind in GroupStatistics.__annotations__.items()})
    examples["dict[str, GroupStatistics]"] = {"default": group}
    return Statistics(**{name: examples[kind] for name, kind in Statistics.__annotations__.items()})


def through_json(value: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(value))


def test_statistics_with_their_histograms_can_be_encoded_as_json() -> None:
    told = through_json(statistics().to_dict())
    assert told.keys() == set(Statistics.__struct_fields__)
    assert told["waiting_by_priority"] == {"-1": 2}
    assert told["wait"]["count"] == 1


def test_a_histogram_has_its_buckets() -> None:
    told = through_json(histogram().to_dict())
    assert told["sum_s"] == told["max_s"] == 0.5
    assert told["buckets"] == [list(bucket) for bucket in histogram().buckets]


def test_timings_have_the_waiting_and_the_running_time() -> None:
    timings = Timings(queued=1.0, started=1.25, finished=2.0)
    assert through_json(timings.to_dict()) == {"queued": 1.0, "started": 1.25, "finished": 2.0, "waited": 0.25, "ran": 0.75}


def test_a_header_has_the_fields_of_its_plugin() -> None:
    told = through_json(PhotoHeader(media_type="image/jpeg", width=3, height=2, lens="50 mm").to_dict())
    assert told["lens"] == "50 mm"
    assert told.keys() == set(PhotoHeader.__struct_fields__)


@pytest.mark.parametrize("value", [1, 0.5, "text", None, True, [1, [2]], {"a": {"b": 1}}])
def test_an_info_has_the_values_of_the_plugin(value: object) -> None:
    assert through_json(Info({"key": value}).to_dict()) == {"key": value}


def test_no_field_is_lost() -> None:
    assert msgspec.convert(statistics().to_dict()["run"], Histogram) == histogram()
