"""What a release tells about how to enrol its recipe. Pure.

Everything here is a guess with its reason beside it, for a person to look at. Nothing of it is believed by a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from canonq.core.backup import backup_plan
from canonq.core.deployable import external_secrets
from canonq.core.names import shown
from canonq.core.recipe.envfile import SecretRule
from canonq.core.stack.beside import asked_memory
from canonq.core.stack.databases import ASKED, server_kind
from canonq.core.stack.resolved import HIGHEST_PORT, Service, Stack
from canonq.core.text import whole_number

_LOADBALANCER = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port")
_LOCAL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[0-9]+)?[^\s\"'|;&)]*")
_MANY_SERVICES = 5
_MUCH_MEMORY = 2 * 2**30
#: Images whose first boot or appetite is known to be long or large.
_HEAVY_IMAGES = (
    "discourse", "elasticsearch", "opensearch", "gitlab", "immich", "jitsi", "keycloak", "mailu", "mastodon", "matrix-synapse",
    "mattermost", "nextcloud", "onlyoffice", "peertube", "synapse", "zulip", "clickhouse", "collabora",
)  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """A value and why it is this one."""

    value: Any
    why: str


@dataclass(frozen=True)
class Inspected:
    """What a release tells."""

    services: dict[str, str]  #: service -> image
    volumes: tuple[str, ...]
    wanted_secrets: tuple[str, ...]  #: those that need a value from the enrolment
    backup: Guess  #: whether it is backup-capable
    kind: Guess
    service: Guess
    port: Guess
    path: Guess
    weight: Guess
    unmarked: dict[str, str] = field(default_factory=dict)  #: service -> kind of the databases that canonq cannot ask
    empty_env: tuple[str, ...] = ()  #: keys of the sample without a value
    problems: tuple[str, ...] = field(default=())


def inspect(stack: Stack, rules: Mapping[str, SecretRule], env: Mapping[str, str], *, name: str) -> Inspected:
    """Read a resolved stack, its secrets' rules and its env; `name`: the STACK_NAME it was resolved with."""
    plan = backup_plan(stack)
    service, routed = _front(stack)
    front = stack.services[service.value]
    url = _health_url(front)
    made = {secret for secret, rule in rules.items() if rule.generate}
    return Inspected(
        services=stack.images,
        volumes=tuple(key for key, volume in stack.volumes.items() if not volume.external),
        wanted_secrets=tuple(sorted(set(external_secrets(stack, name, env).values()) - made)),
        backup=Guess(plan.capable, plan.why_not or f"{len(plan.parts)} part(s) are captured"),
        kind=_kind(front, routed),
        service=service,
        port=_port(front, routed, url),
        path=Guess(url.path or "/", "its health check asks for it") if url else Guess("/", "default; the release names no other"),
        weight=_weight(stack),
        unmarked={service: kind for service, image in stack.images.items() if (kind := server_kind(image)) and kind not in ASKED},
        empty_env=tuple(key for key, value in env.items() if not value and key != "LETS_ENCRYPT_ENV"),
        problems=plan.problems,
    )


def _front(stack: Stack) -> tuple[Guess, str | None]:
    """The service that is asked whether the app answers, and the port that the ingress is told."""
    for name, service in stack.services.items():
        port = next((str(value) for label, value in service.labels.items() if _LOADBALANCER.fullmatch(label)), None)
        if port is not None:
            return Guess(name, "the ingress is told to route to it"), port
    if "app" in stack.services:
        return Guess("app", "every recipe has a service of that name"), None
    return Guess(next(iter(stack.services)), "there is no service `app`, and this is the first"), None


def _kind(service: Service, routed: str | None) -> Guess:
    if routed is None and service.ports:
        return Guess("tcp", "it publishes a port and no ingress routes to it")
    return Guess("http", "the ingress routes to it" if routed else "default; the release names no other")


def _port(service: Service, routed: str | None, url: Any) -> Guess:
    if told := whole_number(routed or "", HIGHEST_PORT):
        return Guess(told, "the ingress is told so")
    for port in service.ports:
        if target := whole_number(port.target, HIGHEST_PORT):
            return Guess(target, "it is published")
    if url is not None and url.port:
        return Guess(url.port, "its health check asks there")
    return Guess(80, "default; the release names no other")


def _health_url(service: Service) -> Any:
    test = service.healthcheck.get("test")
    words = " ".join(map(str, test)) if isinstance(test, list | tuple) else str(test or "")
    found = _LOCAL.search(words)
    try:
        url = urlsplit(found[0]) if found else None
        return url if url is not None and (url.port is None or url.port) else None
    except ValueError:
        return None


def _weight(stack: Stack) -> Guess:
    if len(stack.services) >= _MANY_SERVICES:
        return Guess("heavy", f"it has {len(stack.services)} services")
    for service, image in stack.images.items():
        heavy = next((word for word in _HEAVY_IMAGES if word in image.lower()), None)
        if heavy:
            return Guess("heavy", f"{service} runs {shown(image)}")
    memory = sum(asked_memory(service) for service in stack.services.values())
    if memory >= _MUCH_MEMORY:
        return Guess("heavy", f"its services ask for {memory / 2**30:.1f} GiB of memory")
    return Guess("light", f"{len(stack.services)} service(s), and none is known to be heavy")
