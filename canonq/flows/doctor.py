"""doctor: checks everything a sweep needs, and says how to mend each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal

from git.exc import GitError
from git.repo import Repo

from canonq.adapters.locks import redis_client
from canonq.adapters.programs import plain_environment, run
from canonq.adapters.redis_server import redis_server_program
from canonq.core.budget import gib
from canonq.core.errors import CanonqError
from canonq.core.records import STAMP_FORMAT
from canonq.flows.pulls import forge_repo
from canonq.flows.room import told_eaters
from canonq.flows.sync import addresses
from canonq.flows.world import World
from canonq.settings import secret_in

_MOST_ASKED = 5
_CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Check:
    """One thing a sweep needs."""

    check: str
    state: Literal["ok", "warning", "broken"]
    detail: str
    mend: str = ""


def doctor(world: World) -> list[dict[str, Any]]:
    """All checks; none of them changes anything."""
    return [asdict(check) for probe in _PROBES for check in _safely(probe, world)]


def _safely(probe: Callable[[World], Iterator[Check]], world: World) -> Iterator[Check]:
    try:
        yield from probe(world)
    except CanonqError as error:
        yield Check(probe.__name__.removeprefix("_").replace("_", " "), "broken", error.what, error.mend)


def _checkout(world: World) -> Iterator[Check]:
    enrolled = world.checkout.enrolled()
    yield Check("checkout", "ok", f"{world.checkout.root} at {world.checkout.revision()}")
    yield Check("enrolments", "ok", f"{len(enrolled.recipes)} enrolled: {', '.join(enrolled.recipes)}")
    for error in enrolled.broken.values():
        yield Check("enrolments", "broken", error.what, error.mend)


def _checkout_age(world: World) -> Iterator[Check]:
    try:
        with Repo(world.checkout.root, search_parent_directories=True) as repo:
            if not repo.remotes:
                yield Check("checkout age", "warning", "the checkout has no remote to compare with")
                return
            branch = repo.active_branch
            remote = run(
                ["git", "-C", str(repo.working_dir), "ls-remote", "--heads", repo.remotes[0].name, branch.name],
                timeout=30,
                env=plain_environment(GIT_TERMINAL_PROMPT="0"),
            )
            newest = remote.output.partition("\t")[0]
            if remote.status != 0 or not newest:
                yield Check(
                    "checkout age", "warning", f"its remote could not be read: {remote.tail[-200:]}", "check the network."
                )
            elif newest != branch.commit.hexsha:
                yield Check(
                    "checkout age",
                    "warning",
                    f"{branch.name} is not what its remote has ({newest[:12]})",
                    "run `git pull` there.",
                )
            else:
                yield Check("checkout age", "ok", f"{branch.name} is what its remote has")
    except (GitError, TypeError, ValueError) as error:
        yield Check("checkout age", "warning", f"the checkout's age is unknown: {error}", "make it a git clone on a branch.")


def _docker(world: World) -> Iterator[Check]:
    world.engine.preflight()
    yield Check("docker", "ok", f"the Engine answers and is a Swarm manager; data in {world.engine.data_root()}")
    root = os.geteuid() == 0
    yield Check(
        "volumes",
        "ok" if os.access(world.engine.data_root() / "volumes", os.R_OK | os.X_OK) else "broken",
        f"running as {'root' if root else f'uid {os.geteuid()}'}",
        "" if root else "run the workers as root: they read and write volume data.",
    )


def _redis(world: World) -> Iterator[Check]:
    url = world.settings.broker_url()
    if url is None:
        yield Check("redis", "ok", f"none is configured; commands embed one ({redis_server_program()})")
        return
    try:
        client = redis_client(url)
        client.ping()
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        aof = client.config_get("appendonly").get("appendonly", "unknown")
    except Exception as error:  # noqa: BLE001 - redis-py raises many kinds; each means the same here
        yield Check("redis", "broken", f"Redis does not answer: {error}", "start Redis, or correct CANONQ_REDIS_URL.")
        return
    yield Check("redis", "ok", "Redis answers")
    if policy != "noeviction":
        yield Check("redis memory", "warning", f"maxmemory-policy is {policy}", "set it to noeviction, or tasks may vanish.")
    if aof != "yes":
        yield Check("redis durability", "warning", "appendonly is off", "turn it on, or a restart loses queued tasks.")


def _disk(world: World) -> Iterator[Check]:
    room = world.budget.disk(world.settings.disk_need)
    free = f"{gib(room.free)} free, floor {gib(room.floor)}, {gib(room.need)} wanted for a run. {told_eaters(world, 5)}".strip()
    if room.short > 0:
        yield Check("disk", "broken", free, "free some disk, or lower disk_floor: every recipe would be deferred.")
    else:
        yield Check("disk", "ok", free)


def _ingress(world: World) -> Iterator[Check]:
    if world.ingress is None:
        yield Check("ingress", "warning", "none is configured: probes go inside the containers, routing is not tested",
                    "set [ingress] in canonq.toml.")  # fmt: skip
        return
    try:
        answered, _ = world.ingress.get(f"doctor.{world.settings.zone}", "/", 10)
        yield Check("ingress", "ok", f"it answers ({answered} for a domain nobody has)")
    except OSError as error:
        yield Check("ingress", "broken", str(error), "start the reverse proxy, or correct [ingress].")


def _forge(world: World) -> Iterator[Check]:
    if world.forge is None:
        return
    yield Check("forge", "ok", f"it answers, version {world.forge.version()}{', dry run' if world.forge.dry_run else ''}")
    repos = []
    for one in world.checkout.enrolled().recipes.values():
        with contextlib.suppress(CanonqError):  # an address that is none is told by `canonq plan`, as that recipe's error
            mirror = addresses(world, one)[1]
            repos += [repo] if mirror and (repo := forge_repo(world, mirror)) else []
    for repo in repos[:_MOST_ASKED]:
        yield Check("forge", "ok", f"{len(world.forge.open_pulls(repo))} open pull request(s) in {repo}")
    if not repos:
        yield Check(
            "forge", "warning", "no enrolled recipe has a mirror on it", "set `mirror` in a recipe.toml, or drop [forge]."
        )


def _webhook(world: World) -> Iterator[Check]:
    if world.settings.webhook is not None:
        secret_in(world.settings.webhook.secret_file, "[webhook] secret_file")
        yield Check("webhook", "ok", f"its secret is there; it is to listen on {world.settings.webhook.listen}")


def _clock(world: World) -> Iterator[Check]:
    """Ids of runs and sweeps begin with the time, and are in order by it: a clock that was ahead is told."""
    newest = [world.sweeps.newest() or ""]
    newest += [verdict.ts for recipe in world.registry.recipes() if (verdict := world.runs.newest(recipe)) is not None]
    ahead = max(stamp[:16] for stamp in newest)
    limit = (world.now() + _CLOCK_SLACK).strftime(STAMP_FORMAT)
    if ahead > limit:
        yield Check(
            "clock",
            "warning",
            f"something on record is of {ahead}, and now it is {world.stamp()}: the clock is behind, or was ahead",
            "set the clock by NTP. Until it has caught up, the newest run by name may not be the newest.",
        )
    else:
        yield Check("clock", "ok", "nothing on record is of the future")


def _programs(world: World) -> Iterator[Check]:
    for program in ("git", "docker", "tar", "cp", "bash"):
        try:
            run([program, "--version"], timeout=20, env=plain_environment())
        except CanonqError as error:
            yield Check("programs", "broken", error.what, error.mend)
            return
    yield Check("programs", "ok", "git, docker, tar, cp and bash are there")


_PROBES = (_checkout, _checkout_age, _docker, _redis, _disk, _ingress, _forge, _webhook, _clock, _programs)
