"""What depends on a recipe that is to be promoted."""

from __future__ import annotations

import pytest

from canonq.core.consumers import Tried, Word, consumers_of, noted, refusal
from canonq.core.enrolment import parse_enrolment


def enrolled(name: str, *deps: str) -> object:
    return parse_enrolment(name, f'upstream = "/x"\ndeps = {list(deps)!r}\n'.replace("'", '"'), where="recipe.toml")


def tried(word: Word) -> Tried:
    return Tried(consumer="wiki", word=word, version="1.0.0+1", commit="a" * 40, enrolment="x", detail="why")


def test_consumers_are_those_whose_deps_name_it() -> None:
    found = {
        name: enrolled(name, *deps) for name, deps in {"wiki": ["sso", "db"], "sso": [], "chat": ["sso"], "db": ["wiki"]}.items()
    }
    assert consumers_of("sso", found) == ["chat", "wiki"]  # type: ignore[arg-type]
    assert consumers_of("chat", found) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["passed", "fails-anyway", "not-tried"])
def test_only_what_the_candidate_alone_breaks_stops_it(word: Word) -> None:
    assert refusal("sso", "2.0.0+1", [tried(word)], approved=False) is None
    assert len(noted([tried(word)])) == (word != "passed")


def test_a_broken_consumer_stops_it_unless_a_person_approves() -> None:
    found = refusal("sso", "2.0.0+1", [tried("passed"), tried("broken")], approved=False)
    assert found is not None
    assert found.code == "consumer-broken"
    assert "wiki 1.0.0+1: why" in found.why
    assert refusal("sso", "2.0.0+1", [tried("broken")], approved=True) is None
    assert noted([tried("broken")]) == ("consumer-broken: wiki fails with the candidate, which a person has approved: why",)


def test_what_was_found_counts_until_the_consumer_changes() -> None:
    assert tried("broken").is_about("1.0.0+1", "a" * 40, "x")
    assert not tried("broken").is_about("1.0.0+1", "a" * 40, "y")
