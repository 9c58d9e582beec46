"""Everything that upstreams and mirrors do wrong, in one sweep: each has its named outcome, and the sweep goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.files import half_written
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError
from canonq.core.outcomes import Outcome
from canonq.flows.decide import decide_recipe
from canonq.flows.looking.check import check
from canonq.flows.looking.doctor import doctor
from canonq.flows.sweeps.opening import open_sweep, start
from canonq.flows.sweeps.settling import settle, settle_error
from canonq.flows.sweeps.summary import summary
from canonq.flows.sync import sync
from tests.flows.conftest import FIRST, Place
from tests.support import ROOT, make_recipe, release

NEXT = "1.1.0+1.1"


def chain(place: Place, sweep: str) -> Callable[[Enrolment], None]:
    """The first two steps of a recipe's chain, one after the other and in this process, as its tasks take them."""

    def begin(enrolment: Enrolment) -> None:
        world, recipe, step = place.world, enrolment.recipe, "sync"
        journal = world.sweeps.journal(sweep)
        try:
            synced = sync(world, recipe, sweep=sweep)
            journal.finish(recipe, "sync", synced.model_dump(mode="json"))
            step = "decide"
            settle(world, decide_recipe(world, synced))
        except CanonqError as error:
            settle_error(world, sweep, recipe, step, error)

    return begin


def swept(place: Place) -> dict[str, Outcome]:
    """One sweep over everything that is enrolled."""
    world = place.world
    opened = open_sweep(world)
    start(world, opened, chain(place, opened.sweep))
    assert summary(world, opened.sweep)["enrolled"] == len(opened.chains)
    return world.sweeps.outcomes(opened.sweep)


def broken(place: Place) -> dict[str, tuple[str, str, str | None]]:
    """Enrol a recipe for each thing that can be wrong; name -> (outcome, reason, cause) that it must come to."""
    place.recipe("gone", upstream=f"{place.folder}/nowhere.git")
    place.enrol("unreachable", "http://127.0.0.1:1/coop/site.git")
    Repo.init(place.folder / "empty.git", bare=True)
    place.enrol("empty", f"{place.folder}/empty.git")
    headless = place.recipe("no-default-branch")
    headless.git.branch("one")
    headless.git.branch("two")
    headless.git.symbolic_ref("HEAD", "refs/heads/nothing")
    place.promote("no-default-branch", FIRST, headless.commit("main").hexsha)
    headless.git.branch("-D", "main")
    whole = make_recipe(place.folder / "whole", {FIRST: {}, NEXT: {}})
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{whole.working_dir}", place.folder / "shallow"], check=True)
    place.enrol("shallow", f"{place.folder}/shallow")
    place.enrol("program", "ext::sh -c 'touch owned'")
    place.enrol("password", "https://user:pa55@127.0.0.1/x.git")
    names = place.recipe("strange-names")
    names.git.tag("-d", FIRST)
    for tag in ("ünïcode", "a.b", "v" * 250, "1.0", "$(id)"):
        names.git.update_ref(f"refs/tags/{tag}", "HEAD")
    trees = place.recipe("tag-on-a-tree")
    trees.git.tag("-d", FIRST)
    trees.git.tag("3.0.0+1", "HEAD^{tree}")
    return {
        "gone": ("error", "sync-failed", "upstream-gone"),
        "unreachable": ("error", "sync-failed", "upstream-unreachable"),
        "empty": ("skipped", "never-released", None),
        "no-default-branch": ("skipped", "no-new-version", None),
        "shallow": ("error", "sync-failed", "upstream-shallow"),
        "program": ("error", "bad-upstream", None),
        "password": ("error", "credential-in-address", None),
        "strange-names": ("skipped", "never-released", None),
        "tag-on-a-tree": ("skipped", "never-released", None),
        **canonical_and_history(place),
        **mirrors(place),
    }


def canonical_and_history(place: Place) -> dict[str, tuple[str, str, str | None]]:
    for name in ("moved-tag", "yanked", "rewritten", "good", "canonical-moved"):
        repo = place.recipe(name)
        sync(place.world, name)
        place.promote(name, FIRST, repo.head.commit.hexsha if name != "canonical-moved" else "c" * 40)
        if name == "moved-tag":
            repo.git.commit("--allow-empty", "-qm", "x")
            repo.git.tag("-f", FIRST)
        elif name == "yanked":
            repo.git.tag("-d", FIRST)
        elif name == "rewritten":
            repo.git.commit("--amend", "--allow-empty", "-qm", "rewritten")
    return {
        "moved-tag": ("error", "tag-moved", None),
        "canonical-moved": ("skipped", "no-new-version", None),  # an older server's: told as a note
        "yanked": ("skipped", "yanked", None),
        "rewritten": ("skipped", "no-new-version", None),
        "good": ("skipped", "no-new-version", None),
    }


def mirrors(place: Place) -> dict[str, tuple[str, str, str | None]]:
    for name in ("refusing", "diverged", "upstream-as-mirror", "twin-a", "twin-b"):
        mirror = Repo.init(place.folder / f"{name}.git", bare=True, initial_branch="main")
        where = mirror.git_dir if not name.startswith("twin") else place.folder / "twins.git"
        repo = place.recipe(name, toml=f'mirror = "{where}"\n')
        if name == "refusing":
            hook = Path(mirror.git_dir) / "hooks" / "pre-receive"
            hook.parent.mkdir(exist_ok=True)
            hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
            hook.chmod(0o755)
        elif name == "diverged":
            sync(place.world, name)
            stray = mirror.git.commit_tree("main^{tree}", "-p", "main", "-m", "stray")
            mirror.git.update_ref("refs/heads/main", stray)
            place.promote(name, FIRST, repo.head.commit.hexsha)
        elif name == "upstream-as-mirror":
            place.enrol(name, str(repo.working_dir), f'mirror = "{repo.working_dir}"\n')
    Repo.init(place.folder / "twins.git", bare=True)
    return {
        "refusing": ("error", "sync-failed", "mirror-refused"),
        "diverged": ("skipped", "no-new-version", None),
        "upstream-as-mirror": ("error", "bad-mirror", None),
        "twin-a": ("error", "bad-mirror", None),
        "twin-b": ("error", "bad-mirror", None),
    }


@pytest.mark.long
def test_each_bad_upstream_has_its_named_outcome_and_the_others_go_on(place: Place) -> None:
    wanted = broken(place)
    found = swept(place)
    assert {name: (one.outcome, one.reason, one.cause) for name, one in found.items()} == wanted
    assert any("no default branch" in note for note in found["no-default-branch"].notes)
    assert any("names a tree" in note for note in found["tag-on-a-tree"].notes)
    assert any("diverged" in note or "upstream has not" in note for note in found["diverged"].notes)
    assert any(FIRST in note and "deleted" in note for note in found["yanked"].notes)
    assert not Path("owned").exists()
    assert "pa55" not in "".join(one.model_dump_json() for one in found.values())


def test_addresses_that_no_sync_would_take_are_told_by_who_checks_without_asking_anybody(place: Place) -> None:
    wanted = {
        "program": ("ext::sh -c 'touch owned'", "", "bad-upstream"),
        "twin-a": ("/nowhere/a.git", 'mirror = "https://127.0.0.1:1/coop/twin.git"\n', "bad-mirror"),
        "twin-b": ("/nowhere/b.git", 'mirror = "https://127.0.0.1:1/coop/twin/"\n', "bad-mirror"),
        "good": ("/nowhere/c.git", 'mirror = "https://127.0.0.1:1/coop/good.git"\n', ""),
        "off": ("/nowhere/d.git", 'mirror = "https://127.0.0.1:1/coop/good.git"\nenrolled = false\n', "bad-mirror"),
    }
    for name, (upstream, toml, _) in wanted.items():
        place.enrol(name, upstream, toml)
    assert {row["recipe"]: row["reason"] for row in check(place.world)} == {name: code for name, (_, _, code) in wanted.items()}
    told = [row for row in doctor(place.world) if row["check"] == "enrolments"]
    assert [(row["state"], row["reason"]) for row in told] == [
        ("ok", ""),
        ("broken", "bad-upstream"),
        ("broken", "bad-mirror"),
        ("broken", "bad-mirror"),
    ]


def test_a_half_written_clone_is_made_anew_and_the_night_goes_on(place: Place) -> None:
    repo = place.recipe()
    sync(place.world, "site")
    place.promote("site", FIRST, repo.head.commit.hexsha)
    clone = place.folder / "state" / "repos" / "site" / "repo.git"
    shutil.rmtree(clone / "objects")
    (clone / "objects").mkdir()
    (clone / "canonq.json").unlink()
    assert swept(place)["site"].reason == "no-new-version"
    assert swept(place)["site"].detail.endswith("upstream is unchanged since the last sync."), "and the next night is idle again"


@pytest.mark.long
@pytest.mark.parametrize("moment", range(0, 32, 4))  # hundredths of a second after its first trace; it takes about 40
def test_a_sync_that_is_killed_at_any_moment_is_done_again_whole(place: Place, moment: int) -> None:
    repo = place.recipe(toml=f'mirror = "{place.folder}/mirror.git"\n')
    Repo.init(place.folder / "mirror.git", bare=True, initial_branch="main")
    for number in range(30):
        release(repo, f"1.{number + 1}.0+1", {"f": os.urandom(20_000).hex()})
    program = f"from tests.flows.conftest import Place; from pathlib import Path; Place.again(Path({str(place.folder)!r})).sync()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen([sys.executable, "-c", program], env=environment)
    clone = place.folder / "state" / "repos" / "site" / "repo.git"
    while not clone.exists():
        assert killed.poll() is None
        time.sleep(0.002)
    time.sleep(moment / 100)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL or moment
    done = sync(place.world, "site")
    assert done.latest == "1.30.0+1"
    assert len(Repo(place.folder / "mirror.git").tags) == 31
    assert sync(place.world, "site").pushed == 0
    left = [path for path in (place.folder / "state" / "repos" / "site").iterdir() if path.name.startswith(".")]
    for path in left:  # killed while it wrote a file: the janitor takes that when nobody can be at it any more
        os.utime(path, (0, 0))
    assert set(left) <= set(half_written(place.folder / "state"))


def test_a_clock_that_was_ahead_is_told_by_the_doctor(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.recipe()
    world = place.world
    open_sweep(world)
    clock = next(check for check in doctor(world) if check["check"] == "clock")
    assert clock["state"] == "ok"
    past = datetime.now(UTC) - timedelta(days=1)
    monkeypatch.setattr(type(world), "stamp", lambda self: past.strftime("%Y%m%dT%H%M%SZ"))
    object.__setattr__(world, "now", lambda: past)
    clock = next(check for check in doctor(world) if check["check"] == "clock")
    assert clock["state"] == "warning"
    assert "NTP" in clock["mend"]
