"""Whatever is wrong with one recipe is that recipe's own; a folder is removed however deep it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from canonq.adapters.files import remove_tree, walk
from canonq.adapters.git.clones import GitRepos
from canonq.flows.sync import sync_all
from canonq.flows.upstream.discovery import discover
from tests.flows.conftest import Place

BAD = [
    f"upstream = {'9' * 5000}\n",
    f"upstream = {'[' * 5000}\n",
    'upstream = "/srv/a\\u0000b"\n',
    'upstream = "file://]"\n',
    'upstream = "https://a:99999/b"\n',
    'upstream = "./\\u2028"\n',
]


@pytest.mark.parametrize("toml", BAD)
def test_one_bad_enrolment_is_told_and_the_others_are_swept(place: Place, toml: str) -> None:
    place.recipe("site")
    folder = place.folder / "checkout" / "tests" / "bad"
    folder.mkdir()
    (folder / "recipe.toml").write_text(toml)
    rows = {row["recipe"]: row for row in sync_all(place.world)}
    assert (rows["bad"]["state"], rows["site"]["state"]) == ("error", "ok")
    assert rows["bad"]["fault"] != "canonq", rows["bad"]["detail"]
    enrolled = place.world.checkout.enrolled()
    assert enrolled.names == ["bad", "site"]
    assert ("site", None) in [(one.recipe, found) for one, found in discover(place.world, enrolled.recipes.values())]


def test_what_nobody_has_foreseen_of_one_recipe_is_told_as_canonqs_fault_and_the_others_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("odd", "site"):
        place.recipe(name)
    tags = GitRepos.tags

    def breaks(self: GitRepos, recipe: str) -> dict[str, str]:
        if recipe == "odd":
            raise KeyError("not foreseen")
        return tags(self, recipe)

    monkeypatch.setattr(GitRepos, "tags", breaks)
    rows = {row["recipe"]: row for row in sync_all(place.world)}
    assert (rows["site"]["state"], rows["odd"]["state"], rows["odd"]["fault"]) == ("ok", "error", "canonq")
    assert "KeyError" in rows["odd"]["detail"]


def test_a_folder_of_thousands_in_each_other_is_walked_and_removed(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    handle = os.open(deep, os.O_RDONLY)
    for _ in range(1500):  # each by its own: no path may be as long as that
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    assert sum(1 for _ in walk(str(deep))) > 1000
    remove_tree(deep)
    assert not deep.exists()


def test_walking_goes_the_way_that_os_walk_goes(tmp_path: Path) -> None:
    for name in ("b/x/1", "b/y/2", "a/3", "4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "b")

    def sorted_(found: object) -> list[tuple[str, list[str], list[str]]]:
        return sorted((place, sorted(folders), sorted(names)) for place, folders, names in found)  # type: ignore[attr-defined]

    assert sorted_(walk(str(tmp_path))) == sorted_(os.walk(tmp_path))
