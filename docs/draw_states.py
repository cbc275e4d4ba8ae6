"""Draw the state diagrams of design.md from the tables that the code uses: python docs/draw_states.py"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from offloop.core.model.task_state import TASK_TABLE, TaskState
from offloop.core.model.worker_state import TABLE, WorkerState

DESIGN = Path(__file__).with_name("design.md")
BEGIN, END = "<!-- {} states, drawn by docs/draw_states.py -->\n", "<!-- end of the drawing -->\n"


def diagram(table: Mapping[Any, Mapping[Any, Any]], first: Any) -> str:
    """Return a table as a Mermaid state diagram: one arrow for each pair of different states, with its events."""
    lines = ["stateDiagram-v2", f"    [*] --> {first.name}"]
    for state, row in table.items():
        arrows = sorted((successor.name, str(event.value)) for event, successor in row.items())
        for successor, group in groupby(arrows, key=lambda arrow: arrow[0]):
            if successor != state.name:
                lines.append(f"    {state.name} --> {successor}: {', '.join(event for _, event in group)}")
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def redrawn(text: str) -> str:
    """Return the document with the drawings of today's tables."""
    drawings = {"worker": diagram(TABLE, WorkerState.STARTING), "task": diagram(TASK_TABLE, TaskState.ESTIMATING)}
    for name, drawing in drawings.items():
        begin = BEGIN.format(name)
        before, _, rest = text.partition(begin)
        text = before + begin + drawing + END + rest.partition(END)[2]
    return text


if __name__ == "__main__":
    DESIGN.write_text(redrawn(DESIGN.read_text()))
