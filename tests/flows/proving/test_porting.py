"""Whole runs without Docker: a backup that is restored on a stack of another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from canonq.core.enrolment import Health
from canonq.core.errors import RecipeProblem
from canonq.flows.test import test_tag as prove_tag
from canonq.ports import Answer, Ended
from tests.flows.sites import BASE, TARGET, Site


@pytest.mark.long
@pytest.mark.parametrize("seed", [False, True])
def test_a_backup_that_only_comes_back_where_it_was_taken_is_red(site: Site, seed: bool) -> None:
    taken: list[str] = []

    def loads(words: list[str]) -> Ended:
        """A restore hook that knows the name of the stack it was written for."""
        stack = site.engine.asked[-1]
        taken.append(stack)
        if stack == taken[0]:
            lines = site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)
            site.engine.place(stack, "db", "/var/lib/postgresql/rows").write_text("".join(lines[1:-1]))
        return Ended(0, "")

    site.engine.programs["load"] = loads
    verdict = prove_tag(site.prepare(), "site", BASE if seed else None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "restore-not-portable", "recipe"), verdict.detail
    assert "missing is canonq's row in the database of the service db" in verdict.detail
    assert verdict.tiers["restore"].status == "fail"
    assert "not on a new stack with the same address and secrets: missing is canonq's row" in verdict.tiers["restore"].reason
    assert site.engine.deployed == ([BASE, BASE] if seed else [TARGET, BASE, TARGET, TARGET])
    assert verdict.deployments == (1 if seed else 2), "it is there for the restore alone"
    assert ("restore.elsewhere.begin" in verdict.timings) == seed, "it comes up while the other soaks, where there is but one"
    assert site.left() == {}
    with (site.root / "checkout" / "tests" / "site" / "recipe.toml").open("a") as toml:
        toml.write("[expected_na]\nelsewhere = 'its key is made by the first start'\n")
    taken.clear()
    verdict = prove_tag(site.world, "site", BASE if seed else None)
    assert verdict.verdict == "green", verdict.detail
    assert "restored-elsewhere: not tried (declared: its key is made by the first start)" in verdict.notes


@pytest.mark.long
def test_a_restore_hook_waits_for_a_server_that_died_of_what_was_put_below_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: dict[str, int] = {}

    def execute(stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        if command[-1].startswith("load"):
            gone[stack] = gone.get(stack, 0) + 1
            if gone[stack] == 1:
                return Ended(1, "Error response from daemon: Container fa23bf575698 is not running")
            if gone[stack] == 2:
                raise RecipeProblem(f"The service '{service}' has no running container.", code="not-running")
        return executes(stack, service, command, timeout)

    executes = site.engine.execute
    monkeypatch.setattr(site.engine, "execute", execute)
    verdict = prove_tag(site.prepare(), "site", BASE)
    assert verdict.verdict == "green", verdict.detail
    assert set(gone.values()) == {3}


@pytest.mark.parametrize("works", [True, False])
def test_a_restore_hook_that_is_gone_with_its_container_is_judged_by_what_has_come_back(site: Site, works: bool) -> None:
    def loads(words: list[str]) -> Ended:
        stack = site.engine.asked[-1]
        lines = site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)
        if works:
            site.engine.place(stack, "db", "/var/lib/postgresql/rows").write_text("".join(lines[1:-1]))
        return Ended(137, "")

    site.engine.programs["load"] = loads
    verdict = prove_tag(site.prepare(), "site", BASE)
    assert verdict.reason == ("proven" if works else "restore-failed"), verdict.detail


def test_an_app_that_dies_of_what_is_restored_below_it_is_awaited_on_a_new_stack_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    down, died = set[str](), list[str]()

    def loads(words: list[str]) -> Ended:
        stack = site.engine.asked[-1]
        if died and stack not in died:  # not where it was taken
            died.append(stack)
            down.add(stack)
            return Ended(1, "it cannot load that now")
        died.append(stack)
        lines = site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)
        site.engine.place(stack, "db", "/var/lib/postgresql/rows").write_text("".join(lines[1:-1]))
        return Ended(0, "")

    def write_archive(stack: str, service: str, folder: str, archive: Any) -> None:
        if stack in down:
            raise RecipeProblem(f"The service '{service}' has no running container.", mend="", code="service-missing")
        writes(stack, service, folder, archive)

    def probe(stack: str, *_: Any) -> Answer:
        down.discard(stack)
        return Answer(True, "")

    site.engine.programs["load"] = loads
    writes = site.engine.write_archive
    monkeypatch.setattr(site.engine, "write_archive", write_archive)
    monkeypatch.setattr(site.engine, "probe", probe)
    verdict = prove_tag(site.prepare(), "site", BASE)
    assert verdict.verdict == "green", verdict.detail
    assert len(died) == 3, "in place, and twice on the new one"


@pytest.mark.long
def test_an_app_that_refuses_the_data_of_another_address_is_restored_under_its_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    named: dict[str, str] = {}  #: stack -> its address

    def loads(words: list[str]) -> Ended:
        loaded.append(stack := site.engine.asked[-1])
        lines = site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)
        site.engine.place(stack, "db", "/var/lib/postgresql/rows").write_text("".join(lines[1:-1]))
        return Ended(0, "")

    def probe(stack: str, _: Health, domain: str, __: float) -> Answer:
        named[stack] = domain
        knows = stack not in loaded or domain == named[loaded[0]]
        return Answer(knows, "" if knows else "it says 421")

    site.engine.programs["load"] = loads
    monkeypatch.setattr(site.engine, "probe", probe)
    verdict = prove_tag(site.prepare(), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed == [TARGET, BASE, TARGET, TARGET]
    assert len(loaded) == 3, "in place, on the fresh install, and on one with its address"
    assert "restored-beside: not on the fresh install, whose address is another" in " ".join(verdict.notes)
