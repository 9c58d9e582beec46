"""Rollback and restore: back to a kept canonical with its data, and a look at that data."""

from __future__ import annotations

import json
import secrets
import subprocess
from unittest.mock import ANY

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from tests.real.conftest import IMAGE, enrol_small, record_of, tree
from tests.real.test_data_and_refs import retained
from tests.real.test_upgrades import NEW, sweep
from tests.support import Installation, release

pytestmark = pytest.mark.real

OLD = "1.0.0+1.29.0"
#: Names of restored stacks; those of tests that were killed may be in Docker still.
LOOK, LOOK_BACK = (f"look-{secrets.token_hex(4)}" for _ in range(2))
BACKED_UP = "backupbot.backup=true"


@pytest.fixture(scope="module")
def back(host: Installation, engine: SwarmEngine) -> Installation:
    """A recipe with two canonicals; the data of the second has gathered something since."""
    repo = enrol_small(host, "back", label=BACKED_UP)
    assert sweep(host, "back")["outcome"] == "promoted"
    release(repo, NEW, tree(NEW, label=BACKED_UP))
    assert sweep(host, "back")["outcome"] == "promoted"
    (retained(host, "back", engine) / "index.html").write_text("gathered since\n")
    return host


def volumes(host: Installation, engine: SwarmEngine, kind: str) -> list[str]:
    found = engine.owned({LABEL_INSTANCE: (host.state / "instance").read_text(), LABEL_KIND: kind, "canonq.recipe": "back"})
    return found["volumes"]


@pytest.mark.engines
def test_what_became_canonical_was_installed_upgraded_backed_up_and_restored_before(back: Installation) -> None:
    runs = sorted((back.state / "runs" / "back").glob("*/run.json"))
    verdicts = {verdict["version"]: verdict for verdict in (json.loads(run.read_text()) for run in runs)}
    assert {tag: verdicts[tag]["verdict"] for tag in (OLD, NEW)} == {OLD: "green", NEW: "green"}
    rungs = {name: rung["status"] for name, rung in verdicts[NEW]["rungs"].items()}
    assert (rungs["install"], rungs["upgrade"], rungs["backup-restore"]) == ("pass", "pass", "pass")


@pytest.mark.engines
def test_the_canonicals_data_can_be_looked_at_as_a_live_stack(back: Installation, engine: SwarmEngine) -> None:
    record = record_of(back, "back")
    made = back.canonq("restore", "back", "--stack", LOOK, "--json")
    assert made.status == 0, made.err
    assert made.json == {"recipe": "back", "version": NEW, "stack": LOOK, "domain": f"{LOOK}.canonq.test"}
    assert engine.read_archive(LOOK, "app", "/srv/index.html") is not None
    assert engine.execute(LOOK, "app", ["cat", "/srv/index.html"], 20).output == "gathered since\n"
    assert back.canonq("restore", "back", "--stack", LOOK).status == 2, "the name is taken"
    assert back.canonq("janitor").status == 0
    assert engine.observe(LOOK)[0], "the janitor leaves it alone"
    assert back.canonq("restore", "back", "--stack", LOOK, "--remove").status == 0
    assert volumes(back, engine, "restored") == []
    assert record_of(back, "back") == record


def test_an_older_canonicals_data_can_be_looked_at_too(back: Installation, engine: SwarmEngine) -> None:
    made = back.canonq("restore", "back", "--stack", LOOK_BACK, "--to", OLD, "--json")
    assert made.json["version"] == OLD
    assert engine.execute(LOOK_BACK, "app", ["cat", "/srv/index.html"], 20).output.strip() == OLD
    assert back.canonq("restore", "back", "--stack", LOOK_BACK, "--remove").status == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--to", "9.9.9+9", "--reason", "x"], "not-kept"),
        (["--reason", " "], "wrong-use"),
    ],
)
def test_a_rollback_that_cannot_be_changes_nothing(back: Installation, arguments: list[str], code: str) -> None:
    before = (back.state / "warm" / "back" / "canonical.json").read_bytes()
    ended = back.canonq("rollback", "back", *arguments, "--json")
    assert (ended.status, ended.json["error"]["code"]) == (2, code)
    assert (back.state / "warm" / "back" / "canonical.json").read_bytes() == before


def test_a_damaged_snapshot_is_told_by_verify_and_refused_by_rollback(back: Installation) -> None:
    before = (back.state / "warm" / "back" / "canonical.json").read_bytes()
    (kept,) = [
        back.state / json.loads(path.read_text())["snapshot"]["path"]
        for path in (back.state / "warm" / "back" / "canonicals").glob("*/record.json")
        if json.loads(path.read_text())["version"] == OLD
    ]
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    told = back.canonq("verify", "back", "--json")
    assert told.status == 3
    assert f"kept {OLD}" in told.json["recipes"][0]["problems"][0]
    ended = back.canonq("rollback", "back", "--reason", "x", "--json")
    assert (ended.status, ended.json["error"]["code"]) == (3, "snapshot-damaged")
    assert (back.state / "warm" / "back" / "canonical.json").read_bytes() == before
    kept.write_bytes(whole)
    assert back.canonq("verify", "back").status == 0


@pytest.mark.engines
def test_a_rollback_brings_the_old_data_back_says_who_and_why_and_holds_what_it_left(
    back: Installation, engine: SwarmEngine
) -> None:
    before = record_of(back, "back")
    ended = back.canonq("rollback", "back", "--reason", "it lost mail", "--json")
    assert ended.status == 0, ended.err
    record = record_of(back, "back")
    path = record["snapshot"]["path"]
    assert ended.json == {**record, "snapshot": {**record["snapshot"], "path": str(back.state / path)}, "previous": ANY}
    assert path.startswith("warm/back/canonicals/")
    assert record["version"] == OLD
    assert record["fence"] > before["fence"]
    assert record["promoted_at"] < before["promoted_at"] <= record["ts"]
    (left,) = record["rolled_back"]
    assert (left["reason"], left["version"]) == ("it lost mail", NEW)
    assert left["by"]
    assert (retained(back, "back", engine) / "index.html").read_text().strip() == OLD
    assert volumes(back, engine, "warm") == record["volumes"]
    assert back.canonq("verify", "back").status == 0

    rows = {row["recipe"]: row for row in back.canonq("plan", "--json").json["recipes"]}
    assert (rows["back"]["action"], rows["back"]["reason"]) == ("skip", "held-rollback")
    assert back.canonq("test", "back", "--quick", "--json").json["verdict"] == "green"


def test_what_was_rolled_back_can_be_gone_forward_to(back: Installation) -> None:
    assert record_of(back, "back")["version"] == OLD
    assert back.canonq("rollback", "back", "--to", NEW, "--reason", "it was the proxy").status == 0
    assert record_of(back, "back")["version"] == NEW
    assert back.canonq("verify", "back").status == 0


def test_naming_the_recipe_promotes_again_what_was_rolled_back(back: Installation) -> None:
    assert back.canonq("rollback", "back", "--to", OLD, "--reason", "again").status == 0
    assert sweep(back, "back")["outcome"] == "promoted"
    record = record_of(back, "back")
    assert (record["version"], record["rolled_back"]) == (NEW, [])


def test_the_janitor_takes_what_an_interrupted_promotion_built_and_nothing_else(back: Installation, engine: SwarmEngine) -> None:
    record = record_of(back, "back")
    labels = {
        LABEL_INSTANCE: (back.state / "instance").read_text(),
        LABEL_KIND: "warm",
        "canonq.recipe": "back",
        "canonq.owner": "dead",
    }
    engine.make_volume("warm-back_data.dead00", {**labels, "canonq.volume": "data"}, "warm-back")
    half = back.state / "warm" / "back" / "canonicals" / "20260101T000000Z-back-dead00"
    half.mkdir()
    (half / "volumes.tar.zst").write_bytes(b"half")

    told = back.canonq("janitor", "--dry-run").out
    assert "would remove what back's record does not name" in told
    assert engine.volume_path("warm-back_data.dead00") is not None
    assert "removed what back's record does not name" in back.canonq("janitor").out

    assert volumes(back, engine, "warm") == record["volumes"]
    assert not half.exists()
    assert record_of(back, "back") == record
    assert back.canonq("verify", "back").status == 0
    assert "nothing to remove" in back.canonq("janitor").out


def test_a_lost_volume_is_told_by_verify_and_comes_back_from_the_snapshot(back: Installation, engine: SwarmEngine) -> None:
    record = record_of(back, "back")
    (lost,) = record["volumes"]
    engine.remove_volume(lost)
    told = back.canonq("verify", "back", "--json")
    assert told.status != 0
    assert f"the volume {lost} is gone" in str(told.json)
    assert f"{lost} of the canonical {record['version']} was gone" in back.canonq("janitor").out
    healed = record_of(back, "back")
    assert (healed["version"], healed["fence"], healed["healed"]["volumes"]) == (record["version"], record["fence"], [lost])
    assert (retained(back, "back", engine) / "index.html").is_file()
    assert back.canonq("verify", "back").status == 0


def test_a_retained_volume_that_somebody_uses_stays_until_they_are_done_and_stops_nothing(
    back: Installation, engine: SwarmEngine
) -> None:
    (looked_at,) = record_of(back, "back")["volumes"]
    command = ["docker", "run", "--detach", "--rm", "--volume", f"{looked_at}:/look", IMAGE, "sleep", "600"]
    container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        release(Repo(back.root / "back"), "3.0.0+1.30.0", tree("3.0.0+1.30.0"))
        assert sweep(back, "back")["outcome"] == "promoted"
        assert engine.volume_path(looked_at) is not None
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=True)
    assert looked_at in back.canonq("janitor", "--json").out
    assert engine.volume_path(looked_at) is None


def test_what_a_red_run_deployed_stays_up_when_asked_until_it_is_ended(back: Installation, engine: SwarmEngine) -> None:
    red = "def test_a(app):\n    assert app.http.get('/nowhere').status == 200\n"
    (back.checkout / "tests" / "back" / "test_red.py").write_text(red)
    ended = back.canonq("test", "back", "--tag", OLD, "--keep-on-red", "1h", "--json")
    assert (ended.status, ended.json["reason"]) == (1, "functional-failed"), ended.err
    assert back.canonq("janitor").status == 0
    (row,) = back.canonq("kept", "--json").json["kept"]
    assert engine.observe(row["stack"])[0]
    entered = ["bash", "-c", f"{row['enter'].replace(' -it ', ' ')} -c 'cat /srv/index.html'"]
    said = subprocess.run(entered, capture_output=True, text=True, check=False)
    assert said.stdout.strip(), said.stderr
    assert back.canonq("kept", "--end", row["run"]).status == 0
    assert back.canonq("kept", "--json").json == {"kept": []}
    assert not engine.observe(row["stack"])[0]
    assert "nothing to remove" in back.canonq("janitor").out
