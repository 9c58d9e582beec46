"""Whole runs without Docker: quick runs and pull requests."""

from __future__ import annotations

import json

import pytest

from canonq.core.deployable import Deployable
from canonq.flows.promote import promote
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import BASE, TARGET, Docker, Site, files, statuses


def test_a_quick_run_looks_at_a_copy_of_the_canonicals_data_and_proves_no_more(site: Site) -> None:
    world = site.prepare()
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    before = site.left()
    verdict = prove_tag(site.world, "site", None, quick=True)
    assert (verdict.verdict, verdict.reason, verdict.quick) == ("green", "quick", True), verdict.detail
    assert statuses(verdict)["functional"] == "pass"
    assert verdict.data == f"a copy of the data of the canonical {BASE}"
    assert site.left() == before
    upgraded = prove_tag(site.world, "site", None)
    assert (upgraded.verdict, upgraded.base, upgraded.base_from) == ("green", BASE, "canonical"), upgraded.detail


@pytest.mark.long
def test_a_pull_request_has_the_canonicals_data_and_secrets_only_where_the_enrolment_says_so(site: Site) -> None:
    world, made = site.prepare(), list[str]()

    def learns(engine: Docker, stack: Deployable) -> None:
        made[:] = [json.loads(path.read_text())["value"] for path in (engine.folder / "secrets").glob("[!.]*")]

    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    record = world.registry.read("site")
    assert record is not None
    kept, commit = world.registry.secrets(record)["password"], world.repos.tags("site")[TARGET]
    site.engine.starts = {f"ref-{commit[:12]}": learns}
    for quick, data in ((False, "empty volumes"), (True, "empty volumes")):
        verdict = prove_ref(site.world, "site", "main", quick=quick)
        assert (verdict.verdict, verdict.data) == ("green", data), verdict.detail
        assert [note for note in verdict.notes if note.startswith("on-empty-volumes: ")]
        assert made
        assert kept not in made
    path = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    path.write_text(f"{path.read_text()}[refs]\ndata = true\n")
    verdict = prove_ref(site.world, "site", "main", quick=True)
    assert (verdict.verdict, verdict.data) == ("green", f"a copy of the data of the canonical {BASE}"), verdict.detail
    assert made == [kept]
    assert not [note for note in verdict.notes if note.startswith("on-empty-volumes: ")]


def test_a_pull_request_that_reaches_for_the_host_is_refused_before_anything_is_deployed(site: Site) -> None:
    bad = files(TARGET)
    bad["compose.yml"] = bad["compose.yml"].replace('"/cache"', '"C:x/../../..:/host"')
    world = site.prepare(target=bad)
    verdict = prove_ref(world, "site", "main")
    assert (verdict.verdict, verdict.reason) == ("red", "policy-refused"), verdict.detail
    assert site.engine.deployed == []
