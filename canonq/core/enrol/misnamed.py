"""Files beside recipe.toml whose names are nearly right: nobody reads them, and nothing else would say so. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from canonq.core.text import did_you_mean

#: What canonq reads there, beside `test_*.py`.
READ = ("recipe.toml", "hooks.py", "install_steps.sh", "compose.canonq.yml", "conftest.py")

_OWN_TEST = re.compile(r"tests?[-_].*\.py|.*[-_]tests?\.py", re.IGNORECASE)  #: names that were meant for own tests


def misnamed(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each name that was meant to be another."""
    there = set(names)
    for name in sorted(there - set(READ)):
        if _OWN_TEST.fullmatch(name) and not name.startswith("test_"):
            yield f"{name} is read by nobody; own tests are called test_*.py"
        elif not name.startswith(("test_", ".")) and (near := did_you_mean(name, set(READ) - there)):
            yield f"{name} is read by nobody{near}"
