"""doctor: checks everything a sweep needs, and says how to mend each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import Any, cast

from canonq.adapters.checkout import NO_CHECKOUT, at_revision
from canonq.adapters.network.notify import Notifier
from canonq.adapters.processes.programs import plain_environment, read, run
from canonq.adapters.redis_server import redis_server_program
from canonq.adapters.state.folder import NO_INSTANCE, state_of
from canonq.adapters.state.locks import NO_PASSWORD, asks_no_password, redis_client
from canonq.core.ago import duration
from canonq.core.check import Check, of_error
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from canonq.core.errors import CanonqError, HostProblem, redis_problem
from canonq.core.pulls import FREELY, within
from canonq.core.records import STAMP_FORMAT
from canonq.core.report.messages import DEFAULT
from canonq.core.text import readable, shown
from canonq.flows import hosts as hosts_flow
from canonq.flows.keeping.data import lost_data
from canonq.flows.keeping.leftovers import lost_record, must_be_mounted
from canonq.flows.keeping.orphans import orphans
from canonq.flows.keeping.room import tidy
from canonq.flows.looking.doctor_docker import Silent, disk, docker, firewall, images, names, networks
from canonq.flows.looking.telling import told_failure, waiting
from canonq.flows.sweeps.brokenoff import is_broken_off
from canonq.flows.sweeps.nights import DueSince, look_at_nights, none_due
from canonq.flows.sweeps.summary import summary
from canonq.flows.upstream.pulls import forge_repo, open_pulls
from canonq.flows.upstream.remotes import addresses, problems_of_addresses
from canonq.flows.world import World
from canonq.ports import Ended, Engine
from canonq.settings import SHORTEST_SIGNING, open_secrets, secret_in, unknown_variables, web_password

_MOST_ASKED = 5
_CLOCK_SLACK = timedelta(minutes=5)


def doctor(world: World, due_since: DueSince = none_due) -> list[dict[str, Any]]:
    """All checks; none of them changes anything."""
    try:
        world.engine.ping()
    except HostProblem as error:  # each question would take as long again
        world = replace(world, engine=cast(Engine, Silent(world.engine.asked_at(), error)))
    probes = (*_PROBES, partial(_nights, due_since=due_since))
    return [asdict(check) for probe in probes for check in _safely(probe, world)]


def _safely(probe: Callable[[World], Iterator[Check]], world: World) -> Iterator[Check]:
    try:
        yield from probe(world)
    except CanonqError as error:
        yield of_error(_name_of(probe), error)
    except OSError as error:
        yield Check(
            _name_of(probe), "broken", f"{error.filename or 'a file'}: {error.strerror}", "look at its rights and the disk."
        )


def _name_of(probe: Any) -> str:
    name = str((probe.func if isinstance(probe, partial) else probe).__name__)
    return name.removeprefix("_").replace("_", " ")


def _registries(world: World) -> Iterator[Check]:
    """How much of what registries grant was used."""
    now = world.now().timestamp()
    for registry, granted in sorted(world.settings.registries.limits.items()):
        used = len(within(world.pulls.of(registry), granted.window, now))
        told = f"{registry}: {used} of {granted.pulls} pulls in the last {duration(granted.window)}"
        if used >= granted.pulls * FREELY:
            yield Check("registries", "warning", told, "sweeps go on slower; [registries] mirrors spares the limit.")
        else:
            yield Check("registries", "ok", told)


def _state(world: World) -> Iterator[Check]:
    """Whether this user, who is asked to be the one that runs canonq, can read and write all that work writes to."""
    yield state_of(world.settings.state.absolute())


def _checkout(world: World) -> Iterator[Check]:
    enrolled = world.checkout.enrolled()
    revision = world.checkout.revision()
    if revision == NO_CHECKOUT:
        what = f"{at_revision(world.checkout.root, revision)}: no sweep can say which revision it ran"
        yield Check("checkout", "warning", what, "make it a git clone.")
    else:
        yield Check("checkout", "ok", at_revision(world.checkout.root, revision))
    yield Check("enrolments", "ok", f"{len(enrolled.recipes)} enrolled: {', '.join(enrolled.recipes)}")
    for error in (*enrolled.broken.values(), *problems_of_addresses(world, enrolled.recipes.values()).values()):
        yield of_error("enrolments", error)


def _checkout_age(world: World) -> Iterator[Check]:
    folder = str(world.checkout.root)
    follows = world.checkout.tracked()
    if follows is None:
        why = "is on no branch" if _git(folder, "remote").output.split() else "has no remote to compare with"
        yield Check("checkout age", "warning", f"the checkout {why}", "make it a git clone on a branch.")
        return
    branch, remote, tracked = follows
    asked = _git(folder, "ls-remote", remote, tracked)
    newest = next((line.split("\t")[0] for line in asked.output.splitlines() if line.endswith(f"\t{tracked}")), "")
    if asked.status != 0 or not newest:
        said = asked.errors.strip()[-200:] or f"it has no {tracked}"
        yield Check("checkout age", "warning", f"its remote could not be read: {said}", "check the network.")
        return
    yield _age(folder, branch, newest)


def _age(folder: str, branch: str, newest: str) -> Check:
    if _git(folder, "rev-parse", "HEAD").output.strip() == newest:
        return Check("checkout age", "ok", f"{branch} is what its remote has")
    if _git(folder, "merge-base", "--is-ancestor", newest, "HEAD").status == 0:
        ahead = _git(folder, "rev-list", "--count", f"{newest}..HEAD").output.strip()
        return Check("checkout age", "ok", f"{branch} has {ahead} commit(s) that its remote has not; it is not behind")
    return Check(
        "checkout age",
        "warning",
        f"{branch} is behind: its remote has {newest[:12]}, which is not in it",
        "run `git pull` there.",
    )


def _git(folder: str, *arguments: str) -> Ended:
    """git in the checkout, whoever owns it; what it says on standard error is not its answer."""
    command = ["git", "-c", "safe.directory=*", "-C", folder, *arguments]
    return read(command, timeout=30, env=plain_environment(GIT_TERMINAL_PROMPT="0"), harmless=True)


def _redis(world: World) -> Iterator[Check]:
    url = world.settings.broker_url()
    if url is None:
        yield Check("redis", "ok", f"none is configured; commands embed one ({redis_server_program()})")
        return
    try:
        client = redis_client(url)
        client.ping()
    except Exception as error:  # noqa: BLE001 - redis-py raises many kinds; each means the same here
        yield of_error("redis", redis_problem(str(error)))
        return
    yield Check("redis", "ok", "Redis answers")
    if asks_no_password(url):
        yield Check("redis password", "warning", *NO_PASSWORD)
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        aof = client.config_get("appendonly").get("appendonly", "unknown")
    except Exception as error:  # noqa: BLE001 - a managed one, or an ACL, does not tell its settings
        unknown = f"whether it may drop tasks, or loses them in a restart, is unknown: it does not tell its settings ({error})"
        yield Check(
            "redis settings", "warning", unknown, "ask whoever runs it for maxmemory-policy noeviction and appendonly yes."
        )
        return
    if policy != "noeviction":
        yield Check("redis memory", "warning", f"maxmemory-policy is {policy}", "set it to noeviction, or tasks may vanish.")
    if aof != "yes":
        yield Check("redis durability", "warning", "appendonly is off", "turn it on, or a restart loses queued tasks.")


def _leftovers(world: World) -> Iterator[Check]:
    if _without_id(world):
        yield Check("leftovers", "warning", "without its id nobody can tell what is this installation's", "see `state` above.")
        return
    try:
        lines = tidy(world, dry_run=True)
    except CanonqError as error:
        yield of_error("leftovers", error, "warning")
        return
    if lines:
        more = f", and {len(lines) - _MOST_ASKED} more" if len(lines) > _MOST_ASKED else ""
        yield Check("leftovers", "warning", f"{'; '.join(lines[:_MOST_ASKED])}{more}", "run `canonq janitor`.")
    else:
        yield Check("leftovers", "ok", "the dead have left nothing")
    with contextlib.suppress(HostProblem):  # told by `docker`
        for sentence in orphans(world):
            yield Check("orphans", "warning", *sentence.split(" Mend: "))


def _without_id(world: World) -> bool:
    """Whether what canonq has in Docker cannot be told from what is others': the state folder's id is not to be had."""
    return world.instance == NO_INSTANCE and bool(world.registry.recipes())


def _of_others(world: World) -> list[str]:
    """Retained volumes of canonq's that are not of this installation; none where Docker is away."""
    try:
        every = set(world.ownership.volumes_owned({LABEL_KIND: "warm"}))
        return sorted(every - set(world.ownership.volumes_owned({LABEL_INSTANCE: world.instance})))
    except HostProblem:
        return []


def _canonicals(world: World) -> Iterator[Check]:
    if _without_id(world):
        what = f"{len(world.registry.recipes())} on record; without its id nobody can tell which volumes are this installation's"
        yield Check("canonicals", "warning", what, "see `state` above. Their volumes are still where they were.")
        return
    must_be_mounted(world)
    if not world.registry.recipes() and (others := _of_others(world)):
        yield Check(
            "canonicals",
            "warning",
            f"none on record, and Docker has {len(others)} retained volume(s) of another installation ({others[0]}, ...)",
            f"if that was this one: is the disk of {world.settings.state} mounted, and CANONQ_STATE right? A sweep begins anew.",
        )
        return
    broken = [*_records(world), *(Check("canonicals", "broken", *sentence.split(" Mend: ")) for sentence in lost_data(world))]
    yield from broken
    if not broken:
        yield Check("canonicals", "ok", _on_record(world))


def _on_record(world: World) -> str:
    """How many canonicals there are, and how many of them have no data."""
    records = [world.registry.read(name) for name in world.registry.recipes()]
    bare = sum(record is not None and not record.has_data for record in records)
    if bare:
        return f"{len(records)} on record, {bare} of them an older server's, without data; `canonq verify` reads the others"
    return f"{len(records)} on record, with volumes and snapshots; `canonq verify` reads them"


def _records(world: World) -> Iterator[Check]:
    """Records that cannot be read, or are gone though canonicals are kept."""
    for name in world.registry.recipes():
        try:
            mark = world.registry.elsewhere(name)
            lost = None if mark is not None and mark.state == "gone" else lost_record(world, name)
        except CanonqError as error:
            yield of_error("canonicals", error)
            continue
        if lost is not None:
            what, _, mend = lost.partition(" Mend: ")
            yield Check("canonicals", "broken", what, mend, "record-missing")


def _sweeps(world: World) -> Iterator[Check]:
    for sweep in world.sweeps.open_sweeps():
        found = summary(world, sweep)
        names = ", ".join(found["pending"][:_MOST_ASKED])
        if is_broken_off(world, sweep):
            left = f"{len(found['pending'])} of {found['enrolled']} without an outcome ({names})"
            mend = f"the next sweep closes it, or `canonq stop {sweep}`."
            yield Check("sweeps", "warning", f"{sweep} was broken off, as its command was killed: {left}", mend)
            continue
        yield Check(
            "sweeps", "ok", f"{sweep} is open: {len(found['pending'])} of {found['enrolled']} without an outcome ({names})"
        )


def _nights(world: World, *, due_since: DueSince) -> Iterator[Check]:
    found = look_at_nights(world, due_since)
    if found.told:
        yield Check("nights", "warning", *found.told.split(" Mend: "))
    elif found.last is None:
        yield Check("nights", "ok", "no night was swept yet: beat, or `canonq up`, sweeps at the hour that `nightly` says")
    else:
        yield Check("nights", "ok", f"the night of {found.last.due} was swept by {found.last.sweep} ({found.last.state})")


def _variables(world: World) -> Iterator[Check]:
    del world
    for name, meant in unknown_variables(os.environ).items():
        mend = f"did you mean {meant}?" if meant else "docs/configuration.md lists all that are read."
        yield Check("variables", "warning", f"{name} is set, and nothing reads it", mend)


def _secrets(world: World) -> Iterator[Check]:
    for key, path in open_secrets(world.settings):
        yield Check("secrets", "warning", f"{key} = {path} can be read by every user of this host", f"`chmod o-rwx {path}`.")


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
        pulls, hindered = open_pulls(world.forge, repo)
        if hindered:
            yield Check("forge", "broken", f"{repo}: {hindered}", "open it again there, or name another mirror in recipe.toml.")
        else:
            yield Check("forge", "ok", f"{len(pulls)} open pull request(s) in {repo}")
    if not repos:
        yield Check(
            "forge", "warning", "no enrolled recipe has a mirror on it", "set `mirror` in a recipe.toml, or drop [forge]."
        )


def _webhook(world: World) -> Iterator[Check]:
    if world.settings.webhook is not None:
        secret_in(world.settings.webhook.secret_file, "[webhook] secret_file", shortest=SHORTEST_SIGNING)
        yield Check("webhook", "ok", f"its secret is there; it is to listen on {world.settings.webhook.listen}")


def _web(world: World) -> Iterator[Check]:
    if (web := world.settings.web) is not None:
        web_password(web)
        yield Check("web", "ok", f"its password is there; it is to listen on {web.listen}")
        if web.listen.rpartition(":")[0] not in ("127.0.0.1", "[::1]", "localhost"):
            yield Check(
                "web",
                "warning",
                f"{web.listen} is more than the loopback address, and its login goes over the line as it is",
                "put a reverse proxy with TLS in front of it, and let nobody else reach it.",
            )


def _notify(world: World) -> Iterator[Check]:
    """What can be known without a message: `canonq notify --test` sends one."""
    if world.settings.notify is None:
        return
    notifier = Notifier(world.settings.notify)
    wrong = list(_wrong_channels(world, notifier))
    yield from wrong
    if not wrong:
        there = ", ".join(map(readable, notifier.names))
        yield Check("notify", "ok", f"channels {there}; `canonq notify --test` sends a message")


def _wrong_channels(world: World, notifier: Notifier) -> Iterator[Check]:
    if DEFAULT not in notifier.names:
        yield Check(
            "notify",
            "broken",
            f"[notify] has no channel {DEFAULT}, so that digests go nowhere",
            f'write {DEFAULT} = ["ntfy://..."] there.',
        )
    for channel in notifier.names:
        for number in notifier.unknown(channel):
            what = f"address {number} of the channel {shown(channel)} is not one that Apprise knows"
            yield Check("notify", "broken", what, "correct it; `canonq notify --test` sends a message.")
    for recipe, one in world.checkout.enrolled().recipes.items():
        if one.notify and one.notify not in notifier.names:
            what = (
                f"recipe.toml of {recipe} names the channel {shown(one.notify)}, which is not there: {DEFAULT} gets its messages"
            )
            yield Check("notify", "warning", what, f"name one of {', '.join(notifier.names) or DEFAULT}, or add it to [notify].")
    if tried := [one for one in waiting(world) if one.problem]:
        what = f"{len(tried)} not delivered yet; the last: {told_failure(tried[-1], tried[-1].problem)}"
        yield Check("notify", "warning", what, "`canonq notify --test` shows whether it works now.")


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
            yield of_error("programs", error)
            return
    yield Check("programs", "ok", "git, docker, tar, cp and bash are there")


_PROBES = (
    _state,
    _checkout,
    _checkout_age,
    docker,
    firewall,
    networks,
    names,
    images,
    _registries,
    _redis,
    hosts_flow.checks,
    disk,
    _ingress,
    _forge,
    _webhook,
    _web,
    _notify,
    _clock,
    _programs,
    _variables,
    _secrets,
    _canonicals,
    _sweeps,
    _leftovers,
)
