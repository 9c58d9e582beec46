"""Static rules over one release of a recipe (docs/rules.md 3, lint). Pure.

They read the resolved stack, as everything else does, and beside it what it does not show: the sample, the files of
the configs, the tag. A finding never changes the verdict; it says what a maintainer would mend, and how.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from canonq.core.backup import Hook, backup_plan
from canonq.core.deployable import external_secrets, version_label
from canonq.core.names import DOCKER_NAME_LIMIT, shown
from canonq.core.stack.databases import database_kind
from canonq.core.stack.resolved import Declared, Service, Stack

_BACKUP = "backupbot."
_BACKUP_VOLUMES = "backupbot.backup.volumes."
#: First words of image tags that move on; `stable-alpine` is one too, `main-3f2a9c1` is not.
_MOVING = ("latest", "stable", "main", "master", "edge", "nightly", "develop", "dev", "rolling", "next", "unstable", "testing")
_TRAEFIK_NAME = re.compile(r"traefik\.(?:http|tcp|udp)\.(routers|services|middlewares|serverstransports)\.([^.]+)", re.I)
_SAMPLE_LINE = re.compile(r"^[ \t]*+(#*+)[ \t]*+(?:export[ \t]++)?([A-Za-z_][A-Za-z0-9_]*)=", re.M)
_DURATION = re.compile(r"0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")  # both signs for micro
_DURATIONS = (
    ("healthcheck", ("interval", "timeout", "start_period", "start_interval")),
    ("deploy.update_config", ("delay", "monitor")),
    ("deploy.rollback_config", ("delay", "monitor")),
    ("deploy.restart_policy", ("delay", "window")),
)
_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_WORDS = re.compile(r"[a-z0-9]+")
#: What one hook says and another takes back.
_OPPOSITES: tuple[set[str], ...] = (
    {"on", "off"}, {"true", "false"}, {"1", "0"}, {"enable", "disable"}, {"enabled", "disabled"}, {"start", "stop"},
    {"down", "up"}, {"lock", "unlock"}, {"freeze", "unfreeze"}, {"pause", "unpause"}, {"pause", "resume"},
    {"suspend", "resume"}, {"enter", "leave"}, {"enter", "exit"}, {"set", "unset"},
)  # fmt: skip


@dataclass(frozen=True)
class LintFacts:
    """All that the rules look at."""

    version: str  #: the release tag; of a ref, which has none, a name for it
    resolved: Stack  #: compose.resolve of the tag
    stack: str  #: the STACK_NAME it was resolved with
    env: Mapping[str, str]  #: the app's env, exports of abra.sh included
    sample: str  #: text of .env.sample
    files: Mapping[str, str]  #: path in the recipe -> SHA-256 of the content
    base_resolved: Stack | None  #: the upgrade base, resolved with the same STACK_NAME; None: there is none
    base_files: Mapping[str, str]
    annotated: bool  #: whether the tag is an annotated one
    replaced: tuple[str, ...] = ()  #: mounts of what is somebody else's, which are tested with plain volumes in their place
    windows: tuple[str, ...] = ()  #: files of code whose lines end as in Windows
    typed: tuple[tuple[str, str], ...] = ()  #: (place, what) of numbers, durations and the like that come from variables
    lost: tuple[tuple[str, str], ...] = ()  #: (place, what) of what Docker loses when it lays the files over each other
    not_in_base: Mapping[str, str] = field(default_factory=dict)  #: variable that the base's .env lacks -> where it is needed
    ref: bool = False  #: a branch or pull request, which may still be tagged and labelled before it is a release


@dataclass(frozen=True)
class Finding:
    """One thing to mend."""

    rule: str  #: stable code
    where: str  #: such as services.app.image
    what: str  #: a sentence, the mend included


_Check: TypeAlias = Callable[[LintFacts], Iterator[tuple[str, str]]]  #: yields (where, what)
Rule: TypeAlias = Callable[[LintFacts], tuple[Finding, ...]]


def lint(facts: LintFacts) -> dict[str, tuple[Finding, ...]]:
    """Apply every rule; those that found nothing are named too."""
    return {code: rule(facts) for code, rule in RULES}


def _findings(code: str, check: _Check, facts: LintFacts) -> tuple[Finding, ...]:
    return tuple(Finding(code, where, what) for where, what in dict.fromkeys(check(facts)))


def _services(facts: LintFacts) -> Mapping[str, Service]:
    return facts.resolved.services


def _app(facts: LintFacts) -> Service | None:
    return _services(facts).get("app")


# Images


def _image_parts(image: str) -> tuple[str, str, str]:
    """(last part of the path, tag, digest) of a reference; empty when not there."""
    plain, _, digest = image.partition("@")
    name, _, tag = plain.rpartition("/")[2].partition(":")
    return name, tag, digest


def _image_missing(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        if not service.image:
            yield f"services.{name}", f"The service '{name}' has no image: give it one, or remove what an overlay left of it."


def _image_not_pinned(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        _, tag, digest = _image_parts(service.image)
        if digest or not service.image:
            continue
        if not tag:
            yield f"services.{name}.image", f"{shown(service.image)} has no tag, so it means 'latest': name a version."
        elif tag.lower().split("-")[0] in _MOVING and not any(letter.isdigit() for letter in tag):
            yield (
                f"services.{name}.image",
                f"The tag of {shown(service.image)} moves on, and with it what this release is: name a version.",
            )


def _app_version_differs(facts: LintFacts) -> Iterator[tuple[str, str]]:
    app, part = _app(facts), facts.version.partition("+")[2]
    tag = _image_parts(app.image)[1] if app else ""
    if part and tag and not _same_version(part, tag):
        yield (
            "services.app.image",
            f"The release says {shown(part)} after its '+', and the image's tag is {shown(tag)}: "
            "name the release after the image that it brings.",
        )


def _same_version(part: str, tag: str) -> bool:
    """Whether an app part and an image's tag mean one version: same numbers, and no two contrary suffixes."""
    numbers = _NUMBERS.match(_without_v(part))
    if numbers is None:
        return part.lower() in tag.lower() or tag.lower() in part.lower()
    suffix = _without_v(part)[numbers.end() :]
    for found in _NUMBERS.finditer(tag):
        rest = tag[found.end() :]
        if found.group() == numbers.group() and (rest.startswith(suffix) or suffix.startswith(rest)):
            return True
    return False


def _without_v(text: str) -> str:
    return text[1:] if re.match(r"[vV][0-9]", text) else text


# Names


def _name_too_long(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for section in ("configs", "secrets"):
        for key, one in facts.resolved.declared(section).items():
            name = _docker_name(facts.stack, one)
            if len(name) > DOCKER_NAME_LIMIT:
                yield (
                    f"{section}.{key}",
                    f"The {section.removesuffix('s')} would be called {shown(name, 100)}, which has {len(name)} characters; "
                    f"Docker allows {DOCKER_NAME_LIMIT}: shorten its name.",
                )


def _docker_name(stack: str, one: Declared) -> str:
    """The name a config or secret gets, as core.deployable makes it."""
    return one.name if one.external or one.name.startswith(f"{stack}_") else f"{stack}_{one.name}"


def _config_not_bumped(facts: LintFacts) -> Iterator[tuple[str, str]]:
    if facts.base_resolved is not None:
        yield from not_bumped(facts.base_resolved, facts.base_files, facts.resolved, facts.files, facts.stack)


def not_bumped(
    base: Stack, base_files: Mapping[str, str], target: Stack, files: Mapping[str, str], stack: str
) -> Iterator[tuple[str, str]]:
    """(where, what) of each config and secret of two versions that has another content and the same name in Docker.

    Both are resolved for the same stack; files are given as path -> hash.
    """
    for section in ("configs", "secrets"):
        before = {name: content for _, name, content in _contents(base, section, stack, base_files)}
        for one, name, content in _contents(target, section, stack, files):
            if name in before and before[name] != content:
                yield (
                    f"{section}.{one.key}",
                    f"{shown(one.file)} changed since the base and is still called "
                    f"{shown(name.removeprefix(f'{stack}_'))}; Docker refuses that at every upgrade: "
                    "raise its *_VERSION in abra.sh.",
                )


def _contents(stack: Stack, section: str, name: str, files: Mapping[str, str]) -> Iterator[tuple[Declared, str, str]]:
    """Each config or secret that is made from a file whose hash is known, with its name in Docker and that hash."""
    hashes = {posixpath.normpath(path): content for path, content in files.items()}
    for one in stack.declared(section).values():
        if one.file is not None and not one.external and posixpath.normpath(one.file) in hashes:
            yield one, _docker_name(name, one), hashes[posixpath.normpath(one.file)]


def _container_name(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        if service.body.get("container_name") is not None:
            yield f"services.{name}.container_name", "A fixed container_name has no place in a Swarm stack: remove it."


def _build(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        if service.body.get("build") is not None:
            yield f"services.{name}.build", "Swarm builds no images: publish the image, name it with its tag and remove 'build'."


def _traefik_name_shared(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        for label in service.labels:
            found = _TRAEFIK_NAME.match(label)
            if found and facts.stack not in found[2]:
                yield (
                    f"services.{name}.deploy.labels",
                    f"The name {shown(found[2])} under {found[1].lower()} is the same in every stack, so a second one "
                    f"clashes with the first: begin it with ${{STACK_NAME}}{_as_a_list([label])}.",
                )


def _as_a_list(labels: Iterable[str]) -> str:
    unfilled = any("$" in label for label in labels)
    return ", and write the labels as a list, since Docker fills no variable into a mapping's keys" if unfilled else ""


# The conventions of Co-op Cloud


def _no_app_service(facts: LintFacts) -> Iterator[tuple[str, str]]:
    if _app(facts) is None:
        yield "services", "There is no service called 'app': give the main service that name."


def _version_label(facts: LintFacts) -> Iterator[tuple[str, str]]:
    app, label = _app(facts), version_label(facts.stack)
    if app is None:
        return
    labels = app.labels
    if labels.get(label) is None:
        moved = " instead of labels" if label in app.container_labels else ""
        yield (
            "services.app.deploy.labels",
            f"The service 'app' lacks the version label: add coop-cloud.${{STACK_NAME}}.version="
            f"{'<the next tag>' if facts.ref else facts.version} under deploy.labels{moved}{_as_a_list(labels)}.",
        )
    elif labels[label] != facts.version and not facts.ref:  # a head names the release before it, or the next
        yield (
            "services.app.deploy.labels",
            f"The version label says {shown(labels[label])}, and the tag is {shown(facts.version)}: "
            "run 'abra recipe sync' before the release is tagged.",
        )


def _sample_incomplete(facts: LintFacts) -> Iterator[tuple[str, str]]:
    active, _ = _sample_keys(facts.sample)
    if "DOMAIN" not in active:
        yield ".env.sample", "There is no DOMAIN: add a line DOMAIN=<recipe>.example.com."
    if not active & {"TYPE", "RECIPE"}:
        yield ".env.sample", "There is neither TYPE nor RECIPE: add a line TYPE=<recipe>."


def _secret_not_in_sample(facts: LintFacts) -> Iterator[tuple[str, str]]:
    active, commented = _sample_keys(facts.sample)
    named = external_secrets(facts.resolved, facts.stack, facts.env)
    for key, secret in facts.resolved.secrets.items():
        if not secret.external:
            continue  # made from a file of the recipe
        name = named[secret.name]
        wanted = f"SECRET_{name.upper().replace('-', '_')}_VERSION"
        if wanted not in active and not (wanted in commented and facts.env.get(wanted)):
            yield f"secrets.{key}", f"{wanted} is not in .env.sample, so abra does not make the secret: add {wanted}=v1."


def _sample_keys(sample: str) -> tuple[set[str], set[str]]:
    """(keys that are set, keys that are commented out)."""
    keys: tuple[set[str], set[str]] = (set(), set())
    for hashes, key in _SAMPLE_LINE.findall(sample):
        keys[bool(hashes)].add(key)
    return keys


def _tag_not_annotated(facts: LintFacts) -> Iterator[tuple[str, str]]:
    if not facts.annotated and not facts.ref:
        yield (
            f"tag {facts.version}",
            "The tag is a lightweight one, which abra does not deploy: make the next by 'abra recipe release' or 'git tag -a'.",
        )


# Backup


def _backup_labels_outside_deploy(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        if misplaced := [label for label in service.container_labels if label.startswith(_BACKUP)]:
            yield (
                f"services.{name}.labels",
                f"{shown(misplaced[0])} sits on the container, where backup-bot does not look: move it to deploy.labels.",
            )


def _backup_volume_unknown(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        for label in service.labels:
            if not label.startswith(_BACKUP_VOLUMES):
                continue
            volume = label.removeprefix(_BACKUP_VOLUMES).removesuffix(".path")
            if volume not in facts.resolved.volumes:
                yield (
                    f"services.{name}.deploy.labels",
                    f"{shown(label, 100)} names a volume that the recipe does not have: correct its name.",
                )
            elif volume not in service.volumes:
                yield (
                    f"services.{name}.deploy.labels",
                    f"'{name}' does not mount the volume of {shown(label, 100)}: move the label to the service that does.",
                )


def _database_not_backed_up(facts: LintFacts) -> Iterator[tuple[str, str]]:
    plan = backup_plan(facts.resolved)
    if not plan.capable:
        return
    captured = {part.volume for part in plan.parts}
    excluded = {
        label.removeprefix(_BACKUP_VOLUMES)
        for service in _services(facts).values()
        for label, value in service.labels.items()
        if label.startswith(_BACKUP_VOLUMES) and str(value).lower() == "false"
    }
    for name, service in _services(facts).items():
        left = service.volumes - captured - excluded
        labelled = any(label.startswith(_BACKUP) for label in service.labels)
        dumped = any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", hook.command) for hook in plan.before)
        if _is_database(service) and left and not labelled and not dumped:
            yield (
                f"services.{name}.deploy.labels",
                f"The stack is backed up, but the database '{name}' is not: label it with backupbot.backup=true and a "
                "pre-hook that dumps it, or with backupbot.backup=false if that is meant.",
            )


def _dump_not_restored(facts: LintFacts) -> Iterator[tuple[str, str]]:
    plan = backup_plan(facts.resolved)
    hook = next((hook for hook in plan.before if not any(_takes_back(hook, one) for one in plan.after)), None)
    if hook is not None and not plan.restore_after:
        yield (
            f"services.{hook.service}.deploy.labels",
            f"{hook.label} prepares a backup, and nothing loads it back: add a backupbot.restore.post-hook.",
        )


def _takes_back(before: Hook, after: Hook) -> bool:
    """Whether one hook switches off what the other has switched on, as they say the same but for that: neither leaves a file."""
    one, other = (_WORDS.findall(hook.command.lower()) for hook in (before, after))
    differ = [{word, another} for word, another in zip(one, other, strict=False) if word != another]
    return before.service == after.service and len(one) == len(other) and bool(differ) and all(it in _OPPOSITES for it in differ)


def _is_database(service: Service) -> bool:
    return database_kind(service.image) is not None


# Updates


def _healthcheck_missing(facts: LintFacts) -> Iterator[tuple[str, str]]:
    app = _app(facts)
    if app is None:
        return
    check = app.healthcheck
    test = check.get("test")
    none = test == "NONE" or (isinstance(test, list) and test[:1] == ["NONE"])
    if not check or none or str(check.get("disable")).lower() == "true":
        unless = "" if check else " (unless its image has a check of its own, which canonq does not look for here)"
        yield (
            "services.app.healthcheck",
            f"Without a healthcheck Swarm takes every process that has started for a healthy one{unless}: "
            "add one that asks the app itself.",
        )


def _failure_action_missing(facts: LintFacts) -> Iterator[tuple[str, str]]:
    app = _app(facts)
    if app is None:
        return
    action = app.policy("update_config").get("failure_action")
    if action not in ("rollback", "pause"):
        said = "is not stated" if action is None else f"is {shown(action)}"
        yield (
            "services.app.deploy.update_config",
            f"What becomes of a failed update {said}: write failure_action: rollback (or pause).",
        )


def _host_port_start_first(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        if any(port.mode == "host" for port in service.ports):
            for key in _start_first(service):
                yield (
                    f"services.{name}.deploy.{key}",
                    f"'{name}' holds a port of the host, so its next task cannot start before the old one is gone: "
                    "write order: stop-first.",
                )


def _database_start_first(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        if _is_database(service) and service.volumes:
            for key in _start_first(service):
                yield (
                    f"services.{name}.deploy.{key}",
                    f"The database '{name}' has two servers on one data directory while it is replaced: write order: stop-first.",
                )


def _start_first(service: Service) -> list[str]:
    return [key for key in ("update_config", "rollback_config") if service.policy(key).get("order") == "start-first"]


def _depends_on_unknown(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        for other in service.depends_on:
            if other not in _services(facts):
                yield (
                    f"services.{name}.depends_on",
                    f"There is no service {shown(other)}: correct the name or remove it (Swarm keeps no such order).",
                )


def _duration_unreadable(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, service in _services(facts).items():
        durations = {"stop_grace_period": service.body.get("stop_grace_period")}
        for place, keys in _DURATIONS:
            block = service.policy(place.partition(".")[2]) if "." in place else service.healthcheck
            durations |= {f"{place}.{key}": block.get(key) for key in keys}
        for key, value in durations.items():
            if value is not None and not (isinstance(value, str) and _DURATION.fullmatch(value)):
                yield (
                    f"services.{name}.{key}",
                    f"{shown(value)} is not a duration that Docker reads: write it with its unit, such as 30s or 1m30s.",
                )


def _not_its_own(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for said in facts.replaced:
        yield "volumes", f"{said}; what lies there on a real host is not in the proof"


def _windows_line_ends(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name in facts.windows:
        yield (
            name,
            f"The lines of '{name}' end as in Windows (CRLF): its versions are read, and its functions fail in every "
            "shell on Linux (`abra app cmd`): `*.sh text eol=lf` in .gitattributes keeps them as in Unix.",
        )


def _typed_by_variable(facts: LintFacts) -> Iterator[tuple[str, str]]:
    yield from facts.typed


def _lost_in_merge(facts: LintFacts) -> Iterator[tuple[str, str]]:
    yield from facts.lost


def _new_in_env(facts: LintFacts) -> Iterator[tuple[str, str]]:
    for name, where in facts.not_in_base.items():
        what = f"An app that is upgraded keeps its .env, and the .env.sample of the upgrade base has no {name}"
        mend = f"give it a default (${{{name}:-value}}), and say in the release notes what to set"
        yield where, f"{what}: it gets nothing there. The recipe should {mend}."


_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("image-missing", _image_missing),
    ("image-not-pinned", _image_not_pinned),
    ("app-version-differs", _app_version_differs),
    ("no-app-service", _no_app_service),
    ("version-label", _version_label),
    ("tag-not-annotated", _tag_not_annotated),
    ("sample-incomplete", _sample_incomplete),
    ("secret-not-in-sample", _secret_not_in_sample),
    ("new-in-env", _new_in_env),
    ("name-too-long", _name_too_long),
    ("config-not-bumped", _config_not_bumped),
    ("container-name", _container_name),
    ("build", _build),
    ("traefik-name-shared", _traefik_name_shared),
    ("backup-labels-outside-deploy", _backup_labels_outside_deploy),
    ("backup-volume-unknown", _backup_volume_unknown),
    ("database-not-backed-up", _database_not_backed_up),
    ("dump-not-restored", _dump_not_restored),
    ("healthcheck-missing", _healthcheck_missing),
    ("failure-action-missing", _failure_action_missing),
    ("host-port-start-first", _host_port_start_first),
    ("database-start-first", _database_start_first),
    ("depends-on-unknown", _depends_on_unknown),
    ("duration-unreadable", _duration_unreadable),
    ("mount-not-its-own", _not_its_own),
    ("windows-line-ends", _windows_line_ends),
    ("typed-by-variable", _typed_by_variable),
    ("lost-in-merge", _lost_in_merge),
)
#: Every rule with its stable code, in the order in which they are told.
RULES: tuple[tuple[str, Rule], ...] = tuple((code, partial(_findings, code, check)) for code, check in _CHECKS)
