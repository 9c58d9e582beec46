"""Which plain files are somebody's, and which of them are lost or in no backup."""

from __future__ import annotations

import pytest

from canonq.core.stack.witness import (
    File,
    Files,
    Witness,
    as_anywhere,
    is_beside_the_data,
    is_nobodys,
    lost_files,
    same,
    somebodys_own,
)


def of(**there: str) -> Files:
    """The files of a volume: name -> what is in them. `_` stands for a dot, and `__` for a slash."""
    return {"data": {name.replace("__", "/").replace("_", "."): File(len(text), f"<{text}>") for name, text in there.items()}}


NOTHING = of()
#: An app that has settings, and a page for each thing that somebody writes; a new install has settings of its own.
MINE = of(settings_ini="mine", page_txt="a page of somebody's")
NEW = of(settings_ini="new")
USED = Witness(first=NEW, default=NEW, later=MINE, used=True)
UNUSED = Witness(first=NEW, default=NEW, later=NEW)
UNKNOWN = Witness(first=None, default=NEW, later=MINE, used=True)
GONE, RESET = "'page.txt' of the volume data is gone", "'settings.ini' of the volume data is as a new install makes it"


@pytest.mark.parametrize(
    ("what", "before", "after", "by", "expected"),
    [
        ("all is there", MINE, MINE, USED, []),
        ("a page is gone", MINE, of(settings_ini="mine"), USED, [GONE]),
        ("settings are made anew", MINE, of(settings_ini="new", page_txt="a page of somebody's"), USED, [RESET]),
        ("both", MINE, NEW, USED, [GONE, RESET]),
        ("nobody knows what the base makes by itself", MINE, NEW, UNKNOWN, [GONE, RESET]),
        ("nobody uses new installs", MINE, NEW, UNUSED, [GONE, RESET]),
        ("settings are written in another form", MINE, of(settings_ini="mine, v2", page_txt="a page of somebody's"), USED, []),
        ("a page has another name", MINE, of(settings_ini="mine", pages__page_md="a page of somebody's"), USED, []),
        (
            "what the app brings along is newer",
            of(index_php="1", page_txt="p"),
            of(index_php="2", page_txt="p"),
            Witness(of(index_php="1"), of(index_php="2"), of(index_php="2", page_txt="p"), used=True),
            [],
        ),
        (
            "what the app brings along is newer, and nobody knows what the base makes",
            of(index_php="1"), of(index_php="2"), Witness(None, of(index_php="2"), of(index_php="2"), used=True), [],
        ),
        (
            "what the base brings along is given up",
            of(old_php="1", page_txt="p"), of(page_txt="p"), Witness(of(old_php="1"), NOTHING, of(page_txt="p"), used=True), [],
        ),
        (
            "a random key of the base's is in no use any more",
            of(key_pem="of this one", page_txt="p"), of(page_txt="p"),
            Witness(of(key_pem="of another"), NOTHING, of(page_txt="p"), used=True), [],
        ),
        (
            "a stamp of the base's own is written anew by the release",
            of(version_txt="1"), of(version_txt="2"), Witness(of(version_txt="1"), of(version_txt="2"), of(version_txt="2")), [],
        ),
        (
            "a counter begins anew, which nobody's use changes",
            of(last_json="7"), of(last_json="0"), Witness(of(last_json="5"), of(last_json="0"), of(last_json="0"), used=True), [],
        ),
        ("logs and caches", of(a_log="x", cache__b="x", an__index__c="x"), NOTHING, Witness(NOTHING, NOTHING, of(a_log="x")), []),
        (
            "pages go into another form",
            of(page_txt="a page of somebody's"), of(pages_bin="[a page of somebody's]"), Witness(NOTHING, NOTHING, NOTHING), [],
        ),
        ("they go, nothing comes", of(page_txt="a page of somebody's"), of(v2="1"), Witness(NOTHING, NOTHING, NOTHING), [GONE]),
        (
            "they go, and what comes is what a new install has",
            of(page_txt="a page of somebody's"), of(welcome_txt="welcome, whoever you are"),
            Witness(NOTHING, of(welcome_txt="welcome, whoever you are"), NOTHING), [GONE],
        ),
        ("nobody knows anything", MINE, NOTHING, Witness(None, NOTHING, NOTHING), []),
    ],
)  # fmt: skip
def test_what_somebody_has_made_is_lost_where_it_is_gone_or_as_a_new_install_makes_it(
    what: str, before: Files, after: Files, by: Witness, expected: list[str]
) -> None:
    assert lost_files(before, after, by, {}, grown=False) == expected, what


def test_a_database_that_cannot_be_read_is_missed_where_use_makes_it_whatever_else_has_grown() -> None:
    held: Files = {"data": {"db/pans": File(900, "", "leveldb"), "db/ferns": File(700, "", "leveldb")}}
    used = Witness(first={}, default={}, later=held, used=True)
    left: Files = {"data": {"db/ferns": File(90, "", "leveldb")}}
    assert lost_files(held, left, used, (), grown=True) == ["'db/pans' of the volume data is gone"]
    assert lost_files(held, left, used, {"data/db/pans"}, grown=True) == []
    carried = Witness(first={}, default={}, later={"data": {}}, used=True)
    assert lost_files(held, {"data": {}}, carried, (), grown=True) == [], "what the target keeps in tables"


def test_files_in_the_root_of_a_volume_are_missed_where_the_same_use_leaves_such_there_whatever_has_grown() -> None:
    by = Witness(NOTHING, NOTHING, of(c3_pdf="of a new install"), used=True)
    held, left = of(a1_pdf="somebody's", b2_pdf="another's"), of(a1_pdf="somebody's")
    assert lost_files(held, left, by, (), grown=True) == ["'b2.pdf' of the volume data is gone"]
    assert lost_files(held, left, by, {"data/b2.pdf"}, grown=True) == []
    into_rows = of(notes_json="all of them")
    assert lost_files(into_rows, NOTHING, by, (), grown=True) == [], "which use makes nowhere any more"


@pytest.mark.parametrize(
    ("now", "filled", "emptied"),
    [
        (1_000, 50_000, True),  # begun anew, with something of its own
        (45_000, 50_000, False),
        (20_000, 50_000, False),
        (2_000, 1_500, False),  # the use puts next to nothing in
        (14_000, 50_000, False),  # a quarter of it may be all, in another form
    ],
)
def test_a_file_of_bolt_s_that_is_begun_anew_in_its_place_is_lost(now: int, filled: int, *, emptied: bool) -> None:
    first, default = File(900, "<first>", "bolt"), File(950, "<default>", "bolt")

    def volume(it: File) -> Files:
        return {"data": {"member/db": it}}

    by = Witness(volume(first), volume(default), volume(File(filled, "<filled>", "bolt")), used=True)
    held, after = volume(File(60_000, "<held>", "bolt")), volume(File(now, "<now>", "bolt"))
    told = [f"'member/db' of the volume data is next to empty (60000 bytes were in it, and {now} are now)"] if emptied else []
    assert lost_files(held, after, by, (), grown=False, unread=True) == told
    beside = {"data": dict(after["data"]) | {"all": File(20_000, "", "leveldb")}}
    assert lost_files(held, beside, by, (), grown=False, unread=True) == []  # it may be in there by now
    assert lost_files(held, after, by, (), grown=True) == []  # it may be in a table
    assert lost_files(held, volume(File(16 << 20, "", "bolt")), by, (), grown=False) == []  # nobody knows
    assert lost_files(held, after, by, {"data/member"}, grown=False) == []


def test_what_may_be_in_a_database_by_now_is_missed_only_where_the_same_use_makes_a_file_of_it() -> None:
    assert lost_files(MINE, NEW, UNUSED, {}, grown=True) == [RESET]
    assert lost_files(MINE, NEW, USED, {}, grown=True) == [GONE, RESET]


PAGES = of(pages__a_txt="a page", pages__b_txt="another page")
#: What the same use makes of a new install: files in that folder, under names of their own; or none.
KEEPS_FILES = Witness(NOTHING, NOTHING, of(pages__c_txt="a page"), used=True)
KEEPS_ROWS = Witness(NOTHING, NOTHING, of(uploads__c_txt="a page"), used=True)


@pytest.mark.parametrize(
    ("after", "by", "missed"),
    [
        (of(pages__b_txt="another page"), KEEPS_FILES, True),
        (of(pages__b_txt="another page"), KEEPS_ROWS, False),
        (of(pages__b_txt="another page", pages__a_md="a page of another form"), KEEPS_FILES, False),
        (PAGES, KEEPS_FILES, False),
    ],
)
def test_what_the_release_still_keeps_as_files_is_missed_also_where_a_database_has_grown(
    after: Files, by: Witness, missed: bool
) -> None:
    assert bool(lost_files(PAGES, after, by, {}, grown=True)) == missed


#: A video that somebody brought, in a folder of its own; what an app makes of it in the background is in another one.
VIDEO = of(videos__u_mp4="twelve bytes", conf_ini="c")
MADE_OF_IT = {"part1.ts": File(3, "<abc>"), "part2.ts": File(2, "<de>")}


@pytest.mark.parametrize(
    ("what", "came", "missed"),
    [
        ("what was made of it, in another form", {"data": {f"playlists/{name}": one for name, one in MADE_OF_IT.items()}}, False),
        ("too little to be it", {"data": {"playlists/part1.ts": File(2, "<ab>")}}, True),
        ("in another volume", {"other": {"part1.ts": File(9, "<abc>")}}, True),
        ("what a new install makes, too", {"data": {"welcome.txt": File(9, "<welcome!!>")}}, True),
        ("the same, by another name", {"data": {"x7/welcome.txt": File(9, "<welcome!!>")}}, True),
        ("what grows by itself", {"data": {"conf.ini": File(90, "<c, and more>")}}, True),
        ("what is of the moment", {"data": {"queue/1": File(90, "<a job>")}}, True),
        ("nothing", {}, True),
    ],
)
@pytest.mark.parametrize("name", ["u_mp4", "v_mp4"], ids=["of the same name", "of another name"])
def test_what_the_app_has_made_something_else_of_meanwhile_is_not_missed_in_its_volume(
    what: str, came: Files, missed: bool, name: str
) -> None:
    default = {"data": {"conf.ini": File(1, "<c>"), "welcome.txt": File(9, "<welcome!!>")}}
    filled = of(**{f"videos__{name}": "another one.", "conf_ini": "c"})
    after = {"data": {"conf.ini": File(1, "<c>"), **came.get("data", {})}, "other": came.get("other", {})}
    for first in (of(conf_ini="c"), *([None] if name == "u_mp4" else [])):  # else nobody knows whose it was
        by = Witness(first, default, filled, used=True)
        told = lost_files(VIDEO, after, by, (), grown=True)
        assert told == (["'videos/u.mp4' of the volume data is gone"] if missed else []), what


@pytest.mark.parametrize("declared", ["data", "data/page.txt", "data/"])
def test_what_is_declared_is_missed_by_nobody(declared: str) -> None:
    told = lost_files(MINE, NEW, USED, {declared}, grown=False)
    assert told == ([RESET] if declared == "data/page.txt" else [])


def test_a_volume_that_is_used_no_more_is_told_as_that_by_its_count() -> None:
    assert lost_files(MINE, {}, USED, {}, grown=False) == []


@pytest.mark.parametrize(
    ("what", "held", "earlier", "by", "expected"),
    [
        ("pages and settings", MINE, MINE, USED, {"page.txt", "settings.ini"}),
        ("of a first release, whose own changes are not told from somebody's", MINE, None,
         Witness(None, NEW, MINE, used=True), {"page.txt"}),
        ("what the migration leaves", of(page_txt="p", page_bak="p"), of(page_txt="p"),
         Witness(NOTHING, NOTHING), {"page.txt"}),
        ("what a new install has after a while", of(seen_json="1"), of(seen_json="1"),
         Witness(NOTHING, NOTHING, of(seen_json="2")), set()),
        ("the same, where somebody has used it", MINE, MINE, UNKNOWN, {"page.txt"}),
        ("a key that each install makes", of(key_pem="a"), of(key_pem="a"), Witness(of(key_pem="b"), of(key_pem="c")), set()),
        ("of a base that nobody knows", of(page_txt="p", more_txt="m"), of(page_txt="p", more_txt="m"),
         Witness(None, NOTHING, of(page_txt="p"), used=True), {"page.txt"}),
        ("an index and thumbnails", of(index__page_idx="x", thumbs__a_png="x"), of(index__page_idx="x", thumbs__a_png="x"),
         Witness(NOTHING, NOTHING), set()),
    ],
)  # fmt: skip
def test_what_somebody_has_made_is_what_no_install_makes_by_itself(
    what: str, held: Files, earlier: Files | None, by: Witness, expected: set[str]
) -> None:
    assert set(somebodys_own(held, earlier, by, {}).get("data", ())) == expected, what


@pytest.mark.parametrize(
    "path", ["state.json", ".sessions.json", "node_modules/a/b.js", "data/cache/x", "app.log", "search_index/a"]
)
def test_what_is_of_the_moment_or_made_anew_is_nobodys(path: str) -> None:
    assert is_nobodys("data", path, {})


@pytest.mark.parametrize("path", ["flows.json", "pages/state-of-the-garden.txt", "index.md", "mail/spool/1", "statements.csv"])
def test_what_only_sounds_like_it_is_somebodys(path: str) -> None:
    assert not is_nobodys("data", path, {})
    assert is_nobodys("cache", path, {}), "a whole volume for it"


def test_of_large_files_only_the_size_is_compared() -> None:
    assert same(File(10, ""), File(10, "a"))
    assert not same(File(10, ""), File(11, ""))
    assert not same(File(10, "a"), File(10, "b"))
    assert not same(None, None)


@pytest.mark.parametrize(
    ("path", "called"),
    [
        ("vhosts/s-012345.example.org/ada/inbox", "vhosts/DOMAIN/ada/inbox"),
        ("s-012345%2eexample%2eorg/accounts/ada.dat", "DOMAIN/accounts/ada.dat"),
        ("s_012345/x", "s_012345/x"),
        ("logs/s-012345.log", "logs/STACK.log"),
        ("sites/s-012345_example_org.conf", "sites/DOMAIN.conf"),
        ("pages/garden.txt", "pages/garden.txt"),
    ],
)
def test_a_file_that_is_named_after_its_address_is_the_same_one_everywhere(path: str, called: str) -> None:
    assert as_anywhere(path, {"s-012345.example.org": "DOMAIN", "s-012345": "STACK"}) == called


@pytest.mark.parametrize(
    ("path", "tables", "kept", "expected"),
    [
        ("sessions.db", {"sess": 3}, ["app.db"], True),
        ("cache/pages.sqlite", {"pages": 3}, ["app.db"], True),
        ("store.sqlite", {"sessions": 3, "migrations": 0}, ["app.db"], True),
        ("storage/production_queue.sqlite3", {"jobs": 3}, ["storage/production.sqlite3"], True),
        ("storage/production_queue.sqlite3", {"jobs": 3}, ["production.sqlite3"], False),
        ("shop-cache.db", {"pages": 3}, [], False),
        ("orders_queue.db", {"orders": 3}, ["shop.db"], False),
        ("app.db", {"notes": 3, "sessions": 1}, ["sessions.db"], False),
        ("notes.db", {}, ["app.db"], False),
    ],
)
def test_an_sqlite_file_of_the_moment_need_not_be_in_a_backup(
    path: str, tables: dict[str, int], kept: list[str], expected: bool
) -> None:
    assert is_beside_the_data("data", path, tables, kept) is expected
