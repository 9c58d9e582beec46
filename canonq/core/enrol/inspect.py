"""What a release tells about how to enrol its recipe, and the commented recipe.toml that says so. Pure.

Everything here is a guess with its reason beside it, for a person to look at. Nothing of it is believed by a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
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
from canonq.core.text import readable, whole_number

_LOADBALANCER = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port")
_LOCAL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[0-9]+)?[^\s\"'|;&)]*")
_MANY_SERVICES = 5
_MUCH_MEMORY = 2 * 2**30
#: Images whose first boot or appetite is known to be long or large.
_HEAVY_IMAGES = (
    "discourse", "elasticsearch", "opensearch", "gitlab", "immich", "jitsi", "keycloak", "mailu", "mastodon", "matrix-synapse",
    "mattermost", "nextcloud", "onlyoffice", "peertube", "synapse", "zulip", "clickhouse", "collabora",
)  # fmt: skip
_MOST_LISTED = 40


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


# -- the file -----------------------------------------------------------------------------------------------


def enrolment_text(recipe: str, upstream: str, told: Inspected | str, *, version: str | None, description: str = "") -> str:
    """A commented recipe.toml. `told`: what the newest release tells, or why it could not be read."""
    return "\n".join(_lines(recipe, upstream, told, version, description)) + "\n"


def hooks_text(recipe: str, told: Inspected) -> str | None:
    """A hooks.py for a person to finish, where canonq cannot write into a database of the recipe; None where it can."""
    if not told.unmarked:
        return None
    listed = ", ".join(f"{_plain(service)} ({kind})" for service, kind in sorted(told.unmarked.items()))
    return _HOOKS.format(recipe=recipe, listed=listed, first=json.dumps(min(told.unmarked)))


_HOOKS = """# Hooks of {recipe}. Written by `canonq enrol`.
#
# canonq writes no mark of its own into: {listed}. Whether what is in there survives an upgrade and a restore is
# proven once both functions below are there; until then each verdict has the gap `no-marker`.
# In which state the app is when they are called, and all that `app` can do: docs/writing-tests.md of canonq.
#
# def write_marker(app, text):
#     # Write over one and the same thing: it is called again, with the text `destroyed`, before a restore.
#     ended = app.exec({first}, "the-database's-own-client", "write", text)
#     assert ended.status == 0, ended.output
#
#
# def read_marker(app):
#     # Give back exactly that text.
#     return app.exec({first}, "the-database's-own-client", "read").output.strip()
"""


def _lines(recipe: str, upstream: str, told: Inspected | str, version: str | None, description: str) -> Iterator[str]:
    yield f"# {recipe}{': ' + _plain(description) if description else ''}"
    yield f"# Written by `canonq enrol` from the release {version}." if version else "# Written by `canonq enrol`."
    yield "# Every key is in docs/enrolment.md; what stands here is a first guess, and yours to correct."
    yield ""
    yield f"upstream = {_text(upstream)}"
    yield '# mirror = "https://git.example.org/mirror/' + recipe + '.git"   # where the pull requests are'
    if isinstance(told, str):
        yield ""
        yield f"# The recipe could not be looked into: {_plain(told)}"
        return
    yield f"weight = {_text(told.weight.value)}   # {_plain(told.weight.why)}"
    yield ""
    yield "# Services:"
    for service, image in list(told.services.items())[:_MOST_LISTED]:
        yield f"#   {_plain(service)}: {_plain(image)}"
    yield f"# Volumes: {', '.join(map(_plain, told.volumes[:_MOST_LISTED])) or 'none, so there is no data to keep'}"
    yield ""
    yield "[health]"
    yield f"kind = {_text(told.kind.value)}   # {_plain(told.kind.why)}"
    yield f"service = {_text(told.service.value)}   # {_plain(told.service.why)}"
    yield f"port = {told.port.value}   # in the container; {_plain(told.port.why)}"
    if told.kind.value == "http":
        yield f"path = {_text(told.path.value)}   # {_plain(told.path.why)}"
        yield "status = [200]   # add 301, 302 or 401 where the app answers so to strangers"
    yield "timeout = 300   # seconds until it must answer; some apps take many minutes at their first boot"
    yield from _env_and_secrets(told)
    yield from _backup(told)


def _env_and_secrets(told: Inspected) -> Iterator[str]:
    if told.empty_env:
        yield ""
        yield "# Keys that .env.sample leaves empty; fill in those without which the app does not start."
        yield "[env]"
        yield from (f'# {_plain(key)} = ""' for key in told.empty_env[:_MOST_LISTED])
    if told.wanted_secrets:
        yield ""
        yield "# Secrets that cannot be generated from .env.sample: each needs a value before the first run."
        yield "[secrets]"
        for name in told.wanted_secrets[:_MOST_LISTED]:
            yield f'# {_plain(name)} = {{ file = "/path/to/it" }}   # or {{ hex = 32 }}, or {{ env = "NAME" }}'


def _backup(told: Inspected) -> Iterator[str]:
    yield ""
    if told.backup.value:
        yield f"# Backup: the recipe has backupbot labels; {_plain(told.backup.why)}."
    else:
        yield f"# Backup: {_plain(told.backup.why)}. If that is right for this app, say why:"
        yield "# [expected_na]"
        yield '# backup = "..."'
        yield '# restore = "..."'
    yield from (f"# Look at: {_plain(problem)}" for problem in told.problems[:_MOST_LISTED])


def _text(value: str) -> str:
    """A TOML string. JSON's escapes are TOML's, but for characters beyond the first 65,536 and for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """Text from a recipe for a comment: one line, nothing that could end it."""
    return readable(" ".join(str(text).split()))[:200]
