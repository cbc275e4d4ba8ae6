"""Draw the worker's life into design.md, from the table that the code uses: python docs/draw_worker_life.py"""

from itertools import groupby
from pathlib import Path

from offloop.core.model.worker_state import TABLE, WorkerState

DESIGN = Path(__file__).with_name("design.md")
BEGIN, END = "<!-- drawn by docs/draw_worker_life.py -->\n", "<!-- end of the drawing -->\n"


def diagram() -> str:
    """The table as a Mermaid state diagram: one arrow for each pair of states, with its events."""
    lines = ["stateDiagram-v2", f"    [*] --> {WorkerState.STARTING.name}"]
    for state, row in TABLE.items():
        arrows = sorted((successor.name, event.value) for event, successor in row.items())
        for successor, group in groupby(arrows, key=lambda arrow: arrow[0]):
            lines.append(f"    {state.name} --> {successor}: {', '.join(event for _, event in group)}")
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def redrawn(text: str) -> str:
    """The document with the drawing as it should be."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + diagram() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DESIGN.write_text(redrawn(DESIGN.read_text()))
