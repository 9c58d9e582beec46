"""The registry's records on a real disk: read, refused, rewritten (SPEC section 4)."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.adapters.locks import HeldRecipe
from canonq.adapters.registry import Registry
from canonq.core.errors import HostProblem, LockLost, RecordUnreadable, WrongUse
from canonq.core.records import Canonical

WHOLE: dict[str, Any] = {
    "recipe": "site", "version": "1.0.0+1.0", "commit": "a" * 40, "status": "idle", "ts": "20260617T050314Z", "schema": 1,
    "promoted_at": "20260617T050314Z", "run": "20260617T050314Z-site-aaaaaa", "level": 2, "images": {"app": "sha256:1"},
    "volumes": ["warm-site_data"], "fence": 3, "previous": {"version": "0.9.0+1.0"}, "rolled_back": None,
    "snapshot": {"path": "/x/volumes.tar.zst", "bytes": 7, "checksum": "sha256:" + "0" * 64, "content_bytes": 9,
        "kind": "archive", "manifest": None},
}  # fmt: skip
OF_AN_OLDER_SERVER = {key: WHOLE[key] for key in ("recipe", "version", "commit", "status", "ts")}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
unknown_keys = st.text(min_size=1).filter(lambda key: key not in Canonical.model_fields and key != "schema")


def record(**changes: Any) -> Canonical:
    return Canonical.model_validate({**WHOLE, **changes})


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


def test_a_recipe_without_a_record_has_none(tmp_path: Path) -> None:
    assert Registry(tmp_path / "warm").read("site") is None
    (tmp_path / "warm" / "site").mkdir(parents=True)
    assert Registry(tmp_path / "warm").read("site") is None


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    Registry(tmp_path).write(record(), proof(tmp_path))
    assert Registry(tmp_path).read("site") == record()
    assert json.loads((tmp_path / "site" / "canonical.json").read_text()) == WHOLE
    assert Registry(tmp_path).recipes() == ["site"]


def test_a_record_of_an_older_server_is_read(tmp_path: Path) -> None:
    put(tmp_path, json.dumps(OF_AN_OLDER_SERVER))
    read = Registry(tmp_path).read("site")
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
        pytest.param(json.dumps({**WHOLE, "schema": 2}), id="future schema"),
        pytest.param(json.dumps({**WHOLE, "recipe": "blog"}), id="another recipe's"),
        pytest.param(json.dumps({**WHOLE, "commit": "main"}), id="commit is no commit"),
        pytest.param(json.dumps({**WHOLE, "ts": "yesterday"}), id="stamp is no stamp"),
        pytest.param(json.dumps({**WHOLE, "snapshot": {"path": "/x"}}), id="snapshot without a checksum"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_left_as_it_is(tmp_path: Path, raw: bytes | str) -> None:
    path = put(tmp_path, raw)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(RecordUnreadable) as told:
        Registry(tmp_path).read("site")
    assert str(path) in told.value.what
    assert told.value.mend
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_folder_in_the_records_place_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    inside = put(tmp_path, "keep me", name="canonical.json/inside")
    with pytest.raises(RecordUnreadable, match=str(inside.parent)):
        Registry(tmp_path).read("site")
    assert inside.read_text() == "keep me"


def test_a_folder_in_the_records_place_is_not_written_over(tmp_path: Path) -> None:
    inside = put(tmp_path, "keep me", name="canonical.json/inside")
    with pytest.raises(HostProblem):
        Registry(tmp_path).write(record(), proof(tmp_path))
    assert inside.read_text() == "keep me"
    assert not list((tmp_path / "site").glob(".canonical.json.*"))


def test_a_future_schema_is_named_with_the_one_that_is_known(tmp_path: Path) -> None:
    put(tmp_path, json.dumps({**WHOLE, "schema": 2}))
    with pytest.raises(RecordUnreadable, match="schema 2, and this canonq knows 1"):
        Registry(tmp_path).read("site")


@given(st.dictionaries(unknown_keys, values, max_size=4))
def test_unknown_keys_survive_a_rewrite(unknown: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder)
        path = put(warm, json.dumps({**unknown, **WHOLE}))
        read = Registry(warm).read("site")
        assert read is not None
        Registry(warm).write(read.model_copy(update={"status": "restamped"}), proof(warm))
        assert json.loads(path.read_text()) == {**unknown, **WHOLE, "status": "restamped"}


def test_unknown_keys_of_the_snapshot_survive_a_rewrite(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps({**WHOLE, "snapshot": {**WHOLE["snapshot"], "taken_by": "hand"}}))
    read = Registry(tmp_path).read("site")
    assert read is not None
    Registry(tmp_path).write(read, proof(tmp_path))
    assert json.loads(path.read_text())["snapshot"]["taken_by"] == "hand"


def test_a_holder_with_an_older_fence_cannot_write(tmp_path: Path) -> None:
    Registry(tmp_path).write(record(), proof(tmp_path, fence=4))
    with pytest.raises(LockLost, match="fence 5"):
        Registry(tmp_path).write(record(version="2.0.0+1.0"), proof(tmp_path, fence=4, newest=5))
    assert Registry(tmp_path).read("site") == record()


def test_a_holder_that_lost_its_lease_cannot_write(tmp_path: Path) -> None:
    held = proof(tmp_path)
    held.lose()
    with pytest.raises(LockLost):
        Registry(tmp_path).write(record(), held)
    assert Registry(tmp_path).read("site") is None


def test_a_rewrite_leaves_no_temporary_file(tmp_path: Path) -> None:
    for status in ("idle", "busy", "idle"):
        Registry(tmp_path).write(record(status=status), proof(tmp_path))
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == ["canonical.json", "registry.fence"]


def test_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    registry, folder = Registry(tmp_path), tmp_path / "site" / "canonicals" / "one"
    for secrets in ({"key": "first"}, {"key": "hunter2", "other": "€"}):
        registry.keep_secrets(folder, secrets)
        assert mode(folder / "secrets.json") == 0o600
    snapshot = {**WHOLE["snapshot"], "path": str(folder / "volumes.tar.zst")}
    assert registry.secrets(record(snapshot=snapshot)) == {"key": "hunter2", "other": "€"}


def test_a_record_of_an_older_server_has_no_secrets(tmp_path: Path) -> None:
    assert Registry(tmp_path).secrets(Canonical.model_validate(OF_AN_OLDER_SERVER)) == {}


@pytest.mark.parametrize("raw", [None, "", '{"key": ', "[]", b"\xff"])
def test_secrets_that_cannot_be_read_are_told_without_a_value(tmp_path: Path, raw: bytes | str | None) -> None:
    if raw is not None:
        put(tmp_path, raw, name="secrets.json")
    with pytest.raises(RecordUnreadable, match=r"secrets\.json"):
        Registry(tmp_path).secrets(record(snapshot={**WHOLE["snapshot"], "path": str(tmp_path / "site" / "volumes.tar.zst")}))


def test_kept_canonicals_are_listed_oldest_promotion_first_without_half_built_ones(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for name, promoted in (("b", "20260601T000000Z"), ("a", "20260602T000000Z")):
        put(tmp_path, json.dumps({**WHOLE, "run": name, "promoted_at": promoted}), name=f"canonicals/{name}/record.json")
    put(tmp_path, "", name="canonicals/half/volumes.tar.zst")
    assert [kept.run for kept in registry.generations("site")] == ["b", "a"]
    assert registry.half_built("site") == [registry.generation("site", "half")]


@pytest.mark.parametrize("raw", ["", '{"recipe": "si', b"\xff\xfe"])
def test_a_kept_canonical_that_cannot_be_read_is_named(tmp_path: Path, raw: bytes | str) -> None:
    path = put(tmp_path, raw, name="canonicals/a/record.json")
    with pytest.raises(RecordUnreadable, match=str(path)):
        Registry(tmp_path).generations("site")


def test_a_dropped_canonical_is_gone_and_may_be_dropped_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    put(tmp_path, json.dumps(WHOLE), name="canonicals/a/record.json")
    put(tmp_path, json.dumps(WHOLE), name="canonicals/b/record.json")
    for _ in range(2):
        registry.drop_generation("site", "a")
    assert not registry.generation("site", "a").exists()
    assert len(registry.generations("site")) == 1


def test_a_bad_name_reads_nothing(tmp_path: Path) -> None:
    put(tmp_path, json.dumps(WHOLE))
    with pytest.raises(WrongUse):
        Registry(tmp_path / "site").read("../site")
