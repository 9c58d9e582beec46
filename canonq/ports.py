"""What flows need of the outside world, as promises. `adapters` keeps them for real, tests keep fakes to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from canonq.core.deployable import Deployable
from canonq.core.dockerinfo import ImageStore, Speaks, Unled
from canonq.core.enrolment import Health, Tree
from canonq.core.errors import SyncFailed
from canonq.core.peaks import Taking
from canonq.core.stack.convergence import Service, Task
from canonq.core.upstream.mirror import Change
from canonq.core.upstream.pulls import Hosted, Landing, Pull, StatusState

_KEPT_LINES = 25


@dataclass(frozen=True)
class Listing:
    """What a remote names: its default branch and all tags, peeled."""

    branch: str
    head: str | None  #: commit of the default branch; None in an empty repository
    tags: dict[str, str]  #: tag -> commit
    refs: Mapping[str, str] = field(default_factory=dict)  #: full name -> object as it is, of branches and tags
    moved_to: str | None = None  #: the address that the remote sent us on to, where it did

    def digest(self, branch: str) -> str:
        """Changes when the head of `branch` does, or any tag."""
        named = [
            f"{name} {ref}" for ref, name in self.refs.items() if ref.startswith("refs/tags/") or ref == f"refs/heads/{branch}"
        ]
        return hashlib.sha256("\n".join([branch, *named]).encode(errors="surrogateescape")).hexdigest()


class Repos(Protocol):
    """Bare clones of recipes, one each, never checked out."""

    def listing(self, url: str, *, which: str = "upstream") -> Listing:
        """One look at the remote, touching no disk. SyncFailed when it cannot be read; `which` is what errors call it."""

    def tags(self, recipe: str) -> dict[str, str]:
        """Tags of the local clone, peeled. HostProblem `clone-missing` where there is none: nobody knows what is released."""

    def known(self, recipe: str) -> dict[str, str]:
        """Every tag ever fetched with the commit it had, so that a moved tag is noticed."""

    def odd_tags(self, recipe: str) -> dict[str, str]:
        """Tags of the local clone that name no commit: tag -> "tree" or "blob"."""

    def accept(self, recipe: str, tag: str, commit: str | None) -> bool:
        """Take this commit for the one that a tag has always named, None for whatever it names next; whether it was known."""

    def remembered(self, recipe: str) -> dict[str, Any]:
        """What `remember` kept; empty when there is no clone, or it changed since."""

    def remember(self, recipe: str, value: dict[str, Any]) -> None:
        """Keep something about the clone as it is now."""

    def closed_pulls(self, recipe: str) -> dict[int, str]:
        """Pull requests that canonq closed, with the head they had: number -> commit."""

    def note_closed(self, recipe: str, number: int, head: str) -> None:
        """Note that canonq closed one."""

    def not_landed(self, recipe: str, main: str) -> frozenset[str]:
        """Heads of pull requests of which is known that they are not in `main`, a commit."""

    def note_not_landed(self, recipe: str, main: str, heads: Iterable[str]) -> None:
        """Note which heads are not in `main`; what was known of another commit is forgotten."""

    def fetch_pulls(self, recipe: str, url: str, heads: Mapping[int, str]) -> tuple[dict[int, str], dict[int, SyncFailed]]:
        """Have the heads of pull requests (number -> commit) in the clone. What each has now, but for those that are gone; and
        why some cannot be had: none is in the way of another, or of the recipe.

        Asks the remote only for heads that the clone has not, and for all of them at once. SyncFailed when it cannot be asked.
        """

    def forget_pulls(self, recipe: str, but: Collection[int]) -> None:
        """Remove heads of pull requests that are not open any more from the clone, and what only they had brought."""

    def update(self, recipe: str, url: str, listing: Listing) -> bool:
        """Bring the clone in line with `listing`; whether anything changed. Calling twice changes nothing.

        SyncFailed when the upstream cannot be read, TagMoved when a tag moved after it was listed.
        """

    def fetch_ref(self, recipe: str, url: str, ref: str, *, which: str = "upstream") -> str:
        """Fetch a branch, a full commit or a pull request's head (`pull/7/head`); its commit. It becomes no tag.

        WrongUse when the remote has no such ref, SyncFailed when it cannot be read.
        """

    def find_ref(self, url: str, ref: str, *, which: str = "upstream") -> str:
        """What a remote calls a branch, tag or pull request's head in full, by one look; a commit stands for itself.

        WrongUse when the remote has no such ref, SyncFailed when it cannot be read.
        """

    def checkout(self, recipe: str, commit: str, folder: Path, tree: Tree | None = None) -> None:
        """Write the tree of `commit` to a new folder, byte for byte as git stored it, and prove that.

        RecipeProblem for what could leave the folder, and for what `tree` does not allow.
        """

    def show(self, recipe: str, commit: str, path: str) -> str | None:
        """One file of a commit; None when it is not there. RecipeProblem for one that is too large to be configuration."""

    def landing(self, recipe: str, main: str, head: str) -> Landing:
        """What the clone's history says about a head and a default branch, both commits of the clone."""

    def elsewhere(self, root: Path) -> Repos:
        """The same with clones below another folder, for a look that is to leave nothing behind."""

    def copied(self, recipe: str, root: Path) -> Repos:
        """The same below another folder, with a copy of the recipe's clone and of all that is known of it."""

    def is_annotated(self, recipe: str, tag: str) -> bool:
        """Whether a tag of the clone is an annotated one."""

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        """Remove a tree that `checkout` wrote; not an error when it is gone."""


@dataclass(frozen=True)
class Mirrored:
    """What was done to a mirror."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]  #: what a person should know
    digest: str  #: of its listing, now that it equals upstream


class Mirrors(Protocol):
    """Mirrors of upstreams."""

    def over(self, repos: Repos) -> Mirrors:
        """The same over other clones of the kind."""

    def bring(self, recipe: str, url: str, branch: str, dry_run: bool = False) -> Mirrored:
        """Make the mirror's default branch and tags equal to the clone's; with `dry_run` say what would be done.

        Other branches are left alone. SyncFailed (`mirror-refused`, `mirror-moving`, `mirror-gone`, ...) leaves it in a
        state from which the next call goes on. Called twice, it pushes nothing the second time.
        """


class Forge(Protocol):
    """The forge that mirrors are on. ForgeProblem when it does not do what it is asked for."""

    dry_run: bool  #: whether nothing is to be changed there

    def version(self) -> str:
        """What the forge says it is."""

    def repo_of(self, url: str) -> str | None:
        """`owner/name` of a mirror that is on this forge, else None."""

    def hosted(self, repo: str) -> Hosted:
        """What the forge says of a repository itself."""

    def open_pulls(self, repo: str) -> list[Pull]:
        """All open pull requests of a repository."""

    def comment_once(self, repo: str, number: int, mark: str, text: str) -> bool:
        """Comment on a pull request, unless a comment with `mark` is there already; whether it was made now."""

    def close(self, repo: str, number: int) -> None:
        """Close a pull request without merging it."""

    def set_status(self, repo: str, commit: str, state: StatusState, description: str, *, quick: bool = False) -> None:
        """Set the status of a commit under canonq's context, or that of its quick runs: these prove little, and hide no other."""


@dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    status: int
    output: str  #: standard output and error as they came, undecodable bytes replaced; of `programs.read`, standard output
    errors: str = ""  #: standard error, where it was kept apart
    raw: bytes = b""  #: standard output as it came, where it was kept apart: it is data then
    moved_to: str | None = None  #: of a git that was sent on by the remote: where it was answered from, masked

    @property
    def answer(self) -> str:
        """Standard output alone, where it was kept apart; else all there is."""
        return self.raw.decode(errors="replace") if self.raw or self.errors else self.output

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
    status: int = 0  #: of an answer over HTTP


@dataclass(frozen=True)
class Roots:
    """Where Docker keeps what runs write."""

    docker: Path  #: volumes, and logs of containers
    images: Path  #: images and containers' layers
    store: ImageStore
    how: Literal["told by Docker", "set in the settings", "asked of its process", "guessed"]  #: how `images` was found


@dataclass(frozen=True)
class Versions:
    """What Docker's parts are, and which versions of its API they speak."""

    version: str  #: the Engine's
    engine: Speaks
    command: Speaks
    spoken: str  #: the API version that canonq itself speaks with it
    do_not_meet: str | None  #: why the command cannot speak with the Engine, in a sentence


class Images(Protocol):
    """What is kept of images."""

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        """Have every image locally, pulling what is missing; reference -> digest or image id.

        RecipeProblem for a name that is none and for an image that nobody can have; HostProblem for all else, with the
        registry's address as `outside`.
        """

    def had_from(self, other: str, reference: str, timeout: float) -> bool:
        """Have an image under its own name by pulling it under another one, as a mirror has it; False when that did not work."""

    def is_image(self, reference: str, digest: str) -> bool:
        """Whether what is here under a name is the image that `ensure_images` gave `digest` for, by any digest or id of it."""

    def image_sizes(self, references: Sequence[str]) -> dict[str, int]:
        """Reference -> bytes, of those that are here."""

    def drop_image(self, reference: str) -> bool:
        """Remove an image's name, and what nothing else needs of it; False when a container needs it. Gone is not an error."""

    def drop_unfinished_pulls(self) -> None:
        """Give back what pulls that were cut short have brought; ones under way may have to begin anew. No image is removed."""


class Stacks(Protocol):
    """Stacks on a single-node Swarm: what is given to them, and how they are."""

    def ensure_network(self, name: str) -> None:
        """Have the overlay network `name`; made attachable and labelled as infrastructure when missing."""

    def check_network(self, name: str) -> bool:
        """Whether the network is there. HostProblem where it is and no stack can use it; nothing is made or changed."""

    def networks(self) -> list[str]:
        """Names of the networks that a stack may use which it has not made itself."""

    def configs(self) -> list[str]:
        """Names of all configs that are there."""

    def put_secret(self, name: str, value: str, labels: Mapping[str, str]) -> None:
        """Have the secret with this value; an older one of the same name and owner is replaced."""

    def strangers(self, stack: Deployable, labels: Mapping[str, str]) -> list[str]:
        """What has a name that the stack would be written under, or says that it belongs to it, and lacks these labels."""

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        """`docker stack deploy`, returning when Docker has taken it in. RecipeProblem when it refuses."""

    def redeploy(self, stack: str) -> None:
        """Have every container of a stack replaced by a new one, all at once and none before the old one has ended.

        As if it were removed and deployed again, but that its volumes stay; nothing is waited for.
        """

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        """Services and tasks of the stack as they are now."""

    def changes(self, stack: str) -> AbstractContextManager[Callable[[float], bool]]:
        """Gives a function that waits so many seconds at most for something to happen in the stack; whether it did."""

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        """The last log lines of each service."""

    def last_words(self, stack: str, service: str) -> str:
        """The last lines that the newest dead container of a service has logged; empty where it said nothing."""

    def failing_checks(self, stack: str) -> dict[str, str]:
        """Service -> what its health check said last, as far as the newest of its containers failed it and is still there."""

    def out_of_memory(self, stack: str) -> frozenset[str]:
        """Ids of the stack's containers, running or dead, in which something was killed for want of memory."""

    def undeploy(self, stack: str, timeout: float) -> tuple[str, ...]:
        """Remove services, containers, networks, configs; returns when all are gone. Volumes stay.

        Gives the services whose container did not end by itself within its grace, and was killed.
        """


@dataclass(frozen=True)
class Outside:
    """What the container of a service holds that is in no volume of the stack's own, and is gone with it."""

    service: str
    pid: int = 0  #: of its process on this host, whose root folder is the container's; 0 where it cannot be had
    paths: tuple[str, ...] = ()  #: of files in its own layer, made or changed since it was started
    unnamed: Mapping[str, Path] = field(default_factory=dict)  #: where volumes without a name are mounted -> where they lie here
    why_not: str = ""  #: why it could not be seen


@dataclass(frozen=True)
class Beside:
    """Where containers write on this host beside the volumes that have a name."""

    layers: tuple[Path, ...] = ()  #: folders of their own layers
    unnamed: tuple[Path, ...] = ()  #: volumes without a name


class Containers(Protocol):
    """The way into what runs."""

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        """Ask the app once, from inside the service's network namespace or by exec."""

    def listening(self, stack: str, service: str) -> list[int]:
        """The TCP ports on which something listens in the running container of a service, in order."""

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        """Run a command in a service's container; standard output and error are kept apart too.

        `env`: variables beside the container's own, which may be secret: they are no argument of any program. TimedOut when it
        does not end; RecipeProblem when none runs.
        """

    def started_as(self, stack: str, service: str) -> Sequence[str]:
        """The words that the running container of a service was started with, of which one may be secret; what runs in it may
        call itself otherwise. RecipeProblem when none runs."""

    def process_of(self, stack: str, service: str) -> int:
        """Process id, on this host, of a service's container: the way into its network. RecipeProblem when none runs."""

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        """A file or folder of a service, also of one that has ended, as a tar stream. RecipeProblem when it is not there."""

    def write_archive(self, stack: str, service: str, folder: str, archive: Iterable[bytes]) -> None:
        """Unpack a tar stream into a folder of a service, over what is there; also into a volume that it may only read."""

    def outside_volumes(self, stack: str) -> list[Outside]:
        """What the containers that run now hold beside the stack's own volumes, by their names alone; one of each service."""

    def container_names(self, stack: str) -> frozenset[str]:
        """What the containers that run now are called, and call themselves: beginnings of their ids, host names, ids of tasks."""

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        """(volume, service, path in its container): each volume of the stack's own, with each running service that may write."""


class Volumes(Protocol):
    """Volumes, and where their data lies on this host."""

    def make_volume(self, name: str, labels: Mapping[str, str], stack: str) -> Path:
        """Have the volume, as if `stack` had made it; where its data lies on this host.

        HostProblem when there is one of another owner: nothing is written there.
        """

    def volume_path(self, name: str) -> Path | None:
        """Where a volume's data lies on this host; None when there is no such volume."""

    def volume_label(self, name: str, label: str) -> str | None:
        """A volume's label; None when there is no such volume or label."""

    def volumes_of(self, stack: str) -> list[str]:
        """Names of the volumes that Docker has for a stack, running or not."""

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        """Volumes of the stack's own that its services are to mount, running or not, and where each lies on this host."""

    def remove_volume(self, name: str) -> None:
        """Remove a volume; not an error when it is gone."""


class Ownership(Protocol):
    """What carries labels of canonq's, whatever it is."""

    def owned(self, labels: Mapping[str, str]) -> dict[str, list[str]]:
        """Everything that carries these labels: stacks, volumes, networks, secrets, configs by name."""

    def volumes_owned(self, labels: Mapping[str, str]) -> dict[str, Path]:
        """The volumes alone that carry these labels, with where each lies on this host; one question."""

    def owners(self, labels: Mapping[str, str]) -> list[str]:
        """Ids of the runs and promotions that own something with these labels."""

    def remove_owned(self, labels: Mapping[str, str], timeout: float) -> dict[str, list[str]]:
        """Remove everything that carries these labels, volumes too; what was removed."""

    def takings(self, labels: Mapping[str, str]) -> dict[str, Taking]:
        """What each container with these labels takes now, by its id: of memory, as far as nobody could have it back."""

    def written_beside(self, labels: Mapping[str, str]) -> Beside:
        """Where the containers with these labels write beside volumes that have a name, as far as it can be told; of those that
        have ended too, as what they wrote is there until they are removed."""

    def remove_secrets(self, labels: Mapping[str, str]) -> None:
        """Remove the secrets that carry these labels."""


class Data(Containers, Volumes, Protocol):
    """Both ways to what an app keeps: through its containers and on this host."""


class Engine(Images, Stacks, Data, Ownership, Protocol):
    """A Docker Engine: all of these, and what it is itself."""

    def preflight(self) -> None:
        """HostProblem when the Engine does not answer, is no Swarm manager, has no node that takes tasks, or may not be used."""

    def firewall(self) -> Unled | None:
        """Which of the host's firewall rules for Docker are missing; None where none are, or they cannot be seen from here."""

    def ping(self) -> None:
        """Its shortest answer. HostProblem without one."""

    def asked_at(self) -> str:
        """Where this Engine is asked, and who says so, for people."""

    def versions(self) -> Versions:
        """Versions of the Engine, of Docker's command and of the API."""

    def data_root(self) -> Path:
        """Docker's root folder."""

    def roots(self) -> Roots:
        """The folders that it writes to, on this host."""


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

    def hold(
        self, recipe: str, holder: str, lane: Lane = "registry", *, moving: bool = False
    ) -> AbstractContextManager[Held | None]:
        """Hold the recipe; None when another does, or its canonical is on another host, or on its way there. Renewed until the
        block ends. `moving`: the holder is that move itself."""

    def alone(self, recipe: str) -> AbstractContextManager[bool]:
        """Whether nobody of this host holds the recipe, and nobody does until the block ends: by its file lock alone, without
        Redis or a fence. For who removes what the dead have left; no record may be written by it."""

    def carry(self, recipe: str, fence: int) -> None:
        """Whoever holds the recipe here from now on has a higher fence than this one, which comes from another host."""

    def newest_fence(self, recipe: str) -> int:
        """The newest fence of a recipe that Redis remembers, whatever host had it; 0 where it remembers none, or is away."""

    def is_held(self, recipe: str, lane: Lane = "registry") -> bool:
        """Whether a living process of this host holds the recipe, by its file lock alone. Looking changes nothing."""

    def holder(self, recipe: str) -> dict[str, Any] | None:
        """Who holds the recipe since when, or None."""
