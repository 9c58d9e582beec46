"""Wrong use and wrong configuration: one clear message, exit status 2, nothing changed (docs/rules.md 5.5 and 5.7)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from canonq.cli import main
from tests.support import Installation, make_recipe

GOOD = 'upstream = "{upstream}"\n'


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    make_recipe(tmp_path / "upstream", {"1.0.0+1.0": {"compose.yml": "services: {}\n"}})
    installation = Installation(tmp_path)
    installation.enrol("good", GOOD.format(upstream=tmp_path / "upstream"))
    return installation


@pytest.mark.parametrize("command", ["sweep", "plan", "status"])
def test_a_missing_checkout_is_never_a_green_no_op(tmp_path: Path, command: str) -> None:
    """Known failure 1: an empty list was swept every night, and the timer stayed green."""
    ended = Installation(tmp_path).canonq(command)
    assert ended.status == 2
    assert str(tmp_path / "checkout") in ended.err


@pytest.mark.parametrize("command", ["sweep", "plan", "status"])
def test_a_checkout_without_tests_names_the_path_it_looked_at(tmp_path: Path, command: str) -> None:
    """Known failure 24."""
    (tmp_path / "checkout").mkdir()
    ended = Installation(tmp_path).canonq(command)
    assert ended.status == 2
    assert str(tmp_path / "checkout" / "tests") in ended.err


@pytest.mark.parametrize("command", ["sweep", "plan", "status"])
def test_nobody_enrolled_names_the_path_it_looked_at(tmp_path: Path, command: str) -> None:
    installation = Installation(tmp_path)
    installation.enrol("off", 'upstream = "/x"\nenrolled = false\n')
    ended = installation.canonq(command)
    assert ended.status == 2
    assert str(tmp_path / "checkout" / "tests") in ended.err
    assert "enrolled = false" in ended.err


def test_no_checkout_configured_says_which_setting(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.settings["CANONQ_REPO"] = ""
    ended = installation.canonq("sweep", "--wait")
    assert ended.status == 2
    assert "CANONQ_REPO" in ended.err


@pytest.mark.parametrize("command", ["sweep", "test", "promote", "status"])
@pytest.mark.parametrize("name", ["../good", "/etc/passwd", "good; rm -rf /", "$(id)", "GOOD", "a" * 41, "gööd", "good\n"])
def test_a_name_like_a_path_or_a_shell_command_is_refused(installed: Installation, command: str, name: str) -> None:
    ended = installed.canonq(command, name)
    assert ended.status == 2
    assert "is not a recipe name" in ended.err
    assert not (installed.state / "sweeps").exists()


@pytest.mark.parametrize("command", ["sweep", "test", "promote", "status"])
def test_an_unknown_recipe_is_told_with_those_that_are_enrolled(installed: Installation, command: str) -> None:
    ended = installed.canonq(command, "unknown")
    assert ended.status == 2
    assert "'unknown' is not enrolled" in ended.err
    assert "enrolled recipes: good" in ended.err


@pytest.mark.parametrize("tag", ["-x", "a b", "a..b", "$(id)", "x;y", "refs/../x", "", "a" * 300])
def test_a_hostile_tag_is_refused_before_git_sees_it(installed: Installation, tag: str) -> None:
    ended = installed.canonq("test", "good", f"--tag={tag}")
    assert ended.status == 2
    assert "is not a ref name" in ended.err
    assert not (installed.state / "repos").exists()


@pytest.mark.parametrize("option", ["--tag", "--ref"])
def test_a_ref_and_a_tag_are_refused_together_and_apart_when_they_are_no_names(installed: Installation, option: str) -> None:
    assert installed.canonq("test", "good", option, "$(id)").status == 2
    both = installed.canonq("test", "good", "--tag", "1.0.0+1", "--ref", "main")
    assert both.status == 2
    assert "exclude each other" in both.err


def test_an_unknown_option_and_an_unknown_command_are_wrong_use(installed: Installation) -> None:
    assert installed.canonq("sweep", "--no-such").status == 2
    assert installed.canonq("no-such").status == 2


def test_a_broken_enrolment_is_named_and_does_not_stop_the_others(installed: Installation) -> None:
    installed.enrol("broken", "upstream = \n")
    installed.enrol("typo", 'upstream = "/x"\nwieght = "light"\n')
    rows = {row["recipe"]: row for row in installed.canonq("plan", "--json").json["recipes"]}
    assert rows["good"]["action"] == "run"
    assert rows["broken"]["reason"] == rows["typo"]["reason"] == "enrolment-invalid"
    assert "broken/recipe.toml" in rows["broken"]["detail"]
    assert "wieght: unknown key (allowed: " in rows["typo"]["detail"]


def test_an_unreachable_upstream_is_told_and_does_not_stop_the_others(installed: Installation) -> None:
    """Known failure 9: a sync that failed was swallowed."""
    installed.enrol("gone", f'upstream = "{installed.root}/nowhere"\n')
    ended = installed.canonq("plan", "--json")
    rows = {row["recipe"]: row for row in ended.json["recipes"]}
    assert ended.status == 3
    assert rows["gone"]["reason"] == "sync-failed"
    assert rows["good"]["action"] == "run"


def test_an_upstream_that_would_start_a_program_is_refused(installed: Installation) -> None:
    installed.enrol("evil", f'upstream = "ext::sh -c touch% {installed.root}/pwned"\n')
    rows = {row["recipe"]: row for row in installed.canonq("plan", "--json").json["recipes"]}
    assert (rows["evil"]["reason"], rows["evil"]["fault"]) == ("bad-upstream", "enrolment")
    assert not (installed.root / "pwned").exists()


def test_plan_changes_nothing(installed: Installation) -> None:
    installed.canonq("status")
    before = sorted(path.relative_to(installed.root) for path in installed.root.rglob("*") if ".git" not in path.parts)
    told = installed.canonq("plan", "--json")
    assert told.status == (3 if told.json["trouble"] else 0), "whether Docker is there is nothing that this is about"
    after = sorted(path.relative_to(installed.root) for path in installed.root.rglob("*") if ".git" not in path.parts)
    assert after == before


def test_a_setting_that_does_not_exist_is_named_with_those_that_do(installed: Installation) -> None:
    (installed.root / "canonq.toml").write_text('hold_red = 3\nzone = "Not A Zone"\n')
    ended = installed.canonq("plan")
    assert ended.status == 2
    assert "hold_red: unknown key (allowed: " in ended.err
    assert "zone: " in ended.err


def test_a_state_folder_that_cannot_be_written_is_named_with_the_mend(installed: Installation) -> None:
    (installed.root / "file").write_text("")
    installed.settings["CANONQ_STATE"] = str(installed.root / "file" / "state")
    ended = installed.canonq("sweep")
    assert ended.status == 3
    assert str(installed.root / "file") in ended.err
    assert "Mend:" in ended.err


def test_a_redis_that_is_not_there_is_told_with_the_mend(installed: Installation) -> None:
    installed.settings["CANONQ_REDIS_URL"] = "redis://:hunter2@127.0.0.1:1/0"
    ended = installed.canonq("sweep", "--wait")
    assert ended.status == 3
    assert "Redis does not answer" in ended.err
    assert "CANONQ_REDIS_URL" in ended.err
    assert "hunter2" not in ended.err + ended.out


def test_errors_are_json_too_when_json_was_asked_for(tmp_path: Path) -> None:
    ended = Installation(tmp_path).canonq("sweep", "--wait", "--json")
    assert ended.status == 2
    assert ended.json["error"]["code"] == "hollow-sweep"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_terminal_that_has_no_umlauts_is_told_all_the_same(tmp_path: Path, options: tuple[str, ...]) -> None:
    installed = Installation(tmp_path, {"PYTHONIOENCODING": "ascii"})
    (installed.enrol("small", 'upstream = "/nowhere"\n') / "recipe.toml").write_text('"für 🌻" = 1\n')
    ended = installed.anew("canonq", "check", *options)
    assert ended.status == 2, ended.err
    said = ended.json["recipes"][0]["problems"][0] if options else ended.out
    assert ("für 🌻: unknown key" if options else "f\\xfcr \\U0001f33b: unknown key") in said


@pytest.mark.parametrize(("variable", "said"), [("CANONQ_KEEP", "0"), ("CANONQ_HOSTS__FETCH", "rsync -a")])
def test_celery_with_a_wrong_setting_ends_in_one_line(installed: Installation, variable: str, said: str) -> None:
    installed.settings[variable] = said
    ended = installed.celery("status")
    assert ended.status == 2
    assert f"({variable})" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.long
def test_a_docker_engine_that_is_not_there_fails_the_recipe_not_the_sweep(installed: Installation) -> None:
    installed.settings["DOCKER_HOST"] = f"unix://{installed.root}/no.sock"
    ended = installed.canonq("sweep", "--wait", "--json")
    assert ended.status == 3
    result = ended.json
    assert result["counts"] == {"promoted": 0, "skipped": 0, "red": 0, "error": 1, "deferred": 0}
    assert result["outcomes"][0]["reason"] == "docker-unreachable"
    assert "systemctl start docker" in result["outcomes"][0]["detail"]


def test_doctor_names_what_is_missing_and_how_to_mend_it(tmp_path: Path) -> None:
    installation = Installation(tmp_path, {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"})
    ended = installation.canonq("doctor", "--json")
    checks = {check["check"]: check for check in ended.json["checks"]}
    assert ended.status == 2
    assert checks["checkout"]["state"] == "broken"
    assert checks["docker"]["state"] == "broken"
    assert "Docker" in checks["docker"]["mend"]


@pytest.mark.long
def test_no_room_on_the_disk_defers_every_recipe_and_says_so(installed: Installation) -> None:
    installed.settings["CANONQ_DISK_FLOOR"] = "9000TiB"
    ended = installed.canonq("sweep", "--wait", "--json")
    assert ended.status == 1
    assert ended.json["counts"]["deferred"] == ended.json["enrolled"] == 1
    assert ended.json["outcomes"][0]["reason"] == "disk-below-budget"


@pytest.mark.long
def test_a_folder_with_a_hostile_name_is_an_error_of_its_own(installed: Installation) -> None:
    folder = installed.checkout / "tests" / "Not A Recipe"
    folder.mkdir()
    (folder / "recipe.toml").write_text('upstream = "/x"\n')
    installed.settings["DOCKER_HOST"] = f"unix://{installed.root}/no.sock"
    result = installed.canonq("sweep", "--wait", "--json").json
    assert result["enrolled"] == 2
    assert {outcome["recipe"]: outcome["reason"] for outcome in result["outcomes"]}["Not A Recipe"] == "bad-recipe-name"


def test_the_environment_of_this_test_run_does_not_leak_into_the_commands(installed: Installation) -> None:
    ours = {name for name in installed.environment if name.startswith("CANONQ_")}
    assert ours == {"CANONQ_REPO", "CANONQ_STATE", "CANONQ_LOADED_ABOVE", "CANONQ_RETRY_PAUSE", "CANONQ_SCREENSHOTS"}
    assert "PATH" in os.environ


def test_a_fault_of_canonqs_own_is_the_machinery_and_told_in_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own exit status for it says that something is red."""

    def broken(**options: object) -> None:
        raise KeyError("admin")

    monkeypatch.setattr("canonq.cli.canonq.main", broken)
    monkeypatch.setattr(sys, "argv", ["canonq", "plan", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["fault"] == "canonq"
    assert "KeyError: 'admin'" in shown.err


def test_wrong_options_are_json_too_when_json_was_asked_for(installed: Installation) -> None:
    ended = installed.canonq("rollback", "good", "--json")
    assert ended.status == 2
    assert (ended.json["error"]["code"], ended.json["error"]["fault"]) == ("wrong-use", "user")
