"""The pages in `docs/benchmarks`: one for each question, and an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from suite.answers import answer, goal_lines, not_reached
from suite.before_and_after import before_and_after
from suite.plots import draw
from suite.questions import QUESTIONS
from suite.questions.base import Figure, Question
from suite.records import RunHeader, read
from suite.scaling import scaling
from suite.summary import Spread, summary

__all__ = ["render"]


def render(results: Path, target: Path) -> None:
    """Write the page and the plots of each question that has results."""
    (target / "plots").mkdir(parents=True, exist_ok=True)
    shown: list[Question] = []
    runs: dict[str, RunHeader] = {}
    found: dict[str, Mapping[str, Mapping[str, Spread]]] = {}
    for question in QUESTIONS.values():
        path = results / f"{question.name}.jsonl"
        if path.exists():
            runs[question.name], turns = read(path)
            found[question.name] = summary(turns)
            (target / f"{question.name}.md").write_text(_page(question, runs[question.name], found[question.name], target))
            shown.append(question)
    (target / "scaling.md").write_text(scaling(found, _measured_at(runs, ("calls", "article"))))
    (target / "README.md").write_text(_index(shown, found, runs))


def _page(question: Question, run: RunHeader, found: Mapping[str, Mapping[str, Spread]], target: Path) -> str:
    lines = [f"# {question.title}", "", question.what, "", f"Expected of offloop: {question.expected}.", ""]
    lines += [answer(question, found), ""]
    for figure in question.figures:
        if not figure.is_plotted:
            continue
        values = {contender: figures[figure.key] for contender, figures in found.items() if figure.key in figures}
        name = f"{question.name}-{figure.key}"
        draw(target / "plots", name, figure, values)
        lines += [
            "<picture>",
            f'  <source media="(prefers-color-scheme: dark)" srcset="plots/{name}-dark.svg">',
            f'  <img alt="{figure.label}: {_in_words(figure, values)}" src="plots/{name}-light.svg">',
            "</picture>",
            "",
        ]
    lines += [*_table(question.figures, found), "", *goal_lines(question, found), *_machine(run, question), ""]
    return "\n".join(lines)


def _in_words(figure: Figure, values: Mapping[str, Spread]) -> str:
    ranked = sorted(values.items(), key=lambda item: item[1].median, reverse=figure.is_rate)
    return ", ".join(f"{contender} {spread.median:,.{figure.digits}f}" for contender, spread in ranked)


def _table(figures: Iterable[Figure], found: Mapping[str, Mapping[str, Spread]]) -> list[str]:
    shown = [figure for figure in figures if any(figure.key in values for values in found.values())]
    lines = [
        "| | " + " | ".join(figure.label for figure in shown) + " |",
        "| --- |" + " ---: |" * len(shown),
    ]
    for contender, values in found.items():
        name = f"**{contender}**" if contender.startswith("offloop") else contender
        cells = [_cell(figure, values.get(figure.key)) for figure in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(figure: Figure, spread: Spread | None) -> str:
    if spread is None:
        return ""
    text = f"{spread.median:,.{figure.digits}f}"
    low, high = f"{spread.low:,.{figure.digits}f}", f"{spread.high:,.{figure.digits}f}"
    return text if low == high else f"{text} ({low} to {high})"


def _machine(run: RunHeader, question: Question) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    quick = " This was a quick run: its numbers mean nothing." if run.is_quick else ""
    loaded = f" The machine had other work (load {run.load_before})." if run.load_before > 0.5 else ""
    return [
        f"Medians of {question.rounds} turns, with the extremes; each turn is a new server process; the contenders take turns. "
        f"Commit {run.commit}, {run.at}; {run.cpus} CPUs ({run.cpu}), Linux {run.kernel}, Python {run.python}; {versions}."
        + loaded
        + quick,
        "",
        f"Measure it again: `python benchmarks/run_suite.py --question {question.name}`.",
    ]


def _measured_at(runs: Mapping[str, RunHeader], names: Iterable[str]) -> str:
    """Says which runs are combined: each question has its own, and may have another commit."""
    texts = [f"{name} at commit {runs[name].commit} ({runs[name].at})" for name in names if name in runs]
    return f"From the results of {', '.join(texts)}." if texts else ""


def _index(
    shown: Iterable[Question], found: Mapping[str, Mapping[str, Mapping[str, Spread]]], runs: Mapping[str, RunHeader]
) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Each page has one question, and the answer beside all peers and the floor, in one run, also where offloop loses.",
        "The results as JSON lines are in `benchmarks/results`. One command installs the peers and measures",
        "everything again:",
        "",
        "    python benchmarks/run_suite.py",
        "",
        "| question | what is measured | answer |",
        "| --- | --- | --- |",
    ]
    missed: list[str] = []
    for question in shown:
        lines.append(f"| [{question.title}]({question.name}.md) | {question.what} | {answer(question, found[question.name])} |")
        missed += not_reached(question, found[question.name])
    lines += [
        "| [How many cores one supervisor feeds](scaling.md) | Computed from the CPU time of the server for a task. | |",
        "",
        "## Not reached",
        "",
        *(missed or ["Every goal that was measured is reached."]),
        "",
    ]
    return "\n".join([*lines, *before_and_after(found), "", _measured_at(runs, runs), ""])
