"""Random values of random types go to a worker and come back equal, and equal to what the types allow."""

from __future__ import annotations

import datetime as dt
from typing import Any

import anyio
import jobs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from offloop import InvalidTask, Pool
from offloop.functions.encoding.signature import Signature

INTEGERS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | TEXTS | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
CASES: dict[Any, st.SearchStrategy[Any]] = {
    jobs.echo_anything: PLAIN,
    jobs.echo_number: INTEGERS,
    jobs.echo_bytes: st.binary(max_size=20_000),
    jobs.echo_bytearray: st.binary(max_size=9000).map(bytearray),
    jobs.echo_view: st.binary(max_size=20_000).map(memoryview),
    jobs.echo_point: st.builds(jobs.Point, st.floats(allow_nan=False), st.floats(allow_nan=False), st.lists(TEXTS, max_size=4)),
    jobs.echo_person: st.builds(jobs.Person, TEXTS, st.none() | st.dates()),
    jobs.echo_time: st.datetimes(timezones=st.just(dt.UTC)),
    jobs.echo_decimal: st.decimals(allow_nan=False, allow_infinity=False),
    jobs.echo_uuid: st.uuids(),
    jobs.echo_set: st.sets(INTEGERS, max_size=5),
    jobs.echo_tuple: st.tuples(INTEGERS, TEXTS),
    jobs.echo_union: st.none() | INTEGERS | TEXTS | st.lists(st.floats(allow_nan=False), max_size=4),
    jobs.echo_array: stn.arrays(
        stn.integer_dtypes() | stn.floating_dtypes(sizes=(32, 64)) | stn.boolean_dtypes(),
        stn.array_shapes(max_dims=4, max_side=6, min_side=0),
        elements={"allow_nan": False},
    ),
}
CALLS = st.sampled_from(list(CASES)).flatmap(lambda function: st.tuples(st.just(function), CASES[function]))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(CALLS, min_size=20, max_size=60))
def test_random_values_come_back_equal(calls: list[tuple[Any, Any]]) -> None:
    async def main() -> None:
        async with Pool(1, plugins=["functions"], memory_limit="256MiB") as pool:
            for function, value in calls:
                back = await pool.call(function, value)
                if function is jobs.echo_array:
                    assert (back.dtype, back.shape) == (value.dtype, value.shape)
                    assert np.array_equal(back, value)
                else:
                    assert back == value
                    assert type(back) is type(value)

    anyio.run(main)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_random_arguments_of_the_wrong_type_are_refused_without_a_worker(value: Any) -> None:
    signature = Signature(jobs.echo_number, "echo_number")
    if isinstance(value, int) and not isinstance(value, bool):
        encoded = signature.encode((value,), {})
        assert signature.decode(encoded.encoded, [])["value"] == value
        return
    with pytest.raises(InvalidTask, match="the argument value: Expected `int`"):
        signature.encode((value,), {})
