"""What a container takes, as the kernel counts for its control group: read at once; Docker takes up to a second for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from canonq.core.peaks import Taking

_GROUPS, _PROCESSES = Path("/sys/fs/cgroup"), Path("/proc")
#: Of memory that is taken, as the two kinds of control groups call it.
TAKEN = (("anon", "shmem"), ("total_rss", "total_shmem"))


@dataclass(frozen=True)
class Group:
    """Where the kernel counts for a container."""

    memory: Path
    cpu: Path
    unit: int  #: how many of what `cpu` counts make a second
    taken: tuple[str, str]  #: what counts of `memory`

    def taking(self) -> Taking:
        """What it takes now. OSError where it is gone, ValueError for files that are none of these."""
        memory, cpu = _numbers(self.memory), _numbers(self.cpu)
        return Taking(sum(memory[key] for key in self.taken), cpu["usage_usec" if "usage_usec" in cpu else ""] / self.unit)


def group_of(container: str, process: int, groups: Path = _GROUPS, processes: Path = _PROCESSES) -> Group | None:
    """The control group of a container (its id), of which this is a process; None where it cannot be seen from here."""
    try:
        lines = (processes / str(process) / "cgroup").read_text().splitlines()
        below = {
            kind: kinds + _up_to(path, container)
            for _, kinds, path in (line.split(":", 2) for line in lines)
            if container in path
            for kind in kinds.split(",")
        }
        if "memory" in below:
            found = Group(groups / below["memory"] / "memory.stat", groups / below["cpuacct"] / "cpuacct.usage", 10**9, TAKEN[1])
        else:
            folder = groups / below[""].lstrip("/")
            found = Group(folder / "memory.stat", folder / "cpu.stat", 10**6, TAKEN[0])
        found.taking()
    except (OSError, ValueError, KeyError):  # canonq is in a container, or the host has its control groups elsewhere
        return None
    return found


def _up_to(path: str, container: str) -> str:
    """Of a path, what leads to the container's own group: the app may have made groups below it."""
    parts = path.split("/")
    return "/".join(parts[: next(number for number, part in enumerate(parts) if container in part) + 1])


def _numbers(file: Path) -> dict[str, int]:
    """Lines of a name and a number, or a number alone, whose name is empty then."""
    return {name: int(number) for name, _, number in (line.rpartition(" ") for line in file.read_text().splitlines())}
