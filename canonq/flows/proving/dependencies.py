"""What runs beside an app: the recipes it depends on, each at its canonical, on a copy of its data (docs/rules.md 3, deps)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from canonq.core.deployable import Identity
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.names import cold_stack
from canonq.core.records import Canonical
from canonq.flows.deploying.deployment import bring_up
from canonq.flows.deploying.stages import Deployment, Running
from canonq.flows.keeping.data import copy_canonical
from canonq.flows.world import World


def plan_dependencies(
    world: World, app: Deployment, instead: Mapping[str, tuple[str, str]] | None = None
) -> Iterator[Deployment]:
    """The dependencies of `app`, one after the other and not deployed yet: of the same owner, so that they end with it.

    `instead`: those that are there at another version and commit than their canonical's.
    """
    for number, name in enumerate(app.enrolment.deps):
        record = _canonical(world, app, name)
        version, commit = (instead or {}).get(name, (record.version, record.commit))
        stack = cold_stack(name, f"{app.identity.owner[-6:]}d{number}")
        identity = Identity(
            instance=world.instance,
            kind="run",
            recipe=name,
            owner=app.identity.owner,
            stack=stack,
            domain=f"{stack}.{world.settings.zone}",
            version=version,
            commit=commit,
        )
        work = world.work / app.identity.owner / f"dep-{name}"
        enrolment = world.checkout.enrolment(name)
        given = None if app.is_trusted else ()  # beside code that is not trusted, nothing of value
        yield app.account.begins(
            Deployment(identity, enrolment, work / "tree", work / "app", app.account, given=given, sweep=app.sweep)
        )


def beside(app: Deployment, dependencies: Iterable[Deployment]) -> Deployment:
    """The app, told where its dependencies will be: DEP_<NAME>_DOMAIN and DEP_<NAME>_STACK."""
    told: dict[str, str] = {}
    for one in dependencies:
        key = one.identity.recipe.upper().replace("-", "_")
        told |= {f"DEP_{key}_DOMAIN": one.identity.domain, f"DEP_{key}_STACK": one.identity.stack}
    return replace(app, beside=told)


def bring_up_dependency(world: World, app: Deployment, dependency: Deployment, deadline: float) -> Running:
    """Deploy it. HostProblem when it does not come up."""
    name = dependency.identity.recipe
    record = _canonical(world, app, name)
    dependency.work.mkdir(parents=True, mode=0o700, exist_ok=True)
    try:
        if app.is_trusted or app.enrolment.refs.data:
            dependency = replace(dependency, secrets=copy_canonical(world, dependency, record))
        world.repos.checkout(name, dependency.identity.commit, dependency.tree, dependency.enrolment.tree)
        running = bring_up(world, dependency, f"dependency.{name}", deadline)
    except RecipeProblem as error:
        raise HostProblem(
            f"The dependency {name} {dependency.identity.version} did not come up, so nothing can be said of "
            f"{app.identity.recipe}: {error}",
            mend=f"`canonq test {name}` shows more.",
            code="dependency-failed",
            cause=error.code,
        ) from error
    if not (app.is_trusted or app.enrolment.refs.data):
        app.account.note(f"on-empty-volumes: the dependency {name} {record.version} ran without its canonical's data and secrets")
    elif not record.has_data:
        app.account.notes.append(f"the dependency {name} {record.version} ran on empty volumes: its record names no data")
    return running


def _canonical(world: World, app: Deployment, name: str) -> Canonical:
    record = world.registry.read(name)
    if record is None:
        raise HostProblem(
            f"{app.identity.recipe} depends on {name}, which has no canonical yet.",
            mend=f"`canonq sweep {name}` first, and see why it is not promoted.",
            code="dependency-missing",
        )
    return record
