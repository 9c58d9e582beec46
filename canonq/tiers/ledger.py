"""The ledger in an app's data: what each promotion left there, beside the markers of runs, which come and go."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from canonq.adapters.data import counting, markerfile
from canonq.adapters.processes.stopping import check_stop
from canonq.core.stack.databases import ASKED, REDIS
from canonq.core.stack.ledger import LedgerMark
from canonq.ports import Data
from canonq.tiers import servers
from canonq.tiers.markers import Patience, look_for

_AGAIN = 5  #: times that a server is asked to take a mark


def enter(
    data: Data,
    stack: str,
    volumes: Mapping[str, str],
    kinds: Mapping[str, str],
    text: str,
    version: str,
    leave: Collection[str],
    patience: Patience,
) -> list[LedgerMark]:
    """Leave a promotion's mark wherever data lies, but for places to `leave`; what was left.

    `volumes`: key in the recipe -> name in Docker; `kinds`: service -> kind of the servers that there are. What takes no mark
    is a gap of the run that proved it, and none here.
    """
    made = []
    used = data.volumes_in_use(stack)
    for key, name in sorted(volumes.items()):
        if (folder := used.get(name)) is None or key in leave:
            continue
        line = f"{text}.{key}."
        markerfile.enter(folder, line)
        made.append(LedgerMark(kind="file", place=key, text=line, version=version))
        for path in counting.opened(folder, counting.count(folder).sqlite):
            if counting.ask_sqlite(folder, "enter", [path], f"{text}.{path}.")[path].get("done"):
                place = f"{key}/{path}"
                made.append(LedgerMark(kind="sqlite", place=place, text=f"{text}.{path}.", server="sqlite", version=version))
    for service, kind in sorted(kinds.items()):
        if service not in leave and kind in ASKED and _keeps(data, stack, service, kind):
            made += _into_server(data, stack, service, kind, f"{text}.{service}.", version, patience)
    return made


def _keeps(data: Data, stack: str, service: str, kind: str) -> bool:
    return kind != REDIS or servers.count(data, stack, service, kind) is not None


def _into_server(data: Data, stack: str, service: str, kind: str, row: str, version: str, patience: Patience) -> list[LedgerMark]:
    for _ in range(_AGAIN):
        said = servers.ask(data, stack, service, kind, "enter", row)
        if said.state == "answered":
            return [
                LedgerMark(kind="key" if kind == REDIS else "database", place=service, text=row, server=kind, version=version)
            ]
        if said.state != "not-yet":
            break
        check_stop()
        time.sleep(patience.pause)
    return []


def missing(
    data: Data, stack: str, marks: Sequence[LedgerMark], kinds: Mapping[str, str], patience: Patience
) -> list[LedgerMark]:
    """Those of the marks that are nowhere in what the stack has now, whatever its places are called.

    RecipeProblem (`database-silent`) when a database that may have them does not answer within `patience`.
    """
    texts: set[str] = set()
    folders = data.volumes_in_use(stack).values() if any(mark.kind in ("file", "sqlite") for mark in marks) else ()
    for folder in folders:
        texts |= set(markerfile.entered(folder))
        if any(mark.kind == "sqlite" for mark in marks):
            texts |= counting.texts_in_sqlite(folder, "entered")
    gone = [mark for mark in marks if mark.kind in ("file", "sqlite") and mark.text not in texts]
    for place, kind in sorted({(mark.place, mark.server) for mark in marks if mark.kind in ("database", "key")}):
        there = [mark for mark in marks if (mark.place, mark.server) == (place, kind)]
        gone += _not_in_servers(data, stack, there, servers.like_it(data, stack, place, kind, kinds), patience)
    return gone


def _not_in_servers(
    data: Data, stack: str, marks: Sequence[LedgerMark], asked: Mapping[str, str], patience: Patience
) -> list[LedgerMark]:
    """Those of one server's marks that none of the `asked` has (service -> kind)."""
    found, _ = look_for(data, stack, [mark.text for mark in marks], "entered", asked, marks[0].server, patience)
    return [mark for mark in marks if found[mark.text] == "gone"]
