"""backupbot labels of both generations, and dumps that are not whole."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.adapters.data.artifact import Members, keep, look_through, members, without_top
from canonq.adapters.data.counting import digest_of
from canonq.core.backup import Part, backup_plan
from canonq.core.errors import TimedOut
from canonq.core.stack.dumps import ENDS, closed_to_us, dump_problem, is_a_dump, may_hold_rows, where_expected
from canonq.core.stack.resolved import stack_of
from canonq.core.stack.witness import File


def plan(
    labels: dict[str, str] | list[str] | None, *, app: list[Any] | None = None, volumes: dict[str, Any] | None = None
) -> Any:
    mounts = ["data:/srv/data", "more:/srv/more:ro"] if app is None else app
    declared = {"data": {}, "more": {}, "unused": {}} if volumes is None else volumes
    services = {"app": {"volumes": mounts, "deploy": {"labels": labels}}, "db": {}}
    return backup_plan(stack_of({"services": services, "volumes": declared}))


ON = {"backupbot.backup": "true"}
WHOLE = [Part("app", "/srv/data", "data", whole=True), Part("app", "/srv/more", "more", whole=True)]


def test_all_volumes_of_a_labelled_service_are_in() -> None:
    assert list(plan(ON).parts) == WHOLE
    assert list(plan(["backupbot.backup=true"]).parts) == WHOLE


@pytest.mark.parametrize("labels", [None, {}, {"other": "x"}])
def test_without_a_label_a_stack_is_not_backup_capable(labels: Any) -> None:
    assert not plan(labels).capable
    assert "no service has" in plan(labels).why_not


def test_labels_outside_deploy_mean_nothing() -> None:
    """The labels of bonfire once sat on the container, where no bot looks."""
    stack = {"services": {"app": {"labels": ON, "volumes": ["data:/srv"]}}, "volumes": {"data": {}}}
    assert not backup_plan(stack_of(stack)).capable


def test_a_switched_off_backup_is_told_apart_from_none() -> None:
    found = plan({"backupbot.backup": "false", "backupbot.backup.pre-hook": "x"})
    assert not found.capable
    assert "not true on app" in found.why_not


def test_a_volume_may_be_left_out_or_narrowed_to_paths() -> None:
    found = plan({**ON, "backupbot.backup.volumes.more": "false", "backupbot.backup.volumes.data.path": "d.sql, sub/x"})
    assert list(found.parts) == [Part("app", "/srv/data/d.sql", "data", False), Part("app", "/srv/data/sub/x", "data", False)]


def test_paths_of_the_first_generation_are_paths_in_the_container() -> None:
    found = plan({**ON, "backupbot.backup.path": "/srv/data,/srv/more/x,/etc/y"})
    assert list(found.parts) == [
        Part("app", "/srv/data", "data", True), Part("app", "/srv/more/x", "more", False), Part("app", "/etc/y", None, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mounts", "path", "part"),
    [
        (["data:/srv", "more:/srv/data"], "/srv/data/", ("more", True)),
        (["more:/srv/data", "data:/srv"], "/srv/data", ("more", True)),
        (["data:/srv", "more:/srv/data"], "/srv/data/x", ("more", False)),
        (["data:/srv", "more:/srv/data"], "/srv/database", ("data", False)),
        (["data:/srv", "more:/srv/data"], "/srv", ("data", True)),
        (["data:/srv", "data:/other"], "/srv", ("data", True)),
        (["data:/srv", "data:/other"], "/other", ("data", True)),
        (["data:/srv", "data:/other"], "/other/x", ("data", False)),
        (["data:/srv"], "/srvx", (None, False)),
    ],
)
def test_a_path_lies_in_the_deepest_of_all_mounts(mounts: list[str], path: str, part: tuple[str | None, bool]) -> None:
    (found,) = plan({**ON, "backupbot.backup.path": path}, app=mounts).parts
    assert (found.volume, found.whole) == part


def test_a_volume_at_two_places_is_taken_once() -> None:
    found = plan(ON, app=["data:/srv", "data:/other"])
    assert [(part.path, part.volume) for part in found.parts] == [("/srv", "data")]


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("backupbot.backup.volumes.nothing", "false", "does not have"),
        ("backupbot.backup.volumes.nothing.path", "x", "does not have"),
        ("backupbot.backup.volumes.unused.path", "x", "does not mount"),
        ("backupbot.backup.volumes.data.path", "../../etc", "outside the volume"),
        ("backupbot.backup.path", "relative", "not an absolute path"),
    ],
)
def test_labels_that_cannot_mean_what_they_say_are_told(label: str, value: str, said: str) -> None:
    assert said in plan({**ON, label: value}).problems[0]


def test_hooks_of_all_four_kinds_are_found_on_labelled_services_only() -> None:
    hooks = {
        f"backupbot.{kind}": kind for kind in ("backup.pre-hook", "backup.post-hook", "restore.pre-hook", "restore.post-hook")
    }
    found = plan({**ON, **hooks})
    told = [hook.command for hook in (*found.before, *found.after, *found.restore_before, *found.restore_after)]
    assert told == list(hooks.values())
    assert not plan(hooks).capable


def test_a_stack_whose_every_volume_is_left_out_has_nothing_to_capture() -> None:
    """immich labelled the app alone and left out all its volumes, so the database was never saved."""
    found = plan({**ON, "backupbot.backup.volumes.data": "false", "backupbot.backup.volumes.more": "no"})
    assert (found.capable, found.parts) == (True, ())


def test_another_apps_volume_is_never_in() -> None:
    assert plan(ON, volumes={"data": {"external": True}, "more": {}}).parts == (WHOLE[1],)


# -- dumps ----------------------------------------------------------------------------------------------------

PG = b"--\n-- PostgreSQL database dump\n--\n" + b"INSERT;\n" * 999
SQLITE = b"SQLite format 3\0" + (4096).to_bytes(2, "big") + bytes(10) + (3).to_bytes(4, "big") + bytes(4096 * 3 - 32)
WHOLE_DUMPS = [
    PG + b"--\n-- PostgreSQL database dump complete\n--\n\n",
    b"--\n-- PostgreSQL database cluster dump\n--\n" + b"-- PostgreSQL database cluster dump complete\n",
    b"-- MySQL dump 10.13\n" + b"INSERT;\n" * 999 + b"-- Dump completed on 2026-11-23\n",
    b"/*M!999999 sandbox */\n-- MariaDB dump 10.19\n" + b"INSERT;\n" * 99 + b"-- Dump completed\n",
    b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n" + b"INSERT;\n" * 99 + b"COMMIT;\n",
    SQLITE,
]


@pytest.mark.parametrize("dump", [*WHOLE_DUMPS, b"anything else\n"])
def test_a_whole_dump_passes(dump: bytes) -> None:
    assert dump_problem(dump[:ENDS], dump[-ENDS:], len(dump)) is None


@pytest.mark.parametrize("dump", WHOLE_DUMPS)
def test_a_dump_cut_in_half_is_found_out(dump: bytes) -> None:
    """Known failure 31: a backup was "ok" with a truncated dump."""
    half = dump[: len(dump) // 2]
    assert dump_problem(half[:ENDS], half[-ENDS:], len(half)) is not None


def test_an_empty_dump_is_found_out() -> None:
    assert dump_problem(b"", b"", 0) == "is empty"


def packed(files: dict[str, bytes]) -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return [out.getvalue()]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_mark_is_found_in_a_dump_plain_or_zipped_wherever_it_lies(tmp_path: Path, zipped: bool) -> None:
    dump = PG + bytes(1 << 20)[:-4] + b"the-mark" + bytes(99) + b"\n-- PostgreSQL database dump complete\n"
    keep(packed({"d.sql": gzip.compress(dump) if zipped else dump}), tmp_path / "a.tar")
    found = look_through(tmp_path / "a.tar", ["the-mark", "another"], dumps=True)
    assert (found.found, found.problems, found.files) == ({"the-mark"}, [], 1)


@pytest.mark.parametrize("cut", [1, 9, 500])
def test_a_zipped_dump_that_breaks_off_is_found_out(tmp_path: Path, cut: int) -> None:
    whole = gzip.compress(PG + b"-- PostgreSQL database dump complete\n")
    keep(packed({"d.sql.gz": whole[:-cut] if cut < len(whole) else whole[:9]}), tmp_path / "a.tar")
    assert look_through(tmp_path / "a.tar", [], dumps=True).problems


@pytest.mark.parametrize("zipped", [False, True])
def test_in_a_volume_taken_whole_only_the_text_of_a_dump_that_a_hook_wrote_has_to_have_its_end(
    tmp_path: Path, zipped: bool
) -> None:
    files = {"v/d.sql": PG, "v/page.txt": b"half a page", "v/empty": b"", "v/a.zip": b"PK\x03\x04 half of it"}
    keep(packed({name: gzip.compress(text) if zipped else text for name, text in files.items()}), tmp_path / "a.tar")
    (told,) = look_through(tmp_path / "a.tar", [], dumps=False, hooks_since=0).problems
    assert told.startswith("v/d.sql is a pg_dump dump that breaks off")
    assert look_through(tmp_path / "a.tar", [], dumps=False, hooks_since=1).problems == [], "it was there before"


def test_an_archive_that_breaks_off_is_found_out(tmp_path: Path) -> None:
    (whole,) = packed({"a": bytes(5000), "b": bytes(5000)})
    keep([whole[:6000]], tmp_path / "a.tar")
    assert look_through(tmp_path / "a.tar", [], dumps=False).problems


def test_of_many_files_that_are_closed_the_one_is_named_in_which_a_database_may_be(tmp_path: Path) -> None:
    pictures = {f"a/{number}.png": b"\x89PNG\r\n\x1a\n" + bytes(200) for number in range(9)}
    keep(packed({**pictures, "a/dump": b"PGDMP" + bytes(200), "a/z.png": pictures["a/1.png"]}), tmp_path / "a.tar")
    found = look_through(tmp_path / "a.tar", [], dumps=False)
    assert found.rows_in.startswith("a/dump is ")
    assert found.rows_in not in found.closed, "of others only the first few are kept"


def test_a_sparse_file_is_kept_whole_and_takes_no_more_room_than_it_has_content(tmp_path: Path) -> None:
    head = tarfile.TarInfo("map.mdb")
    head.size = 64 << 20
    given = [head.tobuf(), *[bytes(1 << 20)] * 63, bytes((1 << 20) - 9), b"the-mark\n", bytes(1024)]
    checksum = keep(given, tmp_path / "a.tar")
    with (tmp_path / "a.tar").open("rb") as kept:
        assert checksum == hashlib.file_digest(kept, "sha256").hexdigest() == hashlib.sha256(b"".join(given)).hexdigest()
    assert (tmp_path / "a.tar").stat().st_blocks * 512 < 1 << 20
    assert look_through(tmp_path / "a.tar", ["the-mark"], dumps=False).found == {"the-mark"}


@pytest.mark.long
def test_a_look_through_keeps_no_list_of_the_files(tmp_path: Path) -> None:
    """Of a million empty ones, which a container makes in seconds, it would have taken gigabytes."""
    entry = tarfile.TarInfo("empty")
    keep([*(entry.tobuf() for _ in range(5000)), bytes(1024)], tmp_path / "a.tar")
    gc.collect()  # what earlier tests have left may take something as it goes
    tracemalloc.start()
    try:
        assert look_through(tmp_path / "a.tar", [], dumps=True).files == 5000
        assert members(tmp_path / "a.tar", []) == Members({empty := File(0, digest_of(b"", []))}, {empty})
        assert sum(1 for _ in without_top(tmp_path / "a.tar")) == 5001
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=3000))
def test_no_bytes_break_the_look_through(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("odd")
    keep([content], folder / "a.tar")
    look_through(folder / "a.tar", ["x"], dumps=True)
    keep(packed({"z": b"\x1f\x8b" + content}), folder / "b.tar")
    look_through(folder / "b.tar", ["x"], dumps=True)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PGDMP\x01\x0e\x00", "custom format"), (b"\x28\xb5\x2f\xfd\0", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh9", "bzip2"),
        (b"PK\x03\x04", "zip"), (b"-----BEGIN PGP MESSAGE-----\n", "PGP"), (b"age-encryption.org/v1\n", "age"),
        (b"Salted__\x99\x98", "openssl"), (b"any\0thing", "no text"), (bytes(range(128, 256)), "no text"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_into_is_told_from_how_it_begins(head: bytes, what: str) -> None:
    assert what in str(closed_to_us(head))


SQLITE = b"SQLite format 3\0" + bytes(40)


@pytest.mark.parametrize(
    ("what", "head", "by_a_hook", "expected"),
    [
        ("a picture of the app's", b"\x89PNG\r\n\x1a\n\0", False, False),
        ("an archive that somebody has brought", b"PK\x03\x04", False, False),
        ("an archive that a hook has made", b"PK\x03\x04", True, True),
        ("a dump, whoever has made it", b"PGDMP\x01\x0e\0", False, True),
        ("a copy of an SQLite file, in which rows can be seen", SQLITE + b"\0\0\0\x01", True, False),
        ("one whose texts are in UTF-16", SQLITE + b"\0\0\0\x02", True, True),
    ],
)
def test_a_database_may_be_saved_in_what_is_closed_and_has_been_made_for_that(
    what: str, head: bytes, by_a_hook: bool, expected: bool
) -> None:
    assert may_hold_rows(head, by_a_hook=by_a_hook) is expected, what


@pytest.mark.parametrize("head", [b"", b"-- PostgreSQL database dump\n", "Grüße\n".encode() * 99, "ü".encode()[:1], b"a,b\n"])
def test_text_can_be_looked_into(head: bytes) -> None:
    assert closed_to_us(head) is None


@pytest.mark.parametrize(
    ("name", "size", "alone", "by_a_hook", "judged"),
    [
        ("d.sql", 0, True, False, True),  # the label names the very file
        ("data/.ocdata", 0, False, False, False),
        ("data/.ocdata", 0, False, True, False),  # touched while the hook ran: an empty file is one of many things
        ("backup/d.sql", 0, False, True, True),
        ("backup/d.sql.gz", 9, False, True, True),
        ("backup/mine", 9, False, True, True),
        ("uploads/half.zip", 9, False, False, False),  # what a user has put there is no dump
        ("uploads/half.sql", 9, False, False, False),
    ],
)
def test_a_dump_is_what_the_label_names_or_a_hook_has_written(
    name: str, size: int, alone: bool, by_a_hook: bool, judged: bool
) -> None:
    assert is_a_dump(name, size, alone=alone, by_a_hook=by_a_hook) is judged


@pytest.mark.parametrize(
    ("found", "closed", "expected"),
    [
        ([True], [False], [True]),
        ([False], [False], [True]),
        ([False], [True], [False]),  # left to the restore
        ([True, False], [False, False], [True, False]),  # a dump, and configuration beside it
        ([True, False], [False, True], [True, False]),
        ([False, False], [False, False], [True, True]),
        ([False, False], [False, True], [False, False]),
    ],
)
def test_a_row_must_be_in_one_part_unless_something_cannot_be_looked_into(
    found: list[bool], closed: list[bool], expected: list[bool]
) -> None:
    assert where_expected(found, closed) == expected


FOLDER = {"up/.nomedia": b"", "up/half.sql": PG, "up/half.zip": b"PK\x03\x04" + bytes(99)}


@pytest.mark.parametrize(("since", "problems"), [(None, 0), (99.0, 0), (0.5, 2)])
def test_files_of_a_folder_are_dumps_only_when_they_were_written_by_the_hooks(
    tmp_path: Path, since: float | None, problems: int
) -> None:
    keep(packed(FOLDER), tmp_path / "a.tar")
    assert len(look_through(tmp_path / "a.tar", [], dumps=True, hooks_since=since).problems) == problems


def test_a_dump_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    keep(packed({"backup/d.pgdump": b"PGDMP\x01" + bytes(99)}), tmp_path / "a.tar")
    found = look_through(tmp_path / "a.tar", ["the-mark"], dumps=True)
    assert (found.found, found.problems, found.closed) == (set(), [], ["backup/d.pgdump is a dump in pg_dump's custom format"])


def test_a_look_into_a_packed_file_ends_with_the_run_however_large_it_becomes(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(64 << 20))
    assert len(packed) < 1 << 20
    entry = tarfile.TarInfo("dump.sql.gz")
    entry.size = len(packed)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(entry, io.BytesIO(packed))
    looks = iter(range(5))

    def in_time() -> None:
        if next(looks, None) is None:
            raise TimedOut("The run took too long.")

    with pytest.raises(TimedOut):
        look_through(tmp_path / "a.tar", ["mark"], dumps=True, in_time=in_time)
