"""The marks that promotions leave in a canonical's data, to be found again in every later run (docs/rules.md 3). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from canonq.core.stack.databases import POSTGRES, REDIS

#: Marks of one place that a record names; the data has those of before as well.
MOST = 20


class LedgerMark(BaseModel):
    """One mark that a promotion left."""

    model_config = ConfigDict(extra="allow", frozen=True)

    #: A line of a file in a volume, a row of a database, a member of a set in a store, a row of an SQLite file.
    kind: Literal["file", "database", "key", "sqlite"]
    place: Annotated[str, Field(max_length=1000)]  #: the volume's key in the recipe, the service, or the key/path
    text: Annotated[str, Field(max_length=1000)]
    server: str = ""  #: of a database or store, its kind; a file has none
    version: str = ""  #: the version that was promoted

    @model_validator(mode="before")
    @classmethod
    def _as_older_ones_meant_it(cls, given: object) -> object:
        """Records of before said `postgres` of files, too, and of databases when they said nothing."""
        if not isinstance(given, dict):
            return given
        server = "" if given.get("kind") == "file" else given.get("server", POSTGRES)
        return {**given, "server": server}

    def __str__(self) -> str:
        where = {
            "file": f"the volume {self.place}",
            "sqlite": f"the SQLite file {self.place}",
            "key": f"the {self.server} of {self.place}",
            "database": f"the {self.server} of {self.place}",
        }[self.kind]
        return f"what the promotion of {self.version} left in {where}"


def wanted(ledger: Iterable[LedgerMark], volatile: Collection[str], *, restored: bool = False) -> list[LedgerMark]:
    """The marks that have to be there: not those in what may be empty or go, nor, `restored`, what is in a store of keys, into
    which nobody loads a backup."""
    files = {name.partition(":")[2] for name in volatile if ":" in name}  # SQLite files, by whoever uses their volume
    return [
        mark for mark in ledger
        if mark.place not in volatile
        and not (mark.kind == "sqlite" and (mark.place.partition("/")[0] in volatile or mark.place.partition("/")[2] in files))
        and not (restored and mark.server == REDIS)
    ]  # fmt: skip


def continued(carried: Iterable[LedgerMark], new: Sequence[LedgerMark]) -> list[LedgerMark]:
    """The ledger of a canonical whose data has the marks `carried`, and now those that are `new`: the newest of each place."""
    found: dict[tuple[str, str], list[LedgerMark]] = {}
    for mark in (*carried, *new):
        found.setdefault((mark.kind, mark.place), []).append(mark)
    return [mark for those in found.values() for mark in those[-MOST:]]


def named(missing: Sequence[LedgerMark]) -> str:
    """The marks that are not there, as one phrase."""
    by_place: Mapping[tuple[str, str], LedgerMark] = {(mark.kind, mark.place): mark for mark in missing}
    more = len(missing) - len(by_place)
    listed = " and ".join(str(mark) for mark in list(by_place.values())[:5])
    return listed + (f", and {more} older marks beside it" if more > 1 else ", and an older mark beside it" if more else "")
