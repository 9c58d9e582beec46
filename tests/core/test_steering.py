"""What people say about releases, and what a release asks a person to say first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canonq.core.decide import decide
from canonq.core.enrolment import parse_enrolment
from canonq.core.errors import EnrolmentInvalid
from canonq.core.gate import Refusal, gate
from canonq.core.steering import Word, blocked, is_said, needs_approval, noted_between, too_young
from canonq.core.versions import read_tags
from tests.core.test_decide import NEW, OLD, TAGS, canonical, facts
from tests.core.test_gate import verdict

NOW, LATER = "20260617T030000Z", "20260620T030000Z"


def word(what: str, **more: Any) -> Word:
    plain = {"what": what, "version": "1.1.0+1.1", "commit": NEW, "by": "sam", "at": NOW, "reason": "because"}
    return Word.model_validate({**plain, **more})


def test_a_block_holds_until_it_is_taken_back_or_its_time_is_over() -> None:
    assert blocked((), "1.1.0+1.1", NOW) is None
    refusal = blocked((word("block"),), "1.1.0+1.1", NOW)
    assert refusal is not None
    assert "sam blocked 1.1.0+1.1" in refusal.why
    assert blocked((word("block"),), "1.2.0+1.1", NOW) is None
    assert blocked((word("block"), word("unblock")), "1.1.0+1.1", NOW) is None
    assert blocked((word("block"), word("unblock"), word("block")), "1.1.0+1.1", NOW) is not None
    assert blocked((word("block", until=LATER),), "1.1.0+1.1", NOW) is not None
    assert blocked((word("block", until=LATER),), "1.1.0+1.1", LATER) is None
    assert blocked((word("block", commit=OLD),), "1.1.0+1.1", NOW) is not None, "a tag that moves slips no block"


def test_an_approval_is_for_that_commit_only() -> None:
    said = (word("approve"),)
    assert is_said(said, "approve", "1.1.0+1.1", NEW, NOW)
    assert not is_said(said, "approve", "1.1.0+1.1", OLD, NOW)
    assert not is_said(said, "hurry", "1.1.0+1.1", NEW, NOW)
    assert not is_said((word("approve", until=LATER),), "approve", "1.1.0+1.1", NEW, LATER)


@pytest.mark.parametrize(
    ("was", "version", "before", "after", "notes", "told"),
    [
        ("1.9.0+1.0", "2.0.0+1.0", {}, {}, {}, "major version goes from 1 to 2"),
        ("1.0.0+1.0", "1.1.0+2.0", {}, {}, {}, None),
        ("1.0.0+1", "1.1.0+1", {"db": "postgres:15.3-a"}, {"db": "postgres:16-a"}, {}, "db goes from postgres 15 to 16"),
        ("1.0.0+1", "1.1.0+1", {"db": "mysql:8"}, {"db": "mariadb:11"}, {}, "db goes from mysql to mariadb"),
        ("1.0.0+1", "1.1.0+1", {"db": "postgres:15.3"}, {"db": "docker.io/library/postgres:15.9@sha256:ab"}, {}, None),
        ("1.0.0+1", "1.1.0+1", {"db": "mariadb:10.11"}, {"db": "mariadb:11.4"}, {}, "from mariadb 10 to 11"),
        ("1.0.0+1", "1.1.0+1", {"db": "pgvector/pgvector:pg15"}, {"db": "pgvector/pgvector:pg16"}, {}, "from postgres 15 to 16"),
        ("1.0.0+1", "1.1.0+1", {"app": "nginx:1.27"}, {"app": "nginx:2.0"}, {}, None),
        ("1.0.0+1", "1.1.0+1", {"db": "postgres:${VERSION}"}, {"db": "postgres:latest"}, {}, None),
        ("1.0.0+1", "1.1.0+1", {}, {}, {"1.1.0+1": "Run\nthe migration \x1b[2J by hand."}, "notes: Run the migration"),
        ("1.0.0+1", "1.1.0+1", {}, {}, {"1.1.0+1": "The server is now 1.31.1; nothing to do."}, None),
        ("1.9.0+1", "2.0.0+1", {}, {}, {"2.0.0+1": "The server is now 2."}, "notes: The server is now 2"),
        ("1.0.0+1", "1.1.0+1", {}, {}, {"1.1.0+1": "You need to add SECRET_X before upgrading."}, "notes: You need to"),
        ("odd", "1.1.0+1", {}, {}, {}, None),
    ],
)  # fmt: skip
def test_a_new_major_a_databases_too_and_release_notes_that_ask_for_something_ask_for_a_person(
    was: str, version: str, before: dict[str, str], after: dict[str, str], notes: dict[str, str], told: str | None
) -> None:
    refusal = needs_approval("site", was, version, (before, after), notes)
    if told is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert told in refusal.why
        assert f"canonq approve site '{version}'" in refusal.why
        assert "\x1b" not in refusal.why


def test_notes_are_those_of_all_releases_in_between() -> None:
    releases, _ = read_tags({f"1.{at}.0+1": f"{at}" * 40 for at in range(5)})
    assert [one.tag for one in noted_between(releases, "1.1.0+1", "1.3.0+1")] == ["1.2.0+1", "1.3.0+1"]


ASKS = Refusal("needs-approval", "it is a new major")
BLOCKED = Refusal("blocked", "sam blocked it")


def test_decide_leaves_what_is_blocked_and_proves_what_is_to_be_approved() -> None:
    base = facts(canonical=canonical())
    assert (decide(replace(base, hindrance=BLOCKED)).action, decide(replace(base, hindrance=BLOCKED)).reason) == (
        "skip",
        "blocked",
    )
    assert decide(replace(base, hindrance=BLOCKED, named=True)).reason == "blocked", "naming it takes nothing back"
    assert decide(replace(base, hindrance=ASKS)).action == "run", "it is held after it was proven, not before"


def test_what_is_proven_and_asks_for_a_person_is_held_without_another_proof() -> None:
    proven = replace(facts(canonical=canonical()), proven=verdict(fence=0), hindrance=ASKS)
    found = decide(proven)
    assert (found.action, found.reason, found.run) == ("skip", "needs-approval", verdict().run)
    assert decide(replace(proven, hindrance=None)).action == "promote"


def test_the_gate_names_it() -> None:
    asked: dict[str, Any] = {"enrolled": True, "verdict": verdict(), "tags": TAGS, "canonical": canonical()}
    assert [one.code for one in gate(**asked, hindrance=ASKS)] == ["needs-approval"]
    assert gate(**asked, hindrance=None) == ()


def test_a_release_is_to_be_as_old_as_the_recipe_says_unless_somebody_hurries_it() -> None:
    told = too_young("1.1.0+1.1", 3600.0, 36 * 3600.0, False)
    assert told is not None
    assert "in 35 h" in told
    assert too_young("1.1.0+1.1", 36 * 3600.0, 36 * 3600.0, False) is None
    assert too_young("1.1.0+1.1", 0.0, 36 * 3600.0, True) is None
    found = decide(facts(canonical=canonical(), young=told))
    assert (found.action, found.reason) == ("skip", "too-young")
    assert decide(facts(canonical=canonical(), young=told, proven=verdict(fence=0))).action == "promote", (
        "what is proven is old enough"
    )


@pytest.mark.parametrize(("text", "seconds"), [('"36h"', 129600.0), ('"3d"', 259200.0)])
def test_min_age_is_a_length_of_time(text: str, seconds: float) -> None:
    assert parse_enrolment("site", f'upstream = "/x"\nmin_age = {text}\n', where="recipe.toml").min_age == seconds


@pytest.mark.parametrize("text", ["3", '"soon"', '"9999d"', "true"])
def test_a_min_age_that_is_none_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(EnrolmentInvalid, match="line 2, min_age"):
        parse_enrolment("site", f'upstream = "/x"\nmin_age = {text}\n', where="recipe.toml")
