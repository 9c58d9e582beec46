"""The climb of one run: one deployment, from the upgrade base up through the tiers in place (docs/rules.md 2 and 3)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from canonq.adapters.budget import Reservation
from canonq.adapters.stopping import check_stop
from canonq.core.backup import backup_plan
from canonq.core.bases import Broken, Moved, after_broken, nothing_to_begin_from
from canonq.core.blame import CERTAIN
from canonq.core.budget import Need
from canonq.core.compose import images
from canonq.core.databases import without_marker
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, EnrolmentProblem, Fault, NoRoom, RecipeProblem
from canonq.core.ladder import TierName, TierResult, skipped
from canonq.core.lint import LintFacts, lint, not_bumped
from canonq.core.masks import Masks
from canonq.core.records import BaseFrom, Canonical
from canonq.core.versions import read_tags
from canonq.flows import backup
from canonq.flows.data import copy_canonical
from canonq.flows.deployment import INSTALL_STEPS, App, bring_up, images_taken, ingress_problem, left, look_ahead, read_files
from canonq.flows.evidence import keep_deployment, keep_logs, volume_bytes
from canonq.flows.hooks import HOOKS, READ_MARKER, WRITE_MARKER, call_hook, hook_names, hooks_told
from canonq.flows.neighbours import bring_up_neighbour, plan_neighbour
from canonq.flows.secrecy import mask, masks_of
from canonq.flows.tiers import TIERS, run_generic, run_own
from canonq.flows.world import World
from canonq.tiers import markers as marks
from canonq.tiers.facts import BackupFacts, Marker, TierFacts


@dataclass(frozen=True)
class Target:
    """What is to be proven, and from where."""

    version: str
    commit: str
    base: str | None
    base_commit: str | None
    base_why: str
    ref: str | None = None  #: a branch, commit or pull request instead of a release: untrusted
    quick: bool = False
    data: Canonical | None = None  #: the canonical whose data the run begins with a copy of
    base_from: BaseFrom = "none"
    fence: int = 0  #: of the record that was in force when this was decided; 0 without one
    notes: tuple[str, ...] = ()  #: what a person should know about the base


@dataclass
class Run:
    """A run under way."""

    world: World
    enrolment: Enrolment
    target: Target
    id: str
    folder: Path
    app: App
    deadline: float  #: monotonic
    tiers: dict[TierName, TierResult] = field(default_factory=dict)
    markers: tuple[Marker, ...] = ()
    notes: tuple[str, ...] = ()  #: what a person should know of how it was proven
    unmarked: tuple[str, ...] = ()  #: databases whose data is not proven to survive, as no marker could be written
    hooks: frozenset[str] = frozenset()
    base_resolved: Mapping[str, object] | None = None
    base_files: Mapping[str, str] = field(default_factory=dict)
    broken_bases: tuple[Broken, ...] = ()  #: bases that did not come up
    deployments: int = 0
    stands: bool = False  #: whether the last of them is there
    disk_bytes: int = 0  #: what its volumes took at their peak
    lowest_free: dict[str, int] = field(default_factory=dict)  #: folder on a disk -> bytes free when least were
    artifact_bytes: int = 0  #: what the backup's artifact takes at most
    images: dict[str, str] = field(default_factory=dict)  #: service -> digest
    room: Reservation | None = None  #: what is kept of the disk for it
    phase: str = ""  #: what is being done, for whoever asks why it took so long
    ahead: App | None = None  #: the target's files, filled in before the base was deployed
    ahead_files: Mapping[str, str] = field(default_factory=dict)
    neighbours: list[App] = field(default_factory=list)
    earlier: list[App] = field(default_factory=list)  #: what was taken down again, as it did not come up

    @property
    def apps(self) -> tuple[App, ...]:
        """All that is deployed for it, or was filled in to be."""
        return (self.app, *self.earlier, *self.neighbours, *((self.ahead,) if self.ahead else ()))

    @property
    def masks(self) -> Masks:
        """What must not be said in anything that it leaves."""
        return masks_of(*self.apps)

    @property
    def own(self) -> Path:
        """The enrolment's folder."""
        return self.world.checkout.folder(self.enrolment.recipe)

    def own_tests(self) -> list[Path]:
        """The recipe's own tests."""
        return sorted(self.own.glob("test_*.py"))


def climb(run: Run) -> None:
    """Go up as far as the recipe gets: RecipeProblem at the first tier that fails, with its result on record."""
    run.world.engine.preflight()
    TIERS.prepare()
    run.hooks = hook_names(run.own)
    run.notes += hooks_told(run.hooks, there=(run.own / HOOKS).is_file())
    _plan_neighbours(run)
    if not run.target.quick and (run.target.base is not None or run.neighbours):
        _look_ahead(run)
    _neighbours(run)
    if run.target.data is not None:
        copy_canonical(run.world, run.app, run.target.data)
    if run.target.quick:
        for tier in ("upgrade", "backup", "restore"):
            run.tiers[tier] = TierResult(status="unverified", reason="not part of a quick run")
        _install(run, run.target.version, run.target.commit)
        _functional(run)
        return
    while (base := run.target.base) is not None and (commit := run.target.base_commit) is not None:
        try:
            _install(run, base, commit)
            run.base_resolved, run.base_files = run.app.resolved, _files(run.app)
            _upgrade(run)
            break
        except _BaseFailed as failed:
            _begin_elsewhere(run, failed.broken)
    else:
        _install(run, run.target.version, run.target.commit)
        run.tiers["upgrade"] = skipped("upgrade", run.target.base_why, run.enrolment.expected_na)
    _backup_and_restore(run)
    _functional(run)


class _BaseFailed(Exception):
    """What was deployed to begin from did not come up."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken)
        self.broken = broken


def _begin_elsewhere(run: Run, broken: Broken) -> None:
    """Take down a base that did not come up, and say from where the run begins instead. The error when there is nothing left."""
    world, app, target = run.world, run.app, run.target
    run.broken_bases += (broken,)
    releases, _ = read_tags(world.repos.tags(run.enrolment.recipe), prereleases=run.enrolment.prereleases)
    declared = run.enrolment.expected_na.get("upgrade")
    found = after_broken(target.base_from, run.broken_bases, releases, declared)
    if found is None:
        record = world.registry.read(run.enrolment.recipe) if target.base_from == "canonical" else None
        moved = _moved_images(run, record) if record else []
        raise nothing_to_begin_from(run.enrolment.recipe, target.base_from, run.broken_bases, record, moved)
    run.phase = f"step back from {broken.version}"
    kept = run.folder / f"base-{len(run.broken_bases)}"
    keep_logs(world, app, kept / "logs", run.masks)
    for tier in ("install", "upgrade"):
        if (run.folder / tier).is_dir():
            (run.folder / tier).rename(kept / tier)
    world.engine.remove_owned(app.identity.labels, world.settings.teardown_timeout)
    run.earlier.append(app)
    run.app = replace(app, secrets={}, deployed=None, images={}, answered=False, filled_in=None)
    run.target = replace(target, base=found.version, base_commit=found.commit, base_from=found.source, base_why=found.why)
    run.tiers.clear()
    run.markers, run.unmarked, run.stands = (), (), False
    run.notes += (f"base-passed-over: {broken.version} did not come up ({broken.why}); {found.why}",)
    if run.ahead is not None:
        _ask_for_bumps(run, run.ahead)


def _moved_images(run: Run, record: Canonical) -> list[Moved]:
    """Images of the base that are others than those on the canonical's record."""
    was, references = record.images, images(run.app.resolved) if run.app.images else {}
    return [
        Moved(service, references[service], was[service], now)
        for service, now in run.app.images.items()
        if service in was and service in references and not run.world.engine.is_image(references[service], was[service])
    ]


def _look_ahead(run: Run) -> None:
    """Read the target's files and have its images before anything is deployed. RecipeProblem for what they say already."""
    run.phase = "files"
    ahead = run.ahead = _beside(run, run.target.version, run.target.commit)
    try:
        ahead.tree = _tree(run, run.target.commit)
        look_ahead(run.world, ahead, run.deadline)
    finally:
        run.app.pulled_bytes, run.ahead_files = ahead.pulled_bytes, _files(ahead)
    _ask_for_bumps(run, ahead)


def _beside(run: Run, version: str, commit: str) -> App:
    """Another version of the run's app, to be read and not to be deployed."""
    return replace(run.app, identity=replace(run.app.identity, version=version, commit=commit), env={}, secrets={})


def _tree(run: Run, commit: str) -> Path:
    """The tree of a commit as git has it: the one that was looked at ahead, unless it was deployed from since."""
    folder = run.world.work / run.id / f"tree-{commit}"
    if folder == run.app.tree or not folder.exists():
        try:
            run.world.repos.checkout(run.enrolment.recipe, commit, folder, run.enrolment.tree)
        except BaseException:
            run.world.repos.drop_checkout(run.enrolment.recipe, folder)
            raise
    return folder


def _ask_for_bumps(run: Run, ahead: App) -> None:
    """RecipeProblem for a config or secret that is another than the base's under the same name: Docker refuses that always."""
    target = run.target
    if target.base is None or target.base_commit is None or (run.own / INSTALL_STEPS).is_file():
        return  # install steps may still change the files
    base = _beside(run, target.base, target.base_commit)
    try:
        base.tree = _tree(run, target.base_commit)
        read_files(run.world, base)
    except CanonqError:
        return  # the install tier says what is wrong with the base
    for where, what in not_bumped(base.resolved, _files(base), ahead.resolved, run.ahead_files, run.app.identity.stack):
        raise RecipeProblem(
            f"{where}: {what}", mend=f"the base is {target.base}; the recipe has to tag again.", code="config-not-bumped"
        )


# -- the tiers ----------------------------------------------------------------------------------------------


def _plan_neighbours(run: Run) -> None:
    for name in run.enrolment.deps:
        run.phase = f"dependency {name}"
        run.neighbours.append(plan_neighbour(run.world, run.app, name))


def _neighbours(run: Run) -> None:
    for neighbour in run.neighbours:
        name = neighbour.identity.recipe
        run.phase = f"dependency {name}"
        try:
            run.notes += bring_up_neighbour(run.world, run.app, neighbour, run.deadline)
        finally:
            run.app.pulled_bytes += neighbour.pulled_bytes
            keep_deployment(neighbour, run.folder / f"dependency-{name}", run.masks)


def _install(run: Run, version: str, commit: str) -> None:
    def deploy() -> None:
        try:
            _deploy(run, "install", version, commit)
        except RecipeProblem as error:
            if error.code == "not-answering" and _was_proven_otherwise(run, version, commit):
                raise EnrolmentProblem(
                    f"{error.what} {version} was proven; its enrolment was changed since.",
                    mend=f"look at [health] in tests/{run.enrolment.recipe}/recipe.toml, and at what else was changed there.",
                    code="health-wrong",
                    service=error.service,
                ) from error
            raise

    with_hooks(run, "install", deploy, lambda: _generic(run, "install"))


def _was_proven_otherwise(run: Run, version: str, commit: str) -> bool:
    """Whether this very version was green, with another enrolment than today's."""
    recipe = run.enrolment.recipe
    proofs = [
        one for one in run.world.runs.verdicts(recipe) if (one.version, one.commit, one.verdict) == (version, commit, "green")
    ]
    return bool(proofs) and all(one.enrolment != run.world.checkout.digest(recipe) for one in proofs)


def _upgrade(run: Run) -> None:
    target = run.target

    def over_the_base() -> None:
        _mark(run, "upgrade")
        _deploy(run, "upgrade", target.version, target.commit)

    with_hooks(
        run,
        "upgrade",
        over_the_base,
        lambda: _generic(run, "upgrade", base=target.base, markers=run.markers),
    )


def _backup_and_restore(run: Run) -> None:
    plan = backup_plan(run.app.resolved)
    if not plan.capable:
        for tier in ("backup", "restore"):
            run.tiers[tier] = skipped(tier, plan.why_not, run.enrolment.expected_na)
        return
    assert run.app.deployed is not None  # the tiers before this one have deployed it
    stack = run.app.identity.stack
    taken = backup.Backup(
        run.world.engine,
        stack,
        plan,
        run.app.deployed.volumes,
        run.app.work / "backup",
        run.enrolment.limits.hook,
        run.deadline,
    )
    facts: list[BackupFacts] = []

    def with_a_marker() -> None:
        _room_for(run)
        _mark(run, "backup")  # also what the upgrade has added
        facts.append(backup.take(taken, run.markers))
        run.notes += backup.left_to_the_restore(facts[0], run.markers)

    with_hooks(
        run,
        "backup",
        with_a_marker,
        lambda: _generic(run, "backup", markers=run.markers, of=facts[0]),
    )
    destroyed: list[BackupFacts] = []

    def from_destroyed() -> None:
        covered, still = backup.destroy(taken, run.markers, _patience(run))
        own = tuple(marker for marker in run.markers if marker.kind == "own")
        if own:
            _call(run, "restore", WRITE_MARKER, "destroyed")
        hooks = backup.restore(taken)
        destroyed.append(BackupFacts(hooks=hooks, destroyed=(*covered, *own), still_there=still))

    with_hooks(run, "restore", from_destroyed, lambda: _generic(run, "restore", markers=destroyed[0].destroyed, of=destroyed[0]))


def _room_for(run: Run) -> None:
    """NoRoom when the artifact, which may be as large as the volumes, would eat what is retained."""
    run.artifact_bytes = took(run)
    kept = run.room.left if run.room else Need()
    wanted = Need(state=max(0, run.artifact_bytes - kept.state - kept.anywhere))
    room = run.world.budget.disk(wanted)
    if room.short > 0:
        raise NoRoom(f"There is no room for the backup's artifact: {room.why_short}", mend="free some disk.")


def took(run: Run) -> int:
    """Measure what the run takes on disk by now, for its record and its reservation; bytes of its volumes."""
    volumes = volume_bytes(run.world, run.app)
    run.disk_bytes = max(run.disk_bytes, volumes)
    if run.room:
        run.room.took(Need(volumes=volumes, images=run.app.pulled_bytes))
    check_stop()
    return volumes


def measure(run: Run) -> None:
    """Say to its reservation what the run takes while it goes on; called beside it."""
    pulled = sum(images_taken(run.world, app) for app in (run.app, *run.neighbours))
    volumes = volume_bytes(run.world, run.app)
    run.disk_bytes = max(run.disk_bytes, volumes)
    if run.room:
        run.room.took(Need(volumes=volumes, images=pulled, state=run.artifact_bytes))


def _functional(run: Run) -> None:
    files = run.own_tests()
    if not files:
        run.tiers["functional"] = skipped("functional", "the recipe has no tests of its own", run.enrolment.expected_na)
        return
    limit = run.enrolment.limits.tests
    with_hooks(
        run,
        "functional",
        lambda: None,
        lambda: run_own(_facts(run, "functional"), run.folder, files, limit, run.deadline),
    )


def run_lint(run: Run) -> None:
    """The lint tier: rules over the release's files, as far as they were filled in. It never changes the verdict."""
    run.phase = "lint"
    if (app := next((app for app in (run.app, run.ahead) if app and app.filled_in == run.target.commit), None)) is None:
        return  # nothing of the release could be filled in: what stopped the run says why
    found = lint(
        LintFacts(
            version=run.target.version,
            ref=run.target.ref is not None,
            resolved=app.resolved,
            stack=app.identity.stack,
            env={**app.env, **app.exports},
            sample=app.sample,
            files=_files(app) if app is run.app else run.ahead_files,
            base_resolved=run.base_resolved,
            base_files=run.base_files,
            annotated=run.world.repos.is_annotated(run.enrolment.recipe, run.target.version),
            replaced=app.replaced,
        )
    )
    told = {rule: tuple(f"{finding.where}: {finding.what}" for finding in findings) for rule, findings in found.items()}
    facts = _facts(run, "lint").model_copy(update={"lint": told})
    run.tiers["lint"] = run_generic("lint", facts, run.folder, run.deadline)


def with_hooks(run: Run, tier: TierName, act: Callable[[], object], prove: Callable[[], TierResult]) -> None:
    """One tier: before-hook, what it does, its tests, after-hook. RecipeProblem, and the result on record, when it fails."""
    began = time.monotonic()
    result: TierResult | None = None
    try:
        _hook(run, "before", tier)
        run.phase = tier
        act()
        run.phase = f"{tier} tests"
        result = prove()
        result = result.model_copy(update={"reason": run.masks.text(result.reason)})
        run.tiers[tier] = result
        run.app.timings[f"{tier}.tests"] = result.seconds
        if result.status == "fail":
            if problem := ingress_problem(run.world, run.app):
                raise problem
            raise RecipeProblem(f"The {tier} tier failed: {result.reason}.", code=f"{tier}-failed")
        _hook(run, "after", tier)
    except RecipeProblem as error:
        tests = result.tests if result else ()
        why = result.reason if result and result.status == "fail" else run.masks.text(str(error))
        seconds = round(time.monotonic() - began, 3)
        if run.app.identity.version != run.target.version and error.fault is Fault.RECIPE:
            certain = error.certain or error.code in CERTAIN
            reason = f"the upgrade base {run.app.identity.version} did not come up: {why}"
            run.tiers[tier] = TierResult(status="not-reached", reason=reason, seconds=seconds, tests=tests)
            raise _BaseFailed(Broken(run.app.identity.version, why, error.code, certain, error.service)) from error
        run.tiers[tier] = TierResult(status="fail", reason=why, seconds=seconds, tests=tests)
        raise
    finally:
        run.app.timings[f"{tier}.whole"] = round(time.monotonic() - began, 3)
        mask(run.folder / tier, run.masks)


# -- parts of a tier ----------------------------------------------------------------------------------------


def _deploy(run: Run, tier: TierName, version: str, commit: str) -> None:
    world, app = run.world, run.app
    app.identity = replace(app.identity, version=version, commit=commit)
    app.tree = _tree(run, commit)
    app.work.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not run.stands:
        if world.engine.observe(app.identity.stack)[0]:
            raise CanonqError(f"The stack {app.identity.stack} is there already.", code="leftovers")
        run.deployments += 1
        run.stands = True
    try:
        bring_up(world, app, tier, run.deadline)
    finally:
        run.images = dict(app.images)
        keep_deployment(app, run.folder / tier, run.masks)
    took(run)


def _generic(
    run: Run, tier: TierName, *, base: str | None = None, markers: tuple[Marker, ...] = (), of: BackupFacts | None = None
) -> TierResult:
    lost = _missing(run, tier, markers) if markers and tier != "backup" else ()
    facts = _facts(run, tier).model_copy(update={"base": base, "markers": markers, "backup": of, "lost": lost})
    return run_generic(tier, facts, run.folder, run.deadline)


def _facts(run: Run, tier: TierName) -> TierFacts:
    app = run.app
    return TierFacts(
        recipe=run.enrolment.recipe,
        tier=tier,
        stack=app.identity.stack,
        domain=app.identity.domain,
        version=app.identity.version,
        commit=app.identity.commit,
        health=run.enrolment.health,
        ingress=run.world.settings.ingress,
        images=app.deployed.images if app.deployed else {},
        volumes=app.deployed.volumes if app.deployed else {},
        secrets_file=str(app.secrets_file),
        own=str(run.own),
    )


def _mark(run: Run, tier: TierName) -> None:
    """Write the markers of this run into all that is there by now; what the recipe's own hook has written stays."""
    run.phase = "markers"
    images = _images(run)
    token = f"canonq-{run.id}"
    made = marks.write(run.world.engine, run.app.identity.stack, images, token, _patience(run))
    run.unmarked = without_marker(images, {marker.place for marker in made if marker.kind == "database"})
    own = [marker for marker in run.markers if marker.kind == "own"]
    if {WRITE_MARKER, READ_MARKER} <= run.hooks and not own:
        _call(run, tier, WRITE_MARKER, token)
        own = [Marker(kind="own", place=HOOKS, text=token)]
    run.markers = (*made, *own)


def _missing(run: Run, tier: TierName, markers: tuple[Marker, ...]) -> tuple[str, ...]:
    """A phrase for each marker that is not there now. RecipeProblem when a database does not answer."""
    told = _call(run, tier, READ_MARKER) if any(marker.kind == "own" for marker in markers) else None
    run.phase = "markers"
    own = None if told is None else str(told)
    return tuple(marks.missing(run.world.engine, run.app.identity.stack, markers, own, _images(run), _patience(run)))


def _images(run: Run) -> Mapping[str, str]:
    assert run.app.deployed is not None  # the install tier has deployed it
    return run.app.deployed.images


def _patience(run: Run) -> marks.Patience:
    return marks.Patience(min(run.enrolment.health.timeout, left(run.deadline)))


def _hook(run: Run, when: str, tier: TierName) -> None:
    if f"{when}_{tier}" in run.hooks:
        _call(run, tier, f"{when}_{tier}")


def _call(run: Run, tier: TierName, function: str, *arguments: str) -> object:
    run.phase = function
    limit = run.enrolment.limits.hook
    return call_hook(run.own, function, _facts(run, tier), run.folder / tier, limit, run.deadline, *arguments)


def _files(app: App) -> dict[str, str]:
    """Path in the recipe -> sha256 of each file that becomes a config or secret of the stack."""
    found = {}
    for body in [*(app.resolved.get("configs") or {}).values(), *(app.resolved.get("secrets") or {}).values()]:
        name = body.get("file") if isinstance(body, dict) else None
        path = app.tree / str(name)
        if name is not None and path.is_file():
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
