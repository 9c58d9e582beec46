"""What doctor says of a checkout, a Redis, versions, disks and variables: each what it is, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from canonq.adapters.checkout import NO_CHECKOUT, Checkout
from canonq.adapters.state.budget import Budget
from canonq.adapters.state.folder import state_of
from canonq.core.budget import FileSystem
from canonq.core.check import Check
from canonq.core.dockerinfo import Speaks, Unled
from canonq.core.errors import HostProblem
from canonq.core.report.messages import Message
from canonq.flows.looking import doctor, doctor_docker
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.world import World
from canonq.ports import Roots, Versions
from canonq.settings import GitSettings, Settings, unknown_variables
from canonq.wiring import live
from tests.fakes import FakeEngine


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    made = tmp_path / "origin"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    git(made, "commit", "-q", "--allow-empty", "-m", "one")
    return made


@pytest.fixture
def checkout(origin: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "-q", str(origin), "checkout")
    return tmp_path / "checkout"


def age(folder: Path) -> Check:
    (found,) = doctor._checkout_age(cast(World, SimpleNamespace(checkout=Checkout(folder))))
    return found


def test_a_checkout_that_is_what_its_remote_has_is_well(checkout: Path) -> None:
    assert age(checkout).state == "ok"


def test_what_git_warns_of_is_no_commit(checkout: Path, tmp_path: Path) -> None:
    program = tmp_path / "upload-pack"
    program.write_text('#!/bin/sh\necho "warning: redirecting to another host" >&2\nexec git-upload-pack "$@"\n')
    program.chmod(0o755)
    git(checkout, "config", "remote.origin.uploadpack", str(program))
    assert age(checkout).state == "ok"


def test_a_branch_whose_name_ends_alike_is_another(checkout: Path, origin: Path) -> None:
    git(origin, "branch", "fix/main")
    git(origin, "commit", "-q", "--allow-empty", "-m", "two")
    found = age(checkout)
    assert (found.state, "behind" in found.detail) == ("warning", True)


def test_the_branch_that_is_tracked_is_compared_whatever_it_is_called(checkout: Path, origin: Path) -> None:
    git(checkout, "branch", "-m", "main", "mine")
    assert age(checkout).state == "ok"
    git(origin, "commit", "-q", "--allow-empty", "-m", "two")
    assert "behind" in age(checkout).detail


def test_a_checkout_that_is_ahead_is_not_behind(checkout: Path) -> None:
    git(checkout, "commit", "-q", "--allow-empty", "-m", "mine")
    found = age(checkout)
    assert (found.state, found.detail) == ("ok", "main has 1 commit(s) that its remote has not; it is not behind")


def test_a_checkout_without_a_remote_or_branch_says_so(origin: Path, checkout: Path) -> None:
    assert "no remote" in age(origin).detail
    git(checkout, "checkout", "-q", "--detach")
    assert "on no branch" in age(checkout).detail


def test_a_checkout_of_another_user_still_says_its_revision(checkout: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give it to somebody else")
    revision = Checkout(checkout).revision()
    os.chown(checkout, 12345, 12345)
    os.chown(checkout / ".git", 12345, 12345)
    assert Checkout(checkout).revision() == revision != NO_CHECKOUT


def test_a_folder_that_is_no_checkout_is_told_as_such_and_is_no_revision(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    assert Checkout(tmp_path).revision() == NO_CHECKOUT


# -- Docker -------------------------------------------------------------------------------------------------


class Engine(FakeEngine):
    """One whose words the test decides."""

    said = Versions(
        "29.1.0", Speaks("the Engine 29.1.0", "1.40", "1.56"), Speaks("The `docker` command 29", "0", "1.52"), "1.56", None
    )
    where: Roots | None = None
    trouble: HostProblem | None = None
    unled: Unled | None = None

    def firewall(self) -> Unled | None:
        return self.unled

    def versions(self) -> Versions:
        return self.said

    def roots(self) -> Roots:
        return self.where or super().roots()

    def preflight(self) -> None:
        if self.trouble:
            raise self.trouble


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path / "docker")


def told(probe: Any, **parts: object) -> list[Check]:
    return list(probe(cast(World, SimpleNamespace(**parts))))


def test_versions_are_told_with_what_is_known_of_them(engine: Engine) -> None:
    by_name = {check.check: check for check in told(doctor_docker.docker, engine=engine)}
    assert (by_name["docker engine"].state, by_name["docker api"].state, by_name["docker"].state) == ("ok", "ok", "ok")
    assert "proven on 29" in by_name["docker engine"].detail
    assert "1.40 to 1.56" in by_name["docker api"].detail
    assert str(engine.asked_at()) in by_name["docker"].detail


def test_a_firewall_that_was_flushed_is_broken_and_one_without_any_rules_of_dockers_a_warning(engine: Engine) -> None:
    assert told(doctor_docker.firewall, engine=engine) == []
    for sure, state in ((True, "broken"), (False, "warning")):
        engine.unled = Unled(sure, "Rules are gone", "restart Docker.")
        (found,) = told(doctor_docker.firewall, engine=engine)
        assert (found.state, found.detail, found.mend) == (state, "Rules are gone", "restart Docker.")


def test_an_engine_nobody_has_tried_is_a_warning(engine: Engine) -> None:
    engine.said = replace(engine.said, version="31.0.0")
    (found,) = (check for check in told(doctor_docker.docker, engine=engine) if check.check == "docker engine")
    assert (found.state, "unknown" in found.detail) == ("warning", True)


def test_a_command_that_is_too_old_is_broken_once_and_with_the_way_out(engine: Engine) -> None:
    engine.said = replace(engine.said, do_not_meet="The `docker` command 20.10.24 is too old for the Engine 29.0.0: ...")
    engine.trouble = HostProblem(engine.said.do_not_meet or "", code="docker-api")
    broken = [
        check for check in told(doctor_docker.docker, engine=engine) if check.state == "broken" and check.check != "volumes"
    ]
    assert [check.check for check in broken] == ["docker api"]
    assert "install a `docker` command" in broken[0].mend


def test_a_sweep_is_refused_in_one_sentence_when_the_command_cannot_speak_with_the_engine(engine: Engine, tmp_path: Path) -> None:
    engine.trouble = HostProblem("The `docker` command is too old.", code="docker-api")
    with pytest.raises(HostProblem, match="too old"):
        open_sweep(cast(World, SimpleNamespace(engine=engine)))


def test_where_images_lie_is_told_and_a_guess_is_a_warning(engine: Engine, tmp_path: Path) -> None:
    engine.where = Roots(tmp_path, tmp_path / "docker", "containerd", "guessed")
    (guess,) = told(doctor_docker.images, engine=engine)
    assert (guess.state, "containerd_root" in guess.mend) == ("warning", True)
    engine.where = Roots(tmp_path, tmp_path / "docker", "containerd", "asked of its process")
    assert told(doctor_docker.images, engine=engine)[0].state == "ok"
    engine.where = Roots(tmp_path, tmp_path / "not seen", "containerd", "asked of its process")
    (unseen,) = told(doctor_docker.images, engine=engine)
    assert (unseen.state, "not watched" in unseen.detail) == ("warning", True)


def test_each_disk_has_a_row_and_what_is_reserved_is_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_docker, "told_eaters", lambda world, most: "Most is taken by the image x (3.0 GiB).")
    gib = 2**30
    systems = [FileSystem("/data", ("state", "volumes"), 100 * gib), FileSystem("/images", ("images",), 3 * gib)]
    budget = Budget(tmp_path, lambda: systems, 2 * gib)
    with budget.reserve("the test of site 1.0.0+1", gib // 2):
        data, images, reserved = told(doctor_docker.disk, budget=budget, settings=SimpleNamespace(disk_need=gib))
    assert (data.state, images.state) == ("ok", "broken")
    assert "/data" in data.detail
    assert "3.0 GiB free, 0.5 GiB of it reserved" in images.detail
    assert (reserved.check, reserved.detail) == ("reserved", "0.5 GiB for the test of site 1.0.0+1")


def test_a_disk_that_is_out_of_files_is_broken_though_bytes_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_docker, "told_eaters", lambda world, most: "")
    budget = Budget(tmp_path, lambda: [FileSystem("/data", ("state",), 2**40, files=3)], 0)
    (data,) = told(doctor_docker.disk, budget=budget, settings=SimpleNamespace(disk_need=1))
    assert (data.state, "only 3 more files" in data.detail, "df -i" in data.mend) == ("broken", True, True)


# -- the rest -----------------------------------------------------------------------------------------------


class Managed:
    """A Redis that does not tell its settings."""

    def ping(self) -> bool:
        return True

    def config_get(self, name: str) -> dict[str, str]:
        raise ConnectionError(f"no permission to ask for {name}")


def test_a_redis_that_does_not_tell_its_settings_answers_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "redis_client", lambda url: Managed())
    found = told(doctor._redis, settings=SimpleNamespace(broker_url=lambda: "redis://127.0.0.1:1/0"))
    assert [(check.check, check.state) for check in found] == [("redis", "ok"), ("redis settings", "warning")]


def test_a_redis_that_asks_for_no_password_over_the_network_is_a_warning_also_where_the_url_has_one(
    redis_url: str,
) -> None:
    client = redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client.config_set("port", str(port))

    def checks(url: str) -> list[str]:
        return [check.check for check in told(doctor._redis, settings=SimpleNamespace(broker_url=lambda: url))]

    try:
        assert "redis password" not in checks(redis_url), "a socket has rights of its own"
        assert "redis password" in checks(f"redis://127.0.0.1:{port}/0")
        assert "redis password" in checks(f"redis://:one-that-nobody-asks-for@127.0.0.1:{port}/0")
        client.config_set("requirepass", "asked-for")
        assert "redis password" not in checks(f"redis://:asked-for@127.0.0.1:{port}/0")
    finally:
        client.config_set("requirepass", "")
        client.config_set("port", "0")


def test_a_misspelt_variable_is_told_with_the_one_that_was_meant() -> None:
    given = {"CANONQ_LIGHT_WORKER": "5", "CANONQ_GIT__TIMEOUT": "5", "CANONQ_CONFIG": "x", "CANONQ_QQQQQQ": "1", "PATH": "/bin"}
    assert unknown_variables(given) == {"CANONQ_LIGHT_WORKER": "CANONQ_LIGHT_WORKERS", "CANONQ_QQQQQQ": None}


def test_a_file_with_a_secret_that_every_user_can_read_is_told(tmp_path: Path) -> None:
    for name, mode in (("url", 0o644), ("credentials", 0o640)):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)
    settings = Settings(redis_url_file=tmp_path / "url", git=GitSettings(credentials_file=tmp_path / "credentials"))
    found = told(doctor._secrets, settings=settings)
    assert [(check.check, check.state, str(tmp_path / "url") in check.detail) for check in found] == [
        ("secrets", "warning", True)
    ]


def of_settings(tmp_path: Path, **given: Any) -> Any:
    enrolled = {"site": SimpleNamespace(notify="ops"), "blog": SimpleNamespace(notify=None)}
    checkout = SimpleNamespace(enrolled=lambda: SimpleNamespace(recipes=enrolled))
    return {"settings": Settings(state=tmp_path, **given), "checkout": checkout}


def test_the_pages_password_and_how_far_it_is_open_are_told(tmp_path: Path) -> None:
    assert told(doctor._web, **of_settings(tmp_path)) == []
    (tmp_path / "web").write_text("a-long-password\n")
    (found,) = told(doctor._web, **of_settings(tmp_path, web={"password_file": tmp_path / "web"}))
    assert (found.check, found.state) == ("web", "ok")
    _, wide = told(doctor._web, **of_settings(tmp_path, web={"password": "x" * 16, "listen": "0.0.0.0:8788"}))
    assert (wide.state, "reverse proxy" in wide.mend) == ("warning", True)
    (none,) = doctor._safely(doctor._web, cast(World, SimpleNamespace(**of_settings(tmp_path, web={}))))
    assert (none.check, none.state, "[web] has no password" in none.detail) == ("web", "broken", True)


def test_channels_that_lead_nowhere_are_told_before_a_message_is_lost(tmp_path: Path) -> None:
    assert told(doctor._notify, **of_settings(tmp_path)) == []
    channels = tmp_path / "channels.toml"
    channels.write_text('default = ["json://user:hunter2@127.0.0.1:9/x"]\nops = ["json://127.0.0.1:9/x", "nosuch://hunter2"]\n')
    found = told(doctor._notify, **of_settings(tmp_path, notify={"channels_file": channels}))
    assert [(check.state, check.detail) for check in found] == [
        ("broken", "address 2 of the channel 'ops' is not one that Apprise knows"),
    ]
    channels.write_text(channels.read_text().replace("nosuch", "json"))
    (well,) = told(doctor._notify, **of_settings(tmp_path, notify={"channels_file": channels}))
    assert (well.state, well.detail) == ("ok", "channels default, ops; `canonq notify --test` sends a message")
    channels.write_text('home = ["json://127.0.0.1:9/x"]\n')
    found = told(doctor._notify, **of_settings(tmp_path, notify={"channels_file": channels}))
    assert [check.state for check in found] == ["broken", "warning"]
    assert "[notify] has no channel default" in found[0].detail
    assert "site names the channel 'ops', which is not there" in found[1].detail
    assert "hunter2" not in repr(found)


def test_messages_that_were_not_delivered_are_told(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    late = Message(id="1", channel="default", address=1, title="Sweep x", text="", tries=2, problem="503")
    (tmp_path / "report" / "told.json").write_text(json.dumps({"waiting": [late.model_dump()]}))
    world = of_settings(tmp_path, notify={"url": "json://127.0.0.1:9/x"})
    _, found = told(doctor._notify, **world)
    assert (found.state, "1 not delivered yet" in found.detail, "503" in found.detail) == ("warning", True, True)


class OfThisHostAlone(Engine):
    """Its network `proxy` is a plain bridge."""

    def check_network(self, name: str) -> bool:
        raise HostProblem(f"The network {name} is there, but for this host alone.", mend="make it again.", code="network-scope")


def test_a_network_that_no_stack_can_use_is_told_before_any_run_meets_it(engine: Engine, tmp_path: Path) -> None:
    registry = SimpleNamespace(recipes=list)
    (well,) = told(doctor_docker.networks, engine=engine, registry=registry)
    assert (well.state, "proxy" in well.detail) == ("ok", True)
    (wrong,) = told(doctor_docker.networks, engine=OfThisHostAlone(tmp_path / "docker"), registry=registry)
    assert (wrong.state, wrong.mend) == ("broken", "make it again.")
    assert "for this host alone" in wrong.detail


def test_an_engine_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    error = HostProblem("The Docker Engine is there and hangs.", mend="look at its log.", code="docker-unreachable")
    silent = doctor_docker.Silent("here", error)
    rows = [*told(doctor_docker.docker, engine=silent), *told(doctor_docker.images, engine=silent)]
    rows += told(doctor_docker.networks, engine=silent, registry=SimpleNamespace(recipes=list))
    (row,) = (row for row in rows if row.check == "docker")
    assert (row.state, row.detail, row.mend) == ("broken", f"{error.what} Asked at here.", error.mend)


def test_a_folder_on_a_read_only_file_system_is_no_matter_of_rights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=real(path).f_flag | os.ST_RDONLY))
    settings = Settings(repo=tmp_path, state=tmp_path / "state")
    with pytest.raises(HostProblem, match="its file system is read-only") as caught:
        live(settings)
    assert caught.value.code == "disk-read-only"
    assert "remount,rw" in caught.value.mend
    monkeypatch.setattr(os, "access", lambda path, how: not how & os.W_OK)
    row = state_of(tmp_path)
    assert (row.state, "its file system is read-only" in row.detail, "remount,rw" in row.mend) == ("broken", True, True)
