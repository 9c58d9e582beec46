"""A base that does not come up: from where a run begins instead, and what is told when nothing is left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from canonq.core.bases import MOST_STEPS, Broken, Moved, after_broken, nothing_to_begin_from
from canonq.core.errors import ExitStatus, Fault
from canonq.core.records import BaseFrom, Canonical
from canonq.core.versions import read_tags

RELEASES, _ = read_tags({f"1.{number}.0+1": f"{number}" * 40 for number in range(1, 8)})
MOVED = Moved("app", "registry.example/site:1", "sha256:aaaa", "sha256:bbbb")


def broken(*versions: str, certain: bool = False) -> tuple[Broken, ...]:
    return tuple(Broken(version, f"'app' of {version} exits.", "crash-loop", certain, "app") for version in versions)


def record(images: dict[str, str]) -> Canonical:
    return Canonical(recipe="site", version="1.6.0+1", commit="6" * 40, status="canonical", ts="20260101T000000Z", images=images)


@pytest.mark.parametrize(
    ("source", "tried", "declared", "begins"),
    [
        ("older-release", ["1.6.0+1"], None, "1.5.0+1"),
        ("older-release", ["1.6.0+1", "1.5.0+1"], None, "1.4.0+1"),
        ("older-release", ["1.6.0+1", "1.5.0+1", "1.4.0+1"], None, "1.3.0+1"),
        ("older-release", ["1.6.0+1", "1.5.0+1", "1.4.0+1", "1.3.0+1"], None, "error"),
        ("older-release", ["1.6.0+1", "1.5.0+1", "1.4.0+1", "1.3.0+1"], "it is stateless", "the release itself"),
        ("older-release", ["1.1.0+1"], None, "error"),
        ("older-release", ["1.1.0+1"], "it is stateless", "the release itself"),
        ("canonical", ["1.6.0+1"], None, "error"),
        ("canonical", ["1.6.0+1"], "it is stateless", "error"),
        ("pinned", ["1.6.0+1"], None, "error"),
        ("pinned", ["1.6.0+1"], "it is stateless", "error"),
    ],
)
def test_only_from_older_releases_is_stepped_back_and_three_times_at_most(
    source: BaseFrom, tried: Sequence[str], declared: str | None, begins: str
) -> None:
    found = after_broken(source, broken(*tried), RELEASES, declared)
    if begins == "error":
        assert found is None
        return
    assert found is not None
    assert all(version in found.why for version in tried), "whoever reads it is told which were passed over"
    if begins == "the release itself":
        assert (found.version, found.commit, found.source) == (None, None, "none")
    else:
        assert (found.version, found.source) == (begins, "older-release")
        assert found.commit == {release.tag: release.commit for release in RELEASES}[begins]
    assert len(tried) <= MOST_STEPS + 1


@pytest.mark.parametrize(
    ("source", "images", "moved", "certain", "fault", "status", "said"),
    [
        ("canonical", {"app": "sha256:aaaa"}, [MOVED], False, Fault.RECIPE, ExitStatus.ATTENTION,
         "images moved: app: registry.example/site:1 was sha256:aaaa and is sha256:bbbb"),
        ("canonical", {"app": "sha256:aaaa"}, [], True, Fault.RECIPE, ExitStatus.ATTENTION, "does not come up any more"),
        ("canonical", {"app": "sha256:aaaa"}, [], False, Fault.HOST, ExitStatus.MACHINERY,
         "Its images are those that were proven"),
        ("canonical", {}, [], False, Fault.HOST, ExitStatus.MACHINERY, "Its record does not say which images were proven"),
        ("older-release", {}, [], False, Fault.RECIPE, ExitStatus.ATTENTION, "say why under [expected_na] upgrade"),
        ("pinned", {}, [], False, Fault.USER, ExitStatus.WRONG_USE, "which recipe.toml pins, does not come up"),
    ],
)  # fmt: skip
def test_what_does_not_come_up_is_told_with_whose_fault_it_is_and_the_ways_out(
    source: BaseFrom, images: dict[str, str], moved: list[Moved], certain: bool, fault: Fault, status: ExitStatus, said: str
) -> None:
    tried = broken("1.6.0+1", "1.5.0+1", certain=certain) if source == "older-release" else broken("1.6.0+1", certain=certain)
    told = nothing_to_begin_from("site", source, tried, record(images) if source == "canonical" else None, moved)
    assert (told.code, told.fault, told.exit_status) == ("base-not-healthy", fault, status)
    assert said in str(told)
    assert "[upgrade] base" in told.mend
    assert all(one.version in str(told) and "exits." in str(told) for one in tried)
    assert told.service == "app"
    assert told.certain is certain or fault is Fault.HOST
