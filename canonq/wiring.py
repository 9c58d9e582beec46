"""Settings -> World of real adapters; the only place that puts them together."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from canonq.adapters.checkout import Checkout
from canonq.adapters.docker.disks import file_systems
from canonq.adapters.files import is_read_only, not_readable, read_only, told
from canonq.adapters.git.clones import GitRepos
from canonq.adapters.git.mirror import Mirrors
from canonq.adapters.git.program import GitLimits, GitProgram
from canonq.adapters.host import Host
from canonq.adapters.lazily import later
from canonq.adapters.state.budget import Budget, PulledImages
from canonq.adapters.state.folder import NO_INSTANCE, give_instance, instance_of, make_state, must_be_a_folder, must_be_its_own
from canonq.adapters.state.hosts import Hosts
from canonq.adapters.state.locks import RedisLocks, redis_client
from canonq.adapters.state.pulls import Pulls
from canonq.adapters.state.registry import Registry
from canonq.adapters.state.runs import Runs
from canonq.adapters.state.steering import Steering
from canonq.adapters.state.sweeps import Sweeps
from canonq.core.budget import FileSystem, Kind
from canonq.core.errors import CanonqError, HostProblem, WrongConfiguration, no_redis
from canonq.flows.sweeps.nights import DueSince
from canonq.flows.world import World
from canonq.ports import Engine, Forge, Ingress
from canonq.settings import Settings, load_settings

if TYPE_CHECKING:
    import redis


def live(settings: Settings | None = None) -> World:
    """The real world. WrongConfiguration or HostProblem when the settings or the state folder cannot be used."""
    settings = settings or load_settings()
    state = settings.state.absolute()
    with told(state):
        make_state(state)
        if is_read_only(state):
            raise read_only(state)
        if not os.access(state, os.W_OK):
            raise PermissionError(13, "Permission denied")
    give_instance(state)
    must_be_its_own(state)
    return _world(settings, state, instance_of(state))


def looking(settings: Settings | None = None) -> World:
    """The real world for who only looks: nothing is made in the state folder, and nobody need be allowed to write there."""
    settings = settings or load_settings()
    state = settings.state.absolute()
    must_be_a_folder(state)
    try:
        readable = not state.is_dir() or os.access(state, os.R_OK | os.X_OK)
    except PermissionError:  # not even the way there
        readable = False
    if not readable:
        raise not_readable(state)
    return _world(settings, state, instance_of(state))


def checking(settings: Settings) -> World:
    """The real world for `canonq doctor`: a state folder that cannot be used is a row of its table, and no end of it."""
    try:
        return looking(settings)
    except HostProblem:
        return _world(settings, settings.state.absolute(), NO_INSTANCE)


def due_since(settings: Settings) -> DueSince:
    """Which nights these settings make due."""

    def due(night: str, now: datetime) -> Sequence[str]:
        from beat_schedule import nights_since  # with Celery's schedules, which only who has had a night needs

        return nights_since(night, now, settings.nightly)

    return due


def _world(settings: Settings, state: Path, instance: str) -> World:
    engine = later(functools.partial(engine_of, settings))
    client = functools.partial(_redis, settings)
    if settings.broker_url() is not None:
        client()  # an address that cannot be one is told at once
    registry = Registry(state / "warm")

    def elsewhere(recipe: str) -> str | None:
        mark = registry.elsewhere(recipe)
        return None if mark is None else f"{'a move' if mark.state == 'leaving' else 'the host'} to {mark.to}"

    repos = GitRepos(state / "repos", GitProgram(_git_limits(settings)))
    return World(
        settings=settings,
        checkout=Checkout(settings.repo, git=repos.git),
        repos=repos,
        mirrors=Mirrors(repos),
        forge=_forge(settings),
        engine=engine,
        locks=RedisLocks(
            client, state / "warm", instance=instance, lease=settings.lease, newest=registry.newest_fence, elsewhere=elsewhere
        ),
        registry=registry,
        runs=Runs(state / "runs"),
        sweeps=Sweeps(state / "sweeps"),
        host=Host(state / "locks"),
        hosts=Hosts(state, client, instance, lease=settings.lease, wanted=settings.host),
        instance=instance,
        ingress=_ingress(settings),
        budget=Budget(state / "locks" / "disk", lambda: _disks(state, engine), settings.disk_floor),
        pulled=PulledImages(state / "images"),
        pulls=Pulls(state / "registries"),
        steering=Steering(state / "steering"),
    )


def engine_of(settings: Settings) -> Engine:
    """The Engine that is meant."""
    from canonq.adapters.engine import SwarmEngine  # with all that speaks with Docker, which looks do not need

    return SwarmEngine(settings.containerd_root)


def _redis(settings: Settings) -> redis.Redis:
    # What needs a lock asks for it when it tries.
    if (url := settings.broker_url()) is None:
        raise no_redis()
    try:
        return redis_client(url)
    except ValueError as error:
        raise WrongConfiguration(f"CANONQ_REDIS_URL cannot be used: {error}.", mend="write redis://host:port/0.") from error


def _git_limits(settings: Settings) -> GitLimits:
    """Limits and credentials for git; the forge's token is one for the repositories on it."""
    git, forge = settings.git, settings.forge
    return GitLimits(
        listing=git.listing_timeout,
        transfer=git.timeout,
        largest=git.largest,
        credentials_file=git.credentials_file,
        tokens={forge.url.rstrip("/"): forge.token_file} if forge else {},
        ca_file=forge.ca_file if forge else None,
    )


def _forge(settings: Settings) -> Forge | None:
    if (forge := settings.forge) is None:
        return None
    from canonq.adapters.network.forge import HttpForge  # with an HTTP client, which only who has a forge needs

    return HttpForge(forge.url, forge.token_file, ca_file=forge.ca_file, total=forge.timeout, dry_run=forge.dry_run)


def _ingress(settings: Settings) -> Ingress | None:
    if settings.ingress is None:
        return None
    from canonq.adapters.network.ingress import HttpIngress  # the same

    return HttpIngress(settings.ingress)


def _disks(state: Path, engine: Engine) -> list[FileSystem]:
    """The file systems that canonq, Docker and its containerd write to, with what is free on each."""
    there = next(folder for folder in (state, *state.parents) if folder.is_dir())  # it may not be made yet
    places: list[tuple[Path, Kind]] = [(there, "state")]
    with contextlib.suppress(CanonqError):  # no Engine: the test will say so; disk is not what is missing
        found = engine.roots()
        # Volumes may be a mount of their own; in a container they alone may be seen.
        volumes = found.docker / "volumes"
        places += [(volumes if volumes.is_dir() else found.docker, "volumes"), (found.images, "images")]
    return file_systems(places)
