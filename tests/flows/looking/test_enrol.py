"""enrol: from a name in the catalogue, or an address, to a recipe.toml."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable

import pytest
from git.repo import Repo

from canonq.core.errors import HostProblem, SyncFailed, WrongConfiguration, WrongUse
from canonq.flows.looking.enrol import enrol
from tests.core.test_gate import verdict
from tests.flows.conftest import Place
from tests.forge import serving, status
from tests.support import make_recipe

COMPOSE = "services: {app: {image: 'org/app:1', volumes: ['data:/d']}}\nvolumes: {data: {}}\n"


@pytest.fixture
def upstream(place: Place) -> Repo:
    return make_recipe(
        place.folder / "upstream",
        {"1.0.0+1": {"compose.yml": "services: {}"}, "1.1.0+1": {"compose.yml": COMPOSE, ".env.sample": "TYPE=x\nDOMAIN=x\n"}},
    )


def listed(place: Place, repository: object) -> str:
    path = place.folder / "recipes.json"
    path.write_text(json.dumps({"site": {"repository": repository, "description": "A site"}}))
    return str(path)


def written(place: Place, name: str = "site") -> dict[str, object]:
    return tomllib.loads((place.folder / "checkout" / "tests" / name / "recipe.toml").read_text())


def test_a_recipe_is_found_in_a_file_and_its_newest_release_is_looked_into(place: Place, upstream: Repo) -> None:
    made = enrol(place.world, "site", catalogue=listed(place, str(upstream.working_dir)))
    assert (made["version"], made["problem"]) == ("1.1.0+1", None)
    assert made["found"]["volumes"] == ["data"]
    assert written(place)["upstream"] == str(upstream.working_dir)
    assert place.world.checkout.enrolment("site").weight == "light"
    assert not (place.folder / "state" / "repos").exists(), "nothing is left of the look"


def test_a_recipe_is_found_over_http_and_the_setting_names_where(place: Place, upstream: Repo) -> None:
    with serving(place.folder / "forge") as server:
        said = json.dumps({"site": {"repository": str(upstream.working_dir)}}).encode()
        server.order("recipes.json", lambda answers: answers.say(200, said))
        place.settings["catalogue"] = f"{server.url}/recipes.json"
        assert enrol(place.world, "site")["version"] == "1.1.0+1"
        server.order("recipes.json", status(500))
        with pytest.raises(HostProblem, match="500"):
            enrol(place.world, "other")


def test_a_catalogue_that_cannot_be_reached_is_told_in_the_systems_words(place: Place) -> None:
    with pytest.raises(HostProblem) as told:
        enrol(place.world, "site", catalogue="http://127.0.0.1:1/recipes.json")
    assert told.value.what == "The catalogue http://127.0.0.1:1/recipes.json could not be read: Connection refused."


def test_a_database_that_canonq_cannot_ask_gets_a_hooks_file_to_be_finished_once(place: Place) -> None:
    compose = 'services: {app: {image: x}, "n\\nimport os": {image: "couchdb:3"}, db: {image: "mariadb:10"}}'
    repo = make_recipe(place.folder / "upstream", {"1.0.0+1": {"compose.yml": compose, ".env.sample": ""}})
    made = enrol(place.world, "site", upstream=str(repo.working_dir))
    path = place.folder / "checkout" / "tests" / "site" / "hooks.py"
    assert made["hooks"] == str(path)
    assert "(couchdb)" in path.read_text()
    assert "mariadb" not in path.read_text(), "that one is marked without a word"
    assert all(line.startswith("#") or not line for line in path.read_text().splitlines()), "nothing of it runs as it is"
    assert "def write_marker(app, text):" in path.read_text()
    path.write_text("# mine\n")
    assert enrol(place.world, "site", upstream=str(repo.working_dir), force=True)["hooks"] is None
    assert path.read_text() == "# mine\n"


def test_so_does_one_that_only_a_run_has_seen(place: Place, upstream: Repo) -> None:
    run = place.world.new_id("site")
    place.world.runs.make("site", run)
    gaps = (
        "no-marker: app (leveldb)",
        "no-marker: gone (lmdb)",
        "no-marker: app:a.db (sqlite)",
        "not-backed-up: no backup has it",
    )
    place.world.runs.record(verdict(run=run, ts=place.world.stamp(), gaps=gaps))
    made = enrol(place.world, "site", upstream=str(upstream.working_dir))
    text = (place.folder / "checkout" / "tests" / "site" / "hooks.py").read_text()
    assert made["hooks"]
    assert "into: app (leveldb). Whether" in text
    assert 'app.exec("app", ' in text


def test_an_address_needs_no_catalogue(place: Place, upstream: Repo) -> None:
    place.settings["catalogue"] = "/nowhere"
    enrol(place.world, "site", upstream=str(upstream.working_dir))
    assert written(place)["upstream"] == str(upstream.working_dir)


def test_what_is_enrolled_is_not_overwritten_unless_it_is_asked_for(place: Place, upstream: Repo) -> None:
    place.enrol("site", "/mine", "# my own work\n")
    with pytest.raises(WrongUse, match="enrolled already"):
        enrol(place.world, "site", upstream=str(upstream.working_dir))
    assert written(place)["upstream"] == "/mine"
    enrol(place.world, "site", upstream=str(upstream.working_dir), force=True)
    assert written(place)["upstream"] == str(upstream.working_dir)


@pytest.mark.parametrize("files", [{"compose.yml": "a: [", ".env.sample": ""}, {"README": "x"}, {"compose.yml": "services: {}"}])
def test_a_release_that_cannot_be_looked_into_is_enrolled_and_told(place: Place, files: dict[str, str]) -> None:
    repo = make_recipe(place.folder / "odd", {"1.0.0+1": files})
    made = enrol(place.world, "site", upstream=str(repo.working_dir))
    assert made["problem"]
    assert set(written(place)) == {"upstream"}


def test_a_recipe_that_was_never_released_is_enrolled_and_told(place: Place, bare: Callable[[str], Repo]) -> None:
    made = enrol(place.world, "site", upstream=str(bare("empty").git_dir))
    assert made["version"] is None
    assert "no release" in made["problem"]


def test_what_cannot_be_right_changes_nothing(place: Place) -> None:
    for name, options, error in (
        ("../site", {"upstream": "/x"}, WrongUse),
        ("site", {"upstream": "ext::sh -c id"}, WrongConfiguration),
        ("site", {"upstream": f"{place.folder}/nowhere"}, WrongUse),
        ("site", {"upstream": "https://127.0.0.1:1/nowhere"}, SyncFailed),
        ("site", {"catalogue": "/nowhere"}, WrongConfiguration),
        ("site", {"catalogue": listed(place, "ext::sh")}, WrongConfiguration),
        ("site", {"catalogue": listed(place, 7)}, WrongConfiguration),
    ):
        with pytest.raises(error) as told:
            enrol(place.world, name, **options)  # type: ignore[arg-type]
        assert "recipe.toml" not in str(told.value), "there is none yet"
    assert list((place.folder / "checkout" / "tests").iterdir()) == []


def test_an_address_of_the_catalogue_that_leads_nowhere_is_nobodys_wrong_use(place: Place) -> None:
    with pytest.raises(SyncFailed) as told:
        enrol(place.world, "site", catalogue=listed(place, f"{place.folder}/nowhere"))
    assert "give another address with --upstream" in told.value.mend
