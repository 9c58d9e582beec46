"""The registry's records on a real disk: read, refused, rewritten (docs/rules.md 4)."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.adapters.state.locks import HeldRecipe
from canonq.adapters.state.registry import Registry
from canonq.core.errors import HostProblem, LockLost, RecordUnreadable, WrongUse
from canonq.core.records import Canonical

WHOLE: dict[str, Any] = {
    "recipe": "site", "version": "1.0.0+1.0", "commit": "a" * 40, "status": "idle", "ts": "20260617T050314Z", "schema": 2,
    "promoted_at": "20260617T050314Z", "run": "20260617T050314Z-site-aaaaaa", "level": 2, "images": {"app": "sha256:1"},
    "volumes": ["warm-site_data"], "fence": 3, "previous": {"version": "0.9.0+1.0"}, "rolled_back": [], "remade": None,
    "arrived": None,
    "healed": None, "ledger": [], "populated": None, "populated_for": None,
    "snapshot": {"path": "warm/site/canonicals/one/volumes.tar.zst", "bytes": 7, "checksum": "sha256:" + "0" * 64,
        "content_bytes": 9, "kind": "archive", "manifest": None},
}  # fmt: skip
OF_AN_OLDER_SERVER = {key: WHOLE[key] for key in ("recipe", "version", "commit", "status", "ts")}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
unknown_keys = st.text(min_size=1).filter(lambda key: key not in Canonical.model_fields and key != "schema")


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    """The folder of all records, in its state folder."""
    return tmp_path / "warm"


def below(warm: Path, **changes: Any) -> Canonical:
    """The record as it is read below this folder: with absolute paths."""
    path = str(warm.parent / WHOLE["snapshot"]["path"])
    return record(**{"snapshot": {**WHOLE["snapshot"], "path": path}, **changes})


def record(**changes: Any) -> Canonical:
    return Canonical.model_validate({**WHOLE, **changes})


def test_the_snapshot_of_the_one_before_is_told_by_the_same_kind_of_path_as_its_own(warm: Path) -> None:
    kept: dict[str, Any] = {**WHOLE["snapshot"], "path": "warm/site/canonicals/zero/volumes.tar.zst"}
    before = {"version": "0.9.0+1.0", "snapshot": kept}
    Registry(warm).write(below(warm, previous=before), proof(warm, 3))
    assert json.loads((warm / "site" / "canonical.json").read_text())["previous"] == before, "so that the folder can be moved"
    found = Registry(warm).read("site")
    assert found is not None
    assert found.previous is not None
    assert found.previous["snapshot"] == {**kept, "path": str(warm / "site/canonicals/zero/volumes.tar.zst")}


def proof(warm: Path, fence: int = 1, newest: int | None = None) -> HeldRecipe:
    """A holder's proof, with the newest fence on disk."""
    file = warm / "site" / "registry.fence"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(newest or fence))
    return HeldRecipe("site", fence, file)


def put(warm: Path, raw: bytes | str, name: str = "canonical.json") -> Path:
    path = warm / "site" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_recipe_without_a_record_has_none(warm: Path) -> None:
    assert Registry(warm).read("site") is None
    (warm / "site").mkdir(parents=True)
    assert Registry(warm).read("site") is None


def test_what_was_written_is_read_back(warm: Path) -> None:
    Registry(warm).write(below(warm), proof(warm))
    assert Registry(warm).read("site") == below(warm)
    assert json.loads((warm / "site" / "canonical.json").read_text()) == WHOLE
    assert Registry(warm).recipes() == ["site"]


def test_a_record_of_an_older_server_is_read(warm: Path) -> None:
    put(warm, json.dumps(OF_AN_OLDER_SERVER))
    read = Registry(warm).read("site")
    assert read is not None
    assert (read.version, read.promoted_at, read.snapshot, read.schema_) == ("1.0.0+1.0", None, None, 1)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param(json.dumps(WHOLE)[:90], id="half-written"),
        pytest.param(b"\0" * 512, id="zeroes"),
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param(json.dumps({**WHOLE, "schema": 3}), id="future schema"),
        pytest.param(json.dumps({**WHOLE, "version": "v1.0.3"}), id="its version is no release"),
        pytest.param(json.dumps({**WHOLE, "snapshot": {**WHOLE["snapshot"], "path": "../../x"}}), id="snapshot elsewhere"),
        pytest.param(json.dumps({**WHOLE, "recipe": "blog"}), id="another recipe's"),
        pytest.param(json.dumps({**WHOLE, "commit": "main"}), id="commit is no commit"),
        pytest.param(json.dumps({**WHOLE, "ts": "yesterday"}), id="stamp is no stamp"),
        pytest.param(json.dumps({**WHOLE, "snapshot": {"path": "/x"}}), id="snapshot without a checksum"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_left_as_it_is(warm: Path, raw: bytes | str) -> None:
    path = put(warm, raw)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(RecordUnreadable) as told:
        Registry(warm).read("site")
    assert str(path) in told.value.what
    assert told.value.mend
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_folder_in_the_records_place_is_named_and_left_as_it_is(warm: Path) -> None:
    inside = put(warm, "keep me", name="canonical.json/inside")
    with pytest.raises(RecordUnreadable, match=str(inside.parent)):
        Registry(warm).read("site")
    assert inside.read_text() == "keep me"


def test_a_folder_in_the_records_place_is_not_written_over(warm: Path) -> None:
    inside = put(warm, "keep me", name="canonical.json/inside")
    with pytest.raises(HostProblem):
        Registry(warm).write(record(), proof(warm))
    assert inside.read_text() == "keep me"
    assert not list((warm / "site").glob(".canonical.json.*"))


def test_a_future_schema_is_named_with_the_one_that_is_known(warm: Path) -> None:
    put(warm, json.dumps({**WHOLE, "schema": 3}))
    with pytest.raises(RecordUnreadable, match="schema 3, and this canonq knows 2"):
        Registry(warm).read("site")


@pytest.mark.long
@given(st.dictionaries(unknown_keys, values, max_size=4))
def test_unknown_keys_survive_a_rewrite(unknown: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        path = put(warm, json.dumps({**unknown, **WHOLE}))
        read = Registry(warm).read("site")
        assert read is not None
        Registry(warm).write(read.model_copy(update={"status": "restamped"}), proof(warm))
        assert json.loads(path.read_text()) == {**unknown, **WHOLE, "status": "restamped"}


def test_unknown_keys_of_the_snapshot_survive_a_rewrite(warm: Path) -> None:
    path = put(warm, json.dumps({**WHOLE, "snapshot": {**WHOLE["snapshot"], "taken_by": "hand"}}))
    read = Registry(warm).read("site")
    assert read is not None
    Registry(warm).write(read, proof(warm))
    assert json.loads(path.read_text())["snapshot"]["taken_by"] == "hand"


def test_a_holder_with_an_older_fence_cannot_write(warm: Path) -> None:
    Registry(warm).write(record(), proof(warm, fence=4))
    with pytest.raises(LockLost, match="fence 5"):
        Registry(warm).write(record(version="2.0.0+1.0"), proof(warm, fence=4, newest=5))
    assert Registry(warm).read("site") == below(warm)


def test_a_holder_that_lost_its_lease_cannot_write(warm: Path) -> None:
    held = proof(warm)
    held.lose()
    with pytest.raises(LockLost):
        Registry(warm).write(record(), held)
    assert Registry(warm).read("site") is None


def test_a_rewrite_leaves_no_temporary_file(warm: Path) -> None:
    for status in ("idle", "busy", "idle"):
        Registry(warm).write(record(status=status), proof(warm))
    assert sorted(path.name for path in (warm / "site").iterdir()) == ["canonical.json", "registry.fence"]


def test_secrets_are_for_their_owner_alone(warm: Path) -> None:
    registry, folder = Registry(warm), warm / "site" / "canonicals" / "one"
    for secrets in ({"key": "first"}, {"key": "hunter2", "other": "€"}):
        registry.keep_secrets(folder, secrets)
        assert mode(folder / "secrets.json") == 0o600
    snapshot = {**WHOLE["snapshot"], "path": str(folder / "volumes.tar.zst")}
    assert registry.secrets(record(snapshot=snapshot)) == {"key": "hunter2", "other": "€"}


def test_a_record_of_an_older_server_has_no_secrets(warm: Path) -> None:
    assert Registry(warm).secrets(Canonical.model_validate(OF_AN_OLDER_SERVER)) == {}


@pytest.mark.parametrize("raw", [None, "", '{"key": ', "[]", b"\xff"])
def test_secrets_that_cannot_be_read_are_told_without_a_value(warm: Path, raw: bytes | str | None) -> None:
    if raw is not None:
        put(warm, raw, name="secrets.json")
    with pytest.raises(RecordUnreadable, match=r"secrets\.json"):
        Registry(warm).secrets(record(snapshot={**WHOLE["snapshot"], "path": str(warm / "site" / "volumes.tar.zst")}))


OF_THE_FIRST_SCHEMA: dict[str, Any] = {
    **WHOLE, "schema": 1, "snapshot": {**WHOLE["snapshot"], "path": "/var/lib/old/warm/site/canonicals/one/volumes.tar.zst"},
    "rolled_back": {"by": "ada", "at": "20260616T000000Z", "reason": "it lost mail", "version": "1.1.0+1.0", "commit": "b" * 40},
}  # fmt: skip


def test_a_record_of_the_first_schema_is_read_wherever_its_state_folder_is_now(warm: Path) -> None:
    put(warm, json.dumps({key: value for key, value in OF_THE_FIRST_SCHEMA.items() if key not in ("remade", "healed")}))
    read = Registry(warm).read("site")
    assert read is not None
    assert read.snapshot is not None
    assert read.snapshot.path == str(warm / "site" / "canonicals" / "one" / "volumes.tar.zst")
    assert read.held("1.1.0+1.0", "b" * 40) is not None
    assert Registry(warm).folder_of(read) == Registry(warm).generation("site", "one")
    Registry(warm).write(read, proof(warm))
    kept = json.loads((warm / "site" / "canonical.json").read_text())
    assert (kept["schema"], kept["snapshot"]["path"]) == (2, "warm/site/canonicals/one/volumes.tar.zst")
    assert [back["version"] for back in kept["rolled_back"]] == ["1.1.0+1.0"]
    assert {key: kept[key] for key in OF_AN_OLDER_SERVER if key != "schema"} == OF_AN_OLDER_SERVER


def test_a_record_that_names_a_snapshot_elsewhere_on_the_host_keeps_its_path(warm: Path) -> None:
    put(warm, json.dumps({**WHOLE, "snapshot": {**WHOLE["snapshot"], "path": "/mnt/old/volumes.tar.zst"}}))
    read = Registry(warm).read("site")
    assert read is not None
    assert read.snapshot is not None
    assert read.snapshot.path == "/mnt/old/volumes.tar.zst"
    assert Registry(warm).name_of(read) is None


def keep(warm: Path, name: str, fence: int, *, schema: int = 2, marked: bool = True) -> None:
    """A kept canonical's files."""
    path = f"warm/site/canonicals/{name}/volumes.tar.zst"
    text = json.dumps({**WHOLE, "run": name, "fence": fence, "schema": schema, "snapshot": {**WHOLE["snapshot"], "path": path}})
    put(warm, text, name=f"canonicals/{name}/record.json")
    if marked:
        put(warm, text, name=f"canonicals/{name}/in-force.json")


def test_kept_canonicals_are_listed_in_their_order_of_succession_without_those_never_in_force(warm: Path) -> None:
    registry = Registry(warm)
    keep(warm, "b", 1)
    keep(warm, "a", 2)
    keep(warm, "of the first schema", 3, schema=1, marked=False)
    keep(warm, "killed before its switch", 4, marked=False)
    put(warm, "", name="canonicals/half/volumes.tar.zst")
    assert [kept.run for kept in registry.generations("site")] == ["b", "a", "of the first schema"]
    assert registry.half_built("site") == [registry.generation("site", "half")]
    assert registry.newest_fence("site") == 4


def test_what_is_marked_is_what_was_in_force_last(warm: Path) -> None:
    registry = Registry(warm)
    for name, fence in (("one", 1), ("two", 2)):
        keep(warm, name, fence, marked=False)
    (one, two) = (each.record for each in registry.all_generations("site") if each.record)
    registry.mark(two)
    registry.mark(one.model_copy(update={"fence": 3}))  # somebody went back to it
    last = registry.last_in_force("site")
    assert last is not None
    assert (last.run, last.fence) == ("one", 3)
    registry.mark(one)  # an older record that somebody has put back
    assert registry.last_in_force("site") == last


@pytest.mark.parametrize("raw", ["", '{"recipe": "si', b"\xff\xfe"])
def test_a_kept_canonical_that_cannot_be_read_costs_only_that_one_and_is_named(warm: Path, raw: bytes | str) -> None:
    keep(warm, "a", 1)
    keep(warm, "b", 2)
    path = put(warm, raw, name="canonicals/a/record.json")
    registry = Registry(warm)
    assert [kept.run for kept in registry.generations("site")] == ["b"]
    (broken,) = [kept for kept in registry.kept("site") if kept.record is None]
    assert (broken.name, broken.fence) == ("a", 1)
    assert str(path) in broken.problem
    assert registry.half_built("site") == []


def test_a_kept_canonical_whose_record_is_gone_is_not_half_built(warm: Path) -> None:
    keep(warm, "a", 1)
    (warm / "site" / "canonicals" / "a" / "record.json").unlink()
    assert Registry(warm).half_built("site") == []
    assert "is gone" in Registry(warm).kept("site")[0].problem


def test_a_dropped_canonical_is_gone_and_may_be_dropped_again(warm: Path) -> None:
    registry = Registry(warm)
    keep(warm, "a", 1)
    keep(warm, "b", 2)
    for _ in range(2):
        registry.drop_generation("site", "a")
    assert not registry.generation("site", "a").exists()
    assert len(registry.generations("site")) == 1


def test_a_bad_name_reads_nothing(warm: Path) -> None:
    put(warm, json.dumps(WHOLE))
    with pytest.raises(WrongUse):
        Registry(warm / "site").read("../site")
