"""Messages after a sweep: one digest, one message for each change, to the right channel, again until they are taken."""

from __future__ import annotations

import http.server
import json
import logging
import operator
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from canonq.adapters.network import notify
from canonq.adapters.network.notify import Notifier
from canonq.cli.commands import canonq
from canonq.core.errors import WrongConfiguration
from canonq.core.outcomes import Outcome
from canonq.core.report.messages import MOST_TRIES, calling_nobody
from canonq.flows.looking import report, telling
from canonq.settings import NotifySettings
from tests.flows.mornings import HOSTILE, MORNING, Mornings, idle, promoted, red

SECRET = "s3cret-token-of-mine"


class Inbox:
    """A service that takes messages, on this machine; `answers` are the statuses of the next ones, then 200."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str]] = []
        self.asked = 0
        self.answers: list[int] = []
        inbox = self

        class _Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox.asked += 1
                status = inbox.answers.pop(0) if inbox.answers else 200
                if status == 200:
                    inbox.taken.append((self.path.split("/")[1], told["title"], told["message"]))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *told: Any) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, channel: str) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.server.server_port}/{channel}/{SECRET}"

    @property
    def titles(self) -> list[tuple[str, str]]:
        return [(channel, title) for channel, title, _ in self.taken]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    found = Inbox()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def mornings(tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> Mornings:
    monkeypatch.setattr(notify, "_say", notify._say_here)  # without a process for each message
    channels = tmp_path / "channels.toml"
    channels.write_text(f'default = ["{inbox.address("default")}"]\nweb = ["{inbox.address("web")}"]\n')
    return Mornings(tmp_path, notify={"channels_file": channels}, report={"url": "https://canonq.example.org/"})


@pytest.mark.long
def test_of_300_recipes_of_which_3_change_there_is_one_digest_and_3_messages_and_then_none(
    mornings: Mornings, inbox: Inbox
) -> None:
    names = [f"recipe-{number:03}" for number in range(300)]
    mornings.enrol(*names)
    others = [idle(name) for name in names[3:]]
    mornings.night(1, *(idle(name) for name in names[:2]), red(names[2]), *others)
    telling.tell(mornings.world)
    assert [title for _, title in inbox.titles] == ["canonq: 299 skipped, 1 red of 300"], "at first, nothing has changed yet"
    inbox.taken.clear()
    mornings.night(0, red(names[0]), red(names[1]), promoted(names[2]), *others)
    telling.tell(mornings.world)
    assert sorted(title for _, title in inbox.titles) == [
        "canonq: 1 promoted, 297 skipped, 2 red of 300",
        "canonq: recipe-000 1.1.0+1.1 turned red",
        "canonq: recipe-001 1.1.0+1.1 turned red",
        "canonq: recipe-002 is green again",
    ]
    inbox.taken.clear()
    assert telling.tell(mornings.world) == []
    mornings.night(0, red(names[0]), red(names[1]), idle(names[2]), *others)
    assert len(telling.tell(mornings.world)) == 1
    assert inbox.taken == [], "the same again, on the same day"
    mornings.night(-1, red(names[0]), red(names[1]), idle(names[2]), *others)
    telling.tell(mornings.world)
    assert [title for _, title in inbox.titles] == ["canonq: 298 skipped, 2 red of 300"], "a digest each night"


def test_a_message_says_whose_fault_it_is_what_to_do_and_where_more_is(mornings: Mornings, inbox: Inbox) -> None:
    mornings.enrol("site")
    mornings.night(1, idle("site"))
    telling.tell(mornings.world)
    mornings.night(0, red("site", detail=f"Its health check never passed. {HOSTILE}"))
    telling.tell(mornings.world)
    text = next(text for _, title, text in inbox.taken if "turned red" in title)
    for words in ("Its health check never passed.", "Fault: recipe.", "Next: Report it to the recipe.",
                  "https://canonq.example.org/recipes/site.html"):  # fmt: skip
        assert words in text
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_an_image_that_moved_and_works_is_told_in_the_digest(mornings: Mornings, inbox: Inbox) -> None:
    mornings.enrol("site", "shop")
    moved = "image-moved: app: nginx:1 was sha256:111 and is sha256:222, since the canonical 1.0.0+1.0 was proven"
    waits = Outcome(recipe="site", outcome="skipped", reason="needs-approval", step="promote")
    mornings.night(0, waits, idle("shop"))
    telling.tell(mornings.world)
    mornings.night(0, waits.model_copy(update={"notes": ("tag-gone: 0.9.0+1", moved)}), idle("shop"))
    telling.tell(mornings.world)
    assert [f"site: {moved}" in text.splitlines() for _, _, text in inbox.taken] == [False, True], (
        "also when nothing else changed"
    )
    assert "tag-gone" not in inbox.taken[-1][2]


def test_a_recipe_that_names_a_channel_has_its_messages_there_and_one_that_is_not_there_goes_to_the_default(
    mornings: Mornings, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    for name, channel in (("site", "web"), ("shop", "nobody"), ("plain", "")):
        mornings.place.enrol(name, "/upstreams/x", f'notify = "{channel}"\n' if channel else "")
    mornings.night(1, idle("site"), idle("shop"), idle("plain"))
    telling.tell(mornings.world)
    inbox.taken.clear()
    mornings.night(0, red("site"), red("shop"), red("plain"))
    telling.tell(mornings.world)
    assert sorted(inbox.titles) == [
        ("default", "canonq: 3 red of 3"),
        ("default", "canonq: plain 1.1.0+1.1 turned red"),
        ("default", "canonq: shop 1.1.0+1.1 turned red"),
        ("web", "canonq: site 1.1.0+1.1 turned red"),
    ]
    assert "There is no channel 'nobody'" in caplog.text


def test_what_is_not_taken_is_tried_again_later_and_shown_and_comes_once(
    mornings: Mornings, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    mornings.enrol("site")
    inbox.answers = [500]
    sweep = mornings.night(0, red("site"))
    assert telling.tell(mornings.world) == [sweep], "no sweep fails by it"
    assert (inbox.taken, inbox.asked) == ([], 1)
    assert "it is tried again" in caplog.text
    (waits,) = telling.waiting(mornings.world)
    assert waits.tries == 1
    assert "500" in waits.problem
    known = report.seen(mornings.world)
    found = report.report(mornings.world, known=known)
    assert found["undelivered"] == 1
    assert "canonq_failed_deliveries 1.0" in report.metrics(mornings.world, found, known)
    telling.tell(mornings.world)
    assert inbox.asked == 1, "not before its time"
    later = replace(mornings.world, now=lambda: MORNING + timedelta(minutes=2))
    telling.tell(later)
    telling.tell(later)
    assert [title for _, title in inbox.titles] == ["canonq: 1 red of 1"]
    assert telling.waiting(mornings.world) == []


def test_an_address_that_is_down_is_asked_once_and_not_for_each_message(mornings: Mornings, inbox: Inbox) -> None:
    names = [f"recipe-{number}" for number in range(9)]
    mornings.enrol(*names)
    mornings.night(1, *map(idle, names))
    telling.tell(mornings.world)
    before = inbox.asked
    inbox.answers = [503] * 99
    mornings.night(0, *map(red, names))
    telling.tell(mornings.world)
    assert inbox.asked == before + 1
    assert len(telling.waiting(mornings.world)) == 10


def test_a_message_is_given_up_in_the_end(mornings: Mornings, inbox: Inbox) -> None:
    mornings.enrol("site")
    inbox.answers = [500] * 99
    mornings.night(0, idle("site"))
    for number in range(MOST_TRIES + 1):
        telling.tell(replace(mornings.world, now=partial(operator.add, MORNING, timedelta(hours=2 * number))))
    assert inbox.asked == MOST_TRIES
    assert telling.waiting(mornings.world) == []


def test_a_file_of_channels_that_is_broken_for_a_while_loses_no_message(mornings: Mornings, inbox: Inbox) -> None:
    channels = mornings.place.folder / "channels.toml"
    good = channels.read_text()
    mornings.enrol("site")
    channels.write_text(f'default = ["{SECRET}')
    mornings.night(0, red("site"))
    telling.tell_gently(mornings.world)
    assert "needs a person" in (report.folder_of(mornings.world) / "index.html").read_text()
    channels.write_text(good)
    telling.tell(mornings.world)
    assert [title for _, title in inbox.titles] == ["canonq: 1 red of 1"]


def test_no_secret_of_an_address_is_logged_kept_or_printed(
    mornings: Mornings, inbox: Inbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    mornings.enrol("site")
    inbox.answers = [401, 401]
    mornings.night(0, red("site"))
    telling.tell(mornings.world)
    monkeypatch.setenv("CANONQ_REPO", str(mornings.place.folder / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(mornings.place.folder / "state"))
    monkeypatch.setenv("CANONQ_NOTIFY__CHANNELS_FILE", str(mornings.place.folder / "channels.toml"))
    ended = CliRunner().invoke(canonq, ["notify", "--test", "--channel", "default"], standalone_mode=False)
    assert ended.return_value == 1
    assert "401" in ended.stdout
    kept = "".join(path.read_text() for path in (mornings.place.folder / "state" / "report").rglob("*") if path.is_file())
    assert "401" in kept
    assert SECRET not in caplog.text + ended.output + kept


def test_the_command_tries_each_address_and_says_what_came_of_it(
    mornings: Mornings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANONQ_STATE", str(mornings.place.folder / "state"))
    monkeypatch.setenv("CANONQ_NOTIFY__URL", f"{inbox.address('one')} {inbox.address('two')} nonsense://x")
    ended = CliRunner().invoke(canonq, ["notify", "--test", "--json"], standalone_mode=False)
    assert ended.return_value == 1
    rows = json.loads(ended.stdout)["addresses"]
    assert [(row["address"], row["kind"], row["problem"]) for row in rows] == [
        (1, "json", None), (2, "json", None), (3, "nonsense", "it is not an address that Apprise knows")]  # fmt: skip
    assert inbox.titles == [("one", "canonq: a test"), ("two", "canonq: a test")]
    ended = CliRunner().invoke(canonq, ["notify"], standalone_mode=False)
    assert ended.return_value == 0
    assert len(inbox.taken) == 2, "without --test nothing is sent"


@pytest.mark.parametrize("text", ['default = "one"', "default = [3]", f'a = ["{SECRET}', "\x00", "[default]\nx = 1"])
def test_a_file_of_channels_that_is_none_is_refused_without_its_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "channels.toml"
    path.write_text(text)
    with pytest.raises(WrongConfiguration) as refused:
        Notifier(NotifySettings(channels_file=path))
    assert SECRET not in str(refused.value)


def test_a_service_that_answers_a_byte_at_a_time_is_given_up_in_time_and_one_that_answers_is_told(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    class Drips(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not ended.wait(0.1):
                try:
                    self.wfile.write(b"X-And: so on\r\n")
                except OSError:
                    return

        def log_message(self, *_: object) -> None: ...

    slow = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drips)
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    monkeypatch.setattr(notify, "MOST", 4.0)
    url = SecretStr(f"json://user:{SECRET}@127.0.0.1:{slow.server_port}/{SECRET} {inbox.address('default')}")
    says = Notifier(NotifySettings(url=url))
    try:
        assert says.problem("default", 1, "title", "text") == "it did not take it within 4 s"
        monkeypatch.setattr(notify, "MOST", 300.0)
        assert says.problem("default", 2, "title", "text") is None
        inbox.answers = [500]
        told = says.problem("default", 2, "title", "text")
    finally:
        ended.set()
        slow.shutdown()
        slow.server_close()
    assert told is not None and "500" in told and SECRET not in told
    assert inbox.titles == [("default", "title")]


def test_a_sweep_that_was_not_done_is_told_in_the_digest_and_one_of_named_recipes_has_none(
    mornings: Mornings, inbox: Inbox
) -> None:
    mornings.enrol("site")
    mornings.night(1, Outcome(recipe="site", outcome="deferred", reason="sweep-stopped"), state="stopped")
    telling.tell(mornings.world)
    assert inbox.titles == [("default", "canonq: the sweep was not done (stopped)")]
    inbox.taken.clear()
    sweep = mornings.night(0, idle("site"), state="open")
    world = mornings.world
    world.sweeps.open(sweep, {**world.sweeps.read(sweep), "whole": False})
    from canonq.flows.sweeps.closing import finish

    assert finish(world, sweep)
    telling.tell(world)
    assert inbox.taken == []


def test_without_a_channel_nothing_waits(tmp_path: Path) -> None:
    mornings = Mornings(tmp_path)
    mornings.enrol("site")
    mornings.night(0, red("site"))
    telling.tell(mornings.world)
    assert telling.waiting(mornings.world) == []


@pytest.mark.parametrize(
    "said", ["@everyone", "look @here: it is down", "<!channel>", "<@U0123>", "@Room", "a@all.example.org", "<#C01>", "@online,"]
)
def test_what_a_container_says_calls_nobody_in_a_chat(said: str) -> None:
    told = calling_nobody(said)
    assert told.replace("\u2060", "") == said
    assert told != said
    assert not any(call in told.lower() for call in ("@everyone", "@here", "<!", "<@", "<#", "@room", "@online", "@all"))


@pytest.mark.parametrize("said", ["root@example.org", "a < b", "1 <= 2", "<html>", "@roommate", "image@sha256:0"])
def test_other_words_of_messages_stay_as_they_are(said: str) -> None:
    assert calling_nobody(said) == said
