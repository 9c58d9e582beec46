"""Three hosts on one Redis, with real workers: each recipe is on one of them, whoever is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.redis_server import embedded_redis
from tests.hosts.house import FILES, House, house_in
from tests.hosts.worker import SECONDS

pytestmark = pytest.mark.long


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with embedded_redis() as url, house_in(tmp_path, url, "ash", "birch", "cedar") as made:
        yield made


def on_whom(house: House, recipe: str) -> list[str]:
    return [name for name, one in house.machines.items() if one.record(recipe)]


def test_a_sweep_is_shared_out_a_call_finds_its_host_and_a_stranger_is_refused_by_name(house: House) -> None:
    for recipe in ("one", "two", "three", "four", "five", "six"):
        house.enrol(recipe)
    house.enrol("pinned", 'host = "birch"\n')
    house["ash"].start()
    house.until("first host", lambda: "ready." in house["ash"].said)
    house["birch"].start()
    house.until("refusal", lambda: house["birch"].process and house["birch"].process.poll() is not None)
    assert house["birch"].process
    assert house["birch"].process.returncode == 2
    assert "[host-not-joined]" in house["birch"].said
    assert "ash" in house["birch"].said
    for name in ("birch", "cedar"):
        assert house[name].canonq("hosts", "join").status == 0
        house[name].start()
    house.until("all of them", lambda: all("ready." in house[name].said for name in ("birch", "cedar")))

    swept: Any = house["ash"].canonq("sweep", "--wait", "--json")
    assert swept.status == 0, swept
    assert swept.json["counts"]["promoted"] == swept.json["enrolled"] == 7
    homes = {recipe: on_whom(house, recipe) for recipe in house.repos}
    assert all(len(where) == 1 for where in homes.values()), homes
    assert homes["pinned"] == ["birch"]
    assert {where for (where,) in homes.values()} == {"ash", "birch", "cedar"}, "work is spread"

    house.release("pinned", "1.1.0+2")
    elsewhere = house["cedar"]
    assert elsewhere.canonq("test", "pinned", "--json").json["verdict"] == "green"
    called = elsewhere.canonq_celery("call", "canonq.promote", "--args", "pinned")
    assert called.status == 0, called.err
    house.until("promotion", lambda: house["birch"].record("pinned").get("version") == "1.1.0+2")
    assert on_whom(house, "pinned") == ["birch"]

    # From one that has none of it, all is seen.
    def shown() -> dict[str, Any]:
        return {row["recipe"]: row for row in elsewhere.canonq("status", "--json").json["recipes"]}

    house.until("word of it", lambda: shown()["pinned"]["canonical"]["version"] == "1.1.0+2")
    assert {recipe: row["host"] for recipe, row in shown().items()} == {recipe: where for recipe, (where,) in homes.items()}

    back = elsewhere.canonq("rollback", "pinned", "--reason", "it lost mail", "--json")
    assert back.json["version"] == house["birch"].record("pinned")["version"] == "1.0.0+1"
    moved = elsewhere.canonq("move", "pinned", "cedar", "--wait", "--json")
    assert (moved.status, moved.json["state"]) == (0, "there"), moved
    assert on_whom(house, "pinned") == ["cedar"]
    assert house["cedar"].record("pinned")["rolled_back"][0]["version"] == "1.1.0+2"
    assert house["cedar"].canonq("verify", "pinned", "--json").status == 0
    assert house["ash"].canonq("move", "pinned", "birch", "--wait", "--json").json["state"] == "there"
    assert on_whom(house, "pinned") == ["birch"]

    was = [recipe for recipe in house.repos if on_whom(house, recipe) == ["cedar"]]
    assert was
    assert house["ash"].canonq("drain", "cedar", "--json").json["draining"]
    house.until("an empty host", lambda: not any("cedar" in on_whom(house, recipe) for recipe in house.repos))
    assert all(len(on_whom(house, recipe)) == 1 for recipe in house.repos)
    homes = {recipe: on_whom(house, recipe) for recipe in house.repos}

    house["birch"].kill()
    house.silence("birch")
    assert _state(house, "birch") == "away"
    swept = house["ash"].canonq("sweep", "--wait", "--json")
    told = {one["recipe"]: one["reason"] for one in swept.json["outcomes"]}
    assert told["pinned"] == "host-away"
    assert swept.json["enrolled"] == sum(swept.json["counts"].values()) == 7
    assert on_whom(house, "pinned") == ["birch"], "nobody begins it anew"
    listed = house["ash"].canonq("hosts", "--json")
    assert listed.status == 1
    removed = house["ash"].canonq("hosts", "remove", "birch", "--reason", "its disk broke", "--json")
    assert "pinned" in removed.json["canonicals"]


def _state(house: House, name: str) -> str:
    rows = json.loads(house["ash"].canonq("hosts", "--json").out)["hosts"]
    return str(next(row["state"] for row in rows if row["host"] == name))


def test_two_recipes_that_publish_one_port_are_never_up_at_once_on_a_host_and_both_are_promoted(house: House) -> None:
    published = {**FILES, "compose.yml": FILES["compose.yml"].replace("image: site:1", 'image: site:1\n    ports: ["18080:80"]')}
    for recipe in ("one", "two"):
        house.enrol(recipe, files=published)
    ash = house["ash"]
    (ash.folder / "docker").mkdir(exist_ok=True)
    (ash.folder / "docker" / SECONDS).write_text(json.dumps({"one": 1.0, "two": 1.0}))  # so that they would be, if they might
    ash.start()
    house.until("workers", lambda: "ready." in ash.said)
    swept: Any = ash.canonq("sweep", "--wait", "--json")
    assert swept.status == 0, swept
    assert swept.json["counts"]["promoted"] == 2
    runs = [ash.world.runs.newest(recipe) for recipe in ("one", "two")]
    assert all(run is not None and run.seconds >= 1 for run in runs)
