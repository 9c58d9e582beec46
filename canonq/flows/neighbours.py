"""What runs beside an app: the recipes it depends on, each at its canonical, on a copy of its data (docs/rules.md 3, deps)."""

from __future__ import annotations

from canonq.core.deployable import Identity
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.names import cold_stack
from canonq.core.records import Canonical
from canonq.flows.data import copy_canonical
from canonq.flows.deployment import App, bring_up
from canonq.flows.world import World


def plan_neighbour(world: World, app: App, name: str) -> App:
    """The dependency `name` of `app`, not deployed yet: the same owner, so that it ends with it. Its scratch folder is made.

    `app` is told where it will be: DEP_<NAME>_DOMAIN and DEP_<NAME>_STACK.
    """
    record = _canonical(world, app, name)
    stack = cold_stack(name, f"{app.identity.owner[-6:]}d{app.enrolment.deps.index(name)}")
    identity = Identity(
        instance=world.instance,
        kind="run",
        recipe=name,
        owner=app.identity.owner,
        stack=stack,
        domain=f"{stack}.{world.settings.zone}",
        version=record.version,
        commit=record.commit,
    )
    work = world.work / app.identity.owner / f"dep-{name}"
    neighbour = App(identity, world.checkout.enrolment(name), tree=work / "tree", work=work / "app", sweep=app.sweep)
    neighbour.work.mkdir(parents=True, mode=0o700)
    key = name.upper().replace("-", "_")
    app.neighbours |= {f"DEP_{key}_DOMAIN": identity.domain, f"DEP_{key}_STACK": stack}
    return neighbour


def bring_up_neighbour(world: World, app: App, neighbour: App, deadline: float) -> tuple[str, ...]:
    """Deploy it; what a person should know of its data. HostProblem when it does not come up."""
    name = neighbour.identity.recipe
    record = _canonical(world, app, name)
    try:
        copy_canonical(world, neighbour, record)
        world.repos.checkout(name, neighbour.identity.commit, neighbour.tree, neighbour.enrolment.tree)
        bring_up(world, neighbour, f"dependency.{name}", deadline)
    except RecipeProblem as error:
        raise HostProblem(
            f"The dependency {name} {neighbour.identity.version} did not come up, so nothing can be said of "
            f"{app.identity.recipe}: {error}",
            mend=f"`canonq test {name}` shows more.",
            code="dependency-failed",
            cause=error.code,
        ) from error
    app.timings |= neighbour.timings
    return () if record.has_data else (f"the dependency {name} {record.version} ran on empty volumes: its record names no data",)


def _canonical(world: World, app: App, name: str) -> Canonical:
    record = world.registry.read(name)
    if record is None:
        raise HostProblem(
            f"{app.identity.recipe} depends on {name}, which has no canonical yet.",
            mend=f"`canonq sweep {name}` first, and see why it is not promoted.",
            code="dependency-missing",
        )
    return record
