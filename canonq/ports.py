"""What flows need of the outside world, as promises. `adapters` keeps them for real, tests keep fakes to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeAlias

from canonq.core.convergence import Service, Task
from canonq.core.deployable import Deployable
from canonq.core.enrolment import Health

_KEPT_LINES = 25


@dataclass(frozen=True)
class Listing:
    """What a remote names: its default branch and all tags, peeled."""

    branch: str
    head: str | None  #: commit of the default branch; None in an empty repository
    tags: dict[str, str]  #: tag -> commit


class Repos(Protocol):
    """Bare clones of recipes, one each, never checked out."""

    def listing(self, url: str) -> Listing:
        """One look at the remote, touching no disk. SyncFailed when it cannot be read."""

    def tags(self, recipe: str) -> dict[str, str]:
        """Tags of the local clone, peeled; empty when there is no clone."""

    def known(self, recipe: str) -> dict[str, str]:
        """Every tag ever fetched with the commit it had, so that a moved tag is noticed."""

    def update(self, recipe: str, url: str, listing: Listing) -> bool:
        """Bring the clone in line with `listing`; whether anything changed. Calling twice changes nothing."""

    def fetch_ref(self, recipe: str, url: str, ref: str) -> str:
        """Fetch a branch, a full commit or a pull request's head (`pull/7/head`); its commit. It becomes no tag.

        WrongUse when the upstream has no such ref, SyncFailed when it cannot be read.
        """

    def checkout(self, recipe: str, commit: str, folder: Path) -> None:
        """Put the tree of `commit` into a new worktree and prove it is exactly that tree."""

    def show(self, recipe: str, commit: str, path: str) -> str | None:
        """One file of a commit; None when it is not there."""

    def is_annotated(self, recipe: str, tag: str) -> bool:
        """Whether a tag of the clone is an annotated one."""

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        """Remove a worktree; not an error when it is gone."""


@dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    status: int
    output: str  #: standard output and error as they came, undecodable bytes replaced
    errors: str = ""  #: standard error, where it was kept apart

    @property
    def tail(self) -> str:
        """The last lines, for a message."""
        return "\n".join(self.output.splitlines()[-_KEPT_LINES:])


@dataclass(frozen=True)
class Answer:
    """What the app answered to one probe."""

    ok: bool
    detail: str  #: status and beginning of the body, or why there was none
    reached: bool = True  #: whether anything answered at all


class Engine(Protocol):
    """A Docker Engine with a single-node Swarm."""

    def preflight(self) -> None:
        """HostProblem when the Engine does not answer, is no Swarm manager, or may not be used."""

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        """Have every image locally, pulling what is missing; reference -> digest or image id."""

    def image_sizes(self, references: Sequence[str]) -> dict[str, int]:
        """Reference -> bytes, of those that are here."""

    def drop_image(self, reference: str) -> bool:
        """Remove an image's name, and what nothing else needs of it; False when a container needs it. Gone is not an error."""

    def ensure_network(self, name: str) -> None:
        """Have the overlay network `name`; made attachable and labelled as infrastructure when missing."""

    def put_secret(self, name: str, value: str, labels: Mapping[str, str]) -> None:
        """Have the secret with this value; an older one of the same name and owner is replaced."""

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        """`docker stack deploy`, returning when Docker has taken it in. RecipeProblem when it refuses."""

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        """Services and tasks of the stack as they are now."""

    def changes(self, stack: str) -> AbstractContextManager[Callable[[float], bool]]:
        """Gives a function that waits so many seconds at most for something to happen in the stack; whether it did."""

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        """Ask the app once, from inside the service's network namespace or by exec."""

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        """Run a command in a service's container. TimedOut when it does not end; RecipeProblem when none runs."""

    def process_of(self, stack: str, service: str) -> int:
        """Process id, on this host, of a service's container: the way into its network. RecipeProblem when none runs."""

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        """A file or folder of a running service as a tar stream. RecipeProblem when it is not there."""

    def write_archive(self, stack: str, service: str, folder: str, archive: IO[bytes]) -> None:
        """Unpack a tar stream into a folder of a running service, over what is there."""

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        """The last log lines of each service."""

    def undeploy(self, stack: str, timeout: float) -> None:
        """Remove services, containers, networks, configs; returns when all are gone. Volumes stay."""

    def mark_volumes(self, stack: str, marker: str) -> list[str]:
        """Write a marker file into each named volume of the running stack; the volumes marked."""

    def unmark_volumes(self, stack: str, volumes: Sequence[str]) -> None:
        """Remove the markers of some of the volumes."""

    def find_markers(self, stack: str) -> dict[str, str]:
        """Volume -> marker found in it."""

    def owned(self, labels: Mapping[str, str]) -> dict[str, list[str]]:
        """Everything that carries these labels: stacks, volumes, networks, secrets, configs by name."""

    def owners(self, labels: Mapping[str, str]) -> list[str]:
        """Ids of the runs and promotions that own something with these labels."""

    def remove_owned(self, labels: Mapping[str, str], timeout: float) -> dict[str, list[str]]:
        """Remove everything that carries these labels, volumes too; what was removed."""

    def make_volume(self, name: str, labels: Mapping[str, str], stack: str) -> Path:
        """Have the volume, as if `stack` had made it; where its data lies on this host."""

    def volume_path(self, name: str) -> Path | None:
        """Where a volume's data lies on this host; None when there is no such volume."""

    def volume_label(self, name: str, label: str) -> str | None:
        """A volume's label; None when there is no such volume or label."""

    def volumes_of(self, stack: str) -> list[str]:
        """Names of the volumes that Docker has for a stack, running or not."""

    def remove_secrets(self, labels: Mapping[str, str]) -> None:
        """Remove the secrets that carry these labels."""

    def remove_volume(self, name: str) -> None:
        """Remove a volume; not an error when it is gone."""

    def data_root(self) -> Path:
        """Docker's root folder."""


class Ingress(Protocol):
    """The reverse proxy in front, when one is configured."""

    def get(self, domain: str, path: str, timeout: float) -> tuple[int, bytes]:
        """One GET through the ingress; OSError when nothing answers."""

    def down(self) -> str | None:
        """Why nobody can be connected to at its address, or None: then what fails is not the app's doing."""


class Held(Protocol):
    """Proof that a recipe's registry is held, to be handed to whatever writes."""

    fence: int

    def check(self) -> None:
        """LockLost when the lease is over or a later holder has been seen."""


#: What of a recipe is held: its registry (one writer), or its runs (one at a time).
Lane: TypeAlias = Literal["registry", "run"]


class Locks(Protocol):
    """Leases on recipes."""

    def hold(self, recipe: str, holder: str, lane: Lane = "registry") -> AbstractContextManager[Held | None]:
        """Hold the recipe; None when another does. Renewed until the block ends."""

    def holder(self, recipe: str) -> dict[str, Any] | None:
        """Who holds the recipe since when, or None."""
