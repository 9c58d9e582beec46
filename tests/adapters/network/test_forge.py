"""The forge's API over real HTTP: paging, faults that pass, faults that do not, and a token that goes nowhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from canonq.adapters.network.forge import HttpForge
from canonq.core.errors import ForgeProblem, WrongConfiguration
from tests.forge import TOKEN, Fault, Forge, cut_off, done_but, hang_up, never, serving, status, truncated

REPO = "mirror/site"
HEAD = "a" * 40
FAR_AWAY = "Fri, 31 Dec 9999 23:59:59 GMT"  #: one value for all processes that collect the tests


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Forge]:
    with serving(tmp_path / "forge") as forge:
        forge.begin(REPO)
        yield forge


@pytest.fixture
def forge(stand_in: Forge, tmp_path: Path) -> HttpForge:
    kept = tmp_path / "token"
    kept.write_text(f"{TOKEN}\n")
    return HttpForge(stand_in.url, kept, total=300, backoff=0.01)


def pulls(stand_in: Forge, count: int) -> None:
    stand_in.pulls[REPO] = {
        number: {"number": number, "state": "open", "title": f"No {number}", "head": {"sha": HEAD}, "base": {"ref": "main"}}
        for number in range(1, count + 1)
    }


@pytest.mark.parametrize("says_link", [True, False])
@pytest.mark.parametrize("largest_page", [50, 10])
def test_all_pages_are_read_whatever_the_forge_says_about_them(
    stand_in: Forge, forge: HttpForge, says_link: bool, largest_page: int
) -> None:
    stand_in.says_link, stand_in.largest_page = says_link, largest_page
    pulls(stand_in, 120)
    assert [pull.number for pull in forge.open_pulls(REPO)] == list(range(1, 121))


def test_closed_pull_requests_and_such_without_a_head_are_not_listed(stand_in: Forge, forge: HttpForge) -> None:
    pulls(stand_in, 3)
    stand_in.pulls[REPO][2]["state"] = "closed"
    stand_in.pulls[REPO][3]["head"]["sha"] = ""
    assert [pull.number for pull in forge.open_pulls(REPO)] == [1]


@pytest.mark.parametrize(
    "fault",
    [status(429), status(500), status(502), truncated, cut_off, hang_up],
    ids=["429", "500", "502", "json", "cut", "gone"],
)
def test_a_fault_that_passes_is_waited_out(stand_in: Forge, forge: HttpForge, fault: Fault) -> None:
    pulls(stand_in, 1)
    stand_in.order("GET .*/pulls", fault, fault)
    assert len(forge.open_pulls(REPO)) == 1
    assert len(stand_in.asked) == 3


@pytest.mark.parametrize("fault", [status(500), truncated, hang_up], ids=["500", "json", "gone"])
def test_a_fault_that_stays_is_told_after_a_few_tries(stand_in: Forge, forge: HttpForge, fault: Fault) -> None:
    stand_in.order("GET .*/pulls", *[fault] * 50)
    with pytest.raises(ForgeProblem) as caught:
        forge.open_pulls(REPO)
    assert caught.value.code == "forge-unreachable"
    assert 3 <= len(stand_in.asked) <= 10


def test_the_wait_that_a_rate_limit_asks_for_is_kept(stand_in: Forge, forge: HttpForge) -> None:
    pulls(stand_in, 1)
    stand_in.order("pulls", status(429, Retry_After="1"))
    began = time.monotonic()
    forge.open_pulls(REPO)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("said", ["86400", FAR_AWAY, "inf", "1e999"])
def test_a_wait_beyond_the_total_limit_ends_at_once_also_when_a_clock_is_wrong(
    stand_in: Forge, forge: HttpForge, said: str
) -> None:
    stand_in.order("pulls", *[status(429, Retry_After=said)] * 3)
    with pytest.raises(ForgeProblem, match="429"):
        forge.open_pulls(REPO)
    assert len(stand_in.asked) == 1


@pytest.mark.parametrize("said", [formatdate(0, usegmt=True), "nonsense", "-5", "nan"])
def test_a_wait_that_makes_no_sense_is_none(stand_in: Forge, forge: HttpForge, said: str) -> None:
    pulls(stand_in, 1)
    stand_in.order("pulls", status(429, Retry_After=said))
    assert len(forge.open_pulls(REPO)) == 1


def test_a_forge_that_is_too_slow_is_given_up_within_the_total_limit(stand_in: Forge, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    stand_in.order("pulls", *[never()] * 5)
    with pytest.raises(ForgeProblem):
        HttpForge(stand_in.url, tmp_path / "token", total=1, backoff=0.01).open_pulls(REPO)


def test_the_token_is_not_sent_to_another_host(stand_in: Forge, forge: HttpForge, tmp_path: Path) -> None:
    with serving(tmp_path / "other") as other:
        for code in (301, 302, 307, 308):
            stand_in.order("pulls", status(code, Location=f"{other.url}/api/v1/repos/{REPO}/pulls"))
            with pytest.raises(ForgeProblem, match="token was not sent") as caught:
                forge.open_pulls(REPO)
            assert caught.value.code == "forge-redirect"
        assert other.asked == []


def test_a_repository_that_was_renamed_on_the_same_forge_is_followed(stand_in: Forge, forge: HttpForge) -> None:
    pulls(stand_in, 1)
    stand_in.renamed["old/name"] = REPO
    assert len(forge.open_pulls("old/name")) == 1


def test_a_redirect_in_a_circle_ends(stand_in: Forge, forge: HttpForge) -> None:
    stand_in.order("pulls", *[status(307, Location=f"/api/v1/repos/{REPO}/pulls")] * 20)
    with pytest.raises(ForgeProblem):
        forge.open_pulls(REPO)
    assert len(stand_in.asked) < 10


def test_a_token_that_is_wrong_is_named_and_not_shown(stand_in: Forge, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another-t0ken")
    with pytest.raises(ForgeProblem, match="401") as caught:
        HttpForge(stand_in.url, tmp_path / "token").open_pulls(REPO)
    assert caught.value.code == "forge-denied"
    assert "another-t0ken" not in str(caught.value)
    assert len(stand_in.asked) == 1, "it is not tried again"


@pytest.mark.parametrize("text", [b"", b"two\nlines", b"\xff\xfe", None])
def test_a_token_file_that_cannot_be_right_is_named(stand_in: Forge, tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "token").write_bytes(text)
    with pytest.raises(WrongConfiguration, match="token_file"):
        HttpForge(stand_in.url, tmp_path / "token").open_pulls(REPO)
    assert stand_in.asked == []


def test_an_answer_of_another_kind_is_named(stand_in: Forge, forge: HttpForge) -> None:
    stand_in.order("pulls", lambda answers: answers.say(200, b'{"a": 1}'))
    with pytest.raises(ForgeProblem, match="not a list"):
        forge.open_pulls(REPO)
    stand_in.order("pulls", lambda answers: answers.say(200, b'[{"number": "x"}]'))
    with pytest.raises(ForgeProblem, match="without number"):
        forge.open_pulls(REPO)


def test_a_comment_is_made_once_however_often_it_is_asked_for(stand_in: Forge, forge: HttpForge) -> None:
    pulls(stand_in, 1)
    assert forge.comment_once(REPO, 1, "<!-- m -->", "It has landed. <!-- m -->")
    assert not forge.comment_once(REPO, 1, "<!-- m -->", "It has landed. <!-- m -->")
    assert stand_in.comments[REPO, 1] == ["It has landed. <!-- m -->"]


@pytest.mark.parametrize("code", [500, 504])
def test_a_comment_that_was_made_although_the_forge_said_no_is_not_made_twice(
    stand_in: Forge, forge: HttpForge, code: int
) -> None:
    stand_in.order("POST .*comments", done_but(code))
    forge.comment_once(REPO, 1, "<!-- m -->", "once <!-- m -->")
    assert stand_in.comments[REPO, 1] == ["once <!-- m -->"]


def test_closing_and_statuses_say_what_the_api_wants(stand_in: Forge, forge: HttpForge) -> None:
    pulls(stand_in, 1)
    forge.close(REPO, 1)
    assert stand_in.pulls[REPO][1]["state"] == "closed"
    forge.set_status(REPO, HEAD, "success", "level 5")
    forge.set_status(REPO, HEAD, "failure", "quick", quick=True)
    assert stand_in.statuses == [
        (REPO, HEAD, {"context": "canonq", "state": "success", "description": "level 5"}),
        (REPO, HEAD, {"context": "canonq/quick", "state": "failure", "description": "quick"}),
    ]


def test_a_forge_below_a_path_is_asked_there(stand_in: Forge, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with pytest.raises(ForgeProblem, match="knows nothing"):
        HttpForge(f"{stand_in.url}/git/", tmp_path / "token").open_pulls(REPO)
    assert stand_in.asked[0].startswith("GET /git/api/v1/")
