"""Another folder in which an app begins anew, told from one into which its data was brought."""

from __future__ import annotations

import pytest

from canonq.core.stack.home import left_behind
from canonq.core.stack.witness import File, Files, Witness


def volume(**there: int) -> dict[str, dict[str, File]]:
    """Files of a volume with their sizes; `__` is a slash."""
    return {"data": {path.replace("__", "/"): File(size, str(size)) for path, size in there.items()}}


FIRST = volume(settings=50, db__index=10)  #: what the base makes by itself
USED = volume(settings=50, db__index=900, pages__one=400)  #: and when it was used
DEFAULT = volume(v2__settings=50, v2__db__index=10)
LATER = volume(v2__settings=50, v2__db__index=900, v2__pages__one=400)
BESIDE = {"data": USED["data"] | DEFAULT["data"]}


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (BESIDE, ["'data' (1300 bytes, which it keeps in 'data/v2' now)"]),
        (LATER, []),  # it was moved
        ({"data": USED["data"] | LATER["data"]}, []),  # it was copied
        ({"data": BESIDE["data"] | {"v2/all": File(500, "all")}}, []),  # it is there in another form
        (USED, []),  # the folder is of that install alone
        ({}, []),
    ],
)
def test_a_new_home_has_to_have_what_was_in_the_old_one(after: Files, told: list[str]) -> None:
    assert left_behind(USED, after, Witness(FIRST, DEFAULT, LATER, used=True), ()) == told


@pytest.mark.parametrize(
    "by",
    [
        Witness(None, DEFAULT, LATER, used=True),  # nobody knows what the base makes by itself
        Witness(FIRST, FIRST, USED, used=True),  # the home is where it was
        Witness(FIRST, {"data": FIRST["data"] | DEFAULT["data"]}, LATER, used=True),  # a second one, beside it
        Witness(FIRST, DEFAULT, {"data": LATER["data"] | volume(pages__one=400)["data"]}, used=True),  # it is used still
        Witness(volume(settings=50), volume(conf__settings=50), volume(conf__settings=50, pages__one=4), used=True),
        Witness(FIRST, volume(v2__other=50), LATER, used=True),
    ],
)
def test_where_that_is_no_home_of_the_same_kind_nothing_is_concluded(by: Witness) -> None:
    assert left_behind(USED, BESIDE, by, ()) == []


QUIET = Witness({"data": {}}, {"data": {}}, volume(v2__pages__one=400, v2__pages__two=300, v2__meta__one=9), used=True)
PAGES = volume(pages__one=400, pages__two=300, meta__one=9, pages__more=5000)


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (volume(v2__cache__x=1), ["'data' (5709 bytes, which it keeps in 'data/v2' now)"]),
        ({}, []),  # nobody was there
        (volume(v2__pages__one=400, v2__pages__two=300, v2__pages__more=5000), []),  # copied
    ],
)
def test_where_an_app_makes_nothing_by_itself_the_same_use_says_where_its_home_is(after: Files, told: list[str]) -> None:
    held = {"data": PAGES["data"] | dict(after.get("data", {}))}
    assert left_behind(PAGES, held, QUIET, ()) == told
    assert left_behind(PAGES, held, Witness(QUIET.first, QUIET.default, QUIET.later), ()) == []  # nobody has used them


def test_a_folder_for_each_month_is_no_other_home() -> None:
    by = Witness({"data": {}}, {"data": {}}, volume(up__2026__12__one=400), used=True)
    before = volume(up__2026__11__one=400, up__2026__12__mine=4)
    assert left_behind(before, before, by, ()) == []
    assert left_behind(volume(up__2026__11__one=400), volume(up__2026__11__one=400), by, ()) == []


def test_a_database_that_cannot_be_read_is_a_part_of_its_home_by_its_size() -> None:
    one, empty = File(900, "", "leveldb"), File(80, "", "leveldb")
    first, default = {"data": {"db/all": empty}}, {"data": {"v2/all": empty}}
    used, later = {"data": {"db/all": one, "db/garden": one}}, {"data": {"v2/all": one, "v2/garden": one}}
    by = Witness(first, default, later, used=True)
    beside = {"data": used["data"] | default["data"]}
    assert left_behind(used, beside, by, ()) == ["'data/db' (1800 bytes, which it keeps in 'data/v2' now)"]
    assert left_behind(used, later, by, ()) == []
    assert left_behind(used, beside, by, {"data/db"}) == []


def test_a_database_that_cannot_be_read_is_begun_anew_under_another_name_in_its_folder() -> None:
    """As PowerDNS does, told of another file: with each it makes one for locks."""
    one, empty, lock = File(900, "", "lmdb"), File(80, "", "lmdb"), File(8, "lock")
    first, default = {"data": {"a.lmdb": empty, "a.lmdb-lock": lock}}, {"data": {"b.lmdb": empty, "b.lmdb-lock": lock}}
    used, later = {"data": {"a.lmdb": one, "a.lmdb-0": one}}, {"data": {"b.lmdb": one, "b.lmdb-0": one}}
    by = Witness(first, default, later, used=True)
    beside: Files = {"data": used["data"] | {"b.lmdb": empty}}
    assert left_behind(used, beside, by, ()) == ["'data/a.lmdb' (1800 bytes, which it keeps in 'data/b.lmdb' now)"]
    assert left_behind(used, beside, by, {"data/a.lmdb", "data/a.lmdb-0"}) == []
    assert left_behind(used, {"data": used["data"] | later["data"]}, by, ()) == [], "it was copied"
    assert left_behind(used, later, by, ()) == [], "it was moved"
    still = Witness(first, default, {"data": later["data"] | used["data"]}, used=True)
    assert left_behind(used, beside, still, ()) == [], "the new one is beside it"
    others = Witness({"data": {}}, {"data": {"b.lmdb": empty}}, {"data": {"b.lmdb": one, "x.lmdb": one}}, used=True)
    assert left_behind(used, beside, others, ()) == [], "each place makes those of a name of its own"


def test_a_file_of_bolt_s_is_as_large_as_what_is_in_it() -> None:
    """As etcd keeps it: each begins with 16 MiB."""
    empty, full, unread = File(900, "<first>", "bolt"), File(50_000, "<full>", "bolt"), File(16 << 20, "", "bolt")
    first, default = {"data": {"member/db": empty}}, {"data": {"v2/member/db": File(910, "<other>", "bolt")}}
    used, later = {"data": {"member/db": full}}, {"data": {"v2/member/db": full}}
    by = Witness(first, default, later, used=True)
    begun = used["data"] | {"v2/member/db": File(950, "<anew>", "bolt")}
    assert left_behind(used, {"data": begun}, by, ()) == ["'data' (49100 bytes, which it keeps in 'data/v2' now)"]
    assert left_behind(used, {"data": used["data"] | later["data"]}, by, ()) == []
    assert left_behind({"data": {"member/db": unread}}, {"data": begun | {"member/db": unread}}, by, ()) == []
    assert left_behind(used, {"data": begun | {"v2/member/db": unread}}, by, ()) == []


def test_what_each_install_names_after_itself_is_no_other_home() -> None:
    first, default = volume(one__store=10), volume(two__store=10)
    used, later = volume(one__store=900), volume(two__store=900)
    assert left_behind(used, used, Witness(first, default, later, used=True), ()) == []


def test_a_thousand_files_of_an_app_s_own_take_no_time() -> None:
    first = volume(**{f"a__f{number}__index": 1 for number in range(3000)})
    default = volume(**{f"b__f{number}__index": 1 for number in range(3000)})
    used = {"data": first["data"] | {"a/mine": File(9000, "mine")}}
    beside = {"data": used["data"] | default["data"]}
    assert left_behind(used, beside, Witness(first, default, default, used=True), ()) == [
        "'data/a' (9000 bytes, which it keeps in 'data/b' now)"
    ]
