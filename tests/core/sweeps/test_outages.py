"""One registry that is down stops its recipes once: who still asks it, when it is asked again, and what a failed pull means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.state.outages import Outages
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem
from canonq.core.pulling import Asked, meaning
from canonq.core.sweeps.outages import Outage, after, not_asked

GHCR, NOON = "ghcr.io", 1_000_000.0


def failed(code: str = "registry-unreachable", **more: Any) -> HostProblem:
    return HostProblem("The pull failed: no such host.", code=code, outside=GHCR, **more)


def noted(error: CanonqError, image: str = "a", known: Outage | None = None, now: float = NOON) -> Outage:
    outage = after(known, error, image, now, 60)
    assert outage
    return outage


@pytest.mark.parametrize("code", ["registry-unreachable", "registry-certificate", "registry-rate-limit"])
def test_what_is_the_trouble_of_the_whole_registry_stops_every_image_of_it(code: str) -> None:
    outage = noted(failed(code))
    assert outage.stops("b", NOON + 59)
    assert not outage.stops("b", NOON + 60)


def test_a_503_of_one_image_stops_the_others_when_a_second_one_has_it_too() -> None:
    first = noted(failed("registry-unavailable"))
    assert (first.stops("a", NOON), first.stops("b", NOON)) == (True, False)
    assert noted(failed("registry-unavailable"), "b", first, NOON + 1).stops("c", NOON + 2)


@pytest.mark.parametrize("code", ["registry-refused", "pull-failed", "disk-full"])
def test_what_says_nothing_about_the_registry_stops_nobody(code: str) -> None:
    assert after(None, failed(code), "a", NOON, 60) is None


def test_the_pauses_grow_each_time_it_is_asked_in_vain_and_not_by_those_who_asked_at_the_same_time() -> None:
    outage, now, pauses = noted(failed()), NOON, []
    for _ in range(3):
        assert noted(failed(), "b", outage, now + 1).times == outage.times
        pauses.append(outage.until - now)
        now = outage.until
        outage = noted(failed(), "a", outage, now)
    assert pauses == [60, 120, 240]
    assert outage.since == NOON


def test_a_rate_limit_is_left_alone_as_long_as_it_asks() -> None:
    outage = noted(failed("registry-rate-limit", retry_after=1234))
    assert outage.until == NOON + 1234
    told = not_asked(outage, NOON + 34)
    assert (told.code, told.outside, told.retry_after) == ("registry-rate-limit", GHCR, 1200)
    assert "The pull failed: no such host." in told.what


def test_outages_are_shared_by_their_folder_and_end_when_something_was_had(tmp_path: Path) -> None:
    Outages(tmp_path).note(failed(), "a", NOON, 60)
    known = Outages(tmp_path).of(GHCR)
    assert known is not None
    assert known.stops("b", NOON)
    assert Outages(tmp_path).of("quay.io") is None
    Outages(tmp_path).over(GHCR)
    Outages(tmp_path).over(GHCR)
    assert Outages(tmp_path).of(GHCR) is None


def test_an_outage_that_was_written_by_halves_is_none(tmp_path: Path) -> None:
    Outages(tmp_path).note(failed(), "a", NOON, 60)
    (tmp_path / f"{GHCR}.json").write_text("{")
    assert Outages(tmp_path).of(GHCR) is None


GONE = RecipeProblem("The pull of x failed: manifest unknown.", code="image-unavailable")
DENIED = RecipeProblem("The pull of x failed: pull access denied for x.", code="image-unavailable")
ODD = HostProblem("The pull of x failed, in words that canonq does not know: hm.", code="pull-failed")
REFUSED = HostProblem("The pull of x failed: 403 Forbidden.", code="registry-refused")
LIMITED = HostProblem("The pull of x failed: toomanyrequests.", code="registry-rate-limit")


@pytest.mark.parametrize(
    ("said", "asked", "logged_in", "code", "kind"),
    [
        (GONE, Asked("missing"), False, "image-unavailable", RecipeProblem),
        (GONE, Asked("silent"), False, "image-unavailable", RecipeProblem),
        (GONE, Asked("denied"), True, "image-unavailable", RecipeProblem),
        (GONE, Asked("trouble", "status 503"), False, "registry-unavailable", HostProblem),
        (GONE, Asked("limited", "429", 9.0), False, "registry-rate-limit", HostProblem),
        (DENIED, Asked("denied"), False, "image-unavailable", RecipeProblem),
        (DENIED, Asked("denied"), True, "registry-refused", HostProblem),
        (ODD, Asked("missing", "404"), False, "image-unavailable", RecipeProblem),
        (ODD, Asked("missing", "404"), True, "pull-failed", HostProblem),
        (ODD, Asked("there"), False, "pull-failed", HostProblem),
        (REFUSED, Asked("denied"), False, "image-unavailable", RecipeProblem),
        (REFUSED, Asked("denied"), True, "registry-refused", HostProblem),
        (REFUSED, Asked("login"), False, "registry-refused", HostProblem),
        (REFUSED, Asked("silent"), False, "registry-refused", HostProblem),
        (LIMITED, Asked("limited", "429", 9.0), False, "registry-rate-limit", HostProblem),
    ],
)
def test_what_a_failed_pull_means(said: CanonqError, asked: Asked, logged_in: bool, code: str, kind: type[CanonqError]) -> None:
    found = meaning(said, asked, registry=GHCR, logged_in=logged_in)
    assert (found.code, type(found)) == (code, kind)
    assert said.what in found.what
    assert found.retry_after == (9.0 if code == "registry-rate-limit" else None)
