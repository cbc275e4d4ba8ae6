"""The pages of the benchmarks are made from the results alone, and hold every contender."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from suite.pages import render
from suite.peers import found_here
from suite.questions import QUESTIONS
from suite.records import Turn, header, read, write
from suite.summary import summary

CONTENDERS = ("offloop", "ProcessPoolExecutor")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for question in QUESTIONS.values():
        turns = [
            Turn(
                contender,
                turn,
                {figure.key: 10.0 * turn + place for figure in question.figures} | {"server_cpu_s": 1.0, "server_us": 50.0},
            )
            for turn in range(3)
            for place, contender in enumerate(CONTENDERS, 1)
        ]
        write(tmp_path / "results" / f"{question.name}.jsonl", header(question.name, found_here(), is_quick=False), turns)
    return tmp_path / "results"


def test_results_survive_their_file(results: Path) -> None:
    run, turns = read(results / "calls.jsonl")
    assert run.question == "calls"
    assert run.cpus >= 1
    assert summary(turns)["offloop"]["p50_us"] == (11.0, 1.0, 21.0)


def test_each_question_has_a_page_with_all_contenders(results: Path, tmp_path: Path) -> None:
    render(results, tmp_path / "docs")
    for name, question in QUESTIONS.items():
        page = (tmp_path / "docs" / f"{name}.md").read_text()
        assert page.startswith(f"# {question.title}\n")
        assert "| **offloop** |" in page
        assert "| ProcessPoolExecutor |" in page
        for figure in question.figures:
            assert figure.label in page
            for theme in ("light", "dark"):
                assert (tmp_path / "docs" / "plots" / f"{name}-{figure.key}-{theme}.svg").exists() == figure.is_plotted


def test_the_index_has_the_table_of_before_and_after(results: Path, tmp_path: Path) -> None:
    render(results, tmp_path / "docs")
    index = (tmp_path / "docs" / "README.md").read_text()
    assert "## Before and after" in index
    assert "20,000 | 20 | 200 | 2,000 |" in (tmp_path / "docs" / "scaling.md").read_text()


def test_pages_that_combine_results_name_the_run_of_each(results: Path, tmp_path: Path) -> None:
    run, turns = read(results / "calls.jsonl")
    write(results / "calls.jsonl", msgspec.structs.replace(run, commit="0123abc", at="2026-01-02 03:04 UTC"), turns)
    render(results, tmp_path / "docs")
    for page in ("README.md", "scaling.md", "calls.md"):
        text = (tmp_path / "docs" / page).read_text()
        assert "0123abc" in text
        assert "2026-01-02 03:04 UTC" in text
    assert f"article at commit {run.commit}" in (tmp_path / "docs" / "README.md").read_text()


def test_answers_say_where_another_contender_is_ahead(results: Path, tmp_path: Path) -> None:
    render(results, tmp_path / "docs")
    for page in ("README.md", "calls.md"):
        text = (tmp_path / "docs" / page).read_text()
        assert "one at a time, p50, us: 11 against 12 of ProcessPoolExecutor, the best of 1 others." in text
        assert "offloop is behind in calls a second, 64 in flight: 11 against 12 of ProcessPoolExecutor." in text


def test_the_index_tells_each_goal_that_is_not_reached_by_how_much_and_why(results: Path, tmp_path: Path) -> None:
    render(results, tmp_path / "docs")
    _, _, missed = (tmp_path / "docs" / "README.md").read_text().partition("## Not reached")
    missed = missed.partition("## Before and after")[0]
    assert "(crash.md): other tasks lost: 11, where at most 0 was expected. This is a defect." in missed
    assert "(stuck.md): of 48 others returned: 11, where at least 48 was expected." in missed
    assert "first small result" not in missed, "11 ms are within the 50"
    assert "piscina" not in missed, "it was not there"
    assert "| first small result, ms | at most 50 | 11 | reached |" in (tmp_path / "docs" / "order.md").read_text()


def test_the_same_results_give_the_same_files(results: Path, tmp_path: Path) -> None:
    render(results, tmp_path / "one")
    render(results, tmp_path / "two")
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def _files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
