"""The one routine that brings an app up: test and promotion both go through it (docs/rules.md 2, promote)."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from canonq.adapters.beneath import read_beneath
from canonq.adapters.processes.programs import plain_environment, run
from canonq.core.deployable import LABEL_INSTANCE, LABEL_OWNER, Identity
from canonq.core.errors import CanonqError, EnrolmentProblem, HostProblem, RecipeProblem, TimedOut, WrongConfiguration
from canonq.core.recipe.assembly import EXPORTS, LISTED
from canonq.core.recipe.envfile import parse_env, render_env, secret_rules
from canonq.core.recipe.foreign import Others, missing, of_others
from canonq.core.recipe.steering import steering, steers
from canonq.core.stack.beside import of_the_host
from canonq.core.stack.policy import SHARED_NETWORK
from canonq.core.stack.resolved import Stack
from canonq.core.text import ending, shown
from canonq.flows.deploying.answering import await_answer
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.filling import INSTALL_STEPS, asked_alone, build_env, fitted, make_secrets, sample_of
from canonq.flows.deploying.ownfiles import last_line, own_name
from canonq.flows.deploying.pulling import have_images
from canonq.flows.deploying.secrecy import ENV
from canonq.flows.deploying.stages import Account, Deployment, Filled, Prepared, Running, Started, owned_by
from canonq.flows.deploying.treefiles import MOST_OF_ONE, own_copies
from canonq.flows.world import World

RESOLVED, IMAGES = "resolved.json", "images.json"  #: in a deployment's scratch folder: what was deployed, and with which digests
FILES = "files"  #: copies of what configs, secrets and env files are made from
_MOST_TURN = 60.0  #: seconds that a stack waits for a port which another test has
_DEPLOY_TIMEOUT = 300.0  #: seconds that `docker stack deploy` may take to be taken in


def bring_up(world: World, deployment: Deployment, phase: str, deadline: float) -> Running:
    """Prepare, deploy and wait until the app answers; again over a running stack, it upgrades in place.

    `deadline` is on the monotonic clock, for the whole run. RecipeProblem when the recipe is at fault,
    HostProblem when the host is, TimedOut when the run's limit is over.
    """
    return come_up(world, start(world, deployment, phase, deadline), phase, deadline)


def start(world: World, deployment: Deployment, phase: str, deadline: float) -> Started:
    """The first half of `bring_up`: everything until Docker has taken the stack in. Nothing is waited for."""
    account = deployment.account
    with account.timed(f"{phase}.prepare"):
        prepared = prepare(world, deployment, deadline)
    _ask_whose(world, prepared, deadline)
    have_to_itself(prepared.filled, account, min(_MOST_TURN, left(deadline)))
    stack = prepared.stack
    with account.timed(f"{phase}.pull"):
        digests = have_images(world, deployment, sorted(set(stack.images.values())), left(deadline))
    images = {service: digests[reference] for service, reference in stack.images.items()}
    account.has_images(stack.stack, images)
    (deployment.work / IMAGES).write_text(json.dumps(images, indent=1))
    _put_in_place(world, prepared)
    with account.timed(f"{phase}.deploy"):
        world.stacks.deploy(stack, deployment.work, min(_DEPLOY_TIMEOUT, left(deadline)))
    # From here, for how long Docker takes to take a stack in says nothing about the app.
    return Started(prepared, images, time.monotonic() + deployment.enrolment.health.timeout)


def come_up(world: World, started: Started, phase: str, deadline: float) -> Running:
    """The second half: wait until the app answers."""
    with started.prepared.deployment.account.timed(f"{phase}.healthy"):
        up = await_answer(world, started.prepared, min(deadline, started.health_ends), deadline)
    return Running(started.prepared, started.images, up)


def have_to_itself(filled: Filled, account: Account, timeout: float) -> None:
    """Have what only one stack of this host can have at a time, until the work ends. Busy when another keeps it for too long."""
    if account.claims is not None:
        account.claims.take(of_the_host(filled.resolved), timeout)


def _ask_whose(world: World, prepared: Prepared, deadline: float) -> None:
    """HostProblem when something that is not this deployment's own has one of the names it would be written under, or when what
    is to be another's is not there."""
    labels = prepared.deployment.identity.labels
    mine = {key: labels[key] for key in (LABEL_INSTANCE, LABEL_OWNER)}
    if theirs := world.stacks.strangers(prepared.stack, mine):
        raise HostProblem(
            f"Docker has {', '.join(theirs[:5])}, which is not canonq's own; nothing was written there.",
            mend="remove it if it is a leftover of yours, or give it another name.",
            code="name-taken",
        )
    for one, there in lacking(world, prepared.filled.resolved):
        identity, asks = prepared.deployment.identity, prepared.asks
        if asks is None:
            asks = asked_alone(prepared.deployment, prepared.filled.sample, deadline)
        script = world.checkout.folder(identity.recipe) / INSTALL_STEPS
        raise missing(
            one,
            identity.version,
            alone=asks is None or one in asks,
            there=there,
            stack=identity.stack,
            steps=own_name(script) if script.is_file() else "",
        )


def lacking(world: World, stack: Stack) -> Iterator[tuple[Others, list[str]]]:
    """What a stack expects others to have made and this host does not have, each with what it has of the kind."""
    asked = of_others(stack)
    configs = world.stacks.configs() if any(one.kind == "config" for one in asked) else []
    for one in asked:
        if one.kind == "config" and one.name not in configs:
            yield one, configs
        elif one.kind == "network" and not world.stacks.check_network(one.name):
            yield one, world.stacks.networks()


def prepare(world: World, deployment: Deployment, deadline: float) -> Prepared:
    """Build env, overlays, secrets and the resolved stack of the tree, without touching Docker."""
    account = deployment.account
    sample = sample_of(deployment)
    env = build_env(sample, deployment)
    env_file = deployment.work / ENV
    _write_private(env_file, render_env(env))
    script = world.checkout.folder(deployment.identity.recipe) / INSTALL_STEPS
    release: _Release | None = None
    if script.is_file():
        release = _before_steps(world, deployment, sample, env, deadline)
        before = {path.name for path in deployment.work.iterdir()}
        try:
            _install_steps(script, deployment, env, env_file, deadline)
        except CanonqError:
            with contextlib.suppress(CanonqError, OSError, UnicodeDecodeError):  # what it has made up must not be said either
                account.secrecy.env(parse_env(env_file.read_text(), where=str(env_file)))
            raise
        env = _env_after(script, env_file)
        _note_astray(deployment, before)
        account.secrecy.env(env)
    with _changed_by_steps(script, deployment, release, env):
        filled, stack = fitted(world, deployment, sample, env, deadline)
    stack = own_copies(stack, deployment.tree, deployment.work / FILES)
    (deployment.work / RESOLVED).write_text(json.dumps(filled.resolved.written(), indent=1))
    made = make_secrets(deployment, stack, secret_rules(sample, env))
    _write_private(deployment.secrets_file, json.dumps(made))
    return Prepared(deployment, filled, stack, made, release.asks if release is not None else None)


#: Files of a release that say what is deployed.
_SAYS = ("*.yml", "*.yaml", EXPORTS)


@dataclass(frozen=True)
class _Release:
    """What a release came to before install steps were run."""

    said: Mapping[str, bytes | None]  #: its files that say what is deployed
    env: Mapping[str, str]
    fits: bool  #: whether it could have been deployed as it was
    asks: tuple[Others, ...] | None  #: what it expects others to have made


def _before_steps(world: World, deployment: Deployment, sample: str, env: Mapping[str, str], deadline: float) -> _Release:
    try:
        fits = bool(fitted(world, deployment, sample, env, deadline))
    except CanonqError:
        fits = False
    return _Release(_said(deployment), env, fits, asked_alone(deployment, sample, deadline))


def _said(deployment: Deployment) -> dict[str, bytes | None]:
    """What these files say; None for one that cannot be read, which is told when it is needed."""
    found: dict[str, bytes | None] = {}
    for name in sorted({path.name for pattern in _SAYS for path in deployment.tree.glob(pattern)}):
        found[name] = None
        with contextlib.suppress(CanonqError, OSError):
            found[name] = read_beneath(deployment.tree, name, MOST_OF_ONE)
    return found


@contextlib.contextmanager
def _changed_by_steps(script: Path, deployment: Deployment, before: _Release | None, env: Mapping[str, str]) -> Iterator[None]:
    """What cannot be deployed of what install steps have changed is the enrolment's fault. `before`: None without steps."""
    if before is None:
        yield
        return
    try:
        yield
    except EnrolmentProblem:
        raise
    except RecipeProblem as error:
        after = _said(deployment)
        changed = sorted(shown(name) for name in {*before.said, *after} if before.said.get(name) != after.get(name))
        if error.code == "compose-missing" and env.get(LISTED) != before.env.get(LISTED):
            changed.append(f"{LISTED} in $APP_ENV")
        if not changed and not before.fits:
            raise
        what = (
            f"has changed {', '.join(changed[:5])} before"
            if changed
            else "has changed something: before it, it could be deployed"
        )
        raise EnrolmentProblem(
            f"{error.what} {own_name(script)} {what}.",
            mend=f"see what {INSTALL_STEPS} makes of the release's files.",
            code=error.code,
            certain=True,
        ) from error


def _note_astray(deployment: Deployment, before: set[str]) -> None:
    """Install steps of elsewhere begin in the recipe's folder: what they change there by its bare name changes nothing here."""
    made = {path.name for path in deployment.work.iterdir() if path.is_file()} - before
    if astray := sorted(name for name in made if (deployment.tree / name).is_file()):
        deployment.account.note(
            f"install-steps-astray: {INSTALL_STEPS} has written {', '.join(map(shown, astray[:5]))} into the folder it runs in, "
            'which changes nothing of the release; `cd "$RECIPE_DIR"` goes to its files'
        )


def _env_after(script: Path, env_file: Path) -> dict[str, str]:
    """The env that install steps have left. EnrolmentProblem where they spoilt it."""
    try:
        if not env_file.is_file():
            raise RecipeProblem("$APP_ENV is no file any more.")
        return parse_env(env_file.read_text(), where="$APP_ENV")
    except (RecipeProblem, UnicodeDecodeError, OSError) as error:
        raise EnrolmentProblem(
            f"What {INSTALL_STEPS} has left cannot be read: {getattr(error, 'what', error)}",
            mend=f"correct what {own_name(script)} writes into $APP_ENV: a line for each KEY=value.",
            code="install-steps-failed",
            certain=True,
        ) from error


def _put_in_place(world: World, prepared: Prepared) -> None:
    for network in prepared.stack.networks:
        if network == SHARED_NETWORK:
            world.stacks.ensure_network(network)
    for docker_name, name in prepared.stack.secrets.items():
        world.stacks.put_secret(docker_name, prepared.secrets[name], prepared.deployment.identity.labels)


def _install_steps(script: Path, deployment: Deployment, app_env: Mapping[str, str], env_file: Path, deadline: float) -> None:
    env = _of_the_app(deployment, app_env) | {
        "APP_ENV": str(env_file),
        "RECIPE_DIR": str(deployment.tree),
        "STACK_NAME": deployment.identity.stack,
        "DOMAIN": deployment.identity.domain,
        "PYTHONSAFEPATH": "1",  # a file beside a script is none of its modules
    }
    named = own_name(script)
    if b"\r\n" in script.read_bytes():
        raise WrongConfiguration(
            f"{named} has line ends of Windows (CRLF), with which bash does something else than what it says.",
            mend="save it with line ends of Unix (LF); in git, `*.sh text eol=lf` in .gitattributes keeps them.",
            code="install-steps-failed",
        )
    limit = deployment.enrolment.limits.hook
    log = deployment.work / "install_steps.log"
    try:
        # In a folder of canonq's own: what a version has in its tree is not found by a name that is no path.
        ended = run(["bash", str(script)], timeout=limit, until=deadline, cwd=deployment.work, env=env, log=log, strangers=True)
    except TimedOut as error:
        said = last_line(log)
        left(deadline, named, said)
        raise WrongConfiguration(
            f"{named} did not end within {limit:.0f} s and was killed; its last words: {said or 'nothing was printed'}.",
            mend="nobody is there to answer a question: mend the script, or raise [limits] hook in recipe.toml.",
            code="install-steps-failed",
        ) from error
    if ended.status != 0:
        raise WrongConfiguration(
            f"{named} ended with status {ended.status}: {ending(ended.tail, 300).strip() or 'nothing was printed'}.",
            mend="correct the script; its output is in the run's folder.",
            code="install-steps-failed",
        )


def _of_the_app(deployment: Deployment, app_env: Mapping[str, str]) -> dict[str, str]:
    """The environment of install steps: of a ref's env nothing, of a release's what is no order to a program of the host."""
    if not deployment.is_trusted:
        return plain_environment()
    if dropped := steering(app_env):
        deployment.account.note(
            f"env-not-handed-on: {', '.join(map(shown, dropped[:10]))} of the app's env would tell programs of this host what to "
            f"load or run; {INSTALL_STEPS} does not have it, and reads it from $APP_ENV where it must"
        )
    return plain_environment(**{key: value for key, value in app_env.items() if not steers(key)})


def tear_down(world: World, identity: Identity) -> None:
    """Remove everything of this deployment's owner, volumes and what runs beside it too."""
    world.ownership.remove_owned(owned_by(identity), world.settings.teardown_timeout)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
