"""What doctor says about Docker: which one is asked, its versions, where it keeps what, and how much room there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from canonq.adapters.files import table_in
from canonq.core.budget import Disk, gib
from canonq.core.check import Check, of_error
from canonq.core.dockerinfo import dns_trouble, known_engine
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.recipe.foreign import BUILT_IN, Others, missing
from canonq.core.stack.policy import SHARED_NETWORK
from canonq.core.text import readable
from canonq.flows.deploying.deployment import RESOLVED
from canonq.flows.keeping.room import told_eaters
from canonq.flows.world import World

_RESOLV = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


class Silent:
    """An Engine that has not answered once: whatever else it is asked, it does not do so either, and nobody waits again."""

    def __init__(self, asked_at: str, error: HostProblem) -> None:
        self._asked_at, self._error = asked_at, error

    def asked_at(self) -> str:
        """See ports.Engine.asked_at."""
        return self._asked_at

    def __getattr__(self, name: str) -> Any:
        def refuse(*arguments: object, **options: object) -> Any:
            raise self._error

        return refuse


def docker(world: World) -> Iterator[Check]:
    """The Engine, the command beside it, and whether they and canonq understand each other; every obstacle at once."""
    yield from _versions(world)
    try:
        world.engine.preflight()
        yield Check("docker", "ok", f"the Engine answers and is a Swarm manager; asked at {world.engine.asked_at()}")
    except CanonqError as error:
        if error.code != "docker-api":  # told above
            yield replace(of_error("docker", error), detail=f"{error.what} Asked at {world.engine.asked_at()}.")
    yield from _user(world)


def firewall(world: World) -> Iterator[Check]:
    """Whether the rules are there by which containers are reached, and reach others."""
    try:
        gone = world.engine.firewall()
    except CanonqError:
        return  # Docker is away: told above
    if gone is not None:
        yield Check("firewall", "broken" if gone.sure else "warning", gone.what, gone.mend)


def _versions(world: World) -> Iterator[Check]:
    try:
        found = world.engine.versions()
    except CanonqError:
        return  # nobody answers: preflight tells why
    known = known_engine(found.version)
    proven = "unknown" not in known
    yield Check(
        "docker engine",
        "ok" if proven else "warning",
        f"Engine {found.version}; {known}",
        "" if proven else "try `canonq test` on a recipe that is known to be well before you trust a night to it.",
    )
    api = (
        f"the Engine speaks API {found.engine.least} to {found.engine.most}, the `docker` command up to {found.command.most}, "
        f"canonq itself {found.spoken}"
    )
    if found.do_not_meet:
        mend = "install a `docker` command of the Engine's age, first on PATH; until then every deploy would fail."
        yield Check("docker api", "broken", f"{found.do_not_meet} ({api})", mend)
    else:
        yield Check("docker api", "ok", f"{api}; {found.command.who.removeprefix('The ')}")


def _user(world: World) -> Iterator[Check]:
    root = os.geteuid() == 0
    try:
        may_read = os.access(world.engine.data_root() / "volumes", os.R_OK | os.X_OK)
    except CanonqError:
        may_read = root  # nobody tells where they are; root may read them wherever that is
    yield Check(
        "volumes",
        "ok" if may_read else "broken",
        f"running as {'root' if root else f'uid {os.geteuid()}'}",
        ""
        if may_read
        else "run the workers as root: they read and write volume data; in a container, mount Docker's volumes at the same path.",
    )


def networks(world: World) -> Iterator[Check]:
    """Whether stacks can use the networks that recipes share: the reverse proxy's, and those of what was promoted."""
    names = {name: recipe for recipe in world.registry.recipes() for name in _external(world, recipe)} | {SHARED_NETWORK: ""}
    wrong = False
    for name in sorted(names):
        try:
            there = world.engine.check_network(name) or name == SHARED_NETWORK
        except HostProblem as error:
            if error.code == "docker-unreachable":  # told above
                return
            wrong = True
            yield of_error("networks", error)
            continue
        if not there:
            wrong = True
            yield of_error("networks", missing(Others("network", name), f"The canonical of {names[name]}"))
    if not wrong:
        yield Check("networks", "ok", f"{', '.join(map(readable, sorted(names)))}: there for stacks, or made when first needed")


def _external(world: World, recipe: str) -> Iterator[str]:
    """External networks of the version that is the canonical, as it was deployed."""
    try:
        record = world.registry.read(recipe)
        folder = world.registry.generation(recipe, world.registry.name_of(record) or "")
    except (CanonqError, OSError, ValueError):
        return
    declared = table_in(folder / RESOLVED).get("networks")
    for body in declared.values() if isinstance(declared, dict) else ():
        if isinstance(body, dict) and body.get("external") and isinstance(body.get("name"), str) and body["name"] not in BUILT_IN:
            yield body["name"]


def names(world: World) -> Iterator[Check]:
    """Whether the name servers that containers get from this host can be theirs."""
    del world
    resolv, of_systemd = (_text(path) for path in _RESOLV)
    if resolv is None:
        return
    if trouble := dns_trouble(resolv, of_systemd):
        yield Check("names in containers", "warning", *trouble)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def images(world: World) -> Iterator[Check]:
    """Where images and containers' layers lie, and how that is known."""
    try:
        found = world.engine.roots()
    except CanonqError:
        return
    where = f"{found.store} ({found.how}): images and containers' layers in {found.images}, volumes in {found.docker}"
    if not found.images.is_dir():
        yield Check(
            "images",
            "warning",
            f"{where}; that folder cannot be seen from here, so its disk is not watched",
            "set containerd_root to where it is; in a container, mount it (read-only) at the same path.",
        )
    elif found.how == "guessed":
        yield Check("images", "warning", where, "set containerd_root, so that the right disk is watched.")
    else:
        yield Check("images", "ok", where)


def disk(world: World) -> Iterator[Check]:
    """Each disk that a run writes to, and who takes most."""
    disks = world.budget.disks(world.settings.disk_need)
    takers = told_eaters(world, 5)
    for at, one in enumerate(disks):
        last = at == len(disks) - 1
        detail = f"{_room(one)} {takers if last else ''}".strip()
        if one.out_of_files:
            yield Check("disk", "broken", one.why_short, "remove files there; `df -i` shows it. Every recipe would be deferred.")
        elif one.short > 0:
            yield Check("disk", "broken", detail, "free some disk there, or lower disk_floor: every recipe would be deferred.")
        else:
            yield Check("disk", "ok", detail)
    for what, count in world.budget.reserved():
        if count:
            yield Check("reserved", "ok", f"{gib(count)} for {what}")


def _room(disk: Disk) -> str:
    free = f"{gib(disk.free + disk.reserved)} free"
    held = f", {gib(disk.reserved)} of it reserved by work under way" if disk.reserved else ""
    return f"{disk.name}: {free}{held}, floor {gib(disk.floor)}, {gib(disk.need)} wanted for a first run."
