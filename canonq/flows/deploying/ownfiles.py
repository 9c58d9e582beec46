"""Files of an enrolment and what they print, as the person who wrote them knows them."""

from __future__ import annotations

from pathlib import Path

from canonq.core.text import ending, readable


def own_name(path: Path) -> str:
    """A file of an enrolment as the person knows it: a sweep runs a copy of it, which is not where they would mend it."""
    return f"tests/{path.parent.name}/{path.name}"


def last_line(log: Path) -> str:
    """The last thing that was printed; empty where nothing was."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return readable(ending(next((line.strip() for line in reversed(lines) if line.strip()), ""), 200))
