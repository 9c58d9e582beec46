"""The report: what it says adds up, what needs a person stands first, and nobody's words act in it."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canonq.cli.commands import canonq
from canonq.core.ladder import TierResult
from canonq.core.outcomes import KINDS, Outcome
from canonq.flows.looking import report as report_flow
from canonq.flows.looking import telling
from tests.flows.conftest import FIRST
from tests.flows.mornings import COMMIT, HOSTILE, MORNING, Mornings, idle, promoted, red, stamp

NIGHT = MORNING - timedelta(hours=3)
#: Elements that fetch, run or send something, and attributes that name what is fetched.
ACTING = {"script", "iframe", "object", "embed", "form", "input", "link", "img", "base", "audio", "video"}


@pytest.fixture
def mornings(tmp_path: Path) -> Mornings:
    return Mornings(tmp_path)


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def said(self) -> str:
        return " ".join(self.text.split())

    def links(self) -> Iterator[str]:
        return (str(found["href"]) for _, found in self.elements if "href" in found)


def written(mornings: Mornings) -> tuple[dict[str, Any], Path]:
    world = mornings.world
    return report_flow.write(world), report_flow.folder_of(world)


def page(folder: Path, name: str = "index.html") -> Page:
    return Page((folder / name).read_text())


def test_each_recipe_stands_somewhere_once_and_those_for_a_person_stand_first(mornings: Mornings) -> None:
    mornings.enrol("current", "held", "lost", "new", "promoted", "put-off", "red", "waiting")
    (mornings.place.folder / "checkout" / "tests" / "broken").mkdir()
    (mornings.place.folder / "checkout" / "tests" / "broken" / "recipe.toml").write_text("upstream = 3")
    for name in ("current", "promoted"):
        mornings.place.promote(name, FIRST, COMMIT)
    run = mornings.run("red", NIGHT, verdict="red", reason="rolled-back", fault="recipe")
    mornings.run("waiting", NIGHT, enrolment=mornings.world.checkout.digest("waiting"))
    mornings.night(
        0, idle("current"), promoted("promoted"), red("red", run=run.run),
        Outcome(recipe="held", outcome="skipped", reason="held-red", step="decide"),
        Outcome(recipe="lost", outcome="error", reason="sync-failed", fault="host", step="sync"),
        Outcome(recipe="put-off", outcome="deferred", reason="disk-below-budget", step="test"),
    )  # fmt: skip
    found, folder = written(mornings)
    where = {card["recipe"]: card["standing"] for card in found["recipes"]}
    assert where == {"current": "current", "held": "held", "lost": "error", "new": "new", "promoted": "promoted",
                     "put-off": "deferred", "red": "red", "waiting": "waiting", "broken": "broken"}  # fmt: skip
    assert sum(found["standings"].values()) == found["enrolled"] == 9
    assert [card["recipe"] for card in found["recipes"] if card["needs_person"]] == ["broken", "red", "held"]
    assert [card["recipe"] for card in found["recipes"]][:3] == ["broken", "red", "held"]
    said = page(folder).said()
    assert "3 recipes need a person" in said
    assert said.index("Needs a person (3)") < said.index("Could not be done") < said.index("Promoted (1)")
    assert "1 promoted + 2 skipped + 1 red + 1 error + 1 deferred = 6 enrolled" in said


def test_a_red_that_a_person_has_promoted_since_needs_nobody(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.place.promote("site", FIRST, COMMIT)
    mornings.night(0, red("site"))
    assert [card["standing"] for card in report_flow.report(mornings.world)["recipes"]] == ["red"]
    mornings.place.promote("site", "1.1.0+1.1", COMMIT, promoted_at=stamp(MORNING - timedelta(hours=1)))
    found = report_flow.report(mornings.world)
    assert [(card["standing"], card["needs_person"]) for card in found["recipes"]] == [("current", False)]
    assert found["headline"].startswith("Nothing needs a person")


def test_what_was_promoted_and_rolled_back_since_is_not_told_as_the_canonical_alone(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.night(0, promoted("site", "1.1.0+1.1", detail="1.1.0+1.1 is the canonical."))
    mornings.place.promote("site", FIRST, COMMIT)
    record = mornings.place.folder / "state" / "warm" / "site" / "canonical.json"
    back = {"by": "<sam>", "at": "20260617T060000Z", "reason": "it lost mail", "version": "1.1.0+1.1", "commit": COMMIT}
    record.write_text(json.dumps({**json.loads(record.read_text()), "rolled_back": [back]}))
    _, folder = written(mornings)
    said = page(folder).said()
    assert "1.1.0+1.1 is the canonical." in said
    assert "Since then <sam> rolled 1.1.0+1.1 back, 1 h ago: it lost mail" in said


def test_a_red_is_told_in_words_with_its_fault_tiers_gaps_and_log(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.place.promote("site", FIRST, COMMIT)
    tiers = {"install": TierResult(status="pass", seconds=12), "upgrade": TierResult(status="fail", reason="it went back")}
    run = mornings.run("site", NIGHT, verdict="red", fault="recipe", tiers=tiers, level=1, service="app",
                       log_tail=("starting", "cannot open /srv"), gaps=("no-marker: db (mariadb)",),
                       version="1.1.0+1.1")  # fmt: skip
    mornings.night(0, red("site", run=run.run))
    _, folder = written(mornings)
    for name in ("index.html", "recipes/site.html"):
        said = page(folder, name).said()
        for words in (f"Canonical {FIRST}", f"{FIRST} → 1.1.0+1.1 red [rolled-back] in test, fault: the recipe, after 22 s",
                      "Its health check never passed.", "Next: Report it to the recipe.",
                      "canonq logs site", "✓ install", "✗ upgrade", "upgrade, fail: it went back",
                      "Gap: no-marker: db (mariadb)", "Last lines of app", "cannot open /srv"):  # fmt: skip
            assert words in said


def test_nothing_is_said_twice_and_lint_does_not_look_like_the_cause(mornings: Mornings) -> None:
    mornings.enrol("site")
    why = "port 8080: refused. Mend: correct [health] to `port = 80`."
    lint = "test_rule[healthcheck-missing]: app: add one; then; test_rule[version-label]: app: add it."
    tiers = {"install": TierResult(status="fail", reason=why), "lint": TierResult(status="fail", reason=lint)}
    detail = f"site 1.1.0+1.1, install: {why} Nothing of it was deployed."
    run = mornings.run("site", NIGHT, verdict="red", reason="health-wrong", fault="enrolment", tiers=tiers, level=0,
                       version="1.1.0+1.1", detail=detail)  # fmt: skip
    mornings.night(0, red("site", run=run.run, reason="health-wrong", fault="enrolment", detail=detail))
    _, folder = written(mornings)
    said = page(folder).said()
    assert "install: port 8080: refused. Nothing of it was deployed." in said
    assert "Next: Correct [health] to `port = 80`." in said
    assert (said.count("8080"), said.lower().count("correct [health]")) == (1, 1)
    assert "Lint: 2 findings, which do not change the verdict" in said
    assert "[healthcheck-missing] app: add one; then." in said
    assert "[version-label] app: add it." in said


def test_an_image_that_moved_and_works_is_shown_once_with_the_release_that_was_promoted(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.place.promote("site", FIRST, COMMIT)
    moved = "image-moved: app: nginx:1 was sha256:111 and is sha256:222, since the canonical 0.9.0+1.0 was proven"
    run = mornings.run("site", NIGHT, verdict="green", reason="all-tiers-passed", notes=(moved, "seen by the run alone"))
    mornings.night(0, promoted("site", run=run.run, notes=(moved,)))
    _, folder = written(mornings)
    for name in ("index.html", "recipes/site.html"):
        said = page(folder, name).said()
        assert said.count(moved) == 1
        assert "Note: seen by the run alone" in said


def test_the_last_status_stays_and_shows_its_age(mornings: Mornings) -> None:
    mornings.enrol("site", "other")
    mornings.night(3, red("site"), idle("other"))
    mornings.night(0, idle("other"))
    mornings.night(0, Outcome(recipe="site", outcome="deferred", reason="sweep-stopped"), state="stopped")
    found, folder = written(mornings)
    card = next(card for card in found["recipes"] if card["recipe"] == "site")
    assert (card["standing"], card["at"]) == ("red", stamp(MORNING - timedelta(days=3, hours=4) + timedelta(minutes=41)))
    assert "in test, fault: the recipe, after 22 s; 3 days ago" in page(folder).said()


def test_nobodys_words_act_in_a_page_a_badge_a_feed_or_a_plot(mornings: Mornings) -> None:
    mornings.enrol("site")
    hostile = mornings.place.folder / "checkout" / "tests" / "<img src=x onerror=alert(1)>"
    hostile.mkdir()
    (hostile / "recipe.toml").write_text("")
    unspeakable = os.path.join(os.fsencode(hostile.parent), b"caf\xe9")
    os.mkdir(unspeakable)
    Path(os.fsdecode(unspeakable), "recipe.toml").write_text("")
    tiers = {"upgrade": TierResult(status="fail", reason=HOSTILE)}
    told = {"detail": HOSTILE, "notes": (HOSTILE,), "version": "1.0.0+<b>"}
    run = mornings.run("site", NIGHT, verdict="red", tiers=tiers, log_tail=(HOSTILE,), service=HOSTILE, gaps=(HOSTILE,), **told)
    mornings.run("site", NIGHT, lowest_free={HOSTILE: 7})
    mornings.run("site", NIGHT, lowest_free={HOSTILE: 9})
    mornings.place.promote("site", "1.0.0+<b>", COMMIT)
    sweep = mornings.night(0, red("site", run=run.run, outside=HOSTILE, **told), findings=(HOSTILE,))
    journal = mornings.world.sweeps.journal(sweep)
    journal.begin("site", "test", stamp(NIGHT), HOSTILE)
    journal.finish("site", "test", {}, None, stamp(MORNING))
    _, folder = written(mornings)
    for name in ("index.html", "recipes/site.html"):
        found = page(folder, name)
        assert HOSTILE[:24] in found.text
        assert {tag for tag, _ in found.elements} & ACTING == set()
        assert [key for _, attributes in found.elements for key in attributes if key.startswith("on") or key == "style"] == []
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", (folder / name).read_text())
    assert len(json.loads((folder / "report.json").read_text())["recipes"]) == 3
    for name in ("badges/site.svg", "feed.atom"):
        assert not any(element.tag.endswith("script") for element in ET.fromstring((folder / name).read_text()).iter())


def test_the_page_needs_nothing_but_itself(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.night(0, red("site"))
    _, folder = written(mornings)
    found = page(folder)
    assert all("://" not in link and not link.startswith("/") for link in found.links())
    assert all((folder / link).exists() for link in found.links() if not link.startswith("#"))
    policy = next(told["content"] for tag, told in found.elements if tag == "meta" and told.get("http-equiv"))
    assert "default-src 'none'" in str(policy)
    assert "url(" not in (folder / "index.html").read_text()


@pytest.mark.long
@pytest.mark.parametrize("count", [0, 1, 21])
def test_it_is_right_and_small_with_few_and_many_recipes_and_megabytes_of_logs(mornings: Mornings, count: int) -> None:
    names = [f"recipe-{number}" for number in range(count)]
    mornings.enrol(*names)
    log = tuple(f"{HOSTILE} {'x' * 480}" for _ in range(1000))
    runs = {name: mornings.run(name, NIGHT, verdict="red", log_tail=log).run for name in names}
    for night in range(3, -1, -1):
        mornings.night(night, *(red(name, run=run) for name, run in runs.items()))
    found, folder = written(mornings)
    assert found["enrolled"] == len(found["recipes"]) == found["need_a_person"] == count
    assert (folder / "index.html").stat().st_size < 500_000
    assert len(list((folder / "recipes").glob("*"))) == len(list((folder / "badges").glob("*"))) == count
    if count == 0:
        assert "recipe.toml" in str(found["problem"])
        assert str(found["problem"]) in page(folder).text


def test_it_counts_a_sweep_that_is_still_open(mornings: Mornings) -> None:
    mornings.enrol("one", "two")
    sweep = mornings.night(0, idle("one"), state="open")
    record = mornings.world.sweeps.read(sweep)
    mornings.world.sweeps.open(sweep, {**record, "enrolled": ["one", "two"]})
    found, folder = written(mornings)
    assert found["headline"] == "A sweep is under way: 1 of 2 recipes have an outcome."
    assert "+ 1 without an outcome = 2 enrolled" in page(folder).said()
    newest = found["newest"]
    assert sum(newest["counts"][kind] for kind in KINDS) + len(newest["pending"]) == newest["enrolled"]


def test_programs_find_what_is_proven_and_when(mornings: Mornings) -> None:
    mornings.enrol("site", "other")
    mornings.place.promote("site", FIRST, COMMIT)
    _, folder = written(mornings)
    (listed,) = json.loads((folder / "index.json").read_text())["recipes"]
    assert {key: listed[key] for key in ("recipe", "version", "commit", "digests")} == {
        "recipe": "site", "version": FIRST, "commit": COMMIT, "digests": {}}  # fmt: skip
    assert set(listed) == {"recipe", "version", "commit", "digests", "level", "run", "promoted_at", "proven_at"}


def test_the_feed_has_each_change_once_and_nothing_for_nights_that_change_nothing(mornings: Mornings) -> None:
    mornings.enrol("site", "quiet")
    for night, outcome in ((4, promoted("site")), (3, red("site")), (2, red("site")), (1, idle("site")), (0, idle("site"))):
        mornings.night(night, outcome, idle("quiet"))
    _, folder = written(mornings)
    feed = ET.fromstring((folder / "feed.atom").read_text())
    atom = "{http://www.w3.org/2005/Atom}"
    titles = [entry.findtext(f"{atom}title") for entry in feed.iter(f"{atom}entry")]
    assert titles == ["site is green again", "site 1.1.0+1.1 turned red", "site 1.0.0+1.0 is the canonical"]
    ids = [entry.findtext(f"{atom}id") for entry in feed.iter(f"{atom}entry")]
    assert len(set(ids)) == len(ids)


def test_a_badge_says_the_canonical_and_what_is_wrong_with_the_newest_release(mornings: Mornings) -> None:
    mornings.enrol("site", "none")
    mornings.place.promote("site", FIRST, COMMIT)
    mornings.night(0, red("site"))
    _, folder = written(mornings)
    told = {name: ET.fromstring((folder / "badges" / f"{name}.svg").read_text()).get("aria-label") for name in ("site", "none")}
    assert told == {"site": f"canonq: {FIRST}, red", "none": "canonq: none yet"}


def test_the_timeline_has_a_lane_for_each_slot_of_each_worker(mornings: Mornings) -> None:
    mornings.enrol("a", "b", "c")
    sweep = mornings.night(0, idle("a"), idle("b"), red("c"))
    journal = mornings.world.sweeps.journal(sweep)
    begin = MORNING - timedelta(hours=4)
    for name, worker, began, ended in (("a", "light@h", 0, 60), ("b", "light@h", 30, 90), ("c", "heavy@h", 60, 80)):
        journal.begin(name, "test", stamp(begin + timedelta(seconds=began)), worker)
        journal.finish(name, "test", {}, None, stamp(begin + timedelta(seconds=ended)))
    found, folder = written(mornings)
    bars = {bar["recipe"]: (bar["lane"], bar["began"], bar["ended"], bar["outcome"]) for bar in found["timeline"]}
    assert bars == {
        "a": ("light@h 1", 0, 60, "skipped"),
        "b": ("light@h 2", 30, 90, "skipped"),
        "c": ("heavy@h 1", 60, 80, "red"),
    }
    text = (folder / "index.html").read_text()
    assert all(f">{lane}<" in text for lane in ("light@h 1", "light@h 2", "heavy@h 1"))


def test_a_disk_that_fills_up_is_told_before_it_is_full(mornings: Mornings) -> None:
    mornings.enrol("site")
    for day in range(10, 0, -1):
        mornings.run("site", MORNING - timedelta(days=day), lowest_free={"/data": (2 << 30) + (day + 4) * (1 << 30)})
    mornings.night(0, idle("site"))
    found, folder = written(mornings)
    (disk,) = found["disks"]
    assert disk["days_left"] == pytest.approx(5, abs=0.2)
    assert "/data is at its floor in 5 days, if it goes on like this." in page(folder).said()


def test_pages_of_recipes_that_are_gone_are_removed(mornings: Mornings) -> None:
    mornings.enrol("site", "gone")
    _, folder = written(mornings)
    (mornings.place.folder / "checkout" / "tests" / "gone" / "recipe.toml").unlink()
    written(mornings)
    assert [path.name for path in (folder / "recipes").iterdir()] == ["site.html"]
    assert [path.name for path in (folder / "badges").iterdir()] == ["site.svg"]


def test_a_closed_sweep_is_told_of_once_and_an_open_one_not_yet(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.night(9, idle("site"))
    first = mornings.night(1, idle("site"))
    assert telling.tell(mornings.world) == [first], "what came before is history"
    assert telling.tell(mornings.world) == []
    mornings.night(0, red("site"), state="open")
    assert telling.tell(mornings.world) == []
    second = mornings.night(0, red("site"))
    assert telling.tell(mornings.world) == [second]
    assert "1 recipe needs a person" in page(report_flow.folder_of(mornings.world)).said()


def test_a_report_that_cannot_be_written_is_logged_and_fails_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mornings = Mornings(tmp_path, report={"folder": tmp_path / "file" / "below"})
    (tmp_path / "file").touch()
    mornings.enrol("site")
    sweep = mornings.night(0, idle("site"))
    telling.tell_gently(mornings.world)
    assert "The report could not be written" in caplog.text
    (tmp_path / "file").unlink()
    assert telling.tell(mornings.world) == [sweep], "it is made good for when it can be"


def test_the_command_writes_it_and_its_exit_status_says_whether_to_look(
    mornings: Mornings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANONQ_REPO", str(mornings.place.folder / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(mornings.place.folder / "state"))

    def typed(*more: str) -> tuple[int, str]:
        ended = CliRunner().invoke(canonq, ["report", *more], standalone_mode=False)
        return int(ended.return_value), ended.stdout

    assert typed()[0] == 2, "a hollow checkout is no green page"
    mornings.enrol("site")
    assert typed()[0] == 0
    mornings.night(1, idle("site"), state="stopped")
    status, said = typed()
    assert (status, "The newest sweep was not done (stopped)" in said) == (1, True), "as `canonq status` has it"
    mornings.night(0, red("site"))
    status, said = typed()
    assert status == 1
    assert "index.html" in said
    assert json.loads(typed("--json")[1])["recipes"][0]["standing"] == "red"
