"""What lies behind a release's mounts: plain volumes of the stack's own, or a refusal by name; nobody else's data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from canonq.core.backup import backup_plan
from canonq.core.errors import WrongConfiguration
from canonq.core.recipe.compose import resolve
from canonq.core.stack.mounts import with_own
from canonq.core.stack.resolved import Mount, Stack


def stack(*entries: Any, **volumes: Any) -> Stack:
    body = {"services": {"app": {"image": "x:1", "volumes": list(entries)}}, "volumes": volumes}
    return resolve([("compose.yml", json.dumps(body))], {})


@pytest.mark.parametrize(
    "declared",
    [
        {"external": True, "name": "films"},
        {"external": {"name": "films"}},
        {"driver_opts": {"type": "none", "o": "bind", "device": "/srv/films"}},
        {"driver": "local", "driver_opts": {"type": "nfs", "o": "addr=10.0.0.1", "device": ":/films"}},
        {"driver_opts": {"type": "tmpfs", "device": "tmpfs"}},
        {"driver": "rclone"},
    ],
    ids=["external", "old-external", "device", "nfs", "tmpfs", "plugin"],
)
def test_a_volume_that_is_somebody_elses_becomes_a_plain_one_and_is_told(declared: dict[str, Any]) -> None:
    own, notes = with_own(stack("media:/media", media=declared))
    assert own.written()["volumes"] == {"media": {}}
    assert own.services["app"].mounts == (Mount("volume", "media", "/media"),)
    assert len(notes) == 1
    assert "the volume 'media' is" in notes[0]


@pytest.mark.parametrize(
    "declared", [{}, {"driver": "local"}, {"labels": {"a": "b"}}, {"name": "theirs"}], ids=["plain", "local", "labels", "named"]
)
def test_the_recipes_own_volumes_stay_as_they_are(declared: dict[str, Any]) -> None:
    given = stack("data:/data", "/cache", {"type": "tmpfs", "target": "/tmp"}, data=declared)
    assert with_own(given) == (given, ())


@pytest.mark.parametrize(
    "entry",
    ["/srv/media:/media:ro", {"type": "bind", "source": "/srv//media/", "target": "/media", "read_only": True}],
    ids=["short", "long"],
)
def test_a_folder_of_the_host_becomes_a_volume_of_the_same_name_in_every_release(entry: Any) -> None:
    own, notes = with_own(stack("data:/data", entry, data={}))
    kept, made = own.services["app"].mounts
    assert kept == Mount("volume", "data", "/data")
    assert made == Mount("volume", made.source, "/media", read_only=True)
    assert made.source.startswith("bind-srv-media-")
    assert own.written()["volumes"] == {"data": {}, made.source: {}}
    assert "'/srv/media'" in notes[0]
    again, _ = with_own(stack("/srv/media:/elsewhere"))
    assert list(again.volumes) == [made.source]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("/var/run/docker.sock:/var/run/docker.sock:ro", "/var/run/docker.sock"),
        ("/srv/app.sock:/s", "/srv/app.sock"),
        ("/:/host:ro", "/"),
        ("/etc/passwd:/p:ro", "/etc/passwd"),
        ("/etc/localtime:/etc/localtime", "/etc/localtime"),  # writable, it is no mere fact
        ("/srv/../etc/x:/x", "/etc/x"),
        ("./config:/config", "./config"),
        ("~/x:/x", "~/x"),
        ("C:x/../../..:/host", "C:x"),
        ({"type": "npipe", "source": "//./pipe/docker_engine", "target": "/p"}, "docker_engine"),
        ({"type": "cluster", "source": "group", "target": "/p"}, "group"),
    ],
)
def test_what_no_empty_folder_can_stand_for_is_refused_by_name_unless_a_person_lets_the_release_have_it(
    entry: Any, named: str
) -> None:
    with pytest.raises(WrongConfiguration) as caught:
        with_own(stack(entry))
    assert caught.value.code == "foreign-mount"
    assert named in str(caught.value)
    assert "[mounts] keep = [" in caught.value.mend


def test_what_a_person_lets_it_have_and_mere_facts_stay_mounted() -> None:
    given = stack("/var/run/docker.sock:/s:ro", "/etc/localtime:/etc/localtime:ro", "/srv/media:/media")
    own, notes = with_own(given, {"/var/run/docker.sock", "/srv/media"})
    assert own == given
    assert notes == ()


def test_what_lies_behind_a_bind_is_no_part_of_a_backup_neither_below_nor_above_it() -> None:
    labels = {"backupbot.backup": "true", "backupbot.backup.path": "/srv,/srv/media/films,/data"}
    body = {
        "services": {"app": {"image": "x:1", "volumes": ["data:/data", "/srv/media:/srv/media"], "deploy": {"labels": labels}}},
        "volumes": {"data": {}},
    }
    given, _ = with_own(resolve([("compose.yml", json.dumps(body))], {}), {"/srv/media"})
    assert [part.path for part in backup_plan(given).parts] == ["/data"]


def test_a_path_belongs_to_the_deepest_volume_that_it_lies_in() -> None:
    labels = {"backupbot.backup": "true", "backupbot.backup.path": "/var/www/html/data/,/var/www/html/config"}
    body = {
        "services": {
            "app": {"image": "x:1", "volumes": ["outer:/var/www/html", "inner:/var/www/html/data"], "deploy": {"labels": labels}}
        },
        "volumes": {"outer": {}, "inner": {}},
    }
    parts = backup_plan(resolve([("compose.yml", json.dumps(body))], {})).parts
    assert [(part.volume, part.whole) for part in parts] == [("inner", True), ("outer", False)]
