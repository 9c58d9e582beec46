"""The policy for refs: what an untrusted head may not have of this host, and what the enrolment may allow by name."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.stack.policy import refusals
from canonq.core.stack.resolved import Stack, Unreadable, stack_of


def stack(service: dict[str, Any] | None = None, **sections: Any) -> Stack:
    return stack_of({"services": {"app": {"image": "x:1", **(service or {})}}, **sections})


def denied(resolved: Stack, *allow: str) -> set[str]:
    return {no.what for no in refusals(resolved, allow=allow, name="s-1", domain="s-1.test")}


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"privileged": True}, {"privileged"}),
        ({"privileged": "true"}, {"privileged"}),
        ({"volumes": ["/etc:/host"]}, {"bind:/etc"}),
        ({"volumes": [{"type": "bind", "source": "/etc", "target": "/x"}]}, {"bind:/etc"}),
        ({"volumes": ["./here:/x"]}, {"bind:here"}),
        ({"volumes": ["../../up:/x:ro"]}, {"bind:../../up"}),
        ({"volumes": ["~/home:/x"]}, {"bind:~/home"}),
        ({"volumes": ["/var/run/docker.sock:/s"]}, {"bind:/var/run/docker.sock", "docker-socket"}),
        ({"volumes": ["/var/lib/../run/docker.sock/:/s"]}, {"bind:/var/run/docker.sock", "docker-socket"}),
        ({"volumes": ["//run/docker.sock:/s"]}, {"bind:/run/docker.sock", "docker-socket"}),
        ({"volumes": ["/:/host"]}, {"bind:/", "docker-socket"}),
        ({"volumes": [{"type": "npipe", "source": "/run/docker.sock", "target": "/x"}]},
         {"bind:/run/docker.sock", "docker-socket"}),
        ({"volumes": ["C:x/../../..:/host"]}, {"bind:C:x/../../.."}),
        ({"volumes": ["nobody-declares-it:/x"]}, {"bind:nobody-declares-it"}),
        ({"network_mode": "host"}, {"network:host"}),
        ({"pid": "host"}, {"pid:host"}),
        ({"ipc": "host"}, {"ipc:host"}),
        ({"userns_mode": "host"}, {"userns:host"}),
        ({"cap_add": ["NET_ADMIN", "SYS_ADMIN"]}, {"cap:NET_ADMIN", "cap:SYS_ADMIN"}),
        ({"devices": ["/dev/sda:/dev/sda"]}, {"device:/dev/sda:/dev/sda"}),
        ({"security_opt": ["seccomp:unconfined"]}, {"security-opt:seccomp:unconfined"}),
        ({"sysctls": {"net.core.somaxconn": 1}}, {"sysctl:net.core.somaxconn"}),
        ({"ports": ["8080:80"]}, {"port:8080"}),
        ({"ports": ["127.0.0.1:8080:80/tcp"]}, {"port:8080"}),
        ({"ports": [{"target": 80, "published": 25, "mode": "host"}]}, {"port:25"}),
        ({"ports": ["3000-3001:80-81/udp"]}, {"port:3000", "port:3001"}),
        ({"credential_spec": {"file": "x"}}, {"credential-spec"}),
        ({"logging": {"driver": "gelf", "options": {"gelf-address": "udp://127.0.0.1:1"}}}, {"logging:gelf"}),
        ({"a_key_of_next_year": 1}, {"a-key-of-next-year"}),
        ({"image": "127.0.0.1:5000/x:1"}, {"registry:127.0.0.1:5000"}),
        ({"image": "127.0.0.0x1/x:1"}, {"registry:127.0.0.0x1"}),
        ({"image": "[::1]:5000/x:1"}, {"registry:[::1]:5000"}),
        ({"image": "localhost/x:1"}, {"registry:localhost"}),
        ({"image": "vault:8200/x:1"}, {"registry:vault:8200"}),
        ({"image": "Metadata.Google.Internal/x:1"}, {"registry:Metadata.Google.Internal"}),
    ],
)  # fmt: skip
def test_what_reaches_for_the_host_is_refused_by_the_word_that_would_allow_it(service: dict[str, Any], words: set[str]) -> None:
    assert denied(stack(service)) == words
    assert denied(stack(service), *words) == set()


@pytest.mark.parametrize(
    ("section", "body", "word"),
    [
        ("volumes", {"theirs": {"external": True}}, "volume:theirs"),
        ("volumes", {"v": {"external": True, "name": "warm-other_data"}}, "volume:warm-other_data"),
        ("volumes", {"v": {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}}}, "bind:/etc"),
        ("volumes", {"v": {"driver": "sshfs"}}, "driver:sshfs"),
        ("networks", {"n": {"external": True, "name": "admin"}}, "network:admin"),
        ("networks", {"n": {"driver": "host"}}, "network:host"),
        ("secrets", {"k": {"external": True, "name": "other_key_v1"}}, "secret:other_key_v1"),
        ("configs", {"c": {"external": True, "name": "other_conf_v1"}}, "config:other_conf_v1"),
    ],
)
def test_what_belongs_to_others_is_refused(section: str, body: dict[str, Any], word: str) -> None:
    assert denied(stack(None, **{section: body})) == {word}
    assert denied(stack(None, **{section: body}), word) == set()


def test_what_recipes_usually_ask_for_passes() -> None:
    service = {
        "volumes": ["data:/srv", {"type": "tmpfs", "target": "/tmp"}, "/anonymous"], "networks": ["proxy", "internal"],
        "secrets": ["key"], "environment": {"A": "b"}, "deploy": {"replicas": 1}, "ports": ["80"], "privileged": False,
    }  # fmt: skip
    resolved = stack(
        service,
        volumes={"data": {}},
        networks={"proxy": {"external": True}, "internal": {}},
        secrets={"key": {"external": True, "name": "s-1_key_v1"}},
    )
    assert denied(resolved) == set()


def routed(rule: str, name: str = "s-1") -> set[str]:
    return denied(stack({"deploy": {"labels": {f"traefik.http.routers.{name}.rule": rule}}}))


def test_its_own_domain_may_be_routed() -> None:
    assert routed("Host(`s-1.test`)") == routed("Host(`s-1.test`, `www.s-1.test`) && PathPrefix(`.s-1.test`)") == set()
    assert denied(stack({"deploy": {"labels": ["traefik.http.services.s-1.loadbalancer.server.port=80"]}})) == set()


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("Host(`live.example.org`)", "route:live.example.org"),
        ("Host(`s-1.test`) || Host(`live.example.org`)", "route:live.example.org"),
        ("Host(`evil-s-1.test`)", "route:evil-s-1.test"),
        ("PathPrefix(`/`)", "route:*"),
        ("HostRegexp(`s-1.test`)", "route:*"),
        ("ClientIP(1)", "route:*"),
    ],
)
def test_another_apps_address_cannot_be_taken_over(rule: str, word: str) -> None:
    assert routed(rule) == {word}


def test_another_apps_router_cannot_be_taken_over() -> None:
    assert routed("Host(`s-1.test`)", "live_app") == {"routers:live_app"}


PATHS = st.text(st.sampled_from("/.~$abdock:"), max_size=30)


def test_a_range_of_ports_is_allowed_by_the_word_for_it() -> None:
    assert denied(stack({"ports": ["3000-3001:80-81"]}), "port:3000-3001") == set()
    assert denied(stack({"ports": ["3000-3002:80-82"]}), "port:3000-3001") == {"port:3002"}


@given(PATHS.filter(lambda path: path[:1] in ("/", ".", "~") and ":" not in path))
def test_no_spelling_of_a_bind_passes(path: str) -> None:
    assert denied(stack({"volumes": [f"{path}:/x"]}))
    assert denied(stack({"volumes": [{"type": "bind", "source": path, "target": "/x"}]}))


@pytest.mark.long
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_odd_shapes_are_refused_before_it_or_never_break_it(odd: Any) -> None:
    for key in ("volumes", "ports", "cap_add", "sysctls", "privileged", "network_mode"):
        with contextlib.suppress(Unreadable):
            refusals(stack({key: odd}), name="s-1", domain="s-1.test")


@pytest.mark.parametrize("image", ["x:1", "me/x:1", "ghcr.io/a/b:1", "hub.example.org:5000/x@sha256:" + "0" * 64, "docker.io/x"])
def test_registries_of_the_public_dns_are_asked(image: str) -> None:
    assert denied(stack({"image": image})) == set()


@pytest.mark.parametrize("section", ["volumes", "networks", "secrets", "configs"])
def test_labels_of_what_is_declared_are_orders_as_those_of_services_are(section: str) -> None:
    labels = {"traefik.http.routers.live.rule": "Host(`live.test`)", "backupbot.backup": "true", "reaper": "never", "bare": None}
    words = {"routers:live", "label:reaper=never", "label:bare="}
    assert denied(stack(**{section: {"data": {"labels": labels}}})) == words
    assert denied(stack(**{section: {"data": {"labels": labels}}}), *words) == set()
    listed = [label if value is None else f"{label}={value}" for label, value in labels.items()]
    assert denied(stack(**{section: {"data": {"labels": listed}}})) == words
