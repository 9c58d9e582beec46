"""An idle night: what nothing is new about is known by one listing, and everything else gets its chain."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from canonq.core.enrolment import Enrolment
from canonq.core.errors import SyncFailed, WrongConfiguration
from canonq.core.outcomes import Outcome
from canonq.flows.sweeps.opening import open_sweep, start
from canonq.flows.sweeps.summary import summary
from canonq.flows.sync import sync
from canonq.flows.upstream import discovery
from canonq.flows.upstream.discovery import Answers, discover
from canonq.ports import Listing
from tests.flows.conftest import FILES, FIRST, Place
from tests.forge import TOKEN, Forge, never, serving, status
from tests.support import make_recipe, release

NEXT = "1.1.0+1.1"


def settled(place: Place, name: str = "site", toml: str = "") -> None:
    """A recipe that was synced and promoted."""
    repo = place.recipe(name, toml=toml)
    sync(place.world, name)
    place.promote(name, FIRST, repo.head.commit.hexsha)


def looked(place: Place) -> tuple[list[str], list[str], list[str]]:
    """Names of the recipes that are idle, failed, and need a chain."""
    world = place.world
    found = [(one.recipe, what) for one, what in discover(world, world.checkout.enrolled().recipes.values())]
    idle, failed = (sorted(name for name, what in found if isinstance(what, kind)) for kind in (Outcome, SyncFailed))
    return idle, failed, sorted(name for name, what in found if what is None)


def swept(place: Place, *names: str, named: bool | None = None) -> tuple[dict[str, object], list[str]]:
    """The summary of a sweep, and the recipes whose chains were begun."""
    world, begun = place.world, []

    def begin(enrolment: Enrolment) -> None:
        begun.append(enrolment.recipe)

    opened = open_sweep(world, names, named=named)
    start(world, opened, begin)
    return summary(world, opened.sweep), begun


def test_where_nothing_is_new_there_is_no_chain_and_the_outcome_is_the_chains(place: Place) -> None:
    settled(place)
    told, begun = swept(place)
    assert begun == []
    assert told["counts"] == {"promoted": 0, "skipped": 1, "red": 0, "error": 0, "deferred": 0}
    outcome = told["outcomes"][0]  # type: ignore[index]
    assert (outcome["outcome"], outcome["reason"], outcome["step"]) == ("skipped", "no-new-version", "decide")
    assert told["exit_status"] == 0
    assert (place.folder / "state" / "sweeps" / str(told["sweep"]) / "report.json").is_file()


def test_a_recipe_that_a_person_named_gets_its_chain(place: Place) -> None:
    settled(place)
    assert swept(place, "site")[1] == ["site"]
    assert swept(place, "site", named=False)[1] == [], "a push is nobody's word"


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    ["never-synced", "never-promoted", "new-tag", "new-commit", "deleted-tag", "moved-tag", "prereleases", "other-upstream",
     "clone-gone", "record-unreadable", "canonical-moved"],
)  # fmt: skip
def test_whatever_is_not_as_it_was_gets_a_chain(place: Place, change: str) -> None:
    repo = place.recipe()
    if change != "never-synced":
        sync(place.world, "site")
    if change != "never-promoted":
        place.promote("site", FIRST, repo.head.commit.hexsha)
    match change:
        case "new-tag":
            release(repo, NEXT, {})
        case "new-commit":
            repo.git.commit("--allow-empty", "-qm", "more")
        case "deleted-tag":
            repo.git.tag("-d", FIRST)
        case "moved-tag":
            repo.git.commit("--allow-empty", "-qm", "more")
            repo.git.tag("-f", FIRST)
        case "prereleases":
            place.enrol("site", str(repo.working_dir), "prereleases = true\n")
        case "other-upstream":
            shutil.copytree(repo.working_dir, place.folder / "copy")
            place.enrol("site", f"{place.folder}/copy")
        case "clone-gone":
            shutil.rmtree(place.folder / "state" / "repos" / "site" / "repo.git")
        case "record-unreadable":
            (place.folder / "state" / "warm" / "site" / "canonical.json").write_text("{")
        case "canonical-moved":
            place.promote("site", FIRST, "c" * 40)
    assert looked(place) == ([], [], ["site"])


def test_an_upstream_that_is_gone_is_an_error_at_once_and_the_others_go_on(place: Place) -> None:
    settled(place)
    place.recipe("other", upstream=f"{place.folder}/nowhere")
    told, begun = swept(place)
    assert begun == []
    assert told["counts"] == {"promoted": 0, "skipped": 1, "red": 0, "error": 1, "deferred": 0}
    outcome = next(one for one in told["outcomes"] if one["recipe"] == "other")  # type: ignore[attr-defined]
    assert (outcome["reason"], outcome["cause"], outcome["step"]) == ("sync-failed", "upstream-gone", "sync")
    assert told["exit_status"] == 3


def test_an_address_that_cannot_be_used_is_left_to_the_chain_to_say(place: Place) -> None:
    place.recipe("other")
    place.enrol("other", "ext::sh")
    assert looked(place) == ([], [], ["other"])
    with pytest.raises(WrongConfiguration):
        sync(place.world, "other")


@pytest.mark.long
def test_of_many_recipes_only_the_clone_of_the_one_with_a_new_tag_is_touched(place: Place) -> None:
    for number in range(20):
        settled(place, f"site-{number}")
    release(place.recipe("busy"), NEXT, {})
    before = stamps(place)
    assert looked(place)[2] == ["busy"]
    assert stamps(place) == before
    sync(place.world, "busy")
    touched = {name.split("/")[0] for name, stamp in stamps(place).items() if before.get(name) != stamp}
    assert touched == {"busy"}


def stamps(place: Place) -> dict[str, int]:
    root = place.folder / "state" / "repos"
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}


# -- mirrors and forges ---------------------------------------------------------------------------------------


@pytest.fixture
def forge(place: Place) -> Iterator[Forge]:
    with serving(place.folder / "forge") as forge:
        (place.folder / "token").write_text(TOKEN)
        place.settings["forge"] = {"url": forge.url, "token_file": place.folder / "token", "timeout": 300}
        yield forge


def mirrored(place: Place, forge: Forge) -> None:
    forge.repo("mirror/site")
    settled(place, toml=f'mirror = "{forge.address("mirror/site")}"\n')


def test_a_mirror_that_somebody_changed_is_noticed_though_upstream_says_nothing_new(place: Place, forge: Forge) -> None:
    mirrored(place, forge)
    assert looked(place) == (["site"], [], [])
    forge.repo("mirror/site").git.update_ref("-d", f"refs/tags/{FIRST}")
    assert looked(place) == ([], [], ["site"])
    sync(place.world, "site")
    assert looked(place) == (["site"], [], [])


def test_a_branch_that_is_pushed_to_a_mirror_wakes_nobody(place: Place, forge: Forge) -> None:
    mirrored(place, forge)
    forge.repo("mirror/site").git.update_ref("refs/heads/feature", forge.repo("mirror/site").commit("main").hexsha)
    assert looked(place) == (["site"], [], [])


def test_pull_requests_that_were_not_seen_to_are_no_idle_night(place: Place, forge: Forge) -> None:
    forge.order("api/v1", status(403))
    mirrored(place, forge)
    assert looked(place) == ([], [], ["site"])
    sync(place.world, "site")
    assert looked(place) == (["site"], [], [])


# -- hosts that do not behave ---------------------------------------------------------------------------------


def served(place: Place, forge: Forge, count: int) -> None:
    for number in range(count):
        name = f"site-{number:02}"
        make_recipe(place.folder / "forge" / "coop" / f"{name}.git", {FIRST: FILES})
        place.enrol(name, forge.address(f"coop/{name}"))


def test_a_listing_that_fails_once_is_asked_for_once_more(place: Place, forge: Forge) -> None:
    served(place, forge, 3)
    forge.order("site-01", status(502))
    assert looked(place) == ([], [], ["site-00", "site-01", "site-02"])


def test_no_host_is_asked_for_more_at_a_time_than_is_allowed(place: Place, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    served(place, forge, 12)
    place.settings["git"] = {"per_host": 3}
    under_way, most = [], []
    world = place.world
    asked = world.repos.listing

    def listing(url: str, *, which: str = "upstream") -> object:
        under_way.append(url)
        most.append(len(under_way))
        try:
            return asked(url, which=which)
        finally:
            under_way.remove(url)

    monkeypatch.setattr(world.repos, "listing", listing)
    assert len(list(discover(world, world.checkout.enrolled().recipes.values()))) == 12
    assert max(most) == 3


@pytest.mark.long
def test_a_host_that_never_answers_is_not_waited_for_again_and_again_and_holds_up_nobody(place: Place, forge: Forge) -> None:
    served(place, forge, 40)
    place.settings["git"] = {"listing_timeout": 4}
    settled(place)
    forge.order("site-", *[never()] * 200)
    idle, failed, chains = looked(place)
    assert (idle, len(failed), chains) == (["site"], 40, [])
    assert len(forge.asked) <= 24, "forty times two were due"
    causes = {error.cause for error in discovered_failures(place)}
    assert causes <= {"upstream-timeout", "upstream-unreachable"}


def discovered_failures(place: Place) -> list[SyncFailed]:
    world = place.world
    found = [what for _, what in discover(world, list(world.checkout.enrolled().recipes.values())[:4])]
    return [what for what in found if isinstance(what, SyncFailed)]


def unanswered(*urls: str) -> dict[tuple[str, str], Future[Listing | SyncFailed]]:
    return {("upstream", url): Future() for url in urls}


def test_turns_are_kept_in_whichever_order_answers_come() -> None:
    futures = unanswered("https://a/1", "https://a/2", "https://b/3")
    turns = Answers(futures).in_turn([*[(one,) for one in futures], tuple(futures)])
    for one in reversed(futures.values()):
        one.set_result(Listing("main", None, {}))
    assert list(turns) == [0, 1, 2, 3]


def test_a_host_that_keeps_others_waiting_loses_its_turn_and_is_told_when_it_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "_PATIENCE", 0.0)
    futures = unanswered("https://slow/1", "https://fast/2", "https://slow/3", "https://fast/4")
    slow, fast, slow_too, fast_too = futures.values()
    turns = Answers(futures).in_turn([(one,) for one in futures])
    fast_too.set_result(Listing("main", None, {}))
    assert next(turns) == 3
    slow_too.set_result(Listing("main", None, {}))
    fast.set_result(Listing("main", None, {}))
    assert next(turns) == 1
    assert next(turns) == 2
    slow.set_result(Listing("main", None, {}))
    assert list(turns) == [0]


def test_the_first_chain_is_begun_while_others_are_still_asked_about(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("blog", "site"):
        place.recipe(name)
    world, first, begun = place.world, threading.Event(), []
    asked = world.repos.listing

    def listing(url: str, *, which: str = "upstream") -> Listing:
        assert "blog" in url or first.wait(600)
        return asked(url, which=which)

    def begin(enrolment: Enrolment) -> None:
        begun.append(enrolment.recipe)
        first.set()

    monkeypatch.setattr(world.repos, "listing", listing)
    start(world, open_sweep(world), begin)
    assert begun == ["blog", "site"]


def test_the_sweep_is_told_as_under_way_until_its_chains_are_begun(place: Place) -> None:
    settled(place)
    world = place.world
    opened = open_sweep(world)
    assert not world.sweeps.is_discovering(opened.sweep)
    with world.sweeps.discovering(opened.sweep):
        assert world.sweeps.is_discovering(opened.sweep)
    assert not world.sweeps.is_discovering(opened.sweep)
    assert Path(world.sweeps.folder(opened.sweep) / "sweep.json").is_file()
