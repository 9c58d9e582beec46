"""The disk budget: what work is expected to take, what is left for it, and which images may go (docs/rules.md 5.6). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from typing import Literal, TypeAlias

LATELY = 5  #: runs of a recipe that say what the next will take
_MARGIN = 1.25
_AT_LEAST = 64 * 2**20  #: bytes: env, worktree, logs and the like
LEAST_FILES = 2000  #: inodes: a run's worktree, evidence and logs, and the layers of its containers


#: What a run writes: canonq's own files (evidence, backups, snapshots), volumes, and images with containers' layers.
Kind: TypeAlias = Literal["state", "volumes", "images"]
KINDS: tuple[Kind, ...] = ("state", "volumes", "images")
_HOLDS: dict[Kind, str] = {"state": "canonq's state", "volumes": "volumes", "images": "images and containers' layers"}


@dataclass(frozen=True)
class Need:
    """Bytes that work takes, by what they are; `anywhere`: nobody knows what they are, so each disk must have them."""

    state: int = 0
    volumes: int = 0
    images: int = 0
    anywhere: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.state + self.volumes + self.images + self.anywhere

    def of(self, kinds: Iterable[Kind]) -> int:
        """What of it lies on a file system that holds these kinds."""
        return self.anywhere + sum(int(getattr(self, kind)) for kind in set(kinds))

    def __add__(self, other: Need) -> Need:
        return Need(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def less(self, taken: Need) -> Need:
        """What is still to be taken after `taken` was."""
        kinds = {kind: max(0, getattr(self, kind) - getattr(taken, kind)) for kind in KINDS}
        return Need(**kinds, anywhere=max(0, self.anywhere - taken.total))

    def most(self, other: Need) -> Need:
        """The larger of each."""
        return Need(*(max(mine, theirs) for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def needed(count: Need | int) -> Need:
    """A plain number of bytes may be anything."""
    return count if isinstance(count, Need) else Need(anywhere=count)


@dataclass(frozen=True)
class FileSystem:
    """A file system that work writes to."""

    path: str  #: a folder on it: where what it holds lies
    holds: tuple[Kind, ...]
    free: int  #: bytes
    key: str = ""  #: two folders with one key share what is free
    files: int | None = None  #: that can still be made on it (inodes); None where there is no limit


@dataclass(frozen=True)
class Disk:
    """Room on one file system that work writes to. All in bytes."""

    free: int  #: less what living work has reserved and not taken yet
    floor: int  #: never to be used up
    need: int  #: what this work is expected to take of it
    reserved: int = 0  #: what others have reserved and not taken yet
    path: str = ""  #: a folder on it
    holds: tuple[Kind, ...] = ()
    files: int | None = None  #: that can still be made on it; None where there is no limit

    @property
    def out_of_files(self) -> bool:
        """Whether it has hardly an inode left, however many bytes are free."""
        return self.files is not None and self.files < LEAST_FILES

    @property
    def short(self) -> int:
        """Bytes missing; 0 or less when there is room. Without inodes no byte is of use."""
        missing = self.floor + self.need - self.free
        return max(missing, 1) if self.out_of_files else missing

    @property
    def name(self) -> str:
        """Which disk it is, for people."""
        return f"the disk of {self.path} ({', '.join(_HOLDS[kind] for kind in self.holds)})" if self.path else "the disk"

    @property
    def why_short(self) -> str:
        """The same as a sentence."""
        if self.out_of_files:
            return f"On {self.name}, only {self.files} more files can be made (`df -i`); a run needs {LEAST_FILES}."
        held = f" ({gib(self.reserved)} more are reserved by work under way)" if self.reserved else ""
        on = f"On {self.name}, " if self.path else ""
        needed = f"{gib(self.need)} are needed above the floor of {gib(self.floor)}"
        return f"{on}{gib(self.free)} are free{held}, but {needed}: {gib(self.short)} short."

    @property
    def below_floor(self) -> bool:
        """Whether the floor itself is eaten into, whatever is reserved; it is where no file can be made any more."""
        return self.free + self.reserved < self.floor or self.out_of_files

    @property
    def why_below(self) -> str:
        """The same as a clause."""
        if self.out_of_files:
            return f"on {self.name}, only {self.files} more files could be made (`df -i`)"
        return f"{self.name} had {gib(self.free + self.reserved)} left, below the floor of {gib(self.floor)}"


def tightest(disks: Iterable[Disk]) -> Disk:
    """The one that is shortest of room; of equals the first."""
    return max(disks, key=lambda disk: disk.short)


@dataclass(frozen=True)
class Standing:
    """How a piece of work under way stands beside the others while a disk is below its floor."""

    name: str
    over: int  #: bytes it has taken beyond what was reserved for it
    ending: bool = False  #: it was ended for it, and gives its room back


def who_ends(standings: Iterable[Standing]) -> str | None:
    """Which work is to end so that the floor holds: who has taken most beyond what it said; nobody while another is ending."""
    found = list(standings)
    if not found or any(one.ending for one in found):
        return None
    return max(found, key=lambda one: (one.over, one.name)).name


def need_of_run(runs: Sequence[Need | int], otherwise: int) -> Need:
    """What the next run is expected to take: the largest peaks of the last runs and a margin; `otherwise` without history."""
    seen = [needed(run) for run in runs if needed(run).total > 0][-LATELY:]
    if not seen:
        return Need(anywhere=otherwise)
    peak = reduce(Need.most, seen)
    need = Need(*(int(count * _MARGIN) for count in astuple(peak)))
    return need if need.total >= _AT_LEAST else need + Need(anywhere=_AT_LEAST - need.total)


def need_of_promotion(volumes: int, otherwise: int) -> int:
    """Bytes a promotion is expected to take: the volumes anew and their snapshot beside them; `otherwise` without history."""
    return max(int(2 * volumes * _MARGIN), _AT_LEAST) if volumes > 0 else otherwise


def split_promotion(count: int, images: int = 0) -> Need:
    """The same by where it lies: half in volumes, half in canonq's state, and images that are to be pulled again."""
    return Need(volumes=count - count // 2, state=count // 2, images=images)


@dataclass(frozen=True)
class PulledImage:
    """An image that canonq had Docker pull for a release."""

    reference: str
    recipe: str
    version: str
    used: float  #: when it was last deployed or pulled, in seconds since 1970


def images_to_drop(pulled: Collection[PulledImage], wanted: Mapping[str, Collection[str]], since: float) -> dict[str, str]:
    """Images that no release needs any more: reference -> why.

    `wanted` is recipe -> versions whose images stay: canonicals, kept ones, the newest run and its base. An image
    that canonq did not have pulled is never named, nor one used after `since` or shared with a wanted release.
    """
    needed = {image.reference for image in pulled if image.version in wanted.get(image.recipe, ()) or image.used > since}
    users: dict[str, list[str]] = {}
    for image in pulled:
        if image.reference not in needed:
            users.setdefault(image.reference, []).append(f"{image.recipe} {image.version}")
    return {reference: f"pulled for {', '.join(sorted(of))}, which no canonical needs" for reference, of in users.items()}


#: Bytes from which on reading or writing them takes so long that a person asks what goes on.
_LONG = 2**28


def is_long(count: int) -> bool:
    """Whether so many bytes are read or written for so long that it is told as it begins."""
    return count >= _LONG


def gib(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
