"""Whether the version under test looks at the data at all (docs/rules.md 3): where its own fresh install keeps its data."""

from __future__ import annotations

from canonq.adapters.data import counting
from canonq.core.errors import EnrolmentProblem, RecipeProblem
from canonq.core.ladder import TierResult
from canonq.core.stack.census import Census, abandoned, carried_over, filled, is_a_path, put_aside, unknown, unmade
from canonq.core.stack.engines import SQLITE
from canonq.core.stack.home import left_behind
from canonq.core.stack.layers import moved_out, told
from canonq.core.stack.witness import as_anywhere, is_beside_the_data
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.counting import take_census
from canonq.flows.proving.outside import in_containers
from canonq.flows.proving.run import Run
from canonq.flows.proving.using import unused
from canonq.flows.proving.witnesses import folders, paths_declared, witness


def in_use(run: Run, running: Running) -> dict[str, int]:
    """How much of each volume and database what runs has filled; see `filled`."""
    run.findings.phase = "census"
    return filled(take_census(run.world.data, running, run.servers(running)))


def look_at_fresh(run: Run, running: Running) -> None:
    """Note what the fresh install has made of its volumes by now: before its tests, which may write where the app does not."""
    run.findings.phase = "census"
    run.findings.later = take_census(run.world.data, running, run.servers(running))
    run.findings.fresh_files = files_in(run, running)


def files_in(run: Run, running: Running) -> dict[str, frozenset[str]]:
    """Key of a volume -> the paths of the files in it."""
    there = folders(run.world, running).items()
    return {key: frozenset(path for path in counting.paths(folder) if not path.endswith("/")) for key, folder in there}


def look_into_containers(run: Run, running: Running, up_since: float) -> None:
    """Note what the fresh install keeps in its containers, after somebody has used it. `up_since`: seconds since 1970."""
    run.findings.phase = "layers"
    found, gaps = in_containers(run, running)
    run.findings.in_containers, run.findings.not_looked_at = found, (*run.findings.not_looked_at, *gaps)
    run.account.notes += told(found, up_since)


def is_looked_at(run: Run) -> None:
    """RecipeProblem, on record with the upgrade, where the fresh install leaves empty what the base's first start had filled, or
    keeps in a container what the base had in a volume."""
    found, rules = run.findings, run.enrolment.data
    version, was = run.target.version, found.base.version
    base = found.base_first_start
    left = abandoned(base, filled(found.later), rules.volatile)
    if left and carried_over(found.base_census, found.census, found.later, rules.volatile):
        moved = [key for key in left if (it := found.base_census.volumes.get(key)) is not None and it.sqlite and not it.files]
        run.account.notes += [f"data-moved: what was in SQLite files of '{key}' is in a database server now" for key in moved]
        left = [key for key in left if key not in moved]
    empty = [f"'{key}' ({base[key]} there)" for key in left]
    empty += unmade(found.base_census, found.census, found.later, rules.volatile)
    base_had, has, makes = (_as_anywhere(run, census) for census in (found.base_census, found.census, found.later))
    aside, alone = put_aside(base_had, has, makes, rules.volatile) if was else ([], [])
    away = moved_out(
        {key: paths for key, paths in found.base_files.items() if key not in rules.volatile},
        {
            where: it.tables
            for where, it in found.base_census.databases.items()
            if it.kind == SQLITE and where not in rules.volatile
        },
        found.fresh_files,
        [it.tables for it in found.later.databases.values()],
        found.in_containers,
    )
    if empty:
        what = (
            f"{version} leaves {' and '.join(empty)} empty where it is installed anew, and the first start of {was} had "
            "filled it: the data is still there, and the app looks somewhere else"
        )
        what += f" ({'; '.join(away)})" if away else ""
    elif not away and (old := left_behind(found.base_used_files, found.held_files, witness(run), rules.volatile)):
        what = (
            f"{version} keeps its data in another folder than {was}, and has begun anew in it: what was put into {was} is still "
            f"in {' and in '.join(old)}, and after the upgrade the new one has next to nothing of it"
        )
    elif not away and aside:
        what = (
            f"{version} has begun a new database beside that of {was}, where a new install makes one, too: what was put into "
            f"{was} is still in {' and in '.join(aside)}"
        )
    elif not away and (unkept := unused(run)):
        what = (
            f"what is put into {version} where it is installed anew is not where {was} kept it: the same use leaves "
            f"{' and '.join(unkept)} there, and none here; the old data is still there, and the app keeps new data somewhere "
            "else, or in memory"
        )
    elif away:
        what = f"{version} keeps in its containers, where it is gone with them, what {was} had in a volume: {'; '.join(away)}"
    else:
        found.unmarked += tuple(
            f"in-use-unproven: {where} is as {was} has left it, and {version} makes none where it is installed anew"
            for where in alone
            if not is_beside_the_data(where.partition(":")[0], where.partition(":")[2], {}, ())
        )
        return
    upgrade = found.tiers.get("upgrade") or TierResult(status="pass")
    found.tiers["upgrade"] = upgrade.model_copy(update={"status": "fail", "reason": run.masks.text(what)})
    raise RecipeProblem(
        f"{what}.",
        mend="look at settings and paths that have another name now; what is rightly so is declared under [data] volatile.",
        code="data-outside-volumes" if away and not empty else "data-abandoned",
    )


def _as_anywhere(run: Run, census: Census) -> Census:
    """The same, where files have the names that they would have on any stack."""
    stacks = (run.app.identity, run.fresh.identity)
    words = {name: word for one in stacks for name, word in ((one.domain, "DOMAIN"), (one.stack, "STACK"))}
    longest = {name: words[name] for name in sorted(words, key=len, reverse=True)}
    return census.model_copy(update={"databases": {as_anywhere(name, longest): it for name, it in census.databases.items()}})


def names_are_known(run: Run) -> None:
    """EnrolmentProblem for a name under [data] that is nothing in this run and was nothing in any before: it exempts nothing.

    A path in a volume may well be of what nobody has made yet; it is told as stale.
    """
    rules = run.enrolment.data
    declared = {**rules.volatile, **rules.shrink}
    if not declared:
        return
    seen = names_seen(run) | names_before(run) | paths_in_volumes(run)
    if wrong := [*unknown(rules.volatile, seen, "volatile"), *unknown(rules.shrink, seen, "shrink")]:
        raise EnrolmentProblem(
            f"{'; '.join(wrong)}.",
            mend=f"correct it in tests/{run.enrolment.recipe}/recipe.toml; the verdict has all names (`census`, `known_names`).",
            code="data-name-unknown",
        )


def held_last(run: Run) -> dict[str, int]:
    """What the upgraded stack held when it was counted last; without a base, that is the fresh install."""
    found = run.findings
    return found.census.names if found.base.version else found.later.names | found.census.names


def names_seen(run: Run) -> set[str]:
    """Every name that [data] may have: of what the base held, the fresh install, or the upgraded stack."""
    found = run.findings
    return {*found.base_census.names, *found.later.names, *found.census.names, *paths_declared(run)}


def paths_in_volumes(run: Run) -> set[str]:
    """Names under [data] volatile that are a path in a volume of this run, also where nothing was in it."""
    found = run.findings
    volumes = {*found.base_census.volumes, *found.later.volumes, *found.census.volumes}
    return {name for name in run.enrolment.data.volatile if is_a_path(name, volumes)}


def names_before(run: Run) -> set[str]:
    """Those that were known in the runs before, as far as these are kept; each hands on what is declared."""
    verdicts = run.world.runs.verdicts(run.enrolment.recipe)
    return {name for verdict in verdicts for name in (*verdict.census, *verdict.known_names)}


def other_names(run: Run) -> list[str]:
    """Names that [data] may have beside those that the upgraded stack has now, those that it has first."""
    now, rules = held_last(run), run.enrolment.data
    earlier = {*rules.volatile, *rules.shrink} & names_before(run) if rules.volatile or rules.shrink else set()
    others = (names_seen(run) | earlier) - set(now)
    return sorted(others, key=lambda name: (name not in rules.volatile and name not in rules.shrink, name))
