"""Approving, blocking and hurrying a release, from the command to what a night makes of it; and stopping what is under way."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from git.repo import Repo

from canonq.adapters.state.work_folders import alive, asked_to_stop
from canonq.cli.commands import canonq
from canonq.core.errors import RecordUnreadable, SyncFailed, WrongUse
from canonq.core.outcomes import exit_status
from canonq.core.records import Verdict
from canonq.core.steering import Word
from canonq.flows.decide import decide_recipe, gather
from canonq.flows.looking.status import status
from canonq.flows.looking.story import story
from canonq.flows.promote import promote
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import outcome_of
from canonq.flows.sync import sync
from tests.core.test_gate import verdict
from tests.flows.conftest import FIRST, Place
from tests.support import release

NEXT = "2.0.0+1.0"


@pytest.fixture
def repo(place: Place) -> Repo:
    """A recipe with a canonical, and a release of a new major after it."""
    repo = place.recipe()
    place.enrol("site", str(repo.working_dir), '[promote]\napproval = "ask"\n')
    place.promote("site", FIRST, repo.head.commit.hexsha)
    release(repo, NEXT, {f"release/{NEXT}": "Run the migration by hand.\n"})
    sync(place.world, "site")
    return repo


@pytest.fixture(autouse=True)
def environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("CANONQ_REPO", str(place.folder / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(place.folder / "state"))
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://127.0.0.1:1/0")


def typed(*words: str) -> Any:
    return CliRunner().invoke(canonq, list(words), standalone_mode=False)


def green(place: Place, repo: Repo) -> Verdict:
    """A run that has proven the newest release."""
    world = place.world
    run = world.new_id("site")
    world.runs.make("site", run)
    record = world.registry.read("site")
    assert record is not None
    found = verdict(
        run=run, version=NEXT, commit=repo.head.commit.hexsha, base=FIRST, base_commit=record.commit, fence=record.fence,
        enrolment=world.checkout.digest("site"), ts=world.stamp(),
    )  # fmt: skip
    world.runs.record(found)
    return found


def decided(place: Place) -> tuple[str, str]:
    found = decide_recipe(place.world, "site")
    return found.action, found.reason


def test_a_new_major_is_proven_and_held_until_a_person_approves_it(place: Place, repo: Repo) -> None:
    assert decided(place) == ("run", "new-version")
    proof = green(place, repo)
    refused = promote(place.world, proof)
    assert (refused.outcome, refused.reason) == ("refused", "needs-approval")
    for told in ("from 1 to 2", f"{NEXT} has release notes: Run the migration by hand."):
        assert told in refused.detail
    outcome = outcome_of(place.world, refused)
    assert outcome is not None
    assert (outcome.outcome, exit_status([outcome])) == ("skipped", 1)
    assert decided(place) == ("skip", "needs-approval")
    assert status(place.world, "site")["recipes"][0]["proven"]["held"]
    assert typed("approve", "site", NEXT, "--reason", "read it").return_value == 0
    assert decided(place) == ("promote", "not-promoted-yet")
    assert status(place.world, "site")["recipes"][0]["proven"]["held"] is None
    assert story(place.world, "site").next.command == "canonq promote site"


def test_an_approval_is_for_one_commit_and_on_record_with_who_and_why(place: Place, repo: Repo) -> None:
    typed("approve", "site", NEXT, "--reason", "read it")
    (word,) = place.world.steering.words("site")
    assert (word.what, word.version, word.commit, word.reason) == ("approve", NEXT, repo.head.commit.hexsha, "read it")
    assert word.by
    moved = green(place, repo).model_copy(update={"commit": "e" * 40})
    place.world.runs.record(moved)
    assert "needs-approval" in " ".join(promote(place.world, moved).reasons)


def test_without_a_word_of_the_enrolment_nobody_is_waited_for(place: Place, repo: Repo) -> None:
    place.enrol("site", str(repo.working_dir), "")
    green(place, repo)
    assert decided(place) == ("promote", "not-promoted-yet")


def test_what_is_blocked_is_neither_proven_nor_promoted_until_that_is_taken_back(place: Place, repo: Repo) -> None:
    typed("block", "site", NEXT, "--reason", "it loses mail")
    found = decide_recipe(place.world, "site")
    assert (found.action, found.reason) == ("skip", "blocked")
    assert "it loses mail" in found.detail
    assert promote(place.world, green(place, repo)).reason == "blocked"
    release(repo, "2.1.0+1.0", {})
    sync(place.world, "site")
    assert decided(place) == ("run", "new-version"), "a newer release passes it"
    typed("unblock", "site", NEXT, "--reason", "mended")
    assert [word.what for word in place.world.steering.words("site")] == ["block", "unblock"]


def test_a_block_until_a_time_ends_by_itself(place: Place, repo: Repo) -> None:
    typed("block", "site", NEXT, "--reason", "later", "--until", "2d")
    later = replace(place.world, now=lambda: place.world.now() + timedelta(days=3))
    assert decided(place)[1] == "blocked"
    left = gather(later, later.checkout.enrolment("site"), later.repos.tags("site")).hindrance
    assert left is not None
    assert left.code == "needs-approval"


def test_a_release_waits_for_its_age_from_when_it_was_first_seen_and_may_be_hurried(place: Place, repo: Repo) -> None:
    place.enrol("site", str(repo.working_dir), 'min_age = "36h"\n')
    world = place.world
    looked = gather(world, world.checkout.enrolment("site"), world.repos.tags("site"))
    assert looked.young is not None
    assert world.steering.first_seen("site", NEXT, repo.head.commit.hexsha) is None, "to look changes nothing"
    assert decided(place) == ("skip", "too-young")
    later = replace(world, now=lambda: world.now() + timedelta(hours=37))
    assert decide_recipe(later, "site").action == "run"
    typed("hurry", "site", NEXT, "--reason", "a security fix")
    assert decided(place) == ("run", "new-version")


def test_a_release_that_was_first_seen_by_a_clock_that_was_ahead_waits_for_its_age_and_no_longer(
    place: Place, repo: Repo
) -> None:
    place.enrol("site", str(repo.working_dir), 'min_age = "36h"\n')
    world = place.world
    assert decide_recipe(replace(world, now=lambda: world.now() + timedelta(days=400)), "site").reason == "too-young"
    assert decided(place) == ("skip", "too-young")
    assert decide_recipe(replace(world, now=lambda: world.now() + timedelta(hours=35)), "site").reason == "too-young"
    assert decide_recipe(replace(world, now=lambda: world.now() + timedelta(hours=37)), "site").action == "run"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("approve", "site", "2.0.0+1.1", "--reason", "x"), f"did you mean '{NEXT}'?"),
        (("approve", "site", "$(reboot)", "--reason", "x"), "is not a ref name"),
        (("approve", "sitte", NEXT, "--reason", "x"), "did you mean 'site'?"),
        (("block", "site", NEXT, "--reason", "  "), "--reason is empty"),
        (("block", "site", NEXT, "--reason", "x", "--until", "2020-01-01"), "is not a day in the future"),
        (("block", "site", NEXT, "--reason", "x", "--until", "soon"), "is not a length of time"),
        (("unblock", "site", NEXT, "--reason", "x"), "is not blocked"),
    ],
)
def test_wrong_words_are_refused_and_leave_nothing(place: Place, repo: Repo, words: tuple[str, ...], told: str) -> None:
    error = typed(*words).exception
    assert isinstance(error, WrongUse)
    assert told in str(error)
    assert place.world.steering.words("site") == ()


LATIN = b"es verliert Post, j\xfcngst".decode(errors="surrogateescape")  #: as a terminal that is not UTF-8 types it


def test_a_reason_and_a_name_that_are_not_utf8_are_kept_as_readable_text(
    place: Place, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "j\udcfcrg")
    assert typed("block", "site", NEXT, "--reason", LATIN).return_value == 0
    (word,) = place.world.steering.words("site")
    assert (word.by, word.reason) == (r"j\udcfcrg", r"es verliert Post, j\udcfcngst")


def test_a_user_without_a_name_is_called_by_the_number(place: Place, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers with a user of their own no list of users has it."""
    for name in ("SUDO_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 31337)
    assert typed("block", "site", NEXT, "--reason", "it loses mail").return_value == 0
    assert [word.by for word in place.world.steering.words("site")] == ["uid 31337"]


JUST_OUT = "2.1.0+1.0"


@pytest.mark.parametrize("word", ["block", "hurry", "approve"])
def test_a_release_that_is_newer_than_the_clone_is_asked_of_upstream(place: Place, repo: Repo, word: str) -> None:
    commit = release(repo, JUST_OUT, {"file": "new\n"})
    assert typed(word, "site", JUST_OUT, "--reason", "just out").return_value == 0
    assert [(one.version, one.commit) for one in place.world.steering.words("site")] == [(JUST_OUT, commit)]
    sync(place.world, "site")
    assert decided(place)[1] == ("blocked" if word == "block" else "new-version")


def test_a_recipe_that_was_never_synced_is_asked_of_upstream(place: Place, repo: Repo) -> None:
    place.recipe("other")
    assert typed("block", "other", FIRST, "--reason", "x").return_value == 0


def test_without_a_way_to_upstream_no_older_release_is_proposed_for_one_that_nobody_knows(place: Place, repo: Repo) -> None:
    place.enrol("site", str(place.folder / "nowhere"))
    error = typed("block", "site", JUST_OUT, "--reason", "x").exception
    assert isinstance(error, SyncFailed)
    assert f"'{JUST_OUT}' is no release of site that is known here, and upstream could not be asked" in error.what
    assert "`canonq sync site` reads newer ones" in error.mend
    assert NEXT not in str(error)
    assert typed("block", "site", NEXT, "--reason", "what is known is not asked for").return_value == 0


def test_a_record_of_words_that_is_damaged_lets_nothing_slip_through(place: Place, repo: Repo) -> None:
    typed("block", "site", NEXT, "--reason", "x")
    (place.folder / "state" / "steering" / "site.json").write_text("[")
    with pytest.raises(RecordUnreadable):
        decide_recipe(place.world, "site")
    with pytest.raises(RecordUnreadable):
        promote(place.world, green(place, repo))


def test_words_of_many_at_once_are_all_kept(place: Place, repo: Repo) -> None:
    world = place.world

    def speak(at: int) -> None:
        world.steering.say("site", Word(what="block", version=NEXT, commit="a" * 40, by=str(at), at=world.stamp(), reason="x"))

    speaking = [threading.Thread(target=speak, args=(at,)) for at in range(8)]
    for thread in speaking:
        thread.start()
    for thread in speaking:
        thread.join()
    assert {word.by for word in world.steering.words("site")} == {str(at) for at in range(8)}


# -- stopping ------------------------------------------------------------------------------------------------


def test_a_run_is_asked_to_end_and_is_waited_for(place: Place, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    run = place.world.new_id("site")
    work = place.world.work / run
    ready = threading.Event()

    def works() -> None:
        with alive(work):
            ready.set()
            while asked_to_stop(work) is None:
                time.sleep(0.05)

    worker = threading.Thread(target=works)
    worker.start()
    ready.wait(60)
    monkeypatch.setattr("canonq.cli.sweeps.left_of", lambda *_: [])  # there is no Docker to ask
    told = json.loads(typed("stop", run, "--reason", "wrong branch", "--json").stdout)
    worker.join(60)
    assert told == {"stopped": [run], "left": []}
    word = asked_to_stop(work)
    assert word is not None
    assert word.code == "run-stopped"
    assert "stopped it: wrong branch." in str(word)


def test_what_is_not_under_way_is_not_stopped(place: Place, repo: Repo) -> None:
    error = typed("stop", "20260617T050314Z-site-abcdef").exception
    assert isinstance(error, WrongUse)
    assert "under way are: none" in str(error)


def test_why_a_sweep_was_stopped_is_on_record(place: Place, repo: Repo) -> None:
    sweep = open_sweep(place.world, ()).sweep
    typed("stop", sweep, "--reason", "the host is needed")
    closed = place.world.sweeps.closed(sweep)
    assert closed is not None
    assert "the host is needed" in closed.why


def test_a_sweep_is_stopped_whatever_encoding_the_reason_has(place: Place, repo: Repo) -> None:
    sweep = open_sweep(place.world, ()).sweep
    assert typed("stop", sweep, "--reason", LATIN).return_value == 0
    closed = place.world.sweeps.closed(sweep)
    assert closed is not None
    assert r"es verliert Post, j\udcfcngst" in closed.why


SERVICES = 'version: "3.8"\nservices:\n  app:\n    image: site:1\n'
DATABASE = 'version: "3.8"\nservices:\n  db:\n    image: postgres:${POSTGRES_TAG:-15}\n'


def test_a_databases_new_major_is_seen_in_an_overlay_and_in_a_variable(place: Place) -> None:
    listed = 'DOMAIN=wiki.example.com\nCOMPOSE_FILE="compose.yml:compose.db.yml"\n'
    repo = place.recipe("wiki", toml='[promote]\napproval = "ask"\n')
    release(repo, "1.0.1+1.0", {"compose.yml": SERVICES, "compose.db.yml": DATABASE, ".env.sample": listed})
    place.promote("wiki", "1.0.1+1.0", repo.head.commit.hexsha)
    release(repo, "1.1.0+1.0", {".env.sample": f"{listed}POSTGRES_TAG=16-alpine\n"})
    sync(place.world, "wiki")
    hindered = gather(place.world, place.world.checkout.enrolment("wiki"), place.world.repos.tags("wiki")).hindrance
    assert hindered is not None
    assert "the database db goes from postgres 15 to 16" in hindered.why
