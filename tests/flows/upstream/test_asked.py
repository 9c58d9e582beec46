"""A release that a person asks for: the one of that tag, or the newest; else it is told what there is."""

from __future__ import annotations

import pytest

from canonq.core.enrolment import Enrolment
from canonq.core.errors import WrongUse
from canonq.flows.upstream.asked import release_asked

SITE = Enrolment(recipe="site", upstream="/nowhere")
COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("tags", "asked", "code", "told"),
    [
        ([], None, "never-released", "site has no release to test. The recipe has no tags."),
        (["v2.4.8"], None, "never-released", "site has no release to test. None of 1 tags is a release: v2.4.8: "),
        (["1.0.0+1"], "1.0.0+2", "not-a-release", "'1.0.0+2' is not a release of site: there is no such tag"),
        (["v2.4.8"], "v2.4.8", "not-a-release", "'v2.4.8' is not a release of site: the recipe part 'v2.4.8' is not N.N.N"),
        ([], "a b", "bad-ref-name", "'a b' is not a ref name"),
    ],
)
def test_what_is_no_release_is_told_with_the_reason(tags: list[str], asked: str | None, code: str, told: str) -> None:
    with pytest.raises(WrongUse) as error:
        release_asked(SITE, dict.fromkeys(tags, COMMIT), asked)
    assert error.value.code == code
    assert error.value.what.startswith(told)


def test_the_newest_is_meant_where_none_is_named() -> None:
    assert release_asked(SITE, dict.fromkeys(["1.0.0+1", "1.10.0+1", "1.9.0+9"], COMMIT), None).tag == "1.10.0+1"
