"""Draw the state diagrams of design.md from the tables that the code uses: python docs/draw_states.py"""

from itertools import groupby
from pathlib import Path

from offloop.core.model.worker_state import TABLE, WorkerState

DESIGN = Path(__file__).with_name("design.md")
BEGIN, END = "<!-- drawn by docs/draw_states.py -->\n", "<!-- end of the drawing -->\n"


def diagram() -> str:
    """Return the table as a Mermaid state diagram: one arrow for each pair of states, with its events."""
    lines = ["stateDiagram-v2", f"    [*] --> {WorkerState.STARTING.name}"]
    for state, row in TABLE.items():
        arrows = sorted((successor.name, event.value) for event, successor in row.items())
        for successor, group in groupby(arrows, key=lambda arrow: arrow[0]):
            lines.append(f"    {state.name} --> {successor}: {', '.join(event for _, event in group)}")
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def redrawn(text: str) -> str:
    """Return the document with the drawing of today's table."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + diagram() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DESIGN.write_text(redrawn(DESIGN.read_text()))
