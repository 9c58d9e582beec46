"""Messages are not believed: a decision's commits are those of the clone's tags, a verdict is what the run has left."""

from __future__ import annotations

from typing import Any

import pytest
from git.repo import Repo

from canonq.core.errors import CanonqError
from canonq.core.records import Decision
from canonq.flows import test as proving
from canonq.flows.decide import decide_recipe
from canonq.flows.run import Target
from canonq.flows.test import test_decided as prove_decided
from tests.flows.conftest import FILES, FIRST, Place
from tests.support import release

NEXT = "1.1.0+1.0"


@pytest.fixture
def repo(place: Place) -> Repo:
    """A recipe with two releases, a canonical of the first one, and a commit that is no release."""
    repo = place.recipe()
    release(repo, NEXT, FILES)
    repo.git.commit("--allow-empty", "--message", "no release")
    place.sync()
    place.promote("site", FIRST, repo.commit(FIRST).hexsha)
    return repo


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    """What would be brought up."""
    targets: list[Target] = []
    monkeypatch.setattr(proving, "prove", lambda world, enrolment, target, order: targets.append(target))
    return targets


def test_what_was_decided_is_proven_as_it_was_decided(place: Place, repo: Repo, proven: list[Target]) -> None:
    prove_decided(place.world, decide_recipe(place.world, "site"))
    (target,) = proven
    assert (target.version, target.commit, target.base.version) == (NEXT, repo.commit(NEXT).hexsha, FIRST)
    assert target.fence == 0, "the record's"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"commit": "HEAD"}, f"names '{NEXT}' of site at"),
        ({"version": "9.9.9+9"}, "names '9.9.9+9' of site"),
        ({"version": "main"}, "names 'main' of site"),
        ({"version": FIRST}, f"names '{FIRST}' of site"),
        ({"base_commit": "HEAD"}, f"names '{FIRST}' of site at"),
        ({"base": "0.1.0+1", "base_commit": "HEAD"}, "names '0.1.0+1' of site"),
        ({"base": None, "base_commit": "HEAD"}, "names 'no version' of site"),
        ({"base_commit": None}, "at no commit"),
    ],
)
def test_a_decision_that_the_clone_does_not_bear_out_is_refused(
    place: Place, repo: Repo, proven: list[Target], change: dict[str, Any], says: str
) -> None:
    forged = decide_recipe(place.world, "site").model_copy(
        update={key: repo.head.commit.hexsha if value == "HEAD" else value for key, value in change.items()}
    )
    with pytest.raises(CanonqError) as refused:
        prove_decided(place.world, forged)
    assert says in str(refused.value)
    assert refused.value.code == "not-a-release"
    assert proven == []


def test_a_tag_that_was_seen_at_another_commit_is_refused_though_the_clone_has_it(
    place: Place, repo: Repo, proven: list[Target]
) -> None:
    decision = decide_recipe(place.world, "site")
    head = repo.head.commit.hexsha
    Repo(place.world.repos.clone("site")).git.tag("--force", NEXT, head)  # type: ignore[attr-defined]
    with pytest.raises(CanonqError, match="no release in the clone"):
        prove_decided(place.world, decision.model_copy(update={"commit": head}))
    assert proven == []


def test_a_decision_cannot_say_that_it_was_made_later_than_it_can_have_been(
    place: Place, repo: Repo, proven: list[Target]
) -> None:
    """By its fence a rollback holds what was decided before it."""
    forged: Decision = decide_recipe(place.world, "site").model_copy(update={"fence": 10**9})
    prove_decided(place.world, forged)
    assert proven[0].fence == 0, "the record's"
