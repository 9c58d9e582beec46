"""Who may not read, or not write, a part of the state folder is told that: it is neither empty, nor lost, nor broken."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker  # now: those who have no rights cannot read where it is installed
import pytest

from canonq.adapters.state.budget import Budget
from canonq.adapters.state.folder import state_of
from canonq.cli import main
from canonq.core.decide import decide
from canonq.core.errors import CanonqError, NotReadable
from canonq.flows.decide import gather
from canonq.flows.keeping.room import tidy
from canonq.flows.looking import doctor as doctor_flow
from canonq.flows.looking.check import check
from canonq.flows.looking.doctor import doctor
from canonq.flows.looking.logs import logs, run_of
from canonq.flows.looking.progress import Watcher
from canonq.flows.looking.status import status
from canonq.flows.looking.story import story
from canonq.flows.looking.verify import verify
from canonq.flows.promote import promote
from canonq.flows.promoting.rollback import rollback
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.world import World
from canonq.settings import Settings
from canonq.wiring import checking, looking
from tests.fakes import FakeEngine
from tests.faults.scenario import RECIPE, Scenario
from tests.flows.conftest import Place
from workers import steps

NOBODY = 65534
assert docker.errors
A, B = "1.1.0+1", "1.2.0+2"


@pytest.fixture(scope="module")
def scenario(redis_url: str) -> Iterator[Scenario]:
    """Canonicals A and B, where other users can come to; what a test forbids, it allows again."""
    with tempfile.TemporaryDirectory() as folder:
        made = Scenario(Path(folder), redis_url).prepare()
        for _ in range(2):
            made.prove()
            assert made.promote().outcome == "promoted"
        for path in (made.root, *made.root.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        yield made


def as_somebody(act: Callable[[], Any]) -> Any:
    """Do it in a process that has no more rights than others have; what it gave or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            value: Any = act()
        except CanonqError as error:
            value = error
        except BaseException:  # noqa: BLE001 - told by the parent
            value = AssertionError(traceback.format_exc())
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(value))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        value = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(value, AssertionError):
        raise value
    return value


@contextlib.contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """Nobody but root may look into it."""
    mode = path.stat().st_mode & 0o7777
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


def seen(scenario: Scenario, made: Callable[[Settings], World] = looking) -> World:
    """The world as who only looks sees it."""
    settings = Settings(repo=scenario.root / "checkout", state=scenario.state, redis_url=scenario.redis_url, disk_need=1, keep=2)
    budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
    return replace(made(settings), engine=FakeEngine(scenario.root / "docker"), budget=budget)


def kept(scenario: Scenario, number: int = 0) -> Path:
    return sorted((scenario.state / "warm" / RECIPE / "canonicals").iterdir())[number]


PARTS: dict[str, Callable[[Scenario], Path]] = {
    "a-kept-canonical": kept,
    "the-secrets-of-a-kept-one": lambda scenario: kept(scenario) / "secrets.json",
    "the-archive-of-a-kept-one": lambda scenario: kept(scenario) / "volumes.tar.zst",
    "the-mark-of-a-kept-one": lambda scenario: kept(scenario) / "in-force.json",
    "the-present-secrets": lambda scenario: kept(scenario, 1) / "secrets.json",
    "all-that-is-kept": lambda scenario: scenario.state / "warm" / RECIPE / "canonicals",
    "the-record": lambda scenario: scenario.record_file,
    "the-recipe": lambda scenario: scenario.record_file.parent,
}


def test_whoever_may_read_all_of_it_needs_no_right_to_write(scenario: Scenario) -> None:
    assert as_somebody(lambda: verify(seen(scenario))) == [
        {"recipe": RECIPE, "version": B, "state": "ok", "ok": True, "fault": None, "reason": "", "problems": []}
    ]


@pytest.mark.parametrize("part", PARTS)
def test_what_may_not_be_read_is_unknown_and_not_broken(scenario: Scenario, part: str) -> None:
    with forbidden(PARTS[part](scenario)):
        (row,) = as_somebody(lambda: verify(seen(scenario)))
        assert (row["state"], row["fault"]) == ("unknown", "user"), row
        assert all("cannot be read by this user" in problem and "rollback" not in problem for problem in row["problems"]), row
        lines = as_somebody(lambda: tidy(seen(scenario), dry_run=True))
        assert isinstance(lines, NotReadable) or not [line for line in lines if "would remove" in line], "no leftover by that"


def test_what_is_broken_is_broken_also_where_some_of_it_may_not_be_read(scenario: Scenario) -> None:
    damaged = kept(scenario, 1) / "volumes.tar.zst"
    was = damaged.read_bytes()
    damaged.write_bytes(b"x")
    try:
        with forbidden(kept(scenario)):
            (row,) = as_somebody(lambda: verify(seen(scenario)))
    finally:
        damaged.write_bytes(was)
    assert (row["state"], row["reason"], len(row["problems"])) == ("broken", "snapshot-damaged", 2)


def test_a_folder_of_all_recipes_that_may_not_be_read_is_not_an_installation_without_any(scenario: Scenario) -> None:
    with forbidden(scenario.state / "warm"):
        assert isinstance(as_somebody(lambda: verify(seen(scenario))), NotReadable)


@pytest.mark.parametrize("part", ["runs", f"runs/{RECIPE}"])
def test_runs_that_may_not_be_read_are_not_none(scenario: Scenario, part: str) -> None:
    def decided() -> Any:
        world = seen(scenario)
        return decide(gather(world, world.checkout.enrolment(RECIPE), {B: "a" * 40}))

    with forbidden(scenario.state / part):
        (row,) = as_somebody(lambda: status(seen(scenario)))["recipes"]
        assert (row["canonical"]["version"], row["last_run"]) == (B, None)
        assert "cannot be read by this user" in row["problem"]
        assert isinstance(as_somebody(decided), NotReadable), "reds that are not seen hold nothing"
        assert isinstance(as_somebody(lambda: promote(seen(scenario), RECIPE)), NotReadable), "not: no run has a verdict"


@pytest.mark.parametrize("part", ["work", "sweeps"])
def test_what_is_under_way_is_not_told_as_nothing_where_that_may_not_be_read(scenario: Scenario, part: str) -> None:
    (scenario.state / part).mkdir(exist_ok=True)
    with forbidden(scenario.state / part):
        assert isinstance(as_somebody(lambda: status(seen(scenario))), NotReadable)


@pytest.mark.parametrize("part", [f"repos/{RECIPE}", f"repos/{RECIPE}/seen.json"])
def test_tags_that_were_seen_are_not_forgotten_where_they_may_not_be_read(scenario: Scenario, part: str) -> None:
    with forbidden(scenario.state / part):
        assert isinstance(as_somebody(lambda: seen(scenario).repos.known(RECIPE)), NotReadable)


def test_a_record_that_may_not_be_read_is_not_taken_for_a_lost_one(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback would write another over it."""
    record, was = scenario.record_file, scenario.record_file.read_bytes()
    read = Path.read_text

    def refused(path: Path, *arguments: Any, **options: Any) -> str:
        if path == record:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(NotReadable, match=r"canonical\.json cannot be read by this user"):
        rollback(scenario.world(), RECIPE, to=None, reason="a test", who="ada")
    assert record.read_bytes() == was
    assert not record.with_name("canonical.json.unreadable").exists()


# -- what doctor says of the state folder -------------------------------------------------------------------


def row_of(checks: list[dict[str, Any]], name: str = "state") -> dict[str, Any]:
    return next(check for check in checks if check["check"] == name)


def test_doctor_names_what_this_user_cannot_write_and_whose_it_is(scenario: Scenario) -> None:
    row = row_of(as_somebody(lambda: doctor(seen(scenario, checking))))
    assert row["state"] == "broken"
    assert f"{scenario.state}, " in row["detail"]
    assert f"belongs to uid {scenario.state.stat().st_uid}" in row["mend"]
    mode = scenario.state.stat().st_mode
    try:
        assert (state_of(scenario.state).state, "every user" in state_of(scenario.state).detail) == ("warning", True)
        scenario.state.chmod(0o750)
        assert state_of(scenario.state).state == "ok"
    finally:
        scenario.state.chmod(mode)


def test_a_state_folder_that_canonq_makes_is_for_its_user_alone(place: Place) -> None:
    assert place.world.settings.state.stat().st_mode & 0o777 == 0o700


def test_one_folder_of_another_user_is_found_wherever_it_lies(scenario: Scenario) -> None:
    folder = scenario.state / "runs" / "other"
    folder.mkdir(mode=0o555)
    mode = scenario.root.stat().st_mode
    try:
        if os.geteuid() == 0:
            for path in (scenario.state, *scenario.state.rglob("*")):
                if path != folder:
                    os.chown(path, NOBODY, NOBODY)
        told = as_somebody(lambda: state_of(scenario.state))
    finally:
        scenario.root.chmod(mode)
        if os.geteuid() == 0:
            for path in (scenario.state, *scenario.state.rglob("*")):
                os.chown(path, 0, 0)
        folder.rmdir()
    assert (told.state, told.detail) == ("broken", f"{folder} cannot be written: this user may not")


@pytest.mark.parametrize("what", ["a-file", "not-readable", "no-instance"])
def test_a_state_folder_that_is_none_is_a_row_and_the_rest_is_looked_at(
    what: str, redis_url: str, tmp_path: Path, scenario: Scenario
) -> None:
    state = scenario.root / f"state-{what}"
    if what == "a-file":
        state.write_text("")
    else:
        state.mkdir()
        (state / "instance").write_text("")
    settings = Settings(repo=scenario.root / "checkout", state=state, redis_url=redis_url)
    with forbidden(state) if what == "not-readable" else contextlib.nullcontext():
        checks = as_somebody(lambda: doctor(replace(checking(settings), engine=FakeEngine(scenario.root / "docker"))))
    row = row_of(checks)
    assert row["state"] == "broken", row
    assert {"a-file": "is not a folder", "not-readable": "cannot be", "no-instance": "/instance is empty"}[what] in row["detail"]
    assert row_of(checks, "enrolments")["state"] == "ok", "the rest is looked at"


def test_a_state_folder_that_cannot_be_made_is_told_and_one_that_can_is_well(tmp_path: Path) -> None:
    assert state_of(tmp_path / "not" / "there" / "yet").state == "ok"
    (tmp_path / "file").write_text("")
    assert state_of(tmp_path / "file" / "state").state == "broken"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.EACCES, "state-not-readable", "/somewhere/deep may not be used by this user"),
        (errno.ENOSPC, "disk-full", "/somewhere/deep cannot be written: No space left on device"),
        (errno.EROFS, "disk-read-only", "/somewhere/deep cannot be written: its file system is read-only"),
        (errno.EISDIR, "canonq-failed", "own fault"),
    ],
    ids=["no right", "disk full", "read-only", "a fault of canonq's own"],
)
def test_what_the_host_refuses_is_told_as_that_wherever_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: str, said: str
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), "/somewhere/deep")

    monkeypatch.setattr(doctor_flow, "doctor", refused)
    monkeypatch.setattr("sys.argv", ["canonq", "doctor"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, f"[{code}]" in told, said in told) == (3, True, True), told
    assert ("Traceback" in told) == (code == "canonq-failed")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_what_the_host_refuses_a_step_is_the_hosts_in_the_sweep_too(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(world: World) -> Any:
        raise OSError(number, os.strerror(number), "/somewhere/deep")

    world = scenario.world()
    opened = open_sweep(world, [RECIPE])
    monkeypatch.setattr(steps, "live", lambda: world)
    task = cast(Any, SimpleNamespace(request=SimpleNamespace(id="x", root_id="x", chain=True, delivery_info={}, hostname="x@y")))
    with pytest.raises(steps.StepFailed):
        steps.take(task, "decide", RECIPE, opened.sweep, refused)
    outcome = world.sweeps.outcomes(opened.sweep)[RECIPE]
    assert (outcome.outcome, outcome.fault) == ("error", "host"), outcome
    assert "own fault" not in outcome.detail


# -- commands that only look ---------------------------------------------------------------------------------

LOOKS: dict[str, Callable[[World], Any]] = {
    "why": lambda world: story(world, RECIPE).ends,
    "watch": lambda world: Watcher(world).calls(),
    "logs": lambda world: [log.name for log in logs(run_of(world, RECIPE, None))],
    "check": lambda world: check(world, (RECIPE,))[0]["state"],
}


@pytest.mark.parametrize("look", LOOKS)
def test_to_look_needs_no_right_to_write(scenario: Scenario, look: str) -> None:
    world = seen(scenario)
    found = as_somebody(lambda: LOOKS[look](world))
    assert not isinstance(found, CanonqError), found
    assert found == LOOKS[look](world)


@pytest.mark.parametrize("command", ["why", "watch", "logs", "status"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_state_folder_that_is_none_is_told_as_that(
    scenario: Scenario,
    tmp_path: Path,
    command: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "state"
    place.touch() if kind == "file" else place.symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("CANONQ_STATE", str(place))
    monkeypatch.setenv("CANONQ_REPO", str(scenario.root / "checkout"))
    monkeypatch.setattr("sys.argv", ["canonq", command, *([RECIPE] if command in ("why", "logs") else [])])
    monkeypatch.setattr("canonq.cli.interrupts.install", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert f"[state-not-a-folder] {place} (CANONQ_STATE) is not a folder" in capsys.readouterr().err
