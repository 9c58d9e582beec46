"""The table of docs/rules.md 2, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from canonq.core.bases import upgrade_base
from canonq.core.budget import Disk
from canonq.core.decide import Facts, asks_runs, decide
from canonq.core.enrolment import Enrolment, Upgrade
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.records import Canonical, RolledBack, Verdict
from canonq.core.versions import read_tags

OLD, NEW = "a" * 40, "b" * 40
ROOM = Disk(free=100, floor=10, need=20)
TAGS = {"1.0.0+1.0": OLD, "1.1.0+1.1": NEW}


def canonical(version: str = "1.0.0+1.0", commit: str = OLD) -> Canonical:
    return Canonical.model_validate(
        {"recipe": "site", "version": version, "commit": commit, "status": "idle", "ts": "20260617T050314Z"}
    )


def facts(**changes: object) -> Facts:
    plain = Facts(enrolment=Enrolment(recipe="site", upstream="/x"), tags=TAGS, canonical=None, disk=ROOM)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_recipe_that_lost_all_its_releases_is_told_from_one_that_never_had_any() -> None:
    decision = decide(facts(tags={}, seen={"1.0.0+1": OLD, "v3": OLD}))
    assert (decision.action, decision.reason) == ("skip", "releases-gone")
    assert "newest 1.0.0+1" in decision.detail
    assert decide(facts(tags={}, seen={"v3": OLD})).reason == "never-released"


def test_no_tag_that_parses_is_never_released() -> None:
    decision = decide(facts(tags={"v2.4.8": OLD}))
    assert (decision.action, decision.reason) == ("skip", "never-released")
    assert "v2.4.8" in decision.detail


def test_a_release_that_is_the_canonical_is_no_new_version() -> None:
    decision = decide(facts(canonical=canonical("1.1.0+1.1", NEW)))
    assert (decision.action, decision.reason) == ("skip", "no-new-version")


def test_a_canonical_newer_than_every_release_is_never_lowered() -> None:
    tags = {**TAGS, "2.0.0-rc1+1.0": OLD}  # promoted when pre-releases were asked for
    assert decide(facts(tags=tags, canonical=canonical("2.0.0-rc1+1.0"))).reason == "no-new-version"


def test_two_tags_of_equal_version_are_decided_by_name_and_told() -> None:
    for tags in ({"1.0.0+2.0": OLD, "1.0.0+v2.0": NEW}, {"1.0.0+v2.0": NEW, "1.0.0+2.0": OLD}):
        decision = decide(facts(tags=tags))
        assert decision.version == "1.0.0+v2.0"
        assert any("are the same version" in note for note in decision.notes)


@pytest.mark.parametrize("tags", [{"1.0.0+1.0": OLD}, {}])
def test_a_canonical_whose_tag_is_gone_is_yanked_unless_something_newer_is_released(tags: dict[str, str]) -> None:
    decision = decide(facts(tags=tags, canonical=canonical("1.1.0+1.1", NEW)))
    assert (decision.action, decision.reason) == ("skip", "yanked")
    assert "rollback" in decision.detail
    newer = decide(facts(tags={**tags, "1.2.0+1.2": NEW}, canonical=canonical("1.1.0+1.1", NEW)))
    assert (newer.action, newer.base) == ("run", "1.1.0+1.1")


def test_a_newer_release_runs_from_the_canonical() -> None:
    decision = decide(facts(canonical=canonical()))
    assert (decision.action, decision.reason, decision.version, decision.commit) == ("run", "new-version", "1.1.0+1.1", NEW)
    assert (decision.base, decision.base_commit, decision.base_from) == ("1.0.0+1.0", OLD, "canonical")


def test_without_a_canonical_the_base_is_the_newest_older_release() -> None:
    decision = decide(facts())
    assert (decision.action, decision.reason, decision.base, decision.base_from) == ("run", "seed", "1.0.0+1.0", "older-release")


def test_the_first_release_has_no_base() -> None:
    decision = decide(facts(tags={"1.0.0+1.0": OLD}))
    assert (decision.action, decision.base, decision.base_from) == ("run", None, "none")


def test_a_moved_tag_of_the_canonical_is_an_error_before_all_else() -> None:
    decision = decide(facts(canonical=canonical(commit="c" * 40), seen={"1.0.0+1.0": "c" * 40}, disk=Disk(0, 10, 10)))
    assert (decision.action, decision.reason) == ("error", "tag-moved")


def test_a_promotions_own_record_was_seen_to_be_its_tags_also_where_what_was_seen_is_lost() -> None:
    promoted = canonical(commit="c" * 40).model_copy(update={"run": "20260617T050314Z-site-aaaaaa"})
    assert decide(facts(canonical=promoted)).reason == "tag-moved"
    assert decide(facts(canonical=promoted, seen=TAGS)).reason == "new-version", "a person has accepted the move"


def test_the_newest_release_that_moved_since_it_was_fetched_first_is_an_error() -> None:
    assert decide(facts(seen={"1.1.0+1.1": "c" * 40})).reason == "tag-moved"


@pytest.mark.parametrize(("tags", "reason"), [(TAGS, "new-version"), ({"1.0.0+1.0": OLD}, "no-new-version")])
def test_a_record_of_an_older_server_whose_commit_was_never_its_tags_is_told_and_stops_nothing(
    tags: dict[str, str], reason: str
) -> None:
    decision = decide(facts(tags=tags, seen=tags, canonical=canonical(commit="c" * 40)))
    assert decision.reason == reason
    assert any(note.startswith("record-commit-differs: ") for note in decision.notes)
    assert decision.base_commit in (None, OLD), "what its tag names can be had, what the record names may not"


def test_a_record_that_is_missing_is_an_error_with_the_way_back_and_never_a_seed() -> None:
    decision = decide(facts(lost="it is gone; canonq rollback ..."))
    assert (decision.action, decision.reason, decision.detail) == ("error", "record-missing", "it is gone; canonq rollback ...")


def left(version: str, commit: str) -> RolledBack:
    return RolledBack(by="ada", at="20260617T050314Z", reason="it lost mail", version=version, commit=commit, fence=4)


@pytest.mark.parametrize(("named", "reason"), [(False, "held-rollback"), (True, "new-version")])
def test_each_of_several_that_were_rolled_back_is_held_until_a_person_names_the_recipe(named: bool, reason: str) -> None:
    for order in ([left("1.1.0+1.1", NEW), left("0.9.0+1", OLD)], [left("0.9.0+1", OLD), left("1.1.0+1.1", NEW)]):
        record = canonical().model_copy(update={"rolled_back": order})
        assert decide(facts(canonical=record, named=named)).reason == reason
    assert decide(facts(canonical=canonical().model_copy(update={"rolled_back": [left("1.1.0+1.1", OLD)]}))).action == "run"


def proof(**changes: object) -> Verdict:
    plain = {
        "recipe": "site", "run": "20260617T050314Z-site-aaaaaa", "verdict": "green", "reason": "proven", "detail": "",
        "version": "1.1.0+1.1", "commit": NEW, "base": "1.0.0+1.0", "base_commit": OLD, "base_from": "canonical", "fence": 0,
        "enrolment": "", "tiers": {tier: {"status": "pass"} for tier in PROVEN_TIERS}, "ts": "20260617T050314Z",
    }  # fmt: skip
    return Verdict.model_validate({**plain, **changes})


def test_what_is_proven_and_not_promoted_goes_on_to_that_without_another_proof() -> None:
    decision = decide(facts(canonical=canonical(), proven=proof()))
    assert (decision.action, decision.reason, decision.run) == ("promote", "not-promoted-yet", proof().run)
    assert (decision.version, decision.commit, decision.base) == ("1.1.0+1.1", NEW, "1.0.0+1.0")


@pytest.mark.parametrize(
    "changes", [{"quick": True}, {"ref": "main"}, {"base": "0.9.0+1"}, {"tiers": {}}, {"verdict": "red"}, {"commit": OLD}]
)
def test_what_the_gate_would_refuse_is_proven_again(changes: dict[str, object]) -> None:
    assert decide(facts(canonical=canonical(), proven=proof(**changes))).action == "run"


@pytest.mark.parametrize(
    ("failures", "hold", "named", "reason"),
    [
        (2, 3, False, "not-promoted-yet"),
        (3, 3, False, "held-promotion"),
        (3, 3, True, "not-promoted-yet"),
        (9, 0, False, "not-promoted-yet"),
    ],
)
def test_a_promotion_that_keeps_failing_is_held(failures: int, hold: int, named: bool, reason: str) -> None:
    decision = decide(facts(canonical=canonical(), proven=proof(), failures=failures, hold_reds=hold, named=named))
    assert decision.reason == reason


def test_a_promotion_of_what_is_proven_waits_for_room_too() -> None:
    assert decide(facts(canonical=canonical(), proven=proof(), disk=Disk(0, 10, 10))).action == "defer"


def pinned_at(base: str, why: str | None = None) -> Enrolment:
    return Enrolment(recipe="site", upstream="/x", upgrade=Upgrade(base=base, why=why))


@pytest.mark.parametrize("base", ["1.1.0+1.1", "9.9.9+1"])
def test_a_pin_that_is_not_older_than_the_release_is_passed_over_with_a_note(base: str) -> None:
    for record, source in ((None, "older-release"), (canonical(), "canonical")):
        decision = decide(facts(enrolment=pinned_at(base), canonical=record))
        assert (decision.action, decision.base, decision.base_from) == ("run", "1.0.0+1.0", source)
        assert any(note.startswith("pin-passed-over: ") and base in note for note in decision.notes)


@pytest.mark.parametrize("base", ["1.0.0+1.0", "0.9.0+1.0"])
def test_a_pin_that_the_canonical_has_reached_is_told_as_stale_with_its_reason(base: str) -> None:
    tags = {**TAGS, "0.9.0+1.0": OLD}
    decision = decide(facts(tags=tags, enrolment=pinned_at(base, "two steps"), canonical=canonical()))
    (told,) = [note for note in decision.notes if note.startswith("stale-pin: ")]
    assert base in told
    assert "two steps" in told
    assert (decision.base, decision.base_from) == (base, "canonical" if base == "1.0.0+1.0" else "pinned")
    assert not [note for note in decide(facts(tags=tags, enrolment=pinned_at(base))).notes if "stale" in note]


def test_an_unreadable_record_is_an_error_whatever_the_tags_say() -> None:
    decision = decide(facts(record_problem="half written", tags={}))
    assert (decision.action, decision.reason, decision.detail) == ("error", "record-unreadable", "half written")


@pytest.mark.parametrize(("free", "action"), [(29, "defer"), (30, "run"), (31, "run")])
def test_work_is_deferred_exactly_when_the_disk_is_below_the_budget(free: int, action: str) -> None:
    assert decide(facts(disk=Disk(free=free, floor=10, need=20))).action == action


def test_nothing_to_do_is_not_deferred_for_a_full_disk() -> None:
    assert decide(facts(canonical=canonical("1.1.0+1.1", NEW), disk=Disk(0, 10, 10))).reason == "no-new-version"


@pytest.mark.parametrize(
    ("reds", "hold", "named", "reason"),
    [
        (2, 3, False, "seed"),
        (3, 3, False, "held-red"),
        (9, 3, False, "held-red"),
        (3, 3, True, "seed"),
        (9, 0, False, "seed"),
        (1, 1, False, "held-red"),
    ],
)
def test_a_red_is_held_after_so_many_tries_unless_named_or_never(reds: int, hold: int, named: bool, reason: str) -> None:
    """Known failure 16."""
    assert decide(facts(reds=reds, hold_reds=hold, named=named)).reason == reason


@pytest.mark.parametrize("base", ["0.1.2+1", "v1"])
def test_a_pinned_base_that_is_no_release_is_an_error_that_names_it(base: str) -> None:
    decision = decide(facts(enrolment=pinned_at(base)))
    assert (decision.action, decision.reason) == ("error", "base-unusable")
    assert base in decision.detail


def test_the_base_is_pinned_then_canonical_then_stepped_back_then_none() -> None:
    """Known failures 18 to 20: base == head made the upgrade vacuous."""
    releases, _ = read_tags(TAGS)
    assert upgrade_base("1.0.0+1.0", canonical("1.0.5+1.0"), releases, "1.1.0+1.1").source == "pinned"
    assert upgrade_base("1.0.0+1.0", canonical(), releases, "1.1.0+1.1").source == "canonical", "with its data"
    assert upgrade_base(None, canonical(), releases, "1.1.0+1.1").source == "canonical"
    stepped = upgrade_base(None, canonical("1.1.0+1.1", NEW), releases, "1.1.0+1.1")
    assert (stepped.source, stepped.version) == ("older-release", "1.0.0+1.0")
    assert upgrade_base(None, canonical("1.1.0+1.1", NEW), releases, "1.0.0+1.0").source == "none"


def test_the_canonical_is_the_base_even_when_its_release_is_not_the_newest_older_one() -> None:
    tags = {**TAGS, "1.0.5+1.0": "c" * 40}
    assert decide(facts(tags=tags, canonical=canonical())).base == "1.0.0+1.0"


@pytest.mark.parametrize(
    ("asks", "changes"),
    [
        (True, {}),
        (True, {"canonical": canonical()}),
        (True, {"named": True, "young": "it is young"}),
        (False, {"canonical": canonical("1.1.0+1.1", NEW)}),
        (False, {"tags": {"v2.4.8": OLD}}),
        (False, {"tags": {}, "canonical": canonical()}),
        (False, {"lost": "it is gone"}),
        (False, {"record_problem": "half written"}),
        (False, {"seen": {"1.1.0+1.1": OLD}}),
        (False, {"canonical": canonical().model_copy(update={"rolled_back": [left("1.1.0+1.1", NEW)]})}),
    ],
)
def test_earlier_runs_are_asked_exactly_where_they_have_a_say(asks: bool, changes: dict[str, object]) -> None:
    found = facts(**changes)
    assert asks_runs(found) is asks
    said = [{"proven": proof(base=None, base_from="none")}, {"reds": 9}, {"proven": proof(), "failures": 9}]
    assert asks or all(decide(replace(found, **one)) == decide(found) for one in said)  # type: ignore[arg-type]


def test_every_decision_says_why_and_notes_the_tags_it_refused() -> None:
    decision = decide(facts(tags={**TAGS, "v2.4.8": OLD}))
    assert decision.detail
    assert any("v2.4.8" in note for note in decision.notes)
