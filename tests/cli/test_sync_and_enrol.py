"""`canonq sync`, `canonq enrol` and `canonq webhook` as their users meet them."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from git.repo import Repo

from canonq.cli.commands import canonq
from tests import memory
from tests.support import Installation, make_recipe, release

TAG = "1.0.0+1.0"


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    """One recipe with a mirror, none else."""
    make_recipe(tmp_path / "upstream", {TAG: {"compose.yml": "services: {app: {image: 'x:1'}}\n"}})
    Repo.init(tmp_path / "mirror.git", bare=True, initial_branch="main")
    installation = Installation(tmp_path)
    installation.enrol("good", f'upstream = "{tmp_path}/upstream"\nmirror = "{tmp_path}/mirror.git"\n')
    return installation


def test_sync_says_what_it_did_and_a_dry_run_what_it_would_do(installed: Installation) -> None:
    dry = installed.canonq("sync", "--dry-run", "--json")
    assert dry.status == 0
    assert dry.json["dry_run"] is True
    assert any("would be pushed" in note for note in dry.json["recipes"][0]["notes"])
    assert Repo(installed.root / "mirror.git").tags == []
    (row,) = installed.canonq("sync", "good", "--json").json["recipes"]
    assert (row["state"], row["latest"], row["pushed"]) == ("ok", TAG, 2)
    assert [tag.name for tag in Repo(installed.root / "mirror.git").tags] == [TAG]
    told = installed.canonq("sync")
    assert told.status == 0
    assert TAG in told.out


def test_one_recipe_that_fails_stops_no_other_and_gives_the_exit_status(installed: Installation) -> None:
    installed.enrol("gone", f'upstream = "{installed.root}/nowhere"\n')
    installed.enrol("broken", "upstream = 7\n")
    ended = installed.canonq("sync", "--json")
    rows = {row["recipe"]: row for row in ended.json["recipes"]}
    assert ended.status == 3
    assert {name: row["state"] for name, row in rows.items()} == {"good": "ok", "gone": "error", "broken": "error"}
    assert (rows["gone"]["reason"], rows["gone"]["cause"]) == ("sync-failed", "upstream-gone")
    assert rows["broken"]["reason"] == "enrolment-invalid"


def test_a_moved_tag_is_accepted_for_one_recipe_by_name(installed: Installation) -> None:
    installed.canonq("sync")
    upstream = Repo(installed.root / "upstream")
    upstream.git.commit("--allow-empty", "-qm", "x")
    upstream.git.tag("-f", TAG)
    moved = installed.canonq("sync", "good")
    assert moved.status == 1, "a person has to look; no machinery has failed"
    assert "--accept-moved" in moved.out
    assert installed.canonq("sync", "--accept-moved", TAG).status == 2
    assert installed.canonq("sync", "good", "--accept-moved", "9.9.9").status == 2
    assert installed.canonq("sync", "good", "--accept-moved", TAG).status == 0


def test_a_dry_run_accepts_fetches_and_writes_nothing(installed: Installation) -> None:
    installed.canonq("sync")
    upstream = Repo(installed.root / "upstream")
    upstream.git.commit("--allow-empty", "-qm", "x")
    upstream.git.tag("-f", TAG)
    before = snapshot(installed.root)
    dry = installed.canonq("sync", "good", "--dry-run", "--accept-moved", TAG, "--json")
    (row,) = dry.json["recipes"]
    assert (dry.status, row["state"], row["changed"]) == (0, "ok", True), "it says what would be"
    assert any("would be pushed" in note for note in row["notes"])
    assert installed.canonq("sync", "good", "--dry-run", "--accept-moved", "9.9.9").status == 2
    assert snapshot(installed.root) == before
    assert installed.canonq("sync", "good").status == 1, "nothing was accepted"


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files with when they were written and what is in them."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


LOOKING = (["status"], ["status", "good"], ["plan"], ["verify"], ["doctor"], ["janitor", "--dry-run"], ["sync", "--dry-run"])


@pytest.mark.long
def test_who_only_looks_writes_nothing_also_where_nothing_is_yet(installed: Installation) -> None:
    for arguments in LOOKING:
        assert "Traceback" not in installed.canonq(*arguments).err
    assert not installed.state.exists()
    installed.canonq("sync")
    (installed.state / "work" / "20260617T050314Z-good-abcdef").mkdir(parents=True)
    (installed.state / "warm" / "good").mkdir(parents=True)
    dead = installed.state / "locks" / "disk" / "0123456789ab.json"
    dead.parent.mkdir(parents=True, exist_ok=True)
    dead.write_text("{}")
    before = snapshot(installed.root)
    for arguments in LOOKING:
        installed.canonq(*arguments)
        assert snapshot(installed.root) == before, arguments


def test_who_may_not_write_may_look(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.canonq("sync")
    owner = installed.state / "work" / "20260617T050314Z-good-abcdef"
    owner.mkdir(parents=True, mode=0o700)
    (owner / "alive").write_text("")
    for path in [installed.state, *installed.state.rglob("*")]:
        if path != owner:
            path.chmod(0o555 if path.is_dir() else 0o444)
    for name, value in installed.environment.items():
        monkeypatch.setenv(name, value)
    memory.open_to_others(installed.root)
    as_root = os.geteuid() == 0  # to whom nothing is forbidden
    importlib.import_module("canonq.cli.looking")  # which a command does when it is typed, from where nobody else may read
    try:
        if as_root:
            os.seteuid(65534)
        for arguments in (["status"], ["status", "good"], ["verify"]):
            ended = CliRunner().invoke(canonq, arguments, standalone_mode=False, catch_exceptions=False)
            assert int(ended.return_value) == 0, ended.output
    finally:
        if as_root:
            os.seteuid(0)
        for path in [installed.state, *installed.state.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_plan_and_a_sync_of_nobody_are_hollow(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    (installation.checkout / "tests").mkdir(parents=True)
    assert installation.canonq("sync").status == 2


def test_a_plan_names_what_cannot_be_listed_and_changes_nothing(installed: Installation) -> None:
    installed.enrol("gone", f'upstream = "{installed.root}/nowhere"\n')
    ended = installed.canonq("plan", "--json")
    rows = {row["recipe"]: (row["action"], row["reason"]) for row in ended.json["recipes"]}
    assert rows == {"good": ("run", "seed"), "gone": ("error", "sync-failed")}
    assert ended.status == 3
    assert not (installed.state / "repos").exists()


def test_a_plan_passes_over_a_tag_that_names_no_commit_as_the_sweep_will(installed: Installation) -> None:
    repo = Repo(installed.root / "upstream")
    repo.git.tag("9.0.0+9", repo.head.commit.tree["compose.yml"].hexsha)
    installed.canonq("sync")
    (row,) = installed.canonq("plan", "--json").json["recipes"]
    assert row["latest"] != "9.0.0+9"


def test_enrol_writes_a_file_that_the_next_plan_reads(installed: Installation) -> None:
    upstream = make_recipe(installed.root / "new", {TAG: {"compose.yml": "services: {app: {image: 'x:1'}}\n"}})
    release(upstream, "1.1.0+1.1", {".env.sample": "TYPE=new\nDOMAIN=x\n"})
    listed = installed.root / "recipes.json"
    listed.write_text(json.dumps({"new": {"repository": str(upstream.working_dir), "description": "Something new"}}))
    made = installed.canonq("enrol", "new", "--catalogue", str(listed), "--json")
    assert (made.status, made.json["version"]) == (0, "1.1.0+1.1")
    text = Path(made.json["path"]).read_text()
    assert "# new: Something new" in text
    rows = {row["recipe"]: row["latest"] for row in installed.canonq("plan", "--json").json["recipes"]}
    assert rows["new"] == "1.1.0+1.1"
    again = installed.canonq("enrol", "new", "--upstream", str(upstream.working_dir))
    assert again.status == 2
    assert "enrolled already" in again.err
    assert Path(made.json["path"]).read_text() == text


def test_the_first_enrolment_of_a_new_git_checkout_makes_its_folder_and_elsewhere_none_is_made(installed: Installation) -> None:
    """As the guide has it: `git init`, and then `canonq enrol`."""
    new = installed.root / "recipes"
    new.mkdir()
    installed.settings["CANONQ_REPO"] = str(new)
    asked = ("enrol", "new", "--upstream", str(installed.root / "upstream"))
    refused = installed.canonq(*asked)
    assert refused.status == 2
    assert "canonq enrol RECIPE" in refused.err
    assert list(new.iterdir()) == []
    Repo.init(new)
    made = installed.canonq(*asked)
    assert made.status == 0, made
    assert (new / "tests" / "new" / "recipe.toml").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["no-such", "--catalogue", "LIST"], "no-such"), (["new", "--catalogue", "/nowhere"], "/nowhere"),
     (["../new", "--upstream", "/x"], "recipe name"), (["new", "--upstream", "ext::sh"], "upstream"),
     (["new", "--upstream", "https://u:pa55@h/x"], "credential")],
)  # fmt: skip
def test_enrol_with_what_cannot_be_right_says_so_and_writes_nothing(
    installed: Installation, arguments: list[str], named: str
) -> None:
    listed = installed.root / "recipes.json"
    listed.write_text(json.dumps({"some": {"repository": "/x"}}))
    ended = installed.canonq("enrol", *[str(listed) if word == "LIST" else word for word in arguments])
    assert ended.status == 2
    assert named in ended.err
    assert "pa55" not in ended.err
    assert [path.name for path in (installed.checkout / "tests").iterdir()] == ["good"]


def test_the_webhook_is_off_until_it_is_configured_and_needs_its_secret(installed: Installation) -> None:
    off = installed.canonq("webhook")
    assert off.status == 2
    assert "[webhook] secret_file" in off.err
    installed.settings["CANONQ_WEBHOOK__SECRET_FILE"] = str(installed.root / "nowhere")
    without = installed.canonq("webhook")
    assert without.status == 2
    assert "secret_file" in without.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("CANONQ_FORGE__URL", "ftp://x"), ("CANONQ_FORGE__URL", "https://user:pw@h"), ("CANONQ_WEBHOOK__LISTEN", "8787"),
     ("CANONQ_GIT__PER_HOST", "0"), ("CANONQ_GIT__LARGEST", "much")],
)  # fmt: skip
def test_a_setting_of_a_table_that_cannot_be_right_is_named(installed: Installation, name: str, value: str) -> None:
    installed.settings |= {
        "CANONQ_FORGE__TOKEN_FILE": "/x",
        "CANONQ_WEBHOOK__SECRET_FILE": "/x",
        "CANONQ_FORGE__URL": "https://h",
    }
    installed.settings[name] = value
    ended = installed.canonq("plan")
    assert ended.status == 2
    assert name.removeprefix("CANONQ_").lower().replace("__", ".") in ended.err.lower()
    assert "pw@" not in ended.err
