"""Commands that only look: enrolments without a sweep, settings, what runs logged. None needs the right to write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canonq.cli.commands import canonq
from canonq.core.errors import CanonqError, ExitStatus, WrongUse
from canonq.flows.upstream.asked import check_asked
from tests.flows.conftest import Place

RUN, OTHER = "20260617T050314Z-site-abcdef", "20260617T060314Z-site-fedcba"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    place.recipe("site")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CANONQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path / "state"))
    return place


def typed(*words: str) -> Any:
    return CliRunner().invoke(canonq, list(words), standalone_mode=False)


def own(place: Place, **files: str) -> None:
    """Files beside recipe.toml; `__` in a name stands for its dot."""
    for name, text in files.items():
        (place.folder / "checkout" / "tests" / "site" / name.replace("__", ".")).write_text(text)


# -- check ---------------------------------------------------------------------------------------------------


def checked(*names: str) -> tuple[int, dict[str, Any]]:
    ended = typed("check", *names, "--json")
    assert ended.exception is None
    return int(ended.return_value), {row["recipe"]: row for row in json.loads(ended.output)["recipes"]}


def test_a_sound_enrolment_is_ok_and_nothing_is_left_behind(place: Place) -> None:
    own(
        place,
        hooks__py="def before_upgrade(app): ...\n",
        install_steps__sh="echo hello\n",
        test_page__py="def test_x(app): assert 1\n",
    )
    status, rows = checked()
    assert (status, rows["site"]) == (0, {"recipe": "site", "state": "ok", "reason": "", "problems": [], "notes": []})
    assert not (place.folder / "state").exists()


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("recipe__toml", 'upstream = "x"\nwieght = "light"\n', "did you mean 'weight'?"),
        ("hooks__py", "def before_upgrade(app:\n", "cannot be read as Python"),
        ("hooks__py", "async def before_upgrade(app): ...\n", "async def"),
        ("test_page__py", "def test_x(:\n", "test_page.py cannot be used: line 1"),
        ("conftest__py", "\0", "conftest.py cannot be used"),
        ("compose.canonq__yml", "services:\n  app: [\n", "compose.canonq.yml"),
        ("install_steps__sh", "if true; then\n", "install_steps.sh cannot be used: line"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place_and_ends_with_2(place: Place, file: str, text: str, told: str) -> None:
    place.recipe("sound")
    own(place, **{file: text})
    status, rows = checked()
    assert status == 2
    assert [name for name, row in rows.items() if row["state"] == "broken"] == ["site"]
    assert told in " ".join(rows["site"]["problems"])
    assert checked("sound")[0] == 0


@pytest.mark.parametrize(
    ("toml", "code"),
    [
        ('upstream = "https://me:s3cret@git.example.org/x.git"\n', "credential-in-address"),
        ('upstream = "ftp://git.example.org/x.git"\n', "bad-upstream"),
        ('upstream = "/srv/x.git"\nmirror = "-x"\n', "bad-mirror"),
        ('upstream = "/srv/x.git"\nmirror = "/srv/x"\n', "bad-mirror"),
        ('upstream = "ftp://git.example.org/x.git"\nenrolled = false\n', "bad-upstream"),
    ],
)
def test_an_address_that_no_sync_would_use_is_told(place: Place, toml: str, code: str) -> None:
    place.recipe("sound")
    own(place, recipe__toml=toml, hooks__py="def before_upgrade(app:\n")
    status, rows = checked()
    assert (status, rows["site"]["state"], rows["site"]["reason"]) == (2, "broken", code)
    assert "s3cret" not in " ".join(rows["site"]["problems"])
    assert "cannot be read as Python" in " ".join(rows["site"]["problems"]), "one problem hides no other"
    assert checked("sound")[0] == 0


def test_nothing_of_an_enrolment_is_run(place: Place) -> None:
    touch = f"open({str(place.folder / 'run')!r}, 'w')\n"
    own(place, hooks__py=touch, conftest__py=touch, test_page__py=touch, install_steps__sh=f"touch {place.folder / 'run'}\n")
    checked()
    assert not (place.folder / "run").exists()


def test_notes_break_nothing_and_one_that_is_switched_off_is_looked_at(place: Place) -> None:
    place.recipe("other", toml="enrolled = false\n")
    own(place, hook__py="", page_test__py="")
    status, rows = checked()
    assert (status, rows["other"]["state"], rows["site"]["state"]) == (0, "off", "ok")
    assert "did you mean 'hooks.py'?" in " ".join(rows["site"]["notes"])
    assert isinstance(typed("check", "sitte").exception, WrongUse)


# -- config --------------------------------------------------------------------------------------------------


def settings_told() -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in json.loads(typed("config", "--json").output)["settings"]}


def test_each_setting_says_where_it_came_from_the_nearer_source_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "canonq.toml").write_text("keep = 5\nkeep_runs = 7\n[git]\ntimeout = 99\nper_host = 3\n")
    monkeypatch.setenv("CANONQ_KEEP", "4")
    monkeypatch.setenv("canonq_git__per_host", "2")
    monkeypatch.setenv("CANONQ_CHECKOUT", '{"pull": true}')
    told = settings_told()
    assert (told["keep"]["value"], told["keep"]["from"]) == (4, "CANONQ_KEEP")
    assert (told["keep_runs"]["value"], told["keep_runs"]["from"]) == (7, "canonq.toml")
    assert (told["git.timeout"]["value"], told["git.timeout"]["from"]) == (99, "canonq.toml")
    assert (told["git.per_host"]["value"], told["git.per_host"]["from"]) == (2, "CANONQ_GIT__PER_HOST")
    assert (told["checkout.pull"]["value"], told["checkout.pull"]["from"]) == (True, "CANONQ_CHECKOUT")
    assert told["hold_reds"]["from"] == "default"


@pytest.mark.parametrize(
    "url", ["redis://me:s3cr%2Ft@127.0.0.1:1/0", "redis://:s3cr%2Ft@127.0.0.1:1/0", "rediss://me:s3cr@h:1/0"]
)
def test_no_secret_is_shown(place: Place, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CANONQ_REDIS_URL", url)
    monkeypatch.setenv("CANONQ_CATALOGUE", "https://bot:s3cr/et@example.org/recipes.json?token=s3cret")
    for words in (("config",), ("config", "--json")):
        output = typed(*words).output
        assert "s3cr" not in output
        assert "***@" in output


def test_a_misspelt_variable_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_LIGHT_WORKER", "5")
    assert "did you mean CANONQ_LIGHT_WORKERS?" in typed("config").output


# -- logs ----------------------------------------------------------------------------------------------------


def logged(place: Place, run: str = RUN) -> Path:
    folder = place.world.runs.make("site", run)
    for name, text in {
        "upgrade/deploy.log": "deploying\n", "install/pytest.log": "1 passed\n", "logs/app.log": "one\ntwo\nFATAL\n",
        "logs/db.log": "ready\n", "logs/app.health.txt": "404\n", "run.txt": "no log\n",
        "install/progress.log": "collected 1.0 'test_one'\n", "install/hanging.log": "",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def files(*words: str) -> list[str]:
    ended = typed("logs", "site", *words, "--json")
    assert ended.exception is None, ended.exception
    return [log["file"] for log in json.loads(ended.output)["logs"]]


def test_logs_are_told_tier_by_tier_and_then_service_by_service(place: Place) -> None:
    logged(place)
    assert files() == ["install/pytest.log", "upgrade/deploy.log", "logs/app.health.txt", "logs/app.log", "logs/db.log"]
    assert files("--tier", "upgrade") == ["upgrade/deploy.log"]
    assert files("--service", "app") == ["logs/app.health.txt", "logs/app.log"]
    assert typed("logs", "site", "--service", "app", "--lines", "1").output == (
        "==> logs/app.health.txt <==\n404\n\n==> logs/app.log <==\nFATAL\n\n"
    )


def test_the_newest_run_is_meant_unless_one_is_named(place: Place) -> None:
    logged(place)
    place.world.runs.make("site", OTHER)
    assert files() == []
    assert len(files("--run", RUN)) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--run", "20260617T050314Z-site-abcdee"), f"did you mean '{RUN}'?"),
        (("--run", "../../etc"), "is not a run"),
        (("--service", "ap"), "did you mean 'app'?"),
        (("--service", "../x"), "services with a log are: app, db"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(place: Place, words: tuple[str, ...], told: str) -> None:
    logged(place)
    error = typed("logs", "site", *words).exception
    assert isinstance(error, WrongUse)
    assert told in str(error)


def test_a_recipe_without_a_run_says_so(place: Place) -> None:
    assert "No run of site is on record" in str(typed("logs", "site").exception)


def test_links_and_pipes_in_a_runs_folder_lead_nowhere_and_stop_nobody(place: Place) -> None:
    folder = logged(place)
    secret = place.folder / "secret.log"
    secret.write_text("s3cret\n")
    (folder / "logs" / "link.log").symlink_to(secret)
    (folder / "more").symlink_to(place.folder)
    os.mkfifo(folder / "logs" / "pipe.log")
    (folder / "logs" / "odd.log").write_bytes(b"\x1b[2Jgone\x07\xff\r\n")
    output = typed("logs", "site").output
    assert "s3cret" not in output
    assert "\x1b" not in output
    assert "\\x1b[2Jgone" in output


# -- what is asked to be tested ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "code", "told"),
    [
        ({"tag": "1.0.0+1.1"}, "not-a-release", "did you mean '1.0.0+1.0'?"),
        ({"tag": "9.9.9"}, "not-a-release", "the newest releases are: 1.0.0+1.0"),
        ({"ref": "mian"}, "no-such-ref", "did you mean 'main'?"),
        ({"ref": "-x"}, "bad-ref-name", ""),
    ],
)
def test_a_wrong_tag_or_ref_is_refused_by_one_look_at_the_remote(
    place: Place, asked: dict[str, str], code: str, told: str
) -> None:
    world = place.world
    with pytest.raises(CanonqError) as refused:
        check_asked(world, world.checkout.enrolment("site"), tag=asked.get("tag"), ref=asked.get("ref"), quick=False)
    assert refused.value.code == code
    assert told in str(refused.value)
    assert not (place.folder / "state" / "repos").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--tag", "9.9.9"), "not-a-release"),
        (("--quick",), "no-canonical"),
        (("--quick", "--tag", "1.0.0+1.0"), "no-canonical"),
        (("--quick", "--ref", "main"), "no-canonical"),
    ],
)
def test_what_cannot_be_tested_starts_neither_redis_nor_workers(place: Place, words: tuple[str, ...], code: str) -> None:
    ended = typed("test", "site", *words)
    assert isinstance(ended.exception, WrongUse)
    assert ended.exception.code == code
    assert not (place.folder / "state" / "logs").exists()


def test_right_ones_pass(place: Place) -> None:
    world = place.world
    enrolment = world.checkout.enrolment("site")
    for asked in ({"tag": "1.0.0+1.0"}, {}, {"ref": "main"}, {"ref": "a" * 40}):
        check_asked(world, enrolment, tag=asked.get("tag"), ref=asked.get("ref"), quick=False)


# -- plan ----------------------------------------------------------------------------------------------------


def test_plan_takes_recipes_and_says_that_without_docker_nothing_would_be_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.recipe("wiki")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place.folder}/nowhere.sock")
    ended = typed("plan", "site", "--json")
    assert ended.return_value == ExitStatus.MACHINERY
    told = json.loads(ended.output)
    assert [row["recipe"] for row in told["recipes"]] == ["site"]
    assert "Docker Engine does not answer" in told["trouble"]
    assert "none of that would be done" in typed("plan").output
    assert isinstance(typed("plan", "sitte").exception, WrongUse)
