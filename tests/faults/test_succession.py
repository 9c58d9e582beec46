"""Orders of promotions, rollbacks, losses and moves: every canonical is still there, and nothing is back by accident."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import workers.steps
import workers.tasks
from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import Busy, CanonqError, HostProblem, RecordUnreadable, WrongUse
from canonq.core.gate import Again
from canonq.core.records import Canonical, Synced
from canonq.flows import promote as promote_flow
from canonq.flows.decide import decide_recipe
from canonq.flows.keeping import leftovers as leftovers_flow
from canonq.flows.keeping.room import tidy
from canonq.flows.looking import doctor
from canonq.flows.looking.status import status
from canonq.flows.looking.verify import verify
from canonq.flows.promote import promote
from canonq.flows.promoting import rollback as rollback_flow
from canonq.flows.promoting.restore import restore
from canonq.flows.promoting.rollback import choose, rollback
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.test import test_decided as proven_by
from canonq.flows.world import World
from tests.fakes import LINEAGE, FakeEngine
from tests.faults.scenario import RECIPE, Scenario, killed_at

pytestmark = pytest.mark.long

A, B, C, D = "1.1.0+1", "1.2.0+2", "1.3.0+3", "1.4.0+4"


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Scenario:
    """A canonical A, and B after it."""
    redis_client(redis_url).flushall()
    made = Scenario(tmp_path, redis_url).prepare()
    advance(made, 2)
    return made


def advance(scenario: Scenario, promotions: int = 1) -> str:
    for _ in range(promotions):
        tag = scenario.prove()
        assert scenario.promote().outcome == "promoted"
    return tag


def goes_to(scenario: Scenario) -> str:
    """Where a rollback without --to would go."""
    world = scenario.world()
    now = world.registry.read(RECIPE)
    assert now is not None
    try:
        return choose(world, now, None).record.version
    except WrongUse as error:
        return error.code


def present(scenario: Scenario) -> str:
    record = scenario.canonical()
    assert record is not None
    return record.version


# -- succession ---------------------------------------------------------------------------------------------


def test_a_release_that_was_rolled_back_does_not_push_out_the_one_before_it(scenario: Scenario) -> None:
    scenario.go_back()
    assert advance(scenario) == C
    assert (scenario.kept, goes_to(scenario)) == ([A, C], A)
    scenario.is_clean("after it")


def test_a_promotion_made_while_the_clock_was_ahead_pushes_out_nobody(scenario: Scenario) -> None:
    real = scenario.world

    def ahead() -> World:
        world = real()
        return replace(world, now=lambda: world.now() + timedelta(days=365))

    scenario.world = ahead  # type: ignore[method-assign]
    advance(scenario)
    (run,) = [v.run for v in real().runs.verdicts(RECIPE) if v.version == C]
    shutil.rmtree(scenario.state / "runs" / RECIPE / run)
    scenario.world = real  # type: ignore[method-assign]
    assert advance(scenario) == D
    assert (scenario.kept, goes_to(scenario)) == ([C, D], C)
    advance(scenario)
    assert (scenario.kept, goes_to(scenario)) == ([D, "1.5.0+5"], D)


def test_going_back_twice_goes_two_steps_back_and_then_no_further(scenario: Scenario) -> None:
    scenario.keep = 3
    advance(scenario)
    assert [scenario.go_back().version for _ in range(2)] == [B, A]
    with pytest.raises(WrongUse) as raised:
        scenario.go_back()
    assert raised.value.code == "not-kept"
    assert scenario.go_back(to=C).version == C, "a person may name it"
    assert goes_to(scenario) == B


def test_all_that_was_rolled_back_stays_held_until_a_newer_release_is_promoted(scenario: Scenario) -> None:
    scenario.keep = 3
    scenario.release_only(A, B, C)
    advance(scenario)
    for to in (B, B, A):
        scenario.go_back(to)
        assert scenario.night().reason == "held-rollback"
    record = scenario.canonical()
    assert record is not None
    assert [back.version for back in record.rolled_back if record.held(back.version, back.commit)] == [C, B]
    assert {(back.by, back.reason) for back in record.rolled_back} == {("ada", "it lost mail")}


def test_what_a_rollback_goes_past_is_held_and_no_late_chain_brings_it_back(scenario: Scenario) -> None:
    scenario.keep = 3
    advance(scenario)
    late = next(verdict for verdict in scenario.world().runs.verdicts(RECIPE) if verdict.version == B)
    record = scenario.go_back(A)
    assert [(back.version, [one.version for one in back.past]) for back in record.rolled_back] == [(C, [B])]
    answer = promote(scenario.world(), late)
    assert (answer.outcome, answer.reason) == ("refused", "held-rollback")
    assert f"ada rolled {C} back, past {B}, at " in answer.detail
    scenario.release_only(A, B)
    night = scenario.night()
    assert (night.reason, f"rolled {C} back past it at " in night.detail) == ("held-rollback", True)
    assert scenario.go_back(to=B).held(B, late.commit or "") is None, "a person may name it"
    now = scenario.canonical()
    assert now is not None
    assert [(back.version, back.past) for back in now.rolled_back] == [(C, ()), (A, ())]


@pytest.mark.parametrize("how", ["promoted", "gone back to"])
def test_what_a_rollback_went_past_stays_held_when_what_it_left_is_canonical_again(scenario: Scenario, how: str) -> None:
    scenario.keep = 4
    advance(scenario)
    scenario.go_back(A)
    if how == "promoted":
        scenario.released = 2
        assert scenario.prove() == C
        named = scenario.world().runs.verdicts(RECIPE)[-1].model_copy(update={"named": True})
        scenario.world().runs.record(named)
        assert scenario.promote().outcome == "promoted"
    else:
        scenario.go_back(C)
    now = scenario.canonical()
    assert now is not None
    assert (now.version, [(back.version, back.past) for back in now.rolled_back if back.version != A]) == (C, [(B, ())])
    assert scenario.go_back(A).version == A
    scenario.release_only(A, B)
    assert scenario.night().reason == "held-rollback"


def test_a_promotion_ends_no_hold_but_its_own(scenario: Scenario) -> None:
    scenario.keep = 3
    advance(scenario)
    scenario.go_back(A)
    scenario.released = 1
    assert scenario.prove() == B
    # By its name, as the run of C has the newer clock.
    asked = [verdict for verdict in scenario.world().runs.verdicts(RECIPE) if verdict.version == B][-1]
    assert promote(scenario.world(), asked).outcome == "promoted"
    record = scenario.canonical()
    assert record is not None
    assert [back.version for back in record.rolled_back] == [C], "B is older than what was rolled back"
    late = [verdict for verdict in scenario.world().runs.verdicts(RECIPE) if verdict.version == C][-1]
    scenario.released = 3
    advance(scenario)
    scenario.go_back(B)
    record = scenario.canonical()
    assert record is not None
    assert [back.version for back in record.rolled_back] == [C, D]
    assert promote(scenario.world(), late).reason == "held-rollback", "the newer release that went past it was left as well"


def test_a_run_that_was_under_way_promotes_nothing_that_was_rolled_back_since(scenario: Scenario) -> None:
    verdict = scenario.world().runs.newest(RECIPE)
    assert verdict is not None
    scenario.go_back()
    for named in (False, True):
        world = scenario.world()
        late = verdict.model_copy(update={"run": world.new_id(RECIPE), "named": named})
        world.runs.make(RECIPE, late.run)
        world.runs.record(late)
        refused = promote(scenario.world(), late)
        assert (refused.outcome, refused.reason) == ("refused", "held-rollback")
    assert present(scenario) == A
    scenario.released = 1
    assert scenario.prove() == B, "asked for after the rollback"
    assert scenario.promote().outcome == "promoted"


@pytest.mark.parametrize("when", ["before", "after"])
def test_only_a_sweep_that_was_asked_for_after_a_rollback_releases_what_was_rolled_back(when: str, scenario: Scenario) -> None:
    scenario.release_only(A, B)
    if when == "after":
        scenario.go_back()
    sweep = open_sweep(scenario.world(), [RECIPE]).sweep
    if when == "before":
        scenario.go_back()
    synced = Synced(recipe=RECIPE, sweep=sweep, named=True, branch="main", head=None, tags=2, latest=B, changed=False)
    decision = decide_recipe(scenario.world(), synced)
    assert (decision.action, decision.reason) == (("skip", "held-rollback") if when == "before" else ("run", "new-version"))


def test_the_gate_is_asked_again_under_the_lock(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.prove()
    ask, asked = promote_flow._ask_gate, []

    def and_then_back(*arguments: Any) -> Any:
        found = ask(*arguments)
        asked.append(found)
        if len(asked) == 1:
            scenario.go_back()
        return found

    monkeypatch.setattr(promote_flow, "_ask_gate", and_then_back)
    refused = scenario.promote()
    assert asked[0] == ()
    assert (refused.outcome, refused.reason) == ("refused", "base-changed")
    assert present(scenario) == A


def test_the_gate_reads_the_verdict_on_disk_and_not_what_a_message_says(scenario: Scenario) -> None:
    scenario.prove()
    world = scenario.world()
    verdict = world.runs.newest(RECIPE)
    assert verdict is not None
    world.runs.record(verdict.model_copy(update={"verdict": "red", "reason": "crash-loop"}))
    assert promote(scenario.world(), verdict).reason == "not-green"
    shutil.rmtree(scenario.state / "runs" / RECIPE / verdict.run)
    assert promote(scenario.world(), verdict).reason == "no-verdict"


def test_unknown_keys_keep_their_present_value_over_a_rollback(scenario: Scenario) -> None:
    def note(**keys: str) -> None:
        scenario.record_file.write_text(json.dumps({**json.loads(scenario.record_file.read_text()), **keys}))

    note(owner="ada")
    advance(scenario)
    note(owner="grace", more="x")
    scenario.go_back()
    assert {key: json.loads(scenario.record_file.read_text()).get(key) for key in ("owner", "more")} == {
        "owner": "grace",
        "more": "x",
    }
    assert list((scenario.state / "work").iterdir()) == [], "no dead run for the janitor to find"


def test_a_canonical_is_made_anew_at_its_own_version_and_says_who_and_why(scenario: Scenario) -> None:
    again = Again("ada", "its data went bad")
    assert promote(scenario.world(), RECIPE, again).reason == "not-a-new-run"
    scenario.released = 1
    assert scenario.prove() == B
    done = promote(scenario.world(), RECIPE, again)
    assert (done.outcome, done.reason, done.data) == ("promoted", "again", f"carried from {B}")
    record = scenario.is_whole("made anew", B)
    assert record is not None
    assert record.remade is not None
    assert (record.remade.by, record.remade.reason, record.run) == ("ada", "its data went bad", done.run)
    once_more = promote(scenario.world(), RECIPE, again)
    assert (once_more.outcome, once_more.reason) == ("already", "already-promoted"), "its worker may have died when it was done"
    assert promote(scenario.world(), RECIPE, Again("ada", "it went bad again")).reason == "not-a-new-run"
    assert scenario.kept == [B, B]
    scenario.is_clean("after it")


def test_the_last_copy_of_a_canonicals_data_is_not_let_go_of(scenario: Scenario) -> None:
    now = scenario.world().registry.read(RECIPE)
    assert now is not None
    assert now.snapshot is not None
    whole = Path(now.snapshot.path)
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    scenario.prove()
    refused = scenario.promote()
    assert (refused.outcome, refused.cause, refused.fault) == ("failed", "snapshot-lost", "host")
    assert scenario.world().registry.read(RECIPE) == now
    assert all(scenario.world().volumes.volume_path(name) for name in now.volumes), "the last copy of it"
    # The way that is told: its own version again, from a new run.
    version, scenario.released = now.version, int(now.version.split("+")[1]) - 1
    assert scenario.prove() == version
    done = promote(scenario.world(), RECIPE, Again("ada", "its snapshot was lost"))
    assert (done.outcome, done.data) == ("promoted", f"carried from {version}")
    scenario.is_whole("made again", version)
    scenario.prove()
    assert scenario.promote().outcome == "promoted"


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_one_made_anew_for_its_snapshot_pushes_out_no_whole_one_for_that_one(scenario: Scenario, harm: str) -> None:
    now = scenario.canonical()
    assert now is not None
    assert now.snapshot is not None
    whole = Path(now.snapshot.path)
    if harm == "damaged":
        (whole / "data" / "stray").write_text("x") if whole.is_dir() else whole.write_bytes(b"not an archive")
    else:
        shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    scenario.released = 1
    assert scenario.prove() == B
    assert promote(scenario.world(), RECIPE, Again("ada", "its snapshot was lost")).outcome == "promoted"
    tidy(scenario.world())
    assert scenario.kept == [A, B, B]
    assert goes_to(scenario) == A
    assert scenario.go_back().version == A
    scenario.is_whole("gone back", A)
    assert scenario.go_back(B).version == B
    scenario.is_whole("and on again to the one that was made anew", B)
    scenario.released = 2
    advance(scenario)
    assert scenario.kept == [B, C], "what is damaged goes when all that are kept are newer"
    scenario.is_clean("after it")


def test_the_last_copy_is_not_let_go_of_by_the_way_that_is_told_where_new_ones_begin_clean(scenario: Scenario) -> None:
    now = scenario.world().registry.read(RECIPE)
    assert now is not None and now.snapshot is not None
    whole = Path(now.snapshot.path)
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    toml = scenario.root / "checkout" / "tests" / RECIPE / "recipe.toml"
    carries = toml.read_text()
    toml.write_text(f'{carries}[promote]\ndata = "fresh"\n')
    scenario.released = int(now.version.split("+")[1]) - 1
    scenario.prove()
    refused = promote(scenario.world(), RECIPE, Again("ada", "its snapshot was lost"))
    assert (refused.outcome, refused.cause) == ("failed", "snapshot-lost")
    assert '`[promote] data = "fresh"` would let go of it, take that out first' in refused.detail
    assert all(scenario.world().volumes.volume_path(name) for name in now.volumes), "the last copy of it"
    toml.write_text(carries)
    scenario.released -= 1
    scenario.prove()
    done = promote(scenario.world(), RECIPE, Again("ada", "its snapshot was lost"))
    assert (done.outcome, done.data) == ("promoted", f"carried from {now.version}")


def test_a_worker_makes_a_canonical_anew_when_it_is_asked_to(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.steps, "live", scenario.world)
    scenario.released = 1
    assert scenario.prove() == B
    plain = workers.tasks.promote.apply(args=[RECIPE]).get()
    assert plain["outcome"] == "already", "without the word there is nothing to do"
    done = workers.tasks.promote.apply(args=[RECIPE], kwargs={"again": {"by": "ada", "reason": "its data went bad"}}).get()
    assert (done["outcome"], done["reason"]) == ("promoted", "again")
    record = scenario.is_whole("made anew by a worker", B)
    assert record is not None
    assert record.remade is not None
    assert (record.remade.by, record.remade.reason) == ("ada", "its data went bad")


def test_a_rollback_that_is_ordered_once_and_delivered_twice_goes_back_once(scenario: Scenario) -> None:
    advance(scenario)
    seen = scenario.canonical()
    assert seen is not None

    def ordered(fence: int) -> Canonical:
        return rollback(scenario.world(), RECIPE, to=None, reason="it lost mail", who="ada", seen=fence)

    back = ordered(seen.fence)
    assert back.version == B
    assert ordered(seen.fence) == back, "as it is"
    # Delivered hours later, when another release is the canonical.
    advance(scenario)
    now = scenario.canonical()
    assert now is not None
    assert ordered(seen.fence) == now, "it was carried out long ago"
    # And where the canonical that was to be left was left by a promotion.
    advance(scenario)
    with pytest.raises(WrongUse) as told:
        ordered(now.fence)
    assert told.value.code == "canonical-moved"


def test_a_rollback_that_somebody_calls_by_hand_goes_back_once_also_when_it_is_delivered_again(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.tasks, "live", scenario.world)
    advance(scenario)
    advance(scenario)
    now = scenario.canonical()
    assert now is not None
    given = {"args": [RECIPE, None, "it lost mail", "ada"], "task_id": "4f1c2a00-0000-4000-8000-000000000000"}
    first = workers.tasks.rollback.apply(**given).get()
    assert first["version"] != now.version
    assert workers.tasks.rollback.apply(**given).get()["version"] == first["version"]


# -- losses -------------------------------------------------------------------------------------------------


def lose_fence(scenario: Scenario) -> None:
    (scenario.state / "warm" / RECIPE / "registry.fence").unlink()
    redis_client(scenario.redis_url).flushall()


def test_lost_marks_lose_no_canonical(scenario: Scenario) -> None:
    for mark in scenario.state.glob("warm/*/canonicals/*/in-force.json"):
        mark.unlink()
    tidy(scenario.world())
    assert (scenario.kept, goes_to(scenario)) == ([A, B], A)
    assert scenario.go_back().version == A
    scenario.is_whole("after it", A)


def test_a_lost_mark_costs_nothing_either_when_the_only_one_that_named_its_canonical_goes(scenario: Scenario) -> None:
    scenario.keep = 3
    advance(scenario)
    scenario.go_back(A)  # past B
    (mark,) = [
        path / "in-force.json"
        for path in scenario.state.glob("warm/*/canonicals/*")
        if json.loads((path / "record.json").read_text())["version"] == B
    ]
    mark.unlink()
    advance(scenario)  # C, which came after B, makes room
    tidy(scenario.world())
    assert B in scenario.kept
    assert scenario.go_back(B).version == B


@pytest.mark.parametrize("to", [None, C, A])
def test_a_lost_fence_and_a_new_redis_lose_no_canonical(to: str | None, scenario: Scenario) -> None:
    scenario.keep = 3
    advance(scenario)
    before = scenario.canonical()
    lose_fence(scenario)
    record = scenario.go_back(to)
    assert before is not None
    assert record.fence > before.fence
    assert scenario.kept == [A, B, C]
    scenario.is_whole("after it", to or B)
    scenario.is_clean("after it")


@pytest.mark.parametrize("rolled_back", [False, True])
def test_a_lost_record_is_told_never_seeded_over_and_comes_back_by_a_rollback(rolled_back: bool, scenario: Scenario) -> None:
    scenario.release_only(A, B)
    before = scenario.go_back() if rolled_back else scenario.canonical()
    assert before is not None
    scenario.record_file.unlink()
    tidy(scenario.world())
    assert all(scenario.world().engine.volume_path(name) for name in before.volumes)
    decision = scenario.night()
    assert (decision.action, decision.reason) == ("error", "record-missing")
    assert f"rollback {RECIPE} --to '{before.version}'" in decision.detail
    scenario.released = 1
    scenario.prove()
    assert scenario.promote().reason == "record-missing"
    assert "is gone" in str(verify(scenario.world()))
    assert status(scenario.world(), RECIPE)["recipes"][0]["problem"]
    with pytest.raises(WrongUse, match=f"rollback {RECIPE} --to") as told:
        restore(scenario.world(), RECIPE, "look")
    assert told.value.code == "record-missing", "there is something to restore, once its record is there again"
    after = scenario.go_back()
    assert after.version == before.version, "without --to: what was in force last"
    assert scenario.kept == [A, B]
    scenario.is_whole("made anew", before.version)
    scenario.is_clean("made anew")
    assert scenario.night().reason == ("held-rollback" if rolled_back else "no-new-version")


def test_a_damaged_record_is_made_anew_by_a_rollback_and_stays_beside_it(scenario: Scenario) -> None:
    scenario.record_file.write_text("{")
    assert scenario.night().reason == "record-unreadable"
    tidy(scenario.world())
    assert scenario.go_back(B).version == B
    assert scenario.record_file.with_name("canonical.json.unreadable").read_text() == "{"
    scenario.is_whole("made anew", B)


def test_a_rollback_says_that_a_damaged_record_has_nothing_beside_it(scenario: Scenario) -> None:
    shutil.rmtree(scenario.record_file.parent / "canonicals")
    scenario.record_file.write_text("{")
    with pytest.raises(RecordUnreadable) as raised:
        scenario.go_back()
    assert f"{scenario.record_file} cannot be used" in raised.value.what
    assert "no canonical is kept beside it that could be read" in raised.value.what
    assert "from a backup" in raised.value.mend
    assert "canonq rollback" not in str(raised.value)
    assert scenario.record_file.read_text() == "{"


def test_the_record_of_a_newer_canonq_is_not_written_over(scenario: Scenario) -> None:
    newer = json.dumps({**json.loads(scenario.record_file.read_text()), "schema": 3})
    scenario.record_file.write_text(newer)
    with pytest.raises(CanonqError) as raised:
        scenario.go_back(A)
    assert raised.value.code == "record-unreadable"
    assert scenario.record_file.read_text() == newer


def test_an_older_record_that_somebody_puts_back_costs_no_canonical(scenario: Scenario) -> None:
    older = scenario.record_file.read_text()
    advance(scenario)
    scenario.record_file.write_text(older)
    tidy(scenario.world())
    assert scenario.kept == [B, C]
    assert scenario.go_back(C).version == C
    scenario.is_whole("after it", C)


@pytest.mark.parametrize("lost", ["record.json is damaged", "record.json is gone"])
def test_one_kept_record_that_cannot_be_read_costs_only_that_one(lost: str, scenario: Scenario) -> None:
    scenario.keep = 3
    advance(scenario)
    world = scenario.world()
    oldest = world.registry.generations(RECIPE)[0]
    path = Path(world.registry.folder_of(oldest) or "") / "record.json"
    path.unlink() if "gone" in lost else path.write_text("{")
    tidy(scenario.world())
    assert path.parent.is_dir()
    (row,) = verify(scenario.world())
    assert (row["ok"], row["reason"], len(row["problems"])) == (False, "record-unreadable", 1)
    assert path.parent.name in row["problems"][0]
    assert advance(scenario) == D
    assert scenario.go_back(B).version == B
    scenario.is_whole("after it", B)


# -- moved and linked state folders -------------------------------------------------------------------------


def test_a_janitor_that_knows_the_state_folder_by_a_link_touches_nothing(scenario: Scenario) -> None:
    scenario.prove()

    def switched(point: str) -> bool:  # and it is not marked yet
        return "replace" in point and present(scenario) == C

    assert killed_at(scenario, switched), "it is never marked"
    (scenario.root / "link").symlink_to(scenario.state)
    scenario.moved = scenario.root / "link"
    tidy(scenario.world())
    scenario.is_whole("after it", C)
    assert scenario.kept == [B, C]


def test_a_state_folder_that_was_copied_to_another_host_has_its_canonicals(scenario: Scenario) -> None:
    new = scenario.root / "elsewhere"
    shutil.copytree(scenario.state, new, symlinks=True)
    shutil.rmtree(scenario.state)
    shutil.rmtree(scenario.root / "docker")
    scenario.moved = new
    (row,) = verify(scenario.world())
    assert all("the volume" in problem for problem in row["problems"]), row
    assert row["reason"] == "volume-gone"
    assert [scenario.go_back(to).version for to in (B, A)] == [B, A]
    scenario.is_whole("after it", A)
    assert verify(scenario.world())[0]["ok"]


def test_a_copy_beside_its_original_touches_nothing_and_with_an_id_of_its_own_has_volumes_of_its_own(scenario: Scenario) -> None:
    original = scenario.state
    theirs = scenario.world().registry.read(RECIPE)
    copy = scenario.root / "copy"
    shutil.copytree(original, copy, symlinks=True)
    scenario.moved = copy
    with pytest.raises(HostProblem, match="is a copy of"):
        scenario.world()
    (copy / "instance").write_text("0123456789abcdef")
    tidy(scenario.world())
    ours = scenario.world().registry.read(RECIPE)
    assert theirs is not None
    assert ours is not None
    assert (ours.version, bool(ours.volumes)) == (theirs.version, True)
    assert not set(ours.volumes) & set(theirs.volumes)
    scenario.moved = None
    assert verify(scenario.world())[0]["ok"]
    scenario.is_whole("the original", theirs.version)


def test_a_state_folder_of_the_first_schema_is_read_moved_and_carried_on(scenario: Scenario) -> None:
    """As canonq wrote it before: absolute paths, one rollback or null, no marks."""
    scenario.go_back()

    def older(path: Path) -> None:
        record = json.loads(path.read_text())
        for one in (record, record["previous"] or {}):
            if one.get("snapshot"):
                one["snapshot"]["path"] = f"/var/lib/before/{one['snapshot']['path']}"
        del record["remade"]
        back = record["rolled_back"]
        record |= {"schema": 1, "rolled_back": {k: v for k, v in back[-1].items() if k != "fence"} if back else None}
        path.write_text(json.dumps(record))

    older(scenario.record_file)
    for folder in (scenario.state / "warm" / RECIPE / "canonicals").iterdir():
        older(folder / "record.json")
        (folder / "in-force.json").unlink(missing_ok=True)
    lose_fence(scenario)
    tidy(scenario.world())
    assert scenario.kept == [A, B]
    record = scenario.is_whole("of the first schema", A)
    assert record is not None
    assert record.held(B, record.rolled_back[0].commit)
    assert verify(scenario.world())[0]["ok"]
    advance(scenario)
    assert (scenario.kept, goes_to(scenario)) == ([A, C], A)
    scenario.is_clean("carried on")


# -- what was done is told as done --------------------------------------------------------------------------


def away(*_: Any, **__: Any) -> Any:
    raise HostProblem("The Docker Engine does not answer.", code="docker-unreachable")


def ctrl_c(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("trouble", [away, ctrl_c])
def test_a_rollback_that_cannot_tidy_up_has_gone_back_and_says_so(
    trouble: Callable[..., Any], scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, reclaim = [], leftovers_flow.reclaim

    def second_fails(*arguments: Any) -> Any:
        calls.append(arguments)
        return reclaim(*arguments) if len(calls) == 1 else trouble()

    monkeypatch.setattr(rollback_flow, "reclaim", second_fails)
    assert scenario.go_back().version == A
    assert len(calls) == 2
    monkeypatch.undo()
    scenario.is_whole("after it", A)
    scenario.is_clean("after it")


@pytest.mark.parametrize("what", ["drop_checkout", "the folder's fsync"])
def test_a_promotion_with_a_trouble_after_the_switch_is_promoted(
    what: str, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = scenario.prove()
    real, fsync = scenario.world, os.fsync

    def failing(file: int) -> None:
        if present(scenario) == tag and Path(f"/proc/self/fd/{file}").readlink() == scenario.record_file.parent:
            raise OSError(5, "Input/output error")
        fsync(file)

    def world() -> World:
        made = real()
        monkeypatch.setattr(made.repos, "drop_checkout", lambda *_: away() if present(scenario) == tag else None)
        return made

    if what == "drop_checkout":
        scenario.world = world  # type: ignore[method-assign]
    else:
        monkeypatch.setattr(os, "fsync", failing)
    done = scenario.promote()
    monkeypatch.undo()
    scenario.world = real  # type: ignore[method-assign]
    assert (done.outcome, done.reason) == ("promoted", "new-version")
    scenario.is_whole("after it", tag)


def test_after_a_killed_promotion_a_rollback_goes_to_the_one_before_and_nobody_sees_the_dead_one(scenario: Scenario) -> None:
    scenario.prove()

    def recorded(_: str) -> bool:  # and nobody goes by it yet
        return len(scenario.world().registry.all_generations(RECIPE)) == 3

    assert killed_at(scenario, recorded), "it was never recorded"
    assert present(scenario) == B, "it was switched before"
    assert scenario.kept == [A, B]
    assert status(scenario.world(), RECIPE)["recipes"][0]["kept"] == [A, B]
    for act in (lambda: restore(scenario.world(), RECIPE, "look", to=C), lambda: scenario.go_back(to=C)):
        with pytest.raises(WrongUse) as raised:
            act()
        assert raised.value.code == "not-kept"
    assert scenario.go_back().version == A


# -- proven, and not promoted -------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [3, 0])
def test_what_is_proven_and_not_promoted_goes_on_without_another_proof_and_is_held_after_so_many_failures(
    hold: int, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.release_only(A, B, C)
    tag, real = scenario.prove(), scenario.world
    scenario.world = lambda: (lambda w: replace(w, settings=w.settings.model_copy(update={"hold_reds": hold})))(real())  # type: ignore[method-assign]
    for tried in range(3):
        decision = scenario.night()
        assert (decision.action, decision.reason, decision.version) == ("promote", "not-promoted-yet", tag), tried
        verdict = proven_by(scenario.world(), decision.model_copy(update={"sweep": f"20261128T0{tried}0000Z-abcdef"}))
        with monkeypatch.context() as broken:
            broken.setattr(FakeEngine, "deploy", away)
            for _ in range(2):  # it is tried again within a sweep: that counts once
                assert promote(scenario.world(), verdict).outcome == "failed"
    assert scenario.night().reason == ("held-promotion" if hold else "not-promoted-yet")
    assert scenario.promote().outcome == "promoted", "a person's word"
    assert scenario.night().reason == "no-new-version"


def test_after_a_moved_image_the_release_is_proven_again(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.release_only(A, B, C)
    scenario.prove()
    world = scenario.world()
    verdict = world.runs.newest(RECIPE)
    assert verdict is not None
    world.runs.record(verdict.model_copy(update={"images": {"app": "sha256:other"}}))
    assert scenario.promote().cause == "image-moved"
    assert scenario.night().action == "run"


def test_a_newer_verdict_that_cannot_be_read_lets_no_older_green_be_promoted(scenario: Scenario) -> None:
    scenario.release_only(A, B, C)
    scenario.prove()
    assert scenario.night().action == "promote"
    world = scenario.world()
    newer = world.new_id(RECIPE)
    (world.runs.make(RECIPE, newer) / "run.json").write_text('{"verdict": "red", "known to": "a newer canonq"}')
    decision = scenario.night()
    assert (decision.action, decision.version) == ("run", C), "nobody knows what the newest run said, so it is proven again"
    with pytest.raises(HostProblem, match=newer) as told:
        scenario.promote()
    assert told.value.code == "verdict-gone"
    scenario.released -= 1
    scenario.prove()
    assert scenario.promote().outcome == "promoted", "a newer verdict is there"


def test_a_new_tag_begins_anew_also_on_the_commit_of_one_that_was_red_or_proven(scenario: Scenario) -> None:
    scenario.release_only(A, B, C, D)  # all on one commit
    assert scenario.prove() == C
    world = scenario.world()
    green = world.runs.newest(RECIPE)
    assert green is not None
    assert scenario.night().action == "run", "what was proven is another release"
    for _ in range(3):
        run = world.new_id(RECIPE)
        world.runs.make(RECIPE, run)
        world.runs.record(green.model_copy(update={"run": run, "verdict": "red"}))
    assert scenario.night().reason == "new-version", "three reds of another tag hold nothing"
    for _ in range(3):
        run = world.new_id(RECIPE)
        world.runs.make(RECIPE, run)
        world.runs.record(green.model_copy(update={"run": run, "verdict": "red", "version": D}))
    assert scenario.night().reason == "held-red"


# -- records of older servers -------------------------------------------------------------------------------


def test_the_record_of_an_older_server_has_empty_volumes_in_words_and_in_data(redis_url: str, tmp_path: Path) -> None:
    scenario = Scenario(tmp_path, redis_url).prepare()
    scenario.record_file.parent.mkdir(parents=True)
    record = {"recipe": RECIPE, "version": A, "commit": "c" * 40, "status": "idle", "ts": "20260617T050314Z"}
    scenario.record_file.write_text(json.dumps({**record, "owner": "ada"}))
    scenario.release_only(A, B)
    scenario.released = 1
    decision = scenario.night()
    assert (decision.action, decision.base) == ("run", A)
    assert any(note.startswith("record-commit-differs: ") for note in decision.notes)
    (row,) = verify(scenario.world())
    assert (row["state"], "empty volumes" in str(row["problems"]), row["reason"]) == ("empty", True, "no-data-kept")
    (told,) = doctor._canonicals(scenario.world())
    assert (told.state, told.detail) == (
        "ok",
        "1 on record, 1 of them an older server's, without data; `canonq verify` reads the others",
    )
    scenario.prove()
    done = scenario.promote()
    assert (done.outcome, done.data) == ("promoted", "empty volumes")
    assert "empty volumes" in done.detail
    now = scenario.canonical()
    assert now is not None
    lived = [(scenario.world().engine.volume_path(name) or tmp_path) / LINEAGE for name in now.volumes]
    assert [path.read_text().split() for path in lived] == [[B], [B]]
    assert (now.model_extra or {})["owner"] == "ada"
    assert goes_to(scenario) == "not-kept"


def test_a_promotion_that_promotes_tells_what_its_data_is(scenario: Scenario) -> None:
    scenario.prove()
    assert scenario.promote().data == f"carried from {B}"
    record = scenario.canonical()
    assert record is not None
    assert record.snapshot is not None
    assert problem_of(record.snapshot) is None


def test_who_is_in_the_way_is_told_in_words(scenario: Scenario) -> None:
    with scenario.world().locks.hold(RECIPE, "promote 1.1.0+1"), pytest.raises(Busy) as told:
        scenario.go_back()
    who = rf"{RECIPE} is held by promote 1\.1\.0\+1, for \d+ \w+ by now \(process {os.getpid()}\)\."
    assert re.fullmatch(who, told.value.what), told.value.what
