"""The one routine that brings an app up: test and promotion both go through it (docs/rules.md 2, promote)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from canonq.adapters.asking import ask
from canonq.adapters.programs import plain_environment, run
from canonq.adapters.stopping import check_stop
from canonq.core.assembly import SAMPLE, TEST_OVERLAY, ReadFile, app_env, assemble
from canonq.core.blame import unknown, worst
from canonq.core.compose import unset_near
from canonq.core.convergence import NO_SERVICES, NO_TASK, NOT_ALLOCATED, Convergence, deaths, judge
from canonq.core.deployable import LABEL_INSTANCE, LABEL_OWNER, Deployable, Identity, deployable
from canonq.core.enrolment import SecretSource
from canonq.core.envfile import LARGEST_SECRET, SecretRule, generate_secret, parse_env, render_env, secret_rules
from canonq.core.errors import CanonqError, EnrolmentProblem, HostProblem, RecipeProblem, TimedOut, WrongConfiguration
from canonq.core.images import image_name
from canonq.core.mounts import with_own
from canonq.core.outages import not_asked
from canonq.core.policy import SHARED_NETWORK, refusals
from canonq.core.stack import Service, Stack
from canonq.core.text import did_you_mean, ended, ending, shown
from canonq.flows.secrecy import ENV
from canonq.flows.stages import Account, Brought, Deployment, Filled, Prepared, Running, owned_by
from canonq.flows.world import World
from canonq.ports import Answer

INSTALL_STEPS = "install_steps.sh"
RESOLVED, IMAGES = "resolved.json", "images.json"  #: in a deployment's scratch folder: what was deployed, and with which digests
_LOOK_EVERY = 0.1  #: seconds between two looks at a stack in which something happens
_LOOK_AT_LEAST_EVERY = 1.0  #: seconds between two looks at one that is quiet
_BUSY = 2.0  #: seconds after an event of Docker's in which Swarm may still be about to follow
_LOOKS_IN_A_ROW = 3  #: good looks, so that a stack between two states is not taken for settled
_CHECKS_EVERY = 5.0  #: seconds between two looks at what the health checks of a stack say that is not up yet
_PROBE_TIMEOUT = 10.0
_LEFT_ALONE = 60.0  #: seconds that a registry which is down is left alone, where nothing is tried again
_DEPLOY_TIMEOUT = 300.0  #: seconds that `docker stack deploy` may take to be taken in


class NotHealthy(RecipeProblem):
    """The app did not come up, or will never."""

    code = "not-healthy"


def bring_up(world: World, deployment: Deployment, phase: str, deadline: float) -> Running:
    """Prepare, deploy and wait until the app answers; again over a running stack, it upgrades in place.

    `deadline` is on the monotonic clock, for the whole run. RecipeProblem when the recipe is at fault,
    HostProblem when the host is, TimedOut when the run's limit is over.
    """
    account = deployment.account
    with account.timed(f"{phase}.prepare"):
        prepared = prepare(world, deployment, deadline)
    _ask_whose(world, prepared)
    stack = prepared.stack
    with account.timed(f"{phase}.pull"):
        digests = _have_images(world, deployment, sorted(set(stack.images.values())), left(deadline))
    images = {service: digests[reference] for service, reference in stack.images.items()}
    account.has_images(stack.stack, images)
    (deployment.work / IMAGES).write_text(json.dumps(images, indent=1))
    _put_in_place(world, prepared)
    with account.timed(f"{phase}.deploy"):
        world.stacks.deploy(stack, deployment.work, min(_DEPLOY_TIMEOUT, left(deadline)))
    # From here, for how long Docker takes to take a stack in says nothing about the app.
    health_ends = time.monotonic() + deployment.enrolment.health.timeout
    with account.timed(f"{phase}.healthy"):
        answer = await_answer(world, prepared, min(deadline, health_ends), deadline)
    return Running(prepared, images, answer)


def _have_images(world: World, deployment: Deployment, references: list[str], timeout: float) -> dict[str, str]:
    """Have every image, noting which of them canonq brought here: those alone it may remove some day."""
    account, identity = deployment.account, deployment.identity
    there = world.images.image_sizes(references)
    ours = {image.reference for image in world.pulled.all()}
    if noted := [reference for reference in references if reference not in there or reference in ours]:
        world.pulled.add(identity.recipe, identity.version, noted)
    new = [reference for reference in references if reference not in there]
    ends = time.monotonic() + timeout
    account.brought += [Brought(reference, identity.recipe, identity.version) for reference in new]
    account.free_before_pull = _free_for_images(world) if new else None
    try:
        with world.pulled.pulling():
            for reference in new:
                _pull(world, deployment.sweep, reference, left(ends))
        digests = world.images.ensure_images(references, left(ends))
        account.free_before_pull = None
        account.pulled_bytes += sum(world.images.image_sizes(new).values()) if new else 0
    finally:
        # Of a pull that was cut short as well.
        account.pulled_bytes, account.free_before_pull = images_taken(world, account), None
    check_stop()
    return digests


def images_taken(world: World, account: Account) -> int:
    """Bytes that images of this work take; of a pull under way, what is less free since it began."""
    if account.free_before_pull is None:
        return account.pulled_bytes
    return account.pulled_bytes + max(0, account.free_before_pull - _free_for_images(world))


def _free_for_images(world: World) -> int:
    return next((disk.free + disk.reserved for disk in world.budget.disks() if "images" in disk.holds), 0)


def let_go_of_images(world: World, account: Account) -> None:
    """Remove the images that were brought here for this work alone; what anything else needs, Docker keeps."""
    for one in account.brought:
        with contextlib.suppress(CanonqError):
            if world.images.drop_image(one.reference):
                for image in world.pulled.all():
                    if (image.reference, image.recipe, image.version) == (one.reference, one.recipe, one.version):
                        world.pulled.forget(image)


#: What install steps that are run before the deploy cannot mend.
_PAST_MENDING = ("policy-refused", "foreign-mount", "image-name-invalid")


def look_ahead(world: World, deployment: Deployment) -> tuple[Filled, tuple[str, ...]] | None:
    """Say what the files of a tree say already, without asking Docker anything; what they are filled in to, and its images.

    Where the enrolment has install steps, the files are not yet what will be deployed: what these may mend is told when they
    were run (None is the answer then).
    """
    steps = (world.checkout.folder(deployment.identity.recipe) / INSTALL_STEPS).is_file()
    try:
        sample = _read(deployment.tree / SAMPLE)
        filled, stack = _fitted(world, deployment, sample, build_env(sample, deployment))
        make_secrets(deployment, stack, secret_rules(sample, filled.env))
    except (RecipeProblem, WrongConfiguration) as error:
        if steps and error.code not in _PAST_MENDING:
            return None
        raise
    return filled, tuple(sorted(set(stack.images.values())))


def have_ahead(world: World, deployment: Deployment, references: tuple[str, ...], deadline: float) -> None:
    """Have a release's images before anything is deployed.

    One that is there for nobody, or a registry that is down, need not cost a deployment of the base.
    """
    with deployment.account.timed("ahead.pull"):
        _have_images(world, deployment, list(references), left(deadline))


def _pull(world: World, sweep: str | None, reference: str, timeout: float) -> None:
    """Pull one image, unless another recipe of the sweep has found its registry down a moment ago."""
    outages = world.sweeps.outages(sweep) if sweep else None
    registry, now = image_name(reference).registry, world.now().timestamp()
    if outages and (outage := outages.of(registry)) and outage.stops(reference, now):
        raise not_asked(outage, now)
    try:
        world.images.ensure_images([reference], timeout)
    except HostProblem as error:
        if sweep and outages and error.outside:
            outages.note(error, reference, world.now().timestamp(), world.first_pause(sweep) or _LEFT_ALONE)
        raise
    if outages:
        outages.over(registry)


def _ask_whose(world: World, prepared: Prepared) -> None:
    """HostProblem when something that is not this deployment's own has one of the names it would be written under."""
    labels = prepared.deployment.identity.labels
    mine = {key: labels[key] for key in (LABEL_INSTANCE, LABEL_OWNER)}
    if theirs := world.stacks.strangers(prepared.stack, mine):
        raise HostProblem(
            f"Docker has {', '.join(theirs[:5])}, which is not canonq's own; nothing was written there.",
            mend="remove it if it is a leftover of yours, or give it another name.",
            code="name-taken",
        )


def prepare(world: World, deployment: Deployment, deadline: float) -> Prepared:
    """Build env, overlays, secrets and the resolved stack of the tree, without touching Docker."""
    account = deployment.account
    sample = _read(deployment.tree / SAMPLE)
    env = build_env(sample, deployment)
    env_file = deployment.work / ENV
    _write_private(env_file, render_env(env))
    script = world.checkout.folder(deployment.identity.recipe) / INSTALL_STEPS
    if script.is_file():
        try:
            _install_steps(script, deployment, env, env_file, deadline)
        except CanonqError:
            with contextlib.suppress(CanonqError, OSError, UnicodeDecodeError):  # what it has made up must not be said either
                account.secrecy.env(parse_env(env_file.read_text(), where=str(env_file)))
            raise
        env = _env_after(script, env_file)
        account.secrecy.env(env)
    filled, stack = _fitted(world, deployment, sample, env)
    (deployment.work / RESOLVED).write_text(json.dumps(filled.resolved.written(), indent=1))
    made = make_secrets(deployment, stack, secret_rules(sample, env))
    _write_private(deployment.secrets_file, json.dumps(made))
    return Prepared(deployment, filled, stack, made)


def _env_after(script: Path, env_file: Path) -> dict[str, str]:
    """The env that install steps have left. EnrolmentProblem where they spoilt it."""
    try:
        return parse_env(env_file.read_text(), where="$APP_ENV")
    except (RecipeProblem, UnicodeDecodeError) as error:
        raise EnrolmentProblem(
            f"What {INSTALL_STEPS} has left cannot be read: {getattr(error, 'what', error)}",
            mend=f"correct what {script} writes into $APP_ENV: a line for each KEY=value.",
            code="install-steps-failed",
            certain=True,
        ) from error


def read_files(world: World, deployment: Deployment) -> Filled:
    """Fill a tree's files in, to be looked at and not to be deployed; what is wrong with them is told as for a deployment."""
    sample = _read(deployment.tree / SAMPLE)
    return _fitted(world, deployment, sample, build_env(sample, deployment))[0]


def _fitted(world: World, deployment: Deployment, sample: str, env: Mapping[str, str]) -> tuple[Filled, Deployable]:
    """The files of the tree, filled in from `env`, and the stack that they make for this deployment.

    RecipeProblem for what Docker would refuse; EnrolmentProblem where the person's own overlay, [env] or [health] makes it so.
    """
    recipe, version = deployment.identity.recipe, deployment.identity.version
    folder, filled = world.checkout.folder(recipe), None
    try:
        filled = deployment.account.fills(_filled(deployment, sample, env, folder / TEST_OVERLAY))
        filled = deployment.account.fills(_with_own(deployment, filled))
        stack = _fit(deployment, filled)
    except RecipeProblem as error:
        if filled is not None and (near := unset_near(error.code, filled.unset)):
            error.what = " ".join([error.what, *near])
        if not _is_the_enrolments(deployment, sample, folder):
            raise
        beside = error.code == "file-missing" and any(path.is_file() and path.name in error.what for path in folder.iterdir())
        copy = f"; a path in it counts from the recipe's folder, into which {INSTALL_STEPS} may copy what lies beside it"
        raise EnrolmentProblem(
            f"{error.what} Without the enrolment's own files the release can be read.",
            mend=f"correct {TEST_OVERLAY} or [env] in tests/{recipe}{copy if beside else ''}.",
            code=error.code,
            certain=True,
        ) from error
    service, there = deployment.enrolment.health.service, filled.resolved.services
    if service not in there:
        raise EnrolmentProblem(
            ended(f"[health] service = {shown(service)}, which {version} does not have{did_you_mean(service, there)}"),
            mend=f"name one of {', '.join(there)} in tests/{recipe}/recipe.toml.",
            code="health-service-unknown",
            certain=True,
        )
    return filled, stack


def _is_the_enrolments(deployment: Deployment, sample: str, folder: Path) -> bool:
    """Whether the release's files could be used without what the enrolment lays over them."""
    if not (deployment.enrolment.env or (folder / TEST_OVERLAY).is_file()):
        return False
    alone = replace(deployment, enrolment=deployment.enrolment.model_copy(update={"env": {}}))
    try:
        _fit(alone, _with_own(alone, _filled(alone, sample, build_env(sample, alone), overlay=None)))
    except CanonqError:
        return False
    return True


def _filled(deployment: Deployment, sample: str, env: Mapping[str, str], overlay: Path | None) -> Filled:
    """The files of the tree put together, with the enrolment's overlay."""
    made = assemble(_files_of(deployment.tree), env, _read(overlay) if overlay is not None and overlay.is_file() else None)
    hashes = _hashes(deployment.tree, made.stack)
    return Filled(deployment.identity, sample, made.env, made.exports, made.stack, hashes, unset=made.unset)


def _files_of(tree: Path) -> ReadFile:
    """Reads files of a tree; what leads out of it is not there."""

    def read(name: str) -> str | None:
        path = (tree / name).resolve()
        return _read(path) if path.is_relative_to(tree.resolve()) and path.is_file() else None

    return read


def _hashes(tree: Path, stack: Stack) -> dict[str, str]:
    """Path in the recipe -> SHA-256 of each file that becomes a config or secret of the stack."""
    named = {one.file for one in (*stack.configs.values(), *stack.secrets.values()) if one.file is not None}
    inside = {name: path for name in named if (path := (tree / name).resolve()).is_relative_to(tree.resolve())}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in inside.items() if path.is_file()}


def _with_own(deployment: Deployment, filled: Filled) -> Filled:
    """The same with plain volumes of its own for what is somebody else's; refused where the policy for refs says so."""
    _ask_policy(deployment, filled)
    resolved, replaced = with_own(filled.resolved, _kept_mounts(deployment))
    return replace(filled, resolved=resolved, replaced=replaced)


def _fit(deployment: Deployment, filled: Filled) -> Deployable:
    names = {key: deployment.volume_name(key) for key in filled.resolved.volumes}
    env = {**filled.env, **filled.exports}
    stack = deployable(filled.resolved, deployment.identity, env, folder=str(deployment.tree), volume_names=names)
    _check_files(stack, deployment.tree)
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


def _kept_mounts(deployment: Deployment) -> set[str]:
    """Paths of the host that a person lets this code have: of releases and, by the words for these, of refs."""
    allowed = {word.removeprefix("bind:") for word in deployment.allow or () if word.startswith("bind:")}
    return {*deployment.enrolment.mounts.keep, *allowed}


def _ask_policy(deployment: Deployment, filled: Filled) -> None:
    """Refuse what untrusted code asks of this host and is not allowed by name."""
    if deployment.allow is None:
        return
    identity = deployment.identity
    denied = refusals(filled.resolved, allow=deployment.allow, name=identity.stack, domain=identity.domain)
    if denied:
        raise RecipeProblem(
            "The policy for refs refuses it: " + "; ".join(f"{no.where}: {no.why}" for no in denied) + ".",
            mend=f"if this is meant, allow it in recipe.toml: [refs] allow = {json.dumps([no.what for no in denied])}.",
            code="policy-refused",
        )


def build_env(sample: str, deployment: Deployment) -> dict[str, str]:
    """The app's `.env`, which is noted for its masks."""
    identity = deployment.identity
    named = f"{identity.recipe}:{identity.version}"
    own, beside = deployment.enrolment.env, deployment.beside
    env = app_env(sample, named=named, domain=identity.domain, stack=identity.stack, beside=beside, own=own)
    deployment.account.secrecy.env(env)
    return env


def make_secrets(deployment: Deployment, stack: Deployable, rules: Mapping[str, SecretRule]) -> dict[str, str]:
    """A value for every secret the stack needs; those that the deployment has already stay as they are."""
    made, enrolment, identity = dict(deployment.secrets), deployment.enrolment, deployment.identity
    for name in sorted(set(stack.secrets.values()) - set(made)):
        if source := enrolment.secrets.get(name):
            made[name] = _given_secret(identity.recipe, name, source)
        elif (rule := rules.get(name)) and rule.generate:
            made[name] = generate_secret(rule, secrets.choice)
        else:
            near = did_you_mean(name, set(enrolment.secrets) - set(stack.secrets.values())).replace("did you mean", "is it")
            raise WrongConfiguration(
                ended(
                    f"The secret '{name}' of {identity.recipe} {identity.version} cannot be generated, "
                    f"and [secrets] does not give it{near}"
                ),
                mend=f"give it under [secrets] in tests/{identity.recipe}/recipe.toml, such as {name} = {{ hex = 32 }}.",
                code="secret-missing",
            )
        deployment.account.secrecy.secrets({name: made[name]})
    return made


def _given_secret(recipe: str, name: str, source: SecretSource) -> str:
    if source.hex is not None:
        return secrets.token_hex(source.hex)

    def missing(why: str, mend: str) -> WrongConfiguration:
        origin = f"the variable {source.env}" if source.env is not None else str(source.file)
        return WrongConfiguration(
            f"The secret '{name}' of {recipe} comes from {origin}, which {why}.", mend=mend, code="secret-missing"
        )

    if source.env is not None and source.env not in os.environ:
        raise missing("is not set here", "set it for every worker.")
    try:
        value = os.environ[source.env] if source.env is not None else Path(str(source.file)).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise missing(f"cannot be read: {error}", "let the workers read it.") from error
    if not value:
        raise missing("is empty", "write the secret there; Docker takes no empty one.")
    if (length := len(value.encode(errors="surrogateescape"))) > LARGEST_SECRET:
        raise missing(f"has {length} bytes", f"give a shorter one; Docker takes at most {LARGEST_SECRET}.")
    return value


def _put_in_place(world: World, prepared: Prepared) -> None:
    for network in prepared.stack.networks:
        if network == SHARED_NETWORK:
            world.stacks.ensure_network(network)
    for docker_name, name in prepared.stack.secrets.items():
        world.stacks.put_secret(docker_name, prepared.secrets[name], prepared.deployment.identity.labels)


def _install_steps(script: Path, deployment: Deployment, app_env: Mapping[str, str], env_file: Path, deadline: float) -> None:
    env = plain_environment(**{key: value for key, value in app_env.items() if key not in ("PATH", "HOME")})
    env |= {
        "APP_ENV": str(env_file),
        "RECIPE_DIR": str(deployment.tree),
        "STACK_NAME": deployment.identity.stack,
        "DOMAIN": deployment.identity.domain,
    }
    limit = deployment.enrolment.limits.hook
    try:
        log = deployment.work / "install_steps.log"
        ended = run(["bash", str(script)], timeout=limit, until=deadline, cwd=deployment.tree, env=env, log=log, strangers=True)
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


def await_answer(world: World, prepared: Prepared, ends: float, deadline: float) -> Answer:
    """Wait until the stack has converged and the app answers, or until it is certain that it never will.

    An app that has come up just before `ends`, or while a busy host did not look, is asked once all the same.
    """
    with world.stacks.changes(prepared.stack.stack) as wait:
        return _await_answer(world, prepared, ends, deadline, wait)


def _await_answer(world: World, prepared: Prepared, ends: float, deadline: float, wait: Callable[[float], bool]) -> Answer:
    app, good = prepared.deployment, 0
    stack, health = app.identity.stack, app.enrolment.health
    answer = Answer(False, "it was not asked yet", reached=False)
    dead: set[tuple[str, str]] = set()
    asked = False
    busy_until = time.monotonic() + _BUSY
    checks_looked_at = time.monotonic()
    while True:
        check_stop()
        services, tasks = world.stacks.observe(stack)
        dead |= deaths(services, tasks)
        look = judge(services, tasks, Counter(service for service, _ in dead), answering=health.service)
        if look.state == "failed":
            raise _never(world, prepared, look)
        good = good + 1 if look.state == "converged" else 0
        if good >= _LOOKS_IN_A_ROW:
            if (time_to_answer := min(_PROBE_TIMEOUT, deadline - time.monotonic())) <= 0:
                raise _gave_up(world, prepared, look, answer, deadline)
            answer, asked = ask(world.containers, world.ingress, stack, health, app.identity.domain, time_to_answer), True
            if answer.ok:
                return answer
        now = time.monotonic()
        if not good and now > checks_looked_at + _CHECKS_EVERY:
            checks_looked_at = now
            if (hopeless := _hopeless_check(world, prepared)) is not None:
                raise hopeless
        if now > ends and (asked or not good or now > deadline):
            raise _gave_up(world, prepared, look, answer, deadline)
        # Swarm's word about a task follows Docker's event about its container within moments.
        if wait(_LOOK_EVERY if good or now < busy_until else min(_LOOK_AT_LEAST_EVERY, ends - now)):
            busy_until = time.monotonic() + _BUSY
            time.sleep(_LOOK_EVERY)


def _hopeless_check(world: World, prepared: Prepared) -> NotHealthy | None:
    """The error when a health check names a program that its image does not have: no time makes it pass."""
    for service, said in world.stacks.failing_checks(prepared.stack.stack).items():
        if "executable file not found in $PATH" in said:
            return NotHealthy(
                f"{prepared.deployment.identity.version} will not come up: '{service}' runs, its health check cannot. {said}.",
                mend="the maintainer has to name a program for the health check that the image has, or add it to the image.",
                code="not-healthy",
                service=service,
                certain=True,
            )
    return None


def _never(world: World, prepared: Prepared, look: Convergence) -> CanonqError:
    version = prepared.deployment.identity.version
    return _blamed(world, prepared, f"{version} will not come up: {look.detail}.", look, look.reason)


def stack_gone(world: World, stack: str) -> HostProblem | None:
    """The problem when a stack that was deployed is not there any more: no app removes its own services."""
    return None if world.stacks.observe(stack)[0] else _removed(stack)


def _removed(stack: str) -> HostProblem:
    return HostProblem(
        f"The stack {stack} was removed while canonq worked with it; nothing can be said of the release.",
        mend="find out who did that (`docker stack rm`, another canonq on this Docker), and test again.",
        code=NO_SERVICES,
    )


def _blamed(world: World, prepared: Prepared, what: str, look: Convergence, code: str) -> CanonqError:
    """The error for a stack that does not come up, by what Docker says of its tasks: red only for what is the recipe's."""
    if code == NO_SERVICES:
        return _removed(prepared.stack.stack)
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
    return NotHealthy(_with_last_words(world, prepared, what, look.service), mend=mend, code=code, service=look.service)


def _with_last_words(world: World, prepared: Prepared, what: str, service: str) -> str:
    """A sentence about a service that is not well, with what its health check said last, and what nothing has set for it."""
    said = world.stacks.failing_checks(prepared.stack.stack).get(service, "")
    unset_here = [told for told in prepared.filled.unset if f" services.{service}." in told]
    return " ".join([what, *([f"{said}."] if said else []), *unset_here])


def _gave_up(world: World, prepared: Prepared, look: Convergence, answer: Answer, deadline: float) -> CanonqError:
    app = prepared.deployment
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
    if look.reason == NOT_ALLOCATED and not look.said:
        networks = ", ".join([*prepared.stack.networks, "its own"])
        return HostProblem(
            f"{what}: {look.detail}.",
            mend=f"see which of its networks ({networks}) has no address left, with `docker network inspect --verbose`, and what "
            "holds them; a manager that hangs looks the same.",
            code="addresses-used-up",
            service=look.service,
        )
    if look.state != "converged":
        return _blamed(world, prepared, f"{what}: {look.detail}.", look, "not-healthy")
    service = app.enrolment.health.service
    if world.ingress is not None and app.enrolment.health.kind == "http":
        inside = world.containers.probe(app.identity.stack, app.enrolment.health, app.identity.domain, _PROBE_TIMEOUT)
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
    if (meant := _wrong_health(world, prepared, answer)) is not None:
        return EnrolmentProblem(
            f"{what}: all tasks run, but {answer.detail}; {meant}.",
            mend=f"correct [health] in tests/{app.identity.recipe}/recipe.toml.",
            code="health-wrong",
            service=service,
            certain=True,
        )
    said = _with_last_words(world, prepared, f"{what}: all tasks run, but {answer.detail}.", service)
    elsewhere = answer.status in _ASKED_ELSEWHERE and not app.answered
    return NotHealthy(said, code="not-answering", service=service, cause=ASKED_ELSEWHERE if elsewhere else "")


def _wrong_health(world: World, prepared: Prepared, answer: Answer) -> str | None:
    """What shows that the app is well and [health] asks it in a wrong way; None where nothing does.

    The release's own word for its port, or an earlier answer at this one, outweighs what it listens on now.
    """
    app = prepared.deployment
    health = app.enrolment.health
    if health.kind == "exec":
        missing = "executable file not found" in answer.detail or "no such file or directory" in answer.detail
        return f"its image has no program {shown(health.command[0])}" if missing and not app.answered else None
    if answer.reached or app.answered:
        return None
    listens = world.containers.listening(app.identity.stack, health.service)
    routed = _routed_port(prepared.filled.resolved.services[health.service])
    if not listens or health.port in listens or routed == health.port:
        return None
    ports = ", ".join(map(str, listens[:5]))
    return f"nothing listens on {health.port} in it, and something does on {ports}"


#: Statuses by which an app that is well says that it was asked for something else than it has; and the finer code of that.
_ASKED_ELSEWHERE = (*range(300, 400), 401, 403, 404, 405, 410)
ASKED_ELSEWHERE = "asked-elsewhere"

_ROUTED = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port", re.IGNORECASE)


def _routed_port(service: Service) -> int | None:
    """The port that the service's own labels send visitors to."""
    for label, value in service.labels.items():
        if _ROUTED.fullmatch(label) and value and value.isdigit():
            return int(value)
    return None


def ingress_problem(world: World, app: Deployment) -> HostProblem | None:
    """The problem when an app that is asked through the ingress failed, and nobody is there at all."""
    if world.ingress is None or app.enrolment.health.kind != "http" or (down := world.ingress.down()) is None:
        return None
    return HostProblem(
        f"{app.identity.version} cannot be asked: {down}.",
        mend="start the reverse proxy, or correct [ingress]; `canonq doctor` shows whether it answers.",
        code="ingress-down",
    )


def tear_down(world: World, identity: Identity) -> None:
    """Remove everything of this deployment's owner, volumes and what runs beside it too."""
    world.ownership.remove_owned(owned_by(identity), world.settings.teardown_timeout)


def left(deadline: float) -> float:
    """Seconds left until `deadline`; TimedOut when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimedOut("The limit for the whole run is over.", mend="raise [limits] run in recipe.toml.")
    return seconds


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
