"""The one shape of a resolved stack: short forms are read once, as Docker reads them, and it is given the long ones."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from canonq.core.deployable import Identity, deployable
from canonq.core.errors import RecipeProblem
from canonq.core.recipe.compose import resolve
from canonq.core.stack.beside import clash, fixed_subnets, in_its_own_way, of_the_host, why_apart
from canonq.core.stack.mounts import with_own
from canonq.core.stack.resolved import Mount, Stack, Unreadable, stack_of

WHO = Identity("i", "run", "r", "o", "r-1", "r.test", "1.0.0+1", "c")


def read(*files: dict[str, Any]) -> Stack:
    """A stack of a service `app` for each of the files, which lie over each other."""
    declared: dict[str, Any] = {
        "volumes": {"data": {}, "more": {}},
        "configs": {"page": {"file": "page"}, "other": {"file": "other"}},
        "secrets": {"key": {"external": True}, "word": {"external": True}},
    }
    bodies = [{"services": {"app": {"image": "x:1", **file}}, **declared} for file in files]
    return resolve([(f"{number}.yml", json.dumps(body)) for number, body in enumerate(bodies)], {})


@pytest.mark.parametrize(
    ("short", "mount", "more"),
    [
        ("data:/a", Mount("volume", "data", "/a"), {}),
        ("data:/a:ro", Mount("volume", "data", "/a", read_only=True), {}),
        ("data:/a:rw,nocopy", Mount("volume", "data", "/a"), {"volume": {"nocopy": True}}),
        ("data:/a:ro,z", Mount("volume", "data", "/a", read_only=True), {}),
        ("/a", Mount("volume", "", "/a"), {}),
        ("/srv:/a:rshared", Mount("bind", "/srv", "/a"), {"bind": {"propagation": "rshared"}}),
        ("./x:/a", Mount("bind", "./x", "/a"), {}),
        ("~/x:/a", Mount("bind", "~/x", "/a"), {}),
        (r"\\.\pipe\x:/a", Mount("bind", r"\\.\pipe\x", "/a"), {}),
        # After one letter Docker takes the colon for a drive's.
        ("C:x/../../..:/host", Mount("bind", "C:x/../../..", "/host"), {}),
        ("d:/x:/a", Mount("bind", "d:/x", "/a"), {}),
    ],
)
def test_a_mount_means_what_docker_takes_it_for_and_is_handed_on_in_the_long_form(
    short: str, mount: Mount, more: dict[str, Any]
) -> None:
    service = read({"volumes": [short]}).services["app"]
    assert service.mounts == (mount,)
    (written,) = service.body["volumes"]
    assert (written["type"], written.get("source", ""), written["target"]) == (mount.kind, mount.source, mount.target)
    assert written.get("read_only", False) is mount.read_only
    assert {key: written[key] for key in ("bind", "volume") if key in written} == more


@pytest.mark.parametrize(
    ("short", "ports"),
    [
        (80, [(80, None)]),
        ("80/udp", [(80, None)]),
        ("8080:80", [(80, 8080)]),
        ("127.0.0.1:8080:80/tcp", [(80, 8080)]),
        ("[::1]:8080:80", [(80, 8080)]),
        (":80", [(80, None)]),
        ("3000-3002", [(3000, None), (3001, None), (3002, None)]),
        ("9000-9001:80-81", [(80, 9000), (81, 9001)]),
        ("9000-9001:80", [(80, 9000), (80, 9001)]),
    ],
)
def test_a_port_is_each_of_those_that_it_stands_for(short: Any, ports: list[tuple[int, int | None]]) -> None:
    service = read({"ports": [short]}).services["app"]
    assert [(port.target, port.published) for port in service.ports] == ports
    assert all(item["protocol"] == ("udp" if "udp" in str(short) else "tcp") for item in service.body["ports"])


@pytest.mark.parametrize(
    ("key", "item", "said"),
    [
        ("volumes", "data::/a", "empty part"),
        ("volumes", "data:/a:ro:x", "too many colons"),
        ("volumes", "", "no mount"),
        ("volumes", 7, "no mount"),
        ("volumes", {"type": "volume", "source": "data"}, "no target"),
        ("volumes", "data:srv", "the mount 'data:srv' has the target 'srv', which is no absolute path"),
        ("volumes", "d:/a", "the target 'd:/a', which is no absolute path: Docker takes one letter for a drive"),
        ("volumes", "data:ro", "the target 'ro', which is no absolute path"),
        ("volumes", "data", "the target 'data', which is no absolute path"),
        ("volumes", "data:/..", "the container's whole file system"),
        ("volumes", {"type": "tmpfs", "target": "run"}, "the target 'run', which is no absolute path"),
        ("volumes", {"type": "volumes", "source": "data", "target": "/a"}, "did you mean 'volume'"),
        ("volumes", {"type": "bind", "target": "/a"}, "is a bind, and names no source"),
        ("volumes", {"type": "tmpfs", "source": "data", "target": "/a"}, "is a tmpfs, which has no source"),
        ("volumes", {"source": "data", "target": "/a", "bind": {"propagation": "rslave"}}, "has options under 'bind'"),
        ("volumes", "unheard-of:/a", "'unheard-of', which nothing declares"),
        ("volumes", {"type": "volume", "source": "/etc", "target": "/a"}, "'/etc', which nothing declares"),
        ("volumes", "some/where:/a", "'some/where', which nothing declares"),
        ("ports", "80:x", "no port"),
        ("ports", "70000", "no port"),
        ("ports", "example.org:80:80", "no port"),
        ("ports", "1-2:3-5", "differ in length"),
        ("ports", {"published": 1}, "no target"),
        ("ports", {"target": 1, "publish": 1}, "'publish' is not a key of an entry of 'ports'; did you mean 'published'?"),
        ("volumes", {"source": "data", "target": "/a", "readonly": True}, "did you mean 'read_only'?"),
        (
            "configs",
            {"sources": "page", "target": "/a"},
            "'sources' is not a key of an entry of 'configs'; did you mean 'source'?",
        ),
        ("configs", {"source": "page", "mode": "rwx"}, "the mode of 'page' must be a number, and is 'rwx'"),
        ("configs", {"target": "/a"}, "names no config"),
        ("secrets", 7, "names no secret"),
    ],
)
def test_what_docker_cannot_read_either_is_refused_with_its_place(key: str, item: Any, said: str) -> None:
    with pytest.raises(RecipeProblem, match=f"0.yml:1 services.app.*{said}") as told:
        read({key: [item]})
    assert told.value.code == "compose-invalid"


def test_an_overlay_means_a_mount_by_its_place_and_a_port_by_the_hosts_however_both_are_written() -> None:
    over = {"volumes": [{"type": "volume", "source": "more", "target": "/a"}], "ports": [{"target": 81, "published": 8080}]}
    service = read({"volumes": ["data:/a:ro", "data:/b"], "ports": ["8080:80", "9090:90"]}, over).services["app"]
    assert service.mounts == (Mount("volume", "more", "/a"), Mount("volume", "data", "/b"))
    assert [(port.target, port.published) for port in service.ports] == [(81, 8080), (90, 9090)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"volumes": ["data:/a", "more:/a/"]}, "two volumes of the service 'app' have the target '/a': 'data' and 'more'"),
        ({"volumes": ["data:/a", {"type": "tmpfs", "target": "/a"}]}, "have the target '/a': 'data' and 'tmpfs'"),
        ({"configs": ["page", "page"]}, "two configs of the service 'app' have the target 'page'"),
        (
            {"configs": [{"source": "page", "target": "/p"}, {"source": "other", "target": "/p"}]},
            "have the target '/p': 'page' and 'other'",
        ),
        ({"secrets": ["key", {"source": "word", "target": "key"}]}, "two secrets of the service 'app' have the target 'key'"),
    ],
)
def test_one_place_that_is_given_twice_is_refused_with_its_line(body: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeProblem, match=f"0.yml:1 services.app.*{re.escape(said)}"):
        read(body)


@pytest.mark.parametrize("subnet", ["10.0.0.0/99", "10.0.0.0", "inner", "10.0.0/24"])
def test_a_subnet_that_is_none_is_refused(subnet: str) -> None:
    network = {"ipam": {"config": [{"subnet": subnet}]}}
    with pytest.raises(RecipeProblem, match="is no subnet"):
        resolve([("c.yml", json.dumps({"services": {"app": {"image": "x"}}, "networks": {"inner": network}}))], {})


def test_an_overlay_may_take_the_place_of_a_mount() -> None:
    assert len(read({"volumes": ["data:/a"]}, {"volumes": ["more:/a"]}).services["app"].mounts) == 1


def test_what_was_judged_is_what_docker_is_given() -> None:
    said = {"volumes": ["data:/a", "/srv/films:/films:ro", {"type": "tmpfs", "target": "/t"}], "ports": ["8080-8081:80"]}
    judged, _ = with_own(read(said))
    file = deployable(judged, WHO, {}, folder="/tree", volume_names={key: key for key in judged.volumes}).file
    given = stack_of(file).services["app"]
    assert (given.mounts, given.ports) == (judged.services["app"].mounts, judged.services["app"].ports)
    assert all(isinstance(item, dict) for key in ("volumes", "ports") for item in file["services"]["app"][key])
    assert stack_of(judged.written()) == judged, "written and read again it is the same"


@pytest.mark.parametrize(
    ("app", "other", "twice"),
    [
        (["8080:80"], ["8080:81"], "the services 'app' and 'other' both publish the port 8080/tcp of the host"),
        (["8000-8002:8000-8002"], [{"target": 1, "published": 8001, "mode": "host"}], "8001/tcp"),
        (["53:53/tcp"], ["53:53/udp"], None),
        (["80"], ["80"], None),
        ([{"target": 1, "published": 8001, "mode": "host"}], [], None),
        (["8080:80", "8081:80"], ["8082:80"], None),
    ],
)
def test_a_port_that_two_services_publish_is_known_from_the_files(app: list[Any], other: list[Any], twice: str | None) -> None:
    found = clash(stack_of({"services": {"app": {"image": "x", "ports": app}, "other": {"image": "x", "ports": other}}}))
    assert (found is None) == (twice is None)
    assert twice is None or twice in str(found)


@pytest.mark.parametrize(
    ("deploy", "mode", "twice"),
    [
        ({"replicas": 2}, "host", True),
        ({"replicas": "2"}, "host", True),
        ({"replicas": 2}, "ingress", False),
        ({"replicas": 1}, "host", False),
        ({}, "host", False),
        ({"mode": "global", "replicas": 2}, "host", False),
        ({"replicas": "many"}, "host", False),
    ],
)
def test_replicas_that_each_publish_a_port_of_the_host_cannot_all_run(deploy: dict[str, Any], mode: str, twice: bool) -> None:
    ports = [{"target": 80, "published": 8080, "mode": mode}]
    found = clash(stack_of({"services": {"app": {"image": "x", "ports": ports, "deploy": deploy}}}))
    assert found == (
        "each of the 2 replicas of 'app' publishes the port 8080/tcp of the host itself (mode: host)" if twice else None
    )


@pytest.mark.parametrize(
    ("order", "mode", "published", "held"),
    [("start-first", "host", 8080, True), ("stop-first", "host", 8080, False), ("start-first", "ingress", 8080, False),
     ("start-first", "host", None, False), (None, "host", 8080, False)],
)  # fmt: skip
def test_a_new_task_that_starts_first_never_gets_the_port_of_the_old_one(
    order: str, mode: str, published: Any, held: bool
) -> None:
    body = {
        "image": "x",
        "ports": [{"target": 80, "published": published, "mode": mode}],
        "deploy": {"update_config": {"order": order}},
    }
    assert (in_its_own_way(stack_of({"services": {"app": body}}).services["app"]) is not None) == held


def with_subnet(subnet: str | None, *, external: bool = False) -> Stack:
    network = {"external": external, **({"ipam": {"config": [{"subnet": subnet}]}} if subnet else {})}
    return stack_of({"services": {"app": {"image": "x"}}, "networks": {"inner": network}})


def test_two_stacks_that_ask_for_one_subnet_are_not_up_together() -> None:
    """Swarm gives the second one no address, without a word."""
    fixed = with_subnet("10.77.0.0/24")
    assert why_apart(fixed, fixed, None) == "both have a network with the fixed subnet 10.77.0.0/24"
    assert of_the_host(fixed) == {"the subnet 10.77.0.0/24"}
    assert fixed_subnets(fixed) == "'inner' asks for the subnet 10.77.0.0/24"
    for other in (with_subnet("10.78.0.0/24"), with_subnet(None), with_subnet("10.77.0.0/24", external=True)):
        assert why_apart(fixed, other, None) == ""
    assert not of_the_host(with_subnet("10.77.0.0/24", external=True)), "it is made elsewhere"


@pytest.mark.parametrize("port", [{"target": 80, "published": 70000}, {"target": "65536"}])
def test_a_port_that_there_is_not_is_refused_before_swarm_waits_for_it_for_ever(port: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match="is no port; the last one is 65535"):
        stack_of({"services": {"app": {"image": "x", "ports": [port]}}})
