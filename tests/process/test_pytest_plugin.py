"""Fixtures of the pytest plugin, in a user's own tests in another directory."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "test_your_service.py"

# no other plugins, and no rewritten assertions in all packages with a plugin, because rewriting takes most of the time
PLAIN = ["--assert=plain", "-p", "no:xdist", "-p", "no:randomly", "-p", "no:cacheprovider"]

CONFTEST = """
import pytest

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
def offloop_pool_settings():
    return {"workers": 1, "plugins": ["offloop.testing.faults:FaultsPlugin"], "memory_limit": "16MiB"}
"""


def run(pytester: pytest.Pytester, tests: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        "import pytest\nfrom offloop.testing.faults import Echo, HoldOn\npytestmark = pytest.mark.anyio\n" + tests
    )
    return pytester.runpytest_subprocess(*PLAIN)


def test_a_users_tests_get_running_pools_on_their_loop(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
async def test_default(offloop_pool):
    assert bytes(await offloop_pool.run(b"abc", [Echo()])) == b"abc"
    assert offloop_pool.statistics().workers == {"idle": 1}

async def test_factory(offloop_pool_factory, offloop_pool_settings):
    import anyio
    with anyio.fail_after(30):  # a scope of the test's own, which the pool outlives
        first = await offloop_pool_factory(**offloop_pool_settings)
        second = await offloop_pool_factory(2, plugins=["offloop.testing.faults:FaultsPlugin"], memory_limit="16MiB")
    assert bytes(await first.run(b"abc", [Echo()])) == b"abc"
    assert bytes(await second.run(await first.run(b"abc", [Echo()]), [Echo()])) == b"abc"

async def test_scripted(offloop_pool_factory, offloop_pool_settings):
    from offloop.testing import Answer, scripted_pool
    pool = await offloop_pool_factory(scripted_pool([Answer(b"scripted")], **offloop_pool_settings))
    assert bytes(await pool.run(b"abc", [Echo()])) == b"scripted"
""",
    )
    result.assert_outcomes(passed=6)


def test_a_result_that_is_kept_is_found_after_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
kept = []

async def test_keeps(offloop_pool):
    kept.append(await offloop_pool.run(b"abc", [Echo()]))
""",
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*blocks of shared memory are still leased, by {'caller': 1}*"])


def test_a_child_that_is_left_is_found_after_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import subprocess
children = []

@pytest.fixture(autouse=True, scope="module")
def reap():
    yield
    for child in children:
        child.kill()
        child.wait()

async def test_leaves(offloop_pool):
    children.append(subprocess.Popen(["sleep", "60"]))
""",
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*child processes are left: *sleep 60*"])


def test_a_pool_that_cannot_be_opened_says_so_in_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
async def test_refused(offloop_pool_factory):
    from offloop import WorkerDied
    from offloop.testing import Die, scripted_pool
    with pytest.raises(WorkerDied):
        await offloop_pool_factory(scripted_pool([], starts=[Die(3)] * 3, plugins=["offloop.testing.faults:FaultsPlugin"]))
""",
    )
    result.assert_outcomes(passed=2)


def test_the_example_of_the_docs_passes(pytester: pytest.Pytester) -> None:
    result = run(pytester, EXAMPLE.read_text())
    result.assert_outcomes(passed=10)


def test_the_fixtures_are_listed_with_what_they_do(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", *PLAIN)
    result.stdout.fnmatch_lines(["offloop_pool_factory*", "*A function that returns running pools*", "offloop_pool *"])
