"""The state folder as this user finds it."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from canonq.adapters.filelocks import locked
from canonq.adapters.files import (
    entries,
    is_read_only,
    not_readable,
    read_only,
    table_in,
    told,
    write_durably,
    write_json,
)
from canonq.core.check import Check, of_error
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.errors import HostProblem
from canonq.core.place import Place, found
from canonq.core.text import readable

NO_INSTANCE = "none"

_PLACE = "place.json"  #: where this state folder was when work was last done with it
_HOST = "host.json"  #: who this host is among those of its broker, with the id: see adapters/state/hosts.py
#: Folders of the state that work writes to, and those in which each recipe has a folder of its own.
_PARTS = ("calls", "images", "locks", "locks/disk", "logs", "repos", "runs", "steering", "sweeps", "warm", "work")
_BY_RECIPE = ("repos", "runs", "warm")
_MOST_NAMED = 3
_OTHERS = 0o007  #: what users may who are neither its owner nor of its group


def instance_of(state: Path) -> str:
    """The id of this state folder; of one that nothing was made in yet, an id that nothing in Docker has.

    HostProblem where it cannot be told, as where its file is lost: a new one would make all that is kept nobody's.
    """
    try:
        if found := (state / "instance").read_text().strip():
            return found
        mend = f"write the id that retained volumes have in their label {LABEL_INSTANCE}: without it they are nobody's."
        raise HostProblem(f"{state / 'instance'} is empty.", mend=mend, code="state-not-readable")
    except (FileNotFoundError, NotADirectoryError):
        if (lost := _lost(state)) is not None:
            raise lost from None
        return NO_INSTANCE
    except PermissionError as error:
        raise not_readable(state / "instance") from error
    except (OSError, UnicodeDecodeError) as error:
        raise HostProblem(
            f"{state / 'instance'} cannot be read: {error}.", mend="look at the disk.", code="state-not-readable"
        ) from error


def give_instance(state: Path) -> None:
    """Make the id of this state folder, once: of programs that begin at the same moment, all have the same one."""
    if (state / "instance").is_file():
        return
    if (lost := _lost(state)) is not None:
        raise lost
    with locked(state / "locks" / "instance"), told(state):
        if not (state / "instance").is_file():
            write_durably(state / "instance", secrets.token_hex(8).encode())


def must_be_its_own(state: Path) -> None:
    """Note where this state folder is, as it may have been moved. HostProblem where it is a copy beside the one that is noted."""
    if (copied := _copied(state)) is not None:
        raise copied
    here = _place(state)
    if _noted(state) != here:
        write_json(state / _PLACE, asdict(here))


def _copied(state: Path) -> HostProblem | None:
    """What to raise where another state folder has this one's id, and was there first."""
    noted, here = _noted(state), _place(state)
    if noted is None or found(noted, here, other_lives=_lives(noted, here, state)) != "copied":
        return None
    original = readable(noted.path)
    return HostProblem(
        f"{state} is a copy of {original}, which is there still: both have one id, by which canonq knows what is its own in "
        "Docker, so each would take the other's stacks and volumes for its own. Nothing was touched.",
        mend=f"if the copy is to go on alone, move {original} away; if both are wanted, `printf %s {secrets.token_hex(8)} > "
        f"{shlex.quote(str(state / 'instance'))}` gives the copy an id of its own, and `canonq janitor` volumes of its own, from "
        "its snapshots.",
        code="state-copied",
    )


def _place(state: Path) -> Place:
    is_there = state.stat()
    return Place(os.path.realpath(state), is_there.st_dev, is_there.st_ino)


def _noted(state: Path) -> Place | None:
    kept = table_in(state / _PLACE)
    path, device, inode = kept.get("path"), kept.get("device"), kept.get("inode")
    return Place(path, device, inode) if isinstance(path, str) and isinstance(device, int) and isinstance(inode, int) else None


def _lives(noted: Place, here: Place, state: Path) -> bool:
    """Whether another folder with this one's id is where this one was; one that cannot be looked into may be one."""
    there = Path(noted.path)
    try:
        return not _place(there).is_folder(here) and (there / "instance").read_bytes() == (state / "instance").read_bytes()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def _lost(state: Path) -> HostProblem | None:
    """What to raise where the id is gone and was there: what this state folder has kept was made under it."""
    path = state / "instance"
    noted = table_in(state / _HOST).get("instance")
    records = [(folder.name, table_in(folder / "canonical.json")) for folder in entries(state / "warm") if folder.is_dir()]
    kept = {recipe: record.get("volumes") for recipe, record in records if "schema" in record}
    if not noted and not kept:
        return None
    has = "has a canonical" if len(kept) == 1 else "have canonicals"
    owners = f" {_some(sorted(kept))} {has} here." if kept else ""
    volume = next((name for names in kept.values() for name in (names if isinstance(names, list) else ())), None)
    asked = f"`docker volume inspect --format '{{{{index .Labels \"{LABEL_INSTANCE}\"}}}}' {readable(str(volume))}` prints it"
    if noted:
        mend = f"`printf %s {readable(str(noted))} > {path}` puts it back: host.json has kept it."
    elif volume:
        mend = f"write the id into {path} again: {asked}."
    else:
        mend = (
            f"put {path} back from a backup, or write any 16 hexadecimal digits into it: no volume is kept that has the old one."
        )
    return HostProblem(
        f"{path}, the id of this installation, is gone.{owners} What canonq has in Docker is known by that id alone; nothing was "
        "touched, and nothing is done without it.",
        mend=mend,
        code="instance-lost",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(map(readable, names[:_MOST_NAMED]))}{more}"


def make_state(state: Path) -> None:
    """Make the state folder where it is not there, for this user alone: clones, logs and environments of runs are in it.

    One that is there keeps its rights, as somebody may have let others look; doctor tells of it.
    """
    if not state.is_dir():
        state.parent.mkdir(parents=True, exist_ok=True)
        state.mkdir(mode=0o700, exist_ok=True)


def must_be_a_folder(state: Path) -> None:
    """HostProblem where something else is in the state folder's place: not "nothing is on record"."""
    if os.path.lexists(state) and not os.path.isdir(state) and os.access(state.parent, os.X_OK):
        raise HostProblem(
            f"{state} (CANONQ_STATE) is not a folder.", mend="move it away, or set CANONQ_STATE.", code="state-not-a-folder"
        )


def state_of(state: Path) -> Check:
    """Whether this user can write all that work writes to; nothing is changed."""
    if not os.path.lexists(state):
        above = next(folder for folder in state.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            return _broken(f"{state} is not there, and cannot be made: {_why_not(above)}", "set CANONQ_STATE, or make it.")
        return Check("state", "ok", f"{state} is not there yet; the first command that works makes it")
    if not state.is_dir():
        return _broken(f"{state} is not a folder", "move it away, or set CANONQ_STATE.", "state-not-a-folder")
    try:
        if not os.access(state, os.R_OK | os.X_OK):
            raise not_readable(state)
        instance_of(state)
        if (copied := _copied(state)) is not None:
            raise copied
        refused = [path for path in _written_to(state) if not os.access(path, os.W_OK | os.X_OK)]
    except HostProblem as error:
        return of_error("state", error)
    if not refused and state.stat().st_mode & _OTHERS:
        what = f"{state} can be read by every user of this host; clones, logs and environments of runs are in it"
        return Check("state", "warning", what, f"`chmod o-rwx {state}`.")
    if not refused:
        return Check("state", "ok", f"{state} can be read and written")
    told = ", ".join(map(str, refused[:_MOST_NAMED])) + (
        f" and {len(refused) - _MOST_NAMED} more" if refused[_MOST_NAMED:] else ""
    )
    if is_read_only(refused[0]):
        refusal = read_only(refused[0])
        return _broken(f"{told} cannot be written: {_why_not(refused[0])}", refusal.mend, refusal.code)
    return _broken(
        f"{told} cannot be written: {_why_not(refused[0])}",
        f"give it to the user that runs canonq, or look as that one (this is uid {os.geteuid()}, it belongs to uid "
        f"{refused[0].stat().st_uid}).",
    )


def _broken(what: str, mend: str, reason: str = "state-not-writable") -> Check:
    return Check("state", "broken", what, mend, reason)


def _written_to(state: Path) -> Iterator[Path]:
    yield state
    for part in _PARTS:
        if (state / part).is_dir():
            yield state / part
    for part in _BY_RECIPE:
        yield from (path for path in entries(state / part) if path.is_dir())


def _why_not(path: Path) -> str:
    if not path.is_dir():
        return f"{path} is not a folder"
    return "its file system is read-only" if is_read_only(path) else "this user may not"
