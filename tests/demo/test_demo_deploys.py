"""The demonstration's releases on a real Swarm: the good ones run, the bad ones fail in the way they are meant to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from canonq.adapters.engine import SwarmEngine
from demo import images, upstreams

from .stack import DeployRefused, Stack

pytestmark = pytest.mark.real

LATER = "1.13.0+1.31.1"
GUESTBOOKS = ("1.2.1+6.41.0-alpine", "1.3.0+6.42.0-alpine")
VOICES = ("0.9.0+v1.5.735-0", "1.0.0+v1.6.870-0")
FORGES = ("3.5.3+1.24.2-rootless", "3.6.0+1.25.0-rootless")
SITES = ("1.11.0+1.29.0", "1.12.0+1.30.0", LATER)
#: What no test below deploys from a cold start. The later forge is one that works so: only an upgrade to it fails.
COLD = [("tiny-html", "1.2.0+2.43.0"), ("forge", FORGES[1])]


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All repositories, with everything published; the images they name are there."""
    images.build()
    SwarmEngine().ensure_network("proxy")
    target = tmp_path_factory.mktemp("upstreams")
    made = upstreams.make_upstreams(target)
    upstreams.publish(target, "custom-html")
    return made


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is removed afterwards, whatever happened."""
    engine = docker.from_env()
    made = Stack(engine, tmp_path)
    try:
        yield made
    finally:
        made.remove()
        engine.close()


def deploy(stack: Stack, repos: dict[str, Path], name: str, tag: str) -> None:
    overlay = upstreams.ENROLMENTS / name / "compose.canonq.yml"
    stack.deploy(repos[name], tag, overlay if overlay.is_file() else None)


def bring_up(stack: Stack, repos: dict[str, Path], name: str, tag: str) -> None:
    deploy(stack, repos, name, tag)
    stack.await_running(tag)
    if name == "guestbook":  # its tasks run before its database answers
        stack.await_answer("/cgi-bin/entries")


def hook(stack: Stack, label: str) -> list[str]:
    return str(stack.service("db").attrs["Spec"]["Labels"][f"backupbot.{label}"]).split()


@pytest.mark.parametrize(("name", "tag"), COLD)
def test_a_good_release_is_healthy_from_a_cold_start(stack: Stack, repos: dict[str, Path], name: str, tag: str) -> None:
    bring_up(stack, repos, name, tag)

    assert stack.fetch()[0]


def test_a_page_written_by_hand_outlives_both_upgrades_of_custom_html(stack: Stack, repos: dict[str, Path]) -> None:
    first, *newer = SITES
    bring_up(stack, repos, "custom-html", first)
    assert "<h1>A small site</h1>" in stack.fetch()[1], "the template takes the name from the environment"
    stack.execute("app", "sh", "-c", "echo mine > /srv/mine.txt")

    for tag in newer:
        bring_up(stack, repos, "custom-html", tag)
        assert stack.fetch("/mine.txt") == (True, "mine\n")


def test_an_upgrade_of_the_guestbook_adds_a_column_and_keeps_the_entries(stack: Stack, repos: dict[str, Path]) -> None:
    bring_up(stack, repos, "guestbook", GUESTBOOKS[0])
    assert stack.fetch("/cgi-bin/entries", "name=Ada&message=it's+here")[0]
    assert stack.fetch("/cgi-bin/entries") == (True, "1\tAda\tit's here\n")

    bring_up(stack, repos, "guestbook", GUESTBOOKS[1])

    assert stack.fetch("/cgi-bin/entries", "name=Bo&message=hello&place=Oslo")[0]
    assert stack.fetch("/cgi-bin/entries") == (True, "1\tAda\tit's here\tunknown\n2\tBo\thello\tOslo\n")


def test_the_hooks_of_the_guestbook_bring_a_lost_entry_back(stack: Stack, repos: dict[str, Path]) -> None:
    bring_up(stack, repos, "guestbook", GUESTBOOKS[1])
    stack.fetch("/cgi-bin/entries", "name=Ada&message=kept")
    before = stack.fetch("/cgi-bin/entries")
    stack.execute("db", *hook(stack, "backup.pre-hook"))
    (dump,) = hook(stack, "backup.volumes.postgres_data.path")
    assert "kept" in stack.execute("db", "cat", f"/var/lib/postgresql/data/{dump}")
    stack.fetch("/cgi-bin/entries", "name=Bo&message=written+after+the+backup")
    stack.execute("db", "psql", "-qU", "guestbook", "-c", "DELETE FROM entries WHERE name = 'Ada'")
    assert "kept" not in stack.fetch("/cgi-bin/entries")[1]

    stack.execute("db", *hook(stack, "restore.post-hook"))

    assert stack.fetch("/cgi-bin/entries") == before
    assert stack.fetch("/cgi-bin/entries", "name=Cy&message=still+writable")[0]


def test_the_guestbook_does_not_answer_200_without_its_database(stack: Stack, repos: dict[str, Path]) -> None:
    bring_up(stack, repos, "guestbook", GUESTBOOKS[1])

    database = stack.container("db")
    database.pause()
    try:
        answered, said = stack.fetch()
    finally:
        database.unpause()

    assert not answered
    assert "503" in said


def test_swarm_takes_an_upgrade_to_the_red_release_of_voice_back(stack: Stack, repos: dict[str, Path]) -> None:
    bring_up(stack, repos, "voice", VOICES[0])

    deploy(stack, repos, "voice", VOICES[1])

    stack.await_("finished rollback", lambda: stack.update_state() == "rollback_completed")
    assert stack.container().attrs["Config"]["Image"] == "canonq-demo/static:v1.5.735-0"
    assert stack.fetch() == (True, "Welcome, speak up.\n")


@pytest.mark.engines
def test_the_branch_of_tiny_html_cannot_run(stack: Stack, repos: dict[str, Path]) -> None:
    deploy(stack, repos, "tiny-html", "main")

    stack.await_("rejected task", lambda: any("never-built: rejected: " in state for state in stack.states("app")))


def test_only_the_upgrade_to_the_newer_forge_is_refused(stack: Stack, repos: dict[str, Path]) -> None:
    bring_up(stack, repos, "forge", FORGES[0])

    with pytest.raises(DeployRefused, match="only updates to Labels are allowed"):
        deploy(stack, repos, "forge", FORGES[1])

    assert stack.container().attrs["Config"]["Image"] == "canonq-demo/static:1.24.2-rootless"
    assert stack.fetch() == (True, "Forge\n")
