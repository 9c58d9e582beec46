"""The one routine that brings an app up: test and promotion both go through it (docs/rules.md 2, promote)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from canonq.adapters.asking import ask
from canonq.adapters.programs import plain_environment, run
from canonq.adapters.stopping import check_stop
from canonq.core.blame import unknown, worst
from canonq.core.compose import resolve, unset
from canonq.core.convergence import NO_TASK, Convergence, deaths, judge
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, Deployable, Identity, deployable
from canonq.core.enrolment import Enrolment, SecretSource
from canonq.core.envfile import SecretRule, generate_secret, parse_env, parse_exports, render_env, secret_rules
from canonq.core.errors import CanonqError, EnrolmentProblem, HostProblem, RecipeProblem, TimedOut, WrongConfiguration
from canonq.core.images import image_name
from canonq.core.mounts import with_own
from canonq.core.outages import not_asked
from canonq.core.policy import SHARED_NETWORK, refusals
from canonq.core.text import did_you_mean, ended, ending, shown
from canonq.core.yamlfile import load_yaml
from canonq.flows.secrecy import ENV, SECRETS
from canonq.flows.world import World
from canonq.ports import Answer

TEST_OVERLAY = "compose.canonq.yml"
INSTALL_STEPS = "install_steps.sh"
_LOOK_EVERY = 0.1  #: seconds between two looks at a stack in which something happens
_LOOK_AT_LEAST_EVERY = 1.0  #: seconds between two looks at one that is quiet
_BUSY = 2.0  #: seconds after an event of Docker's in which Swarm may still be about to follow
_LOOKS_IN_A_ROW = 3  #: good looks, so that a stack between two states is not taken for settled
_PROBE_TIMEOUT = 10.0
_LEFT_ALONE = 60.0  #: seconds that a registry which is down is left alone, where nothing is tried again
_DEPLOY_TIMEOUT = 300.0  #: seconds that `docker stack deploy` may take to be taken in


class NotHealthy(RecipeProblem):
    """The app did not come up, or will never."""

    code = "not-healthy"


@dataclass
class App:
    """One deployment, from its first deploy to its teardown."""

    identity: Identity
    enrolment: Enrolment
    tree: Path  #: worktree of the version to deploy
    work: Path  #: scratch folder, readable by canonq alone
    secrets: dict[str, str] = field(default_factory=dict)  #: name in the recipe -> value; grows as they are made
    volume_suffix: str = ""  #: tells the volumes of one promotion from those of another
    allow: tuple[str, ...] | None = None  #: for code that is not trusted: what it may ask of this host; None: trusted
    sample: str = ""  #: the recipe's .env.sample
    env: dict[str, str] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)  #: of the recipe's abra.sh
    images: dict[str, str] = field(default_factory=dict)  #: service -> digest
    timings: dict[str, float] = field(default_factory=dict)  #: phase -> seconds
    deployed: Deployable | None = None
    resolved: dict[str, Any] = field(default_factory=dict)  #: the stack of the tree, merged and filled in
    filled_in: str | None = None  #: the commit whose files `resolved`, `env` and `sample` are
    replaced: tuple[str, ...] = ()  #: mounts of what is somebody else's, for which it has plain volumes of its own
    unset: tuple[str, ...] = ()  #: variables that its compose files take and nothing sets, as sentences
    answered: bool = False  #: whether it has been healthy once, at an earlier version of the same deployment perhaps
    pulled_bytes: int = 0  #: what the images take that were not here before
    sweep: str | None = None  #: the sweep it is deployed in, whose recipes tell each other which registries are down
    brought: list[str] = field(default_factory=list)  #: references of these
    free_before_pull: int | None = None  #: on their disk, while a pull is under way
    neighbours: dict[str, str] = field(default_factory=dict)  #: DEP_<NAME>_DOMAIN and _STACK of what runs beside it

    @property
    def secrets_file(self) -> Path:
        """Where this deployment's secrets are for those who may read them; gone with its scratch folder."""
        return self.work / SECRETS

    def volume_name(self, key: str) -> str:
        """The name in Docker of the recipe's volume `key`."""
        suffix = f".{self.volume_suffix}" if self.volume_suffix else ""
        return f"{self.identity.stack}_{key}{suffix}"


def bring_up(world: World, app: App, phase: str, deadline: float) -> Answer:
    """Prepare, deploy and wait until the app answers; again over a running stack, it upgrades in place.

    `deadline` is on the monotonic clock, for the whole run. RecipeProblem when the recipe is at fault,
    HostProblem when the host is, TimedOut when the run's limit is over.
    """
    stack = _timed(app, f"{phase}.prepare", lambda: prepare(world, app, deadline))
    _ask_whose(world, app, stack)
    digests = _timed(app, f"{phase}.pull", lambda: _have_images(world, app, sorted(set(stack.images.values())), left(deadline)))
    app.images = {service: digests[reference] for service, reference in stack.images.items()}
    _put_in_place(world, app, stack)
    _timed(app, f"{phase}.deploy", lambda: world.engine.deploy(stack, app.work, min(_DEPLOY_TIMEOUT, left(deadline))))
    app.deployed = stack
    # From here, for how long Docker takes to take a stack in says nothing about the app.
    health_ends = time.monotonic() + app.enrolment.health.timeout
    answer = _timed(app, f"{phase}.healthy", lambda: await_answer(world, app, min(deadline, health_ends), deadline))
    app.answered = True
    return answer


def _have_images(world: World, app: App, references: list[str], timeout: float) -> dict[str, str]:
    """Have every image, noting which of them canonq brought here: those alone it may remove some day."""
    there = world.engine.image_sizes(references)
    ours = {image.reference for image in world.pulled.all()}
    if noted := [reference for reference in references if reference not in there or reference in ours]:
        world.pulled.add(app.identity.recipe, app.identity.version, noted)
    new = [reference for reference in references if reference not in there]
    ends = time.monotonic() + timeout
    app.brought += new
    app.free_before_pull = _free_for_images(world) if new else None
    try:
        with world.pulled.pulling():
            for reference in new:
                _pull(world, app, reference, left(ends))
        digests = world.engine.ensure_images(references, left(ends))
        app.free_before_pull = None
        app.pulled_bytes += sum(world.engine.image_sizes(new).values()) if new else 0
    finally:
        app.pulled_bytes, app.free_before_pull = images_taken(world, app), None  # of a pull that was cut short as well
    check_stop()
    return digests


def images_taken(world: World, app: App) -> int:
    """Bytes that images of this deployment take; of a pull under way, what is less free since it began."""
    if app.free_before_pull is None:
        return app.pulled_bytes
    return app.pulled_bytes + max(0, app.free_before_pull - _free_for_images(world))


def _free_for_images(world: World) -> int:
    return next((disk.free + disk.reserved for disk in world.budget.disks() if "images" in disk.holds), 0)


def let_go_of_images(world: World, app: App) -> None:
    """Remove the images that were brought here for this deployment alone; what anything else needs, Docker keeps."""
    for reference in app.brought:
        with contextlib.suppress(CanonqError):
            if world.engine.drop_image(reference):
                for image in world.pulled.all():
                    if (image.reference, image.recipe, image.version) == (reference, app.identity.recipe, app.identity.version):
                        world.pulled.forget(image)


#: What install steps that are run before the deploy cannot mend.
_PAST_MENDING = ("policy-refused", "foreign-mount", "image-name-invalid")


def look_ahead(world: World, app: App, deadline: float) -> None:
    """Say what the files of a tree say already, and have its images, before anything is deployed.

    A mistake in them, an image that is there for nobody, or a registry that is down, need not cost a deployment of the base.

    Where the enrolment has install steps, the files are not yet what will be deployed: what these may mend is told when they
    were run, and the images are pulled when they are known.
    """
    steps = (world.checkout.folder(app.identity.recipe) / INSTALL_STEPS).is_file()
    try:
        app.sample = _read(app.tree / ".env.sample")
        app.env = build_env(app.sample, app)
        stack = _fitted(world, app)
        make_secrets(app, stack, secret_rules(app.sample, app.env))
    except (RecipeProblem, WrongConfiguration) as error:
        if steps and error.code not in _PAST_MENDING:
            return
        raise
    references = sorted(set(stack.images.values()))
    _timed(app, "ahead.pull", lambda: _have_images(world, app, references, left(deadline)))


def _pull(world: World, app: App, reference: str, timeout: float) -> None:
    """Pull one image, unless another recipe of the sweep has found its registry down a moment ago."""
    outages = world.sweeps.outages(app.sweep) if app.sweep else None
    registry, now = image_name(reference).registry, world.now().timestamp()
    if outages and (outage := outages.of(registry)) and outage.stops(reference, now):
        raise not_asked(outage, now)
    try:
        world.engine.ensure_images([reference], timeout)
    except HostProblem as error:
        if app.sweep and outages and error.outside:
            outages.note(error, reference, world.now().timestamp(), world.first_pause(app.sweep) or _LEFT_ALONE)
        raise
    if outages:
        outages.over(registry)


def _ask_whose(world: World, app: App, stack: Deployable) -> None:
    """HostProblem when something that is not this deployment's own has one of the names it would be written under."""
    mine = {key: app.identity.labels[key] for key in (LABEL_INSTANCE, LABEL_OWNER)}
    if theirs := world.engine.strangers(stack, mine):
        raise HostProblem(
            f"Docker has {', '.join(theirs[:5])}, which is not canonq's own; nothing was written there.",
            mend="remove it if it is a leftover of yours, or give it another name.",
            code="name-taken",
        )


def prepare(world: World, app: App, deadline: float) -> Deployable:
    """Build env, overlays and the resolved stack of the tree, without touching Docker."""
    app.filled_in = None
    app.sample = _read(app.tree / ".env.sample")
    app.env = build_env(app.sample, app)
    env_file = app.work / ENV
    _write_private(env_file, render_env(app.env))
    folder = world.checkout.folder(app.identity.recipe)
    if (folder / INSTALL_STEPS).is_file():
        try:
            _install_steps(folder / INSTALL_STEPS, app, env_file, deadline)
        except CanonqError:
            with contextlib.suppress(CanonqError, OSError, UnicodeDecodeError):  # what it has made up must not be said either
                app.env = parse_env(env_file.read_text(), where=str(env_file))
            raise
        app.env = parse_env(env_file.read_text(), where=str(env_file))
    stack = _fitted(world, app)
    (app.work / "resolved.json").write_text(json.dumps(app.resolved, indent=1))
    make_secrets(app, stack, secret_rules(app.sample, app.env))
    _write_private(app.secrets_file, json.dumps(app.secrets))
    return stack


def read_files(world: World, app: App) -> None:
    """Fill a tree's files in, to be looked at and not to be deployed; what is wrong with them is told as for a deployment."""
    app.sample = _read(app.tree / ".env.sample")
    app.env = build_env(app.sample, app)
    _fitted(world, app)


def _fitted(world: World, app: App) -> Deployable:
    """The stack of the tree, filled in from `app.env` and fit for this deployment.

    RecipeProblem for what Docker would refuse; EnrolmentProblem where the person's own overlay, [env] or [health] makes it so.
    """
    folder = world.checkout.folder(app.identity.recipe)
    try:
        stack = _fit(app, folder, overlay=True)
    except RecipeProblem as error:
        if not _is_the_enrolments(app, folder):
            raise
        raise EnrolmentProblem(
            f"{error.what} Without the enrolment's own files the release can be read.",
            mend=f"correct {TEST_OVERLAY} or [env] in tests/{app.identity.recipe}.",
            code=error.code,
            certain=True,
        ) from error
    service, there = app.enrolment.health.service, app.resolved["services"]
    if service not in there:
        raise EnrolmentProblem(
            ended(
                f"[health] service = {shown(service)}, which {app.identity.version} does not have{did_you_mean(service, there)}"
            ),
            mend=f"name one of {', '.join(there)} in tests/{app.identity.recipe}/recipe.toml.",
            code="health-service-unknown",
            certain=True,
        )
    return stack


def _is_the_enrolments(app: App, folder: Path) -> bool:
    """Whether the release's files could be used without what the enrolment lays over them."""
    if not (app.enrolment.env or (folder / TEST_OVERLAY).is_file()):
        return False
    alone = replace(app, enrolment=app.enrolment.model_copy(update={"env": {}}))
    try:
        alone.env = build_env(app.sample, alone)
        _fit(alone, folder, overlay=False)
    except CanonqError:
        return False
    return True


def _fit(app: App, folder: Path, *, overlay: bool) -> Deployable:
    app.exports = parse_exports(_read(app.tree / "abra.sh"), app.env)
    env = {**app.env, **app.exports}
    files = _compose_files(app.tree, env.get("COMPOSE_FILE") or "compose.yml")
    files += _test_overlay(folder, files) if overlay else []
    app.resolved, app.filled_in = resolve(files, env), app.identity.commit
    app.unset = tuple(unset(files, env))
    _ask_policy(app)
    app.resolved, app.replaced = with_own(app.resolved, _kept_mounts(app))
    names = {key: app.volume_name(key) for key in app.resolved["volumes"]}
    stack = deployable(app.resolved, app.identity, env, folder=str(app.tree), volume_names=names)
    _check_files(stack, app.tree)
    return stack


def _check_files(stack: Deployable, tree: Path) -> None:
    """RecipeProblem for a file that the stack is made of and the release does not have."""
    named = {f"{section}.{key}": body["file"] for section in ("configs", "secrets")
             for key, body in stack.file.get(section, {}).items() if "file" in body}  # fmt: skip
    for service, body in stack.file["services"].items():
        named |= {f"services.{service}.env_file": path for path in body.get("env_file") or ()}
    for where, path in named.items():
        if not Path(path.replace("$$", "$")).is_file():
            name = os.path.relpath(path, tree)
            there = [str(other.relative_to(tree)) for other in tree.rglob("*") if other.is_file() and ".git" not in other.parts]
            raise RecipeProblem(
                ended(
                    f"{where} is made from the file {shown(name)}, which this version does not have{did_you_mean(name, there)}"
                ),
                mend="add the file to the recipe, or correct its name.",
                code="file-missing",
            )


def _kept_mounts(app: App) -> set[str]:
    """Paths of the host that a person lets this code have: of releases and, by the words for these, of refs."""
    allowed = {word.removeprefix("bind:") for word in app.allow or () if word.startswith("bind:")}
    return {*app.enrolment.mounts.keep, *allowed}


def _ask_policy(app: App) -> None:
    """Refuse what untrusted code asks of this host and is not allowed by name."""
    if app.allow is None:
        return
    denied = refusals(app.resolved, allow=app.allow, stack=app.identity.stack, domain=app.identity.domain)
    if denied:
        raise RecipeProblem(
            "The policy for refs refuses it: " + "; ".join(f"{no.where}: {no.why}" for no in denied) + ".",
            mend=f"if this is meant, allow it in recipe.toml: [refs] allow = {json.dumps([no.what for no in denied])}.",
            code="policy-refused",
        )


def build_env(sample: str, app: App) -> dict[str, str]:
    """The app's `.env`: the sample, with what canonq sets and then the enrolment's [env] on top."""
    identity = app.identity
    given = {"DOMAIN": identity.domain, "STACK_NAME": identity.stack, "LETS_ENCRYPT_ENV": "", **app.neighbours}
    named = f"{identity.recipe}:{identity.version}"
    return parse_env(sample, given, forced={"TYPE": named, "RECIPE": named, **app.enrolment.env})


def make_secrets(app: App, stack: Deployable, rules: Mapping[str, SecretRule]) -> None:
    """Have a value for every secret the stack needs; those already in `app.secrets` stay as they are."""
    for name in sorted(set(stack.secrets.values()) - set(app.secrets)):
        if source := app.enrolment.secrets.get(name):
            app.secrets[name] = _given_secret(app.identity.recipe, name, source)
        elif (rule := rules.get(name)) and rule.generate:
            app.secrets[name] = generate_secret(rule, secrets.choice)
        else:
            near = did_you_mean(name, set(app.enrolment.secrets) - set(stack.secrets.values())).replace("did you mean", "is it")
            raise WrongConfiguration(
                ended(
                    f"The secret '{name}' of {app.identity.recipe} {app.identity.version} cannot be generated, "
                    f"and [secrets] does not give it{near}"
                ),
                mend=f"give it under [secrets] in tests/{app.identity.recipe}/recipe.toml, such as {name} = {{ hex = 32 }}.",
                code="secret-missing",
            )


def _given_secret(recipe: str, name: str, source: SecretSource) -> str:
    if source.hex is not None:
        return secrets.token_hex(source.hex)
    if source.env is not None:
        if source.env not in os.environ:
            raise WrongConfiguration(
                f"The secret '{name}' of {recipe} comes from the variable {source.env}, which is not set here.",
                mend="set it for every worker.",
                code="secret-missing",
            )
        return os.environ[source.env]
    try:
        return Path(str(source.file)).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongConfiguration(
            f"The secret '{name}' of {recipe} comes from {source.file}, which cannot be read: {error}.",
            mend="let the workers read it.",
            code="secret-missing",
        ) from error


def _put_in_place(world: World, app: App, stack: Deployable) -> None:
    for network in stack.networks:
        if network == SHARED_NETWORK:
            world.engine.ensure_network(network)
    for docker_name, name in stack.secrets.items():
        world.engine.put_secret(docker_name, app.secrets[name], app.identity.labels)


def _install_steps(script: Path, app: App, env_file: Path, deadline: float) -> None:
    env = plain_environment(**{key: value for key, value in app.env.items() if key not in ("PATH", "HOME")})
    env |= {
        "APP_ENV": str(env_file),
        "RECIPE_DIR": str(app.tree),
        "STACK_NAME": app.identity.stack,
        "DOMAIN": app.identity.domain,
    }
    limit = app.enrolment.limits.hook
    try:
        log = app.work / "install_steps.log"
        ended = run(["bash", str(script)], timeout=limit, until=deadline, cwd=app.tree, env=env, log=log, strangers=True)
    except TimedOut as error:
        left(deadline)
        raise WrongConfiguration(
            f"{script} did not end within {limit:.0f} s and was killed.",
            mend="mend the script, or raise [limits] hook in recipe.toml.",
            code="install-steps-failed",
        ) from error
    if ended.status != 0:
        raise WrongConfiguration(
            f"{script} ended with status {ended.status}: {ending(ended.tail, 300)}",
            mend="correct the script; its output is in the run's folder.",
            code="install-steps-failed",
        )


def _compose_files(tree: Path, listed: str) -> list[tuple[str, str]]:
    files = []
    for name in filter(None, listed.split(":")):
        path = (tree / name).resolve()
        if not path.is_relative_to(tree.resolve()):
            raise RecipeProblem(f"COMPOSE_FILE names {shown(name)}, outside the recipe.", code="path-outside-recipe")
        if not path.is_file():
            raise RecipeProblem(
                f"COMPOSE_FILE names {shown(name)}, which this version of the recipe does not have.",
                mend="name files that this version has, in .env.sample or under [env].",
                code="compose-missing",
            )
        files.append((name, _read(path)))
    return files


def _test_overlay(folder: Path, files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The enrolment's overlay; environmental only: an image in it would mean testing something else."""
    path = folder / TEST_OVERLAY
    if not path.is_file():
        return []
    text = _read(path)
    there = {service for name, body in files for service in load_yaml(body, where=name).get("services") or {}}
    for service, body in (load_yaml(text, where=str(path)).get("services") or {}).items():
        if service in there and isinstance(body, dict) and {"image", "build"} & set(body):
            raise WrongConfiguration(
                f"{path} replaces the image of '{service}', so the release's own would not be tested.",
                mend="take `image` out of the overlay.",
                code="overlay-replaces-image",
            )
    return [(TEST_OVERLAY, text)]


def await_answer(world: World, app: App, ends: float, deadline: float) -> Answer:
    """Wait until the stack has converged and the app answers, or until it is certain that it never will.

    An app that has come up just before `ends`, or while a busy host did not look, is asked once all the same.
    """
    with world.engine.changes(app.identity.stack) as wait:
        return _await_answer(world, app, ends, deadline, wait)


def _await_answer(world: World, app: App, ends: float, deadline: float, wait: Callable[[float], bool]) -> Answer:
    stack, health, good = app.identity.stack, app.enrolment.health, 0
    answer = Answer(False, "it was not asked yet", reached=False)
    dead: set[tuple[str, str]] = set()
    asked = False
    busy_until = time.monotonic() + _BUSY
    while True:
        check_stop()
        services, tasks = world.engine.observe(stack)
        dead |= deaths(services, tasks)
        look = judge(services, tasks, Counter(service for service, _ in dead), answering=health.service)
        if look.state == "failed":
            raise _never(world, app, look)
        good = good + 1 if look.state == "converged" else 0
        if good >= _LOOKS_IN_A_ROW:
            if (time_to_answer := min(_PROBE_TIMEOUT, deadline - time.monotonic())) <= 0:
                raise _gave_up(world, app, look, answer, deadline)
            answer, asked = ask(world.engine, world.ingress, stack, health, app.identity.domain, time_to_answer), True
            if answer.ok:
                return answer
        now = time.monotonic()
        if now > ends and (asked or not good or now > deadline):
            raise _gave_up(world, app, look, answer, deadline)
        # Swarm's word about a task follows Docker's event about its container within moments.
        if wait(_LOOK_EVERY if good or now < busy_until else min(_LOOK_AT_LEAST_EVERY, ends - now)):
            busy_until = time.monotonic() + _BUSY
            time.sleep(_LOOK_EVERY)


def _never(world: World, app: App, look: Convergence) -> CanonqError:
    return _blamed(world, app, f"{app.identity.version} will not come up: {look.detail}.", look, look.reason)


def _blamed(world: World, app: App, what: str, look: Convergence, code: str) -> CanonqError:
    """The error for a stack that does not come up, by what Docker says of its tasks: red only for what is the recipe's."""
    found = worst(list(look.said))
    if found is None and look.said:
        return unknown(f"{what} Docker's words for it are none that canonq knows.")
    if found is not None and found.code == "image-unavailable":
        # It was here before the deploy (_have_images), so that it can be had is proven.
        return HostProblem(
            f"{what} The image was here when canonq deployed.",
            mend="something on this host removes images while canonq works, such as a nightly `docker system prune`.",
            code="image-gone",
            service=look.service,
        )
    if found is not None and issubclass(found.kind, HostProblem):
        return HostProblem(what, mend=found.mend, code=found.code, service=look.service)
    mend = found.mend if found and found.code == code else ""
    return NotHealthy(_with_last_words(world, app, what, look.service), mend=mend, code=code, service=look.service)


def _with_last_words(world: World, app: App, what: str, service: str) -> str:
    """A sentence about a service that is not well, with what its health check said last, and what nothing has set for it."""
    said = world.engine.failing_checks(app.identity.stack).get(service, "")
    unset_here = [told for told in app.unset if f" services.{service}." in told]
    return " ".join([what, *([f"{said}."] if said else []), *unset_here])


def _gave_up(world: World, app: App, look: Convergence, answer: Answer, deadline: float) -> CanonqError:
    what = f"{app.identity.version} did not come up in {app.enrolment.health.timeout} s"
    if time.monotonic() > deadline:
        return TimedOut(
            f"The run's limit of {app.enrolment.limits.run} s was over while waiting: {look.detail or answer.detail}."
        )
    if look.reason == NO_TASK:
        return HostProblem(
            f"{what}: {look.detail}.",
            mend="give this host what the release asks of a node; `docker node inspect self` shows its labels and state.",
            code="no-node-fits",
            service=look.service,
        )
    if look.state != "converged":
        return _blamed(world, app, f"{what}: {look.detail}.", look, "not-healthy")
    service = app.enrolment.health.service
    if world.ingress is not None and app.enrolment.health.kind == "http":
        inside = world.engine.probe(app.identity.stack, app.enrolment.health, app.identity.domain, _PROBE_TIMEOUT)
        if inside.ok and (problem := ingress_problem(world, app)):
            return problem
        if inside.ok:
            return NotHealthy(
                f"{what}: healthy inside but not routed: {answer.detail}; inside, {inside.detail}.",
                mend="look at the recipe's traefik labels and at the ingress.",
                code="not-routed",
                service=service,
            )
        answer = inside
    if (meant := _wrong_health(world, app, answer)) is not None:
        return EnrolmentProblem(
            f"{what}: all tasks run, but {answer.detail}; {meant}.",
            mend=f"correct [health] in tests/{app.identity.recipe}/recipe.toml.",
            code="health-wrong",
            service=service,
            certain=True,
        )
    said = _with_last_words(world, app, f"{what}: all tasks run, but {answer.detail}.", service)
    return NotHealthy(said, code="not-answering", service=service)


def _wrong_health(world: World, app: App, answer: Answer) -> str | None:
    """What shows that the app is well and [health] asks it in a wrong way; None where nothing does.

    The release's own word for its port, or an earlier answer at this one, outweighs what it listens on now.
    """
    health = app.enrolment.health
    if health.kind == "exec":
        missing = "executable file not found" in answer.detail or "no such file or directory" in answer.detail
        return f"its image has no program {shown(health.command[0])}" if missing and not app.answered else None
    if answer.reached or app.answered:
        return None
    listens = world.engine.listening(app.identity.stack, health.service)
    routed = _routed_port(app.resolved["services"][health.service])
    if not listens or health.port in listens or routed == health.port:
        return None
    ports = ", ".join(map(str, listens[:5]))
    return f"nothing listens on {health.port} in it, and something does on {ports}"


_ROUTED = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port", re.IGNORECASE)


def _routed_port(service: Mapping[str, Any]) -> int | None:
    """The port that the service's own labels send visitors to."""
    for label, value in ((service.get("deploy") or {}).get("labels") or {}).items():
        if _ROUTED.fullmatch(label) and str(value).isdigit():
            return int(value)
    return None


def ingress_problem(world: World, app: App) -> HostProblem | None:
    """The problem when an app that is asked through the ingress failed, and nobody is there at all."""
    if world.ingress is None or app.enrolment.health.kind != "http" or (down := world.ingress.down()) is None:
        return None
    return HostProblem(
        f"{app.identity.version} cannot be asked: {down}.",
        mend="start the reverse proxy, or correct [ingress]; `canonq doctor` shows whether it answers.",
        code="ingress-down",
    )


def tear_down(world: World, app: App) -> None:
    """Remove everything of this deployment's owner, volumes and what runs beside it too."""
    world.engine.remove_owned(owned_by(app), world.settings.teardown_timeout)


def owned_by(app: App) -> dict[str, str]:
    """The labels of all that the deployment's owner has in Docker, what runs beside it too."""
    return {key: app.identity.labels[key] for key in (LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER)}


def left(deadline: float) -> float:
    """Seconds left until `deadline`; TimedOut when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimedOut("The limit for the whole run is over.", mend="raise [limits] run in recipe.toml.")
    return seconds


_T = TypeVar("_T")


def _timed(app: App, phase: str, action: Callable[[], _T]) -> _T:
    began = time.monotonic()
    try:
        return action()
    finally:
        app.timings[phase] = round(time.monotonic() - began, 3)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise RecipeProblem(f"{path.name} is not text: {error}.", mend="write it as UTF-8.", code="not-text") from error
    except OSError as error:
        raise HostProblem(f"{path} cannot be read: {error}.") from error


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
