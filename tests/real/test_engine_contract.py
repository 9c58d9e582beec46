"""One contract, kept by the real Docker Engine and by the fake of the fault suite."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine, pause_until
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_VOLUME, Deployable, Identity, deployable
from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.recipe.compose import resolve
from canonq.ports import Engine
from tests.fakes import FakeEngine
from tests.real.conftest import IMAGE, compose

pytestmark = [pytest.mark.real, pytest.mark.engines]


@pytest.fixture
def whose() -> str:
    """An instance of its own, so that nothing else is touched."""
    return secrets.token_hex(8)


@pytest.fixture(params=["real", "fake"])
def contracted(request: pytest.FixtureRequest, engine: SwarmEngine, whose: str, tmp_path: Path) -> Iterator[Engine]:
    """Either engine."""
    engine.ensure_network("proxy")
    either: Engine = engine if request.param == "real" else FakeEngine(tmp_path / "fake")
    yield either
    engine.remove_owned({LABEL_INSTANCE: whose}, 600)


def identity(whose: str, owner: str = "one", kind: str = "run") -> Identity:
    stack = f"contract-{whose[:6]}-{owner}"
    return Identity(whose, kind, "site", owner, stack, f"{stack}.test", "1.0.0+1", "a" * 40)


def stack_of(mine: Identity) -> Deployable:
    body = compose(mine.version).replace("${STACK_NAME}", mine.stack)
    resolved = resolve([("compose.yml", body)], {"STACK_NAME": mine.stack})
    return deployable(resolved, mine, {}, folder="/nowhere", volume_names={"data": f"{mine.stack}_data"})


def test_volumes_are_made_once_found_by_label_and_removed_twice_without_complaint(contracted: Engine, whose: str) -> None:
    mine = identity(whose)
    name = f"{mine.stack}_data"
    assert contracted.volume_path(name) is None
    assert contracted.volume_label(name, LABEL_OWNER) is None
    folder = contracted.make_volume(name, {**mine.labels, LABEL_VOLUME: "data"}, mine.stack)
    (folder / "file").write_text("kept")
    assert contracted.make_volume(name, {**mine.labels, LABEL_VOLUME: "other"}, mine.stack) == folder
    with pytest.raises(HostProblem) as raised:
        contracted.make_volume(name, identity(whose, "two").labels, mine.stack)
    assert raised.value.code == "name-taken"
    assert (folder / "file").read_text() == "kept"
    assert contracted.volume_label(name, LABEL_VOLUME) == "data"
    assert contracted.volume_label(name, "no-such-label") is None
    assert contracted.volumes_of(mine.stack) == [name]
    for _ in range(2):
        contracted.remove_volume(name)
        assert contracted.volume_path(name) is None


def test_a_secret_of_another_owner_is_not_taken_over(contracted: Engine, whose: str) -> None:
    name = f"{whose[:6]}-password"
    contracted.put_secret(name, "hunter2", identity(whose).labels)
    contracted.put_secret(name, "hunter2", identity(whose).labels)
    with pytest.raises(HostProblem) as raised:
        contracted.put_secret(name, "other", identity(whose, "two").labels)
    assert raised.value.code == "foreign-secret"
    contracted.remove_secrets(identity(whose).labels)
    contracted.remove_secrets(identity(whose).labels)
    assert contracted.owned({LABEL_INSTANCE: whose})["secrets"] == []


def test_what_is_deployed_runs_answers_and_is_gone_after_undeploy_but_for_its_volumes(
    contracted: Engine, whose: str, tmp_path: Path
) -> None:
    mine = identity(whose)
    stack = stack_of(mine)
    images = contracted.ensure_images(sorted(stack.images.values()), 600)
    assert set(images) == set(stack.images.values())
    assert contracted.observe(mine.stack) == ([], [])
    contracted.deploy(stack, tmp_path, 600)
    assert pause_until(lambda: any(task.state == "running" for task in contracted.observe(mine.stack)[1]), 600)
    (service,) = contracted.observe(mine.stack)[0]
    assert (service.name, service.replicas, service.image) == ("app", 1, stack.images["app"])
    assert (service.labels or {})[LABEL_OWNER] == "one"
    assert pause_until(lambda: contracted.probe(mine.stack, Health(), mine.domain, 5).ok, 600)
    _files_go_in_and_out(contracted, mine.stack)
    for _ in range(2):
        contracted.undeploy(mine.stack, 600)
        assert contracted.observe(mine.stack) == ([], [])
    assert contracted.volumes_of(mine.stack) == [f"{mine.stack}_data"]


def _files_go_in_and_out(contracted: Engine, stack: str) -> None:
    in_use = contracted.volumes_in_use(stack)
    ((volume, service, target),) = contracted.mounted(stack)
    assert (list(in_use), service) == ([volume], "app")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("a/b")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"kept"))
    contracted.write_archive(stack, service, target, [packed.getvalue()])
    assert (in_use[volume] / "a" / "b").read_bytes() == b"kept"
    with tarfile.open(fileobj=io.BytesIO(b"".join(contracted.read_archive(stack, service, f"{target}/a")))) as archive:
        assert [(one.name, one.isfile()) for one in archive] == [("a", False), ("a/b", True)]
    assert contracted.execute(stack, service, ["rm", "-rf", "--", f"{target}/a"], 60).status == 0
    assert not (in_use[volume] / "a").exists()
    ended = contracted.execute(stack, service, ["no-such-program"], 60)
    assert ended.status in (126, 127), "engines differ in that"
    assert "executable file not found" in ended.output
    assert contracted.execute(stack, service, ["true"], 60, {"GIVEN_WORD": "x"}).status == 0
    assert contracted.process_of(stack, service) > 0
    assert all(contracted.started_as(stack, service)) and contracted.started_as(stack, service)
    for act in (
        lambda: contracted.started_as(stack, "nobody"),
        lambda: list(contracted.read_archive(stack, service, f"{target}/a")),
        lambda: contracted.write_archive(stack, service, f"{target}/a", [packed.getvalue()]),
        lambda: contracted.execute(stack, "nobody", ["true"], 60),
    ):
        with pytest.raises(RecipeProblem):
            act()


def test_whoever_else_has_one_of_a_stacks_names_is_found(contracted: Engine, whose: str, tmp_path: Path) -> None:
    mine, other = identity(whose), identity(whose, "two")
    stack, owner = stack_of(mine), {LABEL_INSTANCE: whose, LABEL_OWNER: "one"}
    assert contracted.strangers(stack, owner) == []
    contracted.make_volume(f"{mine.stack}_data", other.labels, "somebody")
    assert contracted.strangers(stack, owner) == [f"a volume '{mine.stack}_data'"]
    contracted.remove_volume(f"{mine.stack}_data")
    contracted.deploy(stack, tmp_path, 60)
    assert contracted.strangers(stack, owner) == []
    assert f"a service '{mine.stack}_app'" in contracted.strangers(stack, {LABEL_INSTANCE: whose, LABEL_OWNER: "two"})


def test_only_what_carries_every_label_is_removed(contracted: Engine, whose: str) -> None:
    one, two = identity(whose, "one"), identity(whose, "two", kind="warm")
    for mine in (one, two):
        contracted.make_volume(f"{mine.stack}_data", mine.labels, mine.stack)
        contracted.put_secret(f"{mine.stack}_secret", "hunter2", mine.labels)
    assert contracted.owners({LABEL_INSTANCE: whose}) == ["one", "two"]
    assert contracted.owners({LABEL_INSTANCE: whose, LABEL_KIND: "warm"}) == ["two"]
    for labels, of in (({LABEL_INSTANCE: whose}, [one, two]), ({LABEL_INSTANCE: whose, LABEL_OWNER: "one"}, [one])):
        names = [f"{mine.stack}_data" for mine in of]
        assert contracted.volumes_owned(labels) == {name: contracted.volume_path(name) for name in names}
    removed = contracted.remove_owned({LABEL_INSTANCE: whose, LABEL_OWNER: "one"}, 600)
    assert removed == {"volumes": [f"{one.stack}_data"], "secrets": [f"{one.stack}_secret"]}
    assert contracted.owners({LABEL_INSTANCE: whose}) == ["two"]
    assert contracted.remove_owned({LABEL_INSTANCE: whose, LABEL_OWNER: "one"}, 60) == {}
    contracted.remove_owned({LABEL_INSTANCE: whose}, 600)
    assert not any(contracted.owned({LABEL_INSTANCE: whose}).values())


def test_a_container_that_swarm_has_forgotten_is_removed_with_its_volumes(engine: SwarmEngine, whose: str) -> None:
    """After a kill of dockerd, a container may stay whose service is gone; it kept its volume from being removed.

    A volume without a name has no label either: nobody would know later whose it was.
    """
    mine = identity(whose)
    volume = f"{mine.stack}_data"
    engine.make_volume(volume, mine.labels, mine.stack)
    labels = {**mine.labels, "com.docker.stack.namespace": mine.stack}
    named = [f"--label={key}={text}" for key, text in labels.items()]
    made = ["docker", "create", *named, f"--volume={volume}:/srv", "--volume=/unnamed", IMAGE, "true"]
    container = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
    asked = ["docker", "inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", container]
    unnamed = set(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()) - {volume}
    assert len(unnamed) == 1
    assert len(engine.owned({LABEL_INSTANCE: whose})["containers"]) == 1
    engine.remove_owned({LABEL_INSTANCE: whose}, 600)
    assert not any(engine.owned({LABEL_INSTANCE: whose}).values())
    assert [engine.volume_path(name) for name in unnamed] == [None]
