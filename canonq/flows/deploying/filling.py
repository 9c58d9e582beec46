"""The files of one version: read from its tree, filled in for a deployment, and asked whether they may have what they ask for."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from canonq.adapters.files import plain_bytes
from canonq.core.deployable import Deployable, deployable
from canonq.core.enrolment import SecretSource
from canonq.core.errors import CanonqError, EnrolmentProblem, RecipeProblem, WrongConfiguration
from canonq.core.recipe.assembly import SAMPLE, TEST_OVERLAY, app_env, assemble
from canonq.core.recipe.compose import unset_near
from canonq.core.recipe.envfile import LARGEST_SECRET, SecretRule, generate_secret, might_be, secret_rules
from canonq.core.recipe.foreign import Others, of_others
from canonq.core.stack.beside import clash, more_than_a_node_takes
from canonq.core.stack.containment import allotment, contained
from canonq.core.stack.mounts import shared_by_name, with_own
from canonq.core.stack.policy import Denied, refusals
from canonq.core.stack.templates import MOST_MADE, MUCH, become, filled_in, not_given, strange, why
from canonq.core.text import did_you_mean, ended, readable, shown
from canonq.flows.deploying.secrecy import MOST_IN_ENV, count_in_env
from canonq.flows.deploying.stages import Deployment, Filled
from canonq.flows.deploying.treefiles import check_files, filled_in_by_swarm, hashes, reads, text_in
from canonq.flows.world import World

INSTALL_STEPS = "install_steps.sh"
MANY_VALUES = "many-values"
_MOST_TOLD = 20  #: things that the policy refuses

#: What install steps that are run before the deploy cannot mend.
_PAST_MENDING = ("policy-refused", "foreign-mount", "image-name-invalid")


class SecretMissing(WrongConfiguration):
    """A secret that neither the version's own .env.sample nor the enrolment makes."""

    code = "secret-missing"

    def __init__(self, secret: str, what: str, *, mend: str) -> None:
        super().__init__(what, mend=mend)
        self.secret = secret  #: its name in the recipe


def look_ahead(world: World, deployment: Deployment, deadline: float) -> tuple[Filled, tuple[str, ...]] | None:
    """Say what the files of a tree say already, without asking Docker anything; what they are filled in to, and its images.

    Where the enrolment has install steps, the files are not yet what will be deployed: what these may mend is told when they
    were run (None is the answer then).
    """
    steps = (world.checkout.folder(deployment.identity.recipe) / INSTALL_STEPS).is_file()
    try:
        sample = sample_of(deployment)
        filled, stack = fitted(world, deployment, sample, build_env(sample, deployment), deadline)
        make_secrets(deployment, stack, secret_rules(sample, filled.env))
    except (RecipeProblem, WrongConfiguration) as error:
        if steps and error.code not in _PAST_MENDING:
            return None
        raise
    return filled, tuple(sorted(set(stack.images.values())))


def read_files(world: World, deployment: Deployment, deadline: float) -> Filled:
    """Fill a tree's files in, to be looked at and not to be deployed; what is wrong with them is told as for a deployment."""
    sample = sample_of(deployment)
    return fitted(world, deployment, sample, build_env(sample, deployment), deadline)[0]


def fitted(
    world: World, deployment: Deployment, sample: str, env: Mapping[str, str], deadline: float
) -> tuple[Filled, Deployable]:
    """The files of the tree, filled in from `env`, and the stack that they make for this deployment.

    RecipeProblem for what Docker would refuse; EnrolmentProblem where the person's own overlay, [env] or [health] makes it so.
    """
    recipe, version = deployment.identity.recipe, deployment.identity.version
    folder, filled = world.checkout.folder(recipe), None
    try:
        filled = deployment.account.fills(_filled(deployment, sample, env, folder / TEST_OVERLAY, deadline))
        filled = deployment.account.fills(_with_own(deployment, filled))
        stack = _fit(deployment, filled)
    except RecipeProblem as error:
        if filled is not None and (near := unset_near(error.code, filled.unset)):
            error.what = " ".join([error.what, *near, *([] if sample.strip() else [f"This version has no {SAMPLE}."])])
        if not _is_the_enrolments(deployment, sample, folder, deadline):
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


def _is_the_enrolments(deployment: Deployment, sample: str, folder: Path, deadline: float) -> bool:
    """Whether the release's files could be used without what the enrolment lays over them."""
    if not (deployment.enrolment.env or (folder / TEST_OVERLAY).is_file()):
        return False
    alone = _without_enrolment(deployment)
    try:
        _fit(alone, _with_own(alone, _filled(alone, sample, build_env(sample, alone), None, deadline)))
    except CanonqError:
        return False
    return True


def _without_enrolment(deployment: Deployment) -> Deployment:
    return replace(deployment, enrolment=deployment.enrolment.model_copy(update={"env": {}}))


def asked_alone(deployment: Deployment, sample: str, deadline: float) -> tuple[Others, ...] | None:
    """What the release expects others to have made without the enrolment's files; None where it cannot be read without them."""
    bare = _without_enrolment(deployment)
    try:
        return of_others(_filled(bare, sample, build_env(sample, bare), None, deadline).resolved)
    except CanonqError:
        return None


def _filled(deployment: Deployment, sample: str, env: Mapping[str, str], overlay: Path | None, deadline: float) -> Filled:
    """The files of the tree put together, with the enrolment's overlay."""
    laid_over = _text_of(overlay) if overlay is not None and overlay.is_file() else None
    made = assemble(reads(deployment.tree, deadline), env, laid_over)
    kept = hashes(deployment.tree, made.stack)
    filled = Filled(deployment.identity, sample, made.env, made.exports, made.stack, kept)
    return replace(
        filled, unset=made.unset, overlay=made.overlay, windows=made.windows, typed=made.typed, lost=made.lost, needs=made.needs
    )


def _with_own(deployment: Deployment, filled: Filled) -> Filled:
    """The same with plain volumes of its own for what is somebody else's; refused where the policy for refs says so."""
    _ask_policy(deployment, filled)
    resolved, replaced = with_own(filled.resolved, _kept_mounts(deployment))
    shared = shared_by_name(filled.resolved, deployment.identity.stack)
    return replace(filled, resolved=resolved, replaced=replaced, shared=shared)


def _fit(deployment: Deployment, filled: Filled) -> Deployable:
    asked = filled.resolved.services.get(deployment.enrolment.health.service)
    if asked is not None and asked.deploy.get("mode", "replicated") == "replicated" and asked.deploy.get("replicas") == 0:
        raise RecipeProblem(
            f"services.{asked.name}.deploy.replicas is 0, so nothing of '{asked.name}' runs, which [health] asks.",
            mend="give it a replica, or have [health] ask another service.",
            code="nothing-runs",
        )
    names = {key: deployment.volume_name(key) for key in filled.resolved.volumes}
    env = {**filled.env, **filled.exports}
    of = allotment(deployment.enrolment, len(os.sched_getaffinity(0)))
    within, notes = contained(
        filled.resolved, of, trusted=deployment.is_trusted, name=deployment.identity.stack, allow=deployment.allow or ()
    )
    for told in notes:
        deployment.account.note(told)
    if twice := clash(within):
        raise RecipeProblem(
            f"{twice[0].upper()}{twice[1:]}, and Docker gives it to one of them alone.",
            mend="publish it once, or another one; what a reverse proxy reaches needs no published port.",
            code="port-twice",
        )
    if fewer := more_than_a_node_takes(within):
        raise RecipeProblem(
            f"{fewer}, and canonq's swarm has one node.",
            mend="on a server with one node it never comes up whole: raise max_replicas_per_node, or ask for fewer replicas.",
            code="no-node-fits",
            certain=True,
        )
    stack = deployable(within, deployment.identity, env, folder=str(deployment.tree), volume_names=names)
    check_files(stack, deployment.tree)
    for where, why_not in not_given(stack.file, dict(filled_in_by_swarm(stack, deployment.tree))):
        section, _, key = where.partition(".")
        raise RecipeProblem(
            ended(f"{where}: its template {shown(filled.resolved.declared(section)[key].file)} {why_not}"),
            mend="correct the name there, or give the service what it names.",
            code="cannot-start",
            certain=True,
        )
    _ask_templates(deployment, stack)
    return stack


def _kept_mounts(deployment: Deployment) -> set[str]:
    """Paths of the host that a person lets this code have: of releases and, by the words for these, of refs."""
    allowed = {word.removeprefix("bind:") for word in deployment.allow or () if word.startswith("bind:")}
    return {*deployment.enrolment.mounts.keep, *allowed}


def _ask_policy(deployment: Deployment, filled: Filled) -> None:
    """Refuse what untrusted code asks of this host and is not allowed by name."""
    if deployment.allow is None:
        return
    identity = deployment.identity
    front = deployment.enrolment.health.service
    _refuse(refusals(filled.resolved, allow=deployment.allow, name=identity.stack, domain=identity.domain, front=front))


def _ask_templates(deployment: Deployment, stack: Deployable) -> None:
    """Refuse what untrusted code would have Swarm fill in, and is not allowed by name."""
    if deployment.allow is None:
        return
    files: dict[str, str] = {}
    for place, text in filled_in_by_swarm(stack, deployment.tree):  # a service may have several of its environment
        files[place] = f"{files[place]}\n{text}" if place in files else text
    texts = tuple(filled_in(stack.file, files))
    asked = ((where, strange(text)) for where, text in dict.fromkeys((text.where, text.said) for text in texts))
    found = [Denied(f"template:{word}", where, why(word)) for where, word in asked if word is not None]
    denied = [no for no in found if no.what not in deployment.allow]
    given = [
        key for key, body in stack.file.get("secrets", {}).items() if stack.secrets.get(body["name"]) in (deployment.given or ())
    ]
    if not denied and MUCH not in deployment.allow and become(stack.file, texts, given) > MOST_MADE:
        denied = [Denied(MUCH, "services", why("much"))]
    _refuse(denied)


def _refuse(denied: Sequence[Denied]) -> None:
    if denied:
        told, more = denied[:_MOST_TOLD], len(denied) - _MOST_TOLD
        words = json.dumps(list(dict.fromkeys(no.what for no in told)))
        raise RecipeProblem(
            "The policy for refs refuses it: "
            + "; ".join(f"{readable(no.where)}: {readable(no.why)}" for no in told)
            + (f"; and {more} more." if more > 0 else "."),
            mend=f"if this is meant, allow it in recipe.toml: [refs] allow = {words}.",
            code="policy-refused",
        )


def build_env(sample: str, deployment: Deployment) -> dict[str, str]:
    """The app's `.env`, which is noted for its masks."""
    identity = deployment.identity
    named = f"{identity.recipe}:{identity.version}"
    own, beside = deployment.enrolment.env, deployment.beside
    env = app_env(sample, named=named, domain=identity.domain, stack=identity.stack, beside=beside, own=own)
    if deployment.allow is not None and MANY_VALUES not in deployment.allow and (count := count_in_env(env)) > MOST_IN_ENV:
        what = f"has {count} values that may be secrets, each to be looked for in all that is kept; {MOST_IN_ENV} are the most"
        _refuse([Denied(MANY_VALUES, SAMPLE, f"{what} ({MANY_VALUES})")])
    deployment.account.secrecy.env(env)
    return env


def make_secrets(deployment: Deployment, stack: Deployable, rules: Mapping[str, SecretRule]) -> dict[str, str]:
    """A value for every secret the stack needs; those that the deployment has already stay as they are."""
    made, enrolment, identity = dict(deployment.secrets), deployment.enrolment, deployment.identity
    invented = []
    for name in sorted(set(stack.secrets.values()) - set(made)):
        source = enrolment.secrets.get(name)
        if source is not None and (source.hex is not None or deployment.given is None or name in deployment.given):
            like = deployment.like.get(name, "")
            made[name] = like if source.hex and _is_hex(like, source.hex) else _given_secret(identity.recipe, name, source)
        elif source is not None:
            made[name] = _invented(rules.get(name))
            invented.append(name)
        elif (rule := rules.get(name)) and rule.generate:
            like = deployment.like.get(name, "")
            made[name] = like if might_be(rule, like) else generate_secret(rule, secrets.choice)
        else:
            near = did_you_mean(name, set(enrolment.secrets) - set(stack.secrets.values())).replace("did you mean", "is it")
            raise SecretMissing(
                name,
                ended(
                    f"The secret '{name}' of {identity.recipe} {identity.version} cannot be generated, "
                    f"and [secrets] does not give it{near}"
                ),
                mend=f"give it under [secrets] in tests/{identity.recipe}/recipe.toml, such as {name} = {{ hex = 32 }}.",
            )
        deployment.account.secrecy.secrets({name: made[name]})
    if invented:
        deployment.account.note(
            f"secrets-made-up: {', '.join(map(shown, invented))} of {identity.recipe}: this is a branch or pull request, "
            "or beside one, and gets no value that a person gives; [refs] secrets names those that it may have"
        )
    return made


def _invented(rule: SecretRule | None) -> str:
    """A value in place of one that a person gives."""
    return generate_secret(rule, secrets.choice) if rule is not None else secrets.token_urlsafe(24)


def _is_hex(value: str, size: int) -> bool:
    return len(value) == 2 * size and set(value) <= set("0123456789abcdef")


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


def sample_of(deployment: Deployment) -> str:
    """The text of its version's .env.sample; empty when it has none."""
    return text_in(deployment.tree, SAMPLE) or ""


def _text_of(path: Path) -> str:
    """The text of a file of the enrolment."""
    try:
        return plain_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise EnrolmentProblem(
            f"{path} cannot be read: {error}.", mend="write it as UTF-8, readable for canonq.", code="not-text", certain=True
        ) from error
