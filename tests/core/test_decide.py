"""The table of SPEC section 2, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from canonq.core.budget import Disk
from canonq.core.decide import Facts, decide, upgrade_base
from canonq.core.enrolment import Enrolment, Upgrade
from canonq.core.records import Canonical
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
    decision = decide(facts(canonical=canonical(commit="c" * 40), disk=Disk(0, 10, 10)))
    assert (decision.action, decision.reason) == ("error", "tag-moved")


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


def test_a_pinned_base_that_is_no_older_release_is_an_error_that_names_it() -> None:
    pinned = Enrolment(recipe="site", upstream="/x", upgrade=Upgrade(base="9.9.9+1"))
    decision = decide(facts(enrolment=pinned))
    assert (decision.action, decision.reason) == ("error", "base-unusable")
    assert "9.9.9+1" in decision.detail


def test_the_base_is_pinned_then_canonical_then_stepped_back_then_none() -> None:
    """Known failures 18 to 20: base == head made the upgrade vacuous."""
    releases, _ = read_tags(TAGS)
    assert upgrade_base("1.0.0+1.0", canonical(), releases, "1.1.0+1.1").source == "pinned"
    assert upgrade_base(None, canonical(), releases, "1.1.0+1.1").source == "canonical"
    stepped = upgrade_base(None, canonical("1.1.0+1.1", NEW), releases, "1.1.0+1.1")
    assert (stepped.source, stepped.version) == ("older-release", "1.0.0+1.0")
    assert upgrade_base(None, canonical("1.1.0+1.1", NEW), releases, "1.0.0+1.0").source == "none"


def test_the_canonical_is_the_base_even_when_its_release_is_not_the_newest_older_one() -> None:
    tags = {**TAGS, "1.0.5+1.0": "c" * 40}
    assert decide(facts(tags=tags, canonical=canonical())).base == "1.0.0+1.0"


def test_every_decision_says_why_and_notes_the_tags_it_refused() -> None:
    decision = decide(facts(tags={**TAGS, "v2.4.8": OLD}))
    assert decision.detail
    assert any("v2.4.8" in note for note in decision.notes)
