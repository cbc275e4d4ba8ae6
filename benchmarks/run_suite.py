"""Every question, beside every peer, in one run: installs the peers, measures, writes the results and the pages.

python benchmarks/run_suite.py                     all of it, about an hour on two idle CPUs
python benchmarks/run_suite.py --question calls    one question; the option can be repeated
python benchmarks/run_suite.py --quick             tiny, with the peers that are installed, and nothing is written: for CI
python benchmarks/run_suite.py --render            the pages only, from the results that are there
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from suite.peers import ROOT, Peers, found_here, prepared
from suite.questions import QUESTIONS
from suite.questions.base import Question
from suite.records import Turn, header, write
from suite.summary import summary
from suite.watching import TurnFailed, take_turn

WORKERS = 2
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ROOT / "docs" / "benchmarks"


def ask(question: Question, peers: Peers, folder: Path, *, rounds: int, is_quick: bool) -> list[Turn]:
    """Let all contenders take turns. One that fails is left out, and the reason is printed.

    Raises:
        ValueError: the results of the contenders differ.
        TurnFailed: offloop itself failed.
    """
    parameters = {"workers": WORKERS, "loop": question.loop, **question.parameters(folder, is_quick=is_quick)}
    contenders = question.contenders(peers, is_quick=is_quick)
    turns: list[Turn] = []
    for number in range(rounds):
        taken: dict[str, Turn] = {}
        # each round begins with another contender
        for contender in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
            try:
                taken[contender] = take_turn(question.name, contender, number, parameters, peers)
            except TurnFailed as failure:
                print(failure, file=sys.stderr, flush=True)
                if contender.startswith("offloop"):
                    raise
                continue
            figures = ", ".join(f"{key} {value:.5g}" for key, value in taken[contender].figures.items())
            print(f"{question.name} {number}: {contender}: {figures}", flush=True)
        question.check({contender: turn.figures for contender, turn in taken.items()})
        turns += [taken[contender] for contender in contenders if contender in taken]
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--question", action="append", choices=list(QUESTIONS), help="ask this one only; can be repeated")
    parser.add_argument("--rounds", type=int, help="turns of each contender (default: what the question needs)")
    parser.add_argument("--quick", action="store_true", help="tiny, with the peers that are installed; nothing is written")
    parser.add_argument("--peers", action="store_true", help="with --quick: install all peers")
    parser.add_argument("--render", action="store_true", help="write the pages from the results that are there")
    options = parser.parse_args()
    if not options.render:
        asked = [QUESTIONS[name] for name in options.question or QUESTIONS]
        if options.quick and not options.peers:
            peers = found_here()
        else:
            peers = prepared(ROOT / "build" / "peers", with_compiled=any(question.has_compiled for question in asked))
        with tempfile.TemporaryDirectory() as folder:
            for question in asked:
                run = header(question.name, peers, is_quick=options.quick)
                rounds = 1 if options.quick else options.rounds or question.rounds
                turns = ask(question, peers, Path(folder), rounds=rounds, is_quick=options.quick)
                for contender, figures in summary(turns).items():
                    print(f"  {contender:32}" + "  ".join(f"{key} {spread.median:.5g}" for key, spread in figures.items()))
                if not options.quick:
                    write(RESULTS / f"{question.name}.jsonl", run, turns)
    if not options.quick:
        from suite.pages import render

        render(RESULTS, PAGES)


if __name__ == "__main__":
    main()
