"""Files that somebody has put into an app: those that a release loses, and those that no backup has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canonq.core.deployable import Deployable
from canonq.core.records import Verdict
from canonq.flows.promote import promote
from canonq.flows.proving import marking
from canonq.flows.test import test_tag as prove_tag
from canonq.ports import Ended
from canonq.tiers.facts import TierFacts
from tests.flows.proving.test_redeploy import Restarting
from tests.flows.sites import BASE, TARGET, Docker, Site, files

pytestmark = pytest.mark.long

App = Callable[[Docker, Deployable], object]


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, redis_url, Restarting(tmp_path / "docker"), monkeypatch)


def place(engine: Docker, stack: str, path: str) -> Path:
    at = engine.place(stack, "app", f"/srv/files/{path}")
    at.parent.mkdir(parents=True, exist_ok=True)
    return at


def wiki(code: str, then: Callable[[Callable[[str], Path]], object] = lambda _: None) -> App:
    """A wiki of plain files, which brings much of its own along; `then`: what else it does when it starts."""

    def starts(engine: Docker, stack: Deployable) -> None:
        def at(path: str) -> Path:
            return place(engine, stack.stack, path)

        for number in range(20):
            at(f"lib/part{number}.php").write_text(f"<?php // {code} " + "x" * 2000)
        at("key.txt").exists() or at("key.txt").write_text(f"key of {stack.stack}")
        at("data/cache/a").write_text(code)
        at("conf/local.ini").exists() or at("conf/local.ini").write_text("title = A wiki\n")
        then(at)

    return starts


def writes(site: Site, monkeypatch: pytest.MonkeyPatch, **prepared: Any) -> None:
    """Enrol it with a hook that writes a page and changes the title, as people do."""

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        if function == "after_install":
            place(site.engine, facts.stack, "data/pages/garden.txt").write_text("Water it.\n")
            place(site.engine, facts.stack, "conf/local.ini").write_text("title = Ada's wiki\n")

    site.prepare(own=None, **prepared)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)


def forgets(at: Callable[[str], Path]) -> None:
    at("data/pages/garden.txt").unlink(missing_ok=True)
    at("conf/local.ini").write_text("title = A wiki\n")


def has_another_form(at: Callable[[str], Path]) -> None:
    if (page := at("data/pages/garden.txt")).exists():
        at("data/all.bin").write_text(f"[garden] {page.read_text()}")
        page.unlink()


#: What a release does to the files; the reason, and words of what is told.
RELEASES = [
    (wiki("2"), "proven", ()),
    (wiki("2", forgets), "data-lost", ("'data/pages/garden.txt' of the volume files is gone", "'conf/local.ini' of the volume")),
    (wiki("2", lambda at: at("conf/local.ini").write_text("title = A wiki\n")), "data-lost", ("'conf/local.ini'",)),
    (wiki("2", lambda at: at("key.txt").write_text("of another kind")), "proven", ()),
    (wiki("2", lambda at: at("data/cache/a").unlink()), "proven", ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("release", "reason", "told"), RELEASES, ids=["is well", "forgets", "forgets settings", "another key", "tidies"]
)
def test_a_release_that_forgets_what_people_wrote_is_red_however_small_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch, release: App, reason: str, told: tuple[str, ...]
) -> None:
    site.engine.starts = {BASE: wiki("1"), TARGET: release}
    writes(site, monkeypatch)
    verdict = prove_tag(site.world, "site", None)
    assert verdict.reason == reason, verdict.detail
    assert all(one in verdict.detail for one in told), verdict.detail


def test_a_first_release_that_forgets_at_each_start_is_red_when_it_is_deployed_once_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.engine.starts = {BASE: wiki("1", forgets)}
    writes(site, monkeypatch)
    verdict = prove_tag(site.world, "site", BASE)
    assert (verdict.verdict, verdict.reason) == ("red", "lost-on-redeploy"), verdict.detail
    assert "'data/pages/garden.txt' of the volume files is gone" in verdict.detail


def labelled(path: str, *more: str) -> dict[str, str]:
    release = files(TARGET)
    old = '        - "backupbot.backup=true"\n'
    labels = [f"backupbot.backup.volumes.files{path}", *more]
    release["compose.yml"] = release["compose.yml"].replace(old, old + "".join(f'        - "{label}"\n' for label in labels))
    return release


def copies(site: Site) -> Callable[[list[str]], Ended]:
    """A hook that puts copies of what people wrote beside a dump."""

    def run(words: list[str]) -> Ended:
        stack = min((path.name for path in (site.engine.folder / "stacks").glob("[!.]*")), key=len)
        for name in ("data/pages/garden.txt", "conf/local.ini"):
            place(site.engine, stack, f"saved/{name.replace('/', '-')}").write_bytes(place(site.engine, stack, name).read_bytes())
        return Ended(0, "")

    return run


@pytest.mark.parametrize(
    ("labels", "toml", "reason", "told"),
    [
        (labelled(".path=conf"), "", "not-backed-up", "'data/pages/garden.txt' of the volume files (10 bytes)"),
        (labelled(".path=data/pages"), "", "not-backed-up", "'conf/local.ini' of the volume files (19 bytes)"),
        (labelled(".path=data/pages, conf"), "", "proven", ""),
        (labelled(".path=data, conf/local.ini"), "", "proven", ""),
        (labelled(".path=conf"), "[data.volatile]\n'files/data/pages' = 'made anew'\n", "proven", ""),
        (labelled(".path=conf"), "[data.volatile]\n'files/data/page' = 'made anew'\n", "not-backed-up", "garden"),
        (labelled(".path=saved", "backupbot.backup.pre-hook=copies"), "", "restore-failed", "garden"),
        (labelled("=false"), "", "proven", ""),
    ],
    ids=["settings alone", "pages alone", "both", "more than both", "declared", "a slip", "copied and not put back", "left out"],
)  # fmt: skip
def test_a_backup_without_what_people_wrote_is_red_and_says_what_is_in_none(
    site: Site, monkeypatch: pytest.MonkeyPatch, labels: dict[str, str], toml: str, reason: str, told: str
) -> None:
    site.engine.starts = {BASE: wiki("1"), TARGET: wiki("2")}
    site.engine.programs["copies"] = copies(site)
    writes(site, monkeypatch, target=labels, toml=toml)
    verdict = prove_tag(site.world, "site", None)
    assert verdict.reason == reason, verdict.detail
    assert told in verdict.detail


FILL = """
from pathlib import Path
def populate(app):
    data = Path({volumes!r}, app.facts.volumes["files"], "_data")
    (data / "data" / "pages").mkdir(parents=True)
    (data / "data" / "pages" / "garden.txt").write_text("Water it, but not at noon. " * 9)
    (data / "conf" / "local.ini").write_text("title = Ada's wiki")
"""


def carried(site: Site, release: App, **target: Any) -> Verdict:
    """The verdict of a release whose base is a canonical that `populate` has filled."""
    site.engine.starts = {BASE: wiki("1"), TARGET: release}
    world = site.prepare(own=None, **target)
    volumes = str(site.root / "docker" / "volumes")
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text(FILL.format(volumes=volumes))
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert (done := promote(site.world, "site")).outcome == "promoted", done.detail
    return prove_tag(site.world, "site", None)


def test_what_populate_has_filled_the_canonical_with_is_missed_too(site: Site) -> None:
    verdict = carried(site, wiki("2", forgets))
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "'data/pages/garden.txt' of the volume files is gone" in verdict.detail
    assert "'conf/local.ini' of the volume files is as a new install makes it" in verdict.detail
    site.engine.starts[TARGET] = wiki("2", has_another_form)
    assert (green := prove_tag(site.world, "site", None)).verdict == "green", green.detail


def test_what_populate_has_filled_the_canonical_with_has_to_be_in_its_backup(site: Site) -> None:
    verdict = carried(site, wiki("2"), target=labelled(".path=conf"))
    assert (verdict.verdict, verdict.reason) == ("red", "not-backed-up"), verdict.detail
    assert "'data/pages/garden.txt' of the volume files (243 bytes)" in verdict.detail


@pytest.mark.parametrize(
    ("version", "away", "reason"),
    [
        (BASE, False, "proven"),
        (BASE, True, "lost-on-redeploy"),
        (TARGET, False, "proven"),
        (TARGET, True, "data-lost"),
    ],
)
def test_what_an_app_makes_of_a_file_in_the_background_is_no_loss_whenever_it_does(
    site: Site, monkeypatch: pytest.MonkeyPatch, version: str, away: bool, reason: str
) -> None:
    """Of what somebody has brought, as soon as it has the time: here at its next start."""

    def works(at: Callable[[str], Path]) -> None:
        for video in at("videos/x").parent.glob("*.mp4"):
            at("playlists/hls/1.ts").write_text(video.read_text()[: 0 if away else 4])
            video.unlink()

    site.engine.starts = {BASE: wiki("1"), version: wiki("2", works)}
    site.prepare(own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        if function == "after_install":
            place(site.engine, facts.stack, f"videos/{facts.stack}.mp4").write_text("of a garden")

    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(site.world, "site", version)
    assert verdict.reason == reason, verdict.detail
