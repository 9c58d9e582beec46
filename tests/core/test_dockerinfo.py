"""What Docker says about itself, as real Engines have said it."""

from __future__ import annotations

import pytest

from canonq.core import dockerinfo
from canonq.core.dockerinfo import Speaks

GRAPH_DRIVER = {
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"], ["Native Overlay Diff", "true"]],
    "DockerRootDir": "/var/lib/docker",
    "ServerVersion": "20.10.24+dfsg1",
}
CONTAINERD = {
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "DockerRootDir": "/srv/docker",
    "ServerVersion": "29.1.0",
    "Containerd": {"Address": "/run/containerd/containerd.sock", "Namespaces": {"Containers": "moby", "Plugins": "plugins.moby"}},
}


def test_the_image_store_is_told_by_the_drivers_type() -> None:
    assert dockerinfo.image_store(GRAPH_DRIVER) == "graph driver"
    assert dockerinfo.image_store(CONTAINERD) == "containerd"
    assert dockerinfo.image_store({}) == dockerinfo.image_store({"DriverStatus": None}) == "graph driver"


def test_the_socket_of_containerd_is_told_by_newer_engines_only() -> None:
    assert dockerinfo.containerd_socket({"Containerd": {"Address": "/x.sock"}}) == "/x.sock"
    assert dockerinfo.containerd_socket(GRAPH_DRIVER) == "/run/containerd/containerd.sock"


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("/var/run/docker/containerd/containerd.sock", True),
        ("/tmp/x/exec/containerd/containerd.sock", True),
        ("/run/containerd/containerd.sock", False),
        ("/var/run/containerd/containerd.sock", False),
        ("/srv/ctr.sock", False),
    ],
)
def test_a_containerd_that_the_engine_started_is_told_by_its_socket(address: str, own: bool) -> None:
    assert dockerinfo.is_of_engine(address) is own


@pytest.mark.parametrize(
    ("command", "root", "config"),
    [
        (["/usr/bin/containerd"], None, "/etc/containerd/config.toml"),
        (["containerd", "--root", "/srv/ctr", "--state", "/run/ctr"], "/srv/ctr", "/etc/containerd/config.toml"),
        (["containerd", "--root=/srv/ctr", "-c", "/etc/x.toml"], "/srv/ctr", "/etc/x.toml"),
        (["containerd", "--config", "/run/docker/containerd/containerd.toml"], None, "/run/docker/containerd/containerd.toml"),
        (["containerd", "--root"], None, "/etc/containerd/config.toml"),
    ],
)
def test_the_root_of_containerd_is_read_from_its_command_line(command: list[str], root: str | None, config: str) -> None:
    assert dockerinfo.options_of(command) == (root, config)


def test_the_root_of_containerd_is_read_from_its_configuration() -> None:
    assert dockerinfo.root_in_config('version = 3\nroot = "/srv/ctr"\n[plugins]\n') == "/srv/ctr"
    assert dockerinfo.root_in_config("version = 3\n") is None
    assert dockerinfo.root_in_config("root = 3") is None
    assert dockerinfo.root_in_config("<html>") is None


MOUNTS = """\
25 30 0:23 / / rw,relatime - ext4 /dev/vda1 rw
31 25 0:41 /@ /srv rw - btrfs /dev/vdb rw,subvol=/@
32 25 0:41 /@docker /var/lib/docker rw - btrfs /dev/vdb rw,subvol=/@docker
33 25 0:50 / /tank/a\\040b rw - zfs pool/a rw
34 25 0:51 / /tank/c rw - zfs pool/c rw
35 25 0:60 / /tmp rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("/srv/x", "/var/lib/docker", True), ("/tank/a b/x", "/tank/c", True), ("/srv", "/tank/c", False)],
)
def test_subvolumes_and_datasets_of_one_pool_share_their_room(one: str, other: str, same: bool) -> None:
    found = dockerinfo.shared_source(MOUNTS, one), dockerinfo.shared_source(MOUNTS, other)
    assert None not in found
    assert (found[0] == found[1]) is same


@pytest.mark.parametrize("path", ["/var/lib", "/tmp/x", "/srvx"])
def test_other_file_systems_are_told_by_their_device(path: str) -> None:
    assert dockerinfo.shared_source(MOUNTS, path) is None


ROOT = "871 708 0:58 / / rw,relatime master:301 - overlay overlay rw,{0}\n872 871 0:61 / /proc rw - proc proc rw\n"


@pytest.mark.parametrize(
    ("mounts", "folder"),
    [
        (
            ROOT.format("lowerdir=/l/1:/l/2,upperdir=/var/lib/docker/overlay2/4f/diff,workdir=/w"),
            "/var/lib/docker/overlay2/4f/diff",
        ),
        (ROOT.format("lowerdir=/l/1,upperdir=/c/snapshots/9/fs,workdir=/w,index=off"), "/c/snapshots/9/fs"),
        (ROOT.format(r"lowerdir=/l/1,upperdir=/with\040a\054comma/fs,workdir=/w"), "/with a,comma/fs"),
        (ROOT.format("lowerdir=/l/1:/l/2"), None),  # it may only be read
        (ROOT.replace("overlay overlay", "ext4 /dev/sda1").format("errors=remount-ro"), None),
        ("872 871 0:61 / /x rw - overlay overlay rw,upperdir=/y\n", None),
        ("nonsense\n - \n", None),
        ("", None),
    ],
)
def test_the_folder_that_a_container_writes_to_stands_among_its_mounts(mounts: str, folder: str | None) -> None:
    assert dockerinfo.upper_folder(mounts) == folder


# -- versions -----------------------------------------------------------------------------------------------

DEBIAN = Speaks("The `docker` command (20.10.24)", "1.12", "1.41")


def test_versions_that_overlap_are_no_trouble() -> None:
    assert dockerinfo.cannot_speak(Speaks("the Engine 29.1.0", "1.40", "1.56"), DEBIAN) is None
    assert dockerinfo.cannot_speak(Speaks("the Engine 20.10.24", "1.12", "1.41"), Speaks("docker 29", "1.40", "1.52")) is None


def test_a_command_that_is_too_old_or_too_new_is_told_in_one_sentence() -> None:
    old = dockerinfo.cannot_speak(Speaks("the Engine 29.0.0", "1.44", "1.52"), DEBIAN)
    assert old is not None
    assert "too old for the Engine 29.0.0" in old
    assert "1.41" in old
    assert "1.44" in old
    new = dockerinfo.cannot_speak(Speaks("the Engine 18.09.1", "1.12", "1.39"), Speaks("The command", "1.44", "1.52"))
    assert new is not None
    assert "too new for the Engine 18.09.1" in new


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Error response from daemon: client version 1.41 is too old. Minimum supported API version is 1.44, please "
            "upgrade your client to a newer version",
            "too old",
        ),
        ("Error response from daemon: client version 1.99 is too new. Maximum supported API version is 1.41", "too new"),
        (
            "Error response from daemon: client is newer than server (client API version: 1.24, server API version: 1.21)",
            "too new",
        ),
    ],
)
def test_what_engines_say_to_a_command_of_another_time_is_understood(said: str, told: str) -> None:
    assert told in (dockerinfo.refused_version(said) or "")
    assert dockerinfo.refused_version("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.") is None


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("20.10.24+dfsg1", "proven on 20.10"),
        ("28.5.2", "proven on 28"),
        ("29.0.0-beta.24", "proven on 29"),
        ("30.1.0", "newer"),
        ("19.03.15", "older"),
        ("24.0.7", "not one that canonq is proven on"),
        ("dev", "older"),
    ],
)
def test_what_is_known_of_an_engine_is_said_and_what_is_not_is_called_unknown(version: str, told: str) -> None:
    said = dockerinfo.known_engine(version)
    assert told in said
    assert ("unknown" in said) is not said.startswith("canonq is proven")


@pytest.mark.parametrize(
    ("swarm", "said", "mend"),
    [
        ({"LocalNodeState": "inactive"}, "not a Swarm manager", "docker swarm init"),
        ({}, "not a Swarm manager", "docker swarm init"),
        ({"LocalNodeState": "locked"}, "is locked", "docker swarm unlock"),
        ({"LocalNodeState": "error", "Error": "could not find the local IP address."}, "local IP address", "--force-new-cluster"),
        ({"LocalNodeState": "pending"}, "about to join", "other managers"),
        ({"LocalNodeState": "active", "ControlAvailable": False}, "worker of a swarm", "docker node promote"),
    ],
)
def test_why_no_stack_can_be_deployed_is_told_with_its_own_way_out(swarm: dict[str, object], said: str, mend: str) -> None:
    found = dockerinfo.swarm_trouble({"Swarm": swarm})
    assert found is not None
    assert said in found[0]
    assert mend in found[1]
    assert dockerinfo.swarm_trouble({"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}) is None


@pytest.mark.parametrize(
    ("resolv", "of_systemd", "said"),
    [
        ("nameserver 192.0.2.1\n", None, None),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", None, None),
        ("# by systemd\nnameserver 127.0.0.53\n", "nameserver 192.0.2.1\n", None),
        ("nameserver 127.0.0.53\n", None, "names 127.0.0.53 only"),
        ("nameserver 127.0.0.1\nnameserver ::1\n", "nameserver 192.0.2.1\n", "names 127.0.0.1, ::1 only"),
        ("search example.org\n", None, "names no name server"),
        ("nameserver 127.0.0.11\n", None, None),
    ],
    ids=["of the network", "one of them is", "systemd's own", "systemd's without its file", "dnsmasq", "none", "in a container"],
)
def test_name_servers_that_no_container_can_ask_are_told(resolv: str, of_systemd: str | None, said: str | None) -> None:
    found = dockerinfo.dns_trouble(resolv, of_systemd)
    assert (found is None) == (said is None)
    if found is not None:
        assert str(said) in found[0]
        assert "daemon.json" in found[1]


def node(of: str, name: str, state: str = "ready", availability: str = "active") -> dict[str, object]:
    return {"ID": of, "Description": {"Hostname": name}, "Status": {"State": state}, "Spec": {"Availability": availability}}


@pytest.mark.parametrize(
    ("nodes", "code", "said", "mend"),
    [
        ([node("a1", "ash")], "", "", ""),
        ([node("a1", "ash"), node("b1", "birch", "down"), node("c1", "cedar", availability="drain")], "", "", ""),
        ([node("a1", "ash", availability="drain")], "node-unavailable", "ash is drained", "--availability active ash`"),
        ([node("a1", "ash", availability="pause")], "node-unavailable", "ash is paused", "--availability active ash`"),
        # A node that is down is not helped by that, though another one, or its own name, says "drained".
        ([node("b1", "drained", "down"), node("a1", "ash", availability="pause")], "node-unavailable",
         "drained is down, ash is paused", "--availability active ash`"),
        ([node("b1", "birch", availability="drain"), node("a1", "ash", availability="drain")], "node-unavailable",
         "birch is drained, ash is drained", "--availability active ash`"),
        ([node("a1", "paused", "down")], "node-unavailable", "paused is down", "Docker's log"),
        ([node("a1", "ash", "down", "drain")], "node-unavailable", "ash is down and drained", "Docker's log"),
        # Two hosts of one image have one name; Docker takes the id then.
        ([node("b1", "debian", "down"), node("a1", "debian", availability="drain")], "node-unavailable",
         "b1 is down, a1 is drained", "--availability active a1`"),
        ([node("a1", "", availability="drain")], "node-unavailable", "a1 is drained", "--availability active a1`"),
        # What is deployed would come up elsewhere.
        ([node("a1", "ash", availability="drain"), node("b1", "birch")], "node-unavailable", "This host takes no new tasks: ash",
         "--availability active ash`"),
        ([node("b1", "birch"), node("a1", "ash")], "several-nodes", "(birch)", "--availability drain birch`"),
        ([], "node-unavailable", "it has none", "docker node ls"),
    ],
)  # fmt: skip
def test_a_node_that_takes_no_tasks_is_told_with_the_mend_for_that_very_node(
    nodes: list[dict[str, object]], code: str, said: str, mend: str
) -> None:
    found = dockerinfo.nodes_trouble(dockerinfo.nodes_of(nodes), "a1")
    assert (found is None) == (code == "")
    if found is not None:
        assert found[0] == code
        assert said in found[1]
        assert mend in found[2]


#: As Docker 20.10 has made them, with a swarm, a service's port 8080 and a container's port 2222.
NAT = """\
-P PREROUTING ACCEPT
-N DOCKER
-N DOCKER-INGRESS
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -o docker_gwbridge -m addrtype --src-type LOCAL -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.18.0.0/16 ! -o docker_gwbridge -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker_gwbridge -p tcp -m tcp --dport 2222 -j DNAT --to-destination 172.18.0.3:22
-A DOCKER-INGRESS -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:8080
-A DOCKER-INGRESS -j RETURN
"""


def without(*parts: str) -> str:
    return "".join(line for line in NAT.splitlines(keepends=True) if not any(part in line for part in parts))


@pytest.mark.parametrize(
    ("rules", "published", "sure", "said"),
    [
        (NAT, {8080, 2222}, None, ""),
        (NAT, set(), None, ""),
        ("-P PREROUTING ACCEPT\n", set(), False, "None of the firewall rules that Docker makes"),
        (without("-A "), {8080}, True, "no published port leads"),  # iptables -t nat -F
        (without("-j DOCKER\n"), set(), True, "no published port leads"),
        (without("-A POSTROUTING"), set(), True, "reach what is outside"),
        (without("-A DOCKER "), {8080}, None, ""),  # newer Engines leave the chain empty until there is a port
        (without("-A DOCKER "), {8080, 2222}, True, "published port 2222"),
        (without("--dport"), set(range(9000, 9009)), True, "9000, 9001, 9002, 9003, 9004 and 4 more"),
    ],
    ids=["as it was", "nothing published", "none at all", "flushed", "jumps", "masquerading", "empty chain", "one port", "many"],
)
def test_rules_of_dockers_firewall_that_are_gone_are_told(rules: str, published: set[int], sure: bool | None, said: str) -> None:
    found = dockerinfo.firewall_trouble(rules, published)
    assert (found.sure if found else None) is sure
    if found is not None:
        assert said in found.what
        assert "systemctl restart docker" in found.mend
