"""Good releases of the tests' and the demo's recipes, released one after another and swept as on so many nights: how many are not
promoted. Nothing is tried again, so that what is counted is what was said first."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from demo import images, upstreams
from tests.real.conftest import installed, tree
from tests.real.test_tiers import PLAIN, labelled, read_only, with_a_secret
from tests.support import Installation, make_recipe

_FILES = dict[str, str]
_FIRST, _SECOND = "1.0.0+1.29.0", "1.1.0+1.29.0"
#: How many of each one's releases are good, from the first.
_FROM_DEMO = {"custom-html": 3, "guestbook": 2, "tiny-html": 2, "forge": 1}
_DUMPED = (
    "backupbot.backup=true",
    "backupbot.backup.volumes.data.path=saved",
    "backupbot.backup.pre-hook=mkdir -p /srv/saved && cp -p /srv/index.html /srv/.canonq-marker /srv/saved/",
    "backupbot.restore.post-hook=cp -p /srv/saved/index.html /srv/saved/.canonq-marker /srv/",
)
_OWN_TEST = 'def test_the_page(app):\n    assert app.http.get("/").text.startswith("1.")\n'
_HOOKS = """
def write_marker(app, text):
    assert app.exec("app", "sh", "-c", 'echo "$0" > /srv/mine', text).status == 0


def read_marker(app):
    found = app.exec("app", "cat", "/srv/mine")
    return found.output.strip() if found.status == 0 else None
"""
#: Recipes of two releases: files of the first one, what is in recipe.toml, and what lies beside that.
_RECIPES: dict[str, tuple[_FILES, str, _FILES]] = {
    "plain": (PLAIN, "", {}),
    "read-only": (read_only(labelled("backupbot.backup=true")), "", {"test_page.py": _OWN_TEST}),
    "dumped": (labelled(*_DUMPED), "", {}),
    "secret": (with_a_secret(), "", {}),
    "by-tcp": (tree(_FIRST), '[health]\nkind = "tcp"\nport = 80\n', {}),
    "marked": (labelled("backupbot.backup=true"), "[health]\nsoak = 20\n", {"hooks.py": _HOOKS, "test_page.py": _OWN_TEST}),
}  # fmt: skip


def _released_next(files: _FILES) -> _FILES:
    """The same, as its author releases it once more. What it serves is on its volume, from its first start."""
    return {name: text.replace(_FIRST, _SECOND) for name, text in files.items()}


class Nights:
    """Upstreams whose releases appear one by one."""

    def __init__(self, folder: Path) -> None:
        self._later: dict[Path, list[tuple[str, str]]] = {}
        made = upstreams.make_upstreams(folder, _FROM_DEMO)
        upstreams.publish(folder, "custom-html")
        for name, (files, _, _) in _RECIPES.items():
            make_recipe(folder / name, {_FIRST: files, _SECOND: _released_next(files)})
        for path in (*made.values(), *(folder / name for name in _RECIPES)):
            repo = Repo(path)
            tags = sorted(repo.tags, key=lambda tag: (tag.commit.committed_date, tag.name))
            self._later[path] = [(tag.name, repo.git.rev_parse(tag.path)) for tag in tags][: _FROM_DEMO.get(path.name, 2)]
            repo.git.tag("--delete", *(tag.name for tag in tags))

    def release(self) -> list[str]:
        """Each recipe's next release; the recipes that have one."""
        found = [path for path, later in self._later.items() if later]
        for path in found:
            name, of = self._later[path].pop(0)
            Repo(path).git.update_ref(f"refs/tags/{name}", of)
        return [path.name for path in found]


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but work."""
    alone = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in alone:
            process.kill()
            process.wait()


def _enrol(made: Installation, folder: Path) -> None:
    upstreams.make_checkout(made.checkout, folder, _FROM_DEMO)
    for name, (_, toml, beside) in _RECIPES.items():
        enrolled = made.checkout / "tests" / name
        enrolled.mkdir(parents=True)
        (enrolled / "recipe.toml").write_text(f'upstream = "{folder}/{name}"\n{toml}')
        for file, text in beside.items():
            (enrolled / file).write_text(text)


def good_releases(beside: int) -> tuple[int, list[str]]:
    """How many good releases there were, and what was said of each that was not promoted, beside so many busy processes."""
    engine = SwarmEngine()
    engine.preflight()
    engine.ensure_network("proxy")
    images.build()
    count, wrong = 0, []
    with tempfile.TemporaryDirectory(prefix="canonq-bench-") as name:
        nights = Nights(Path(name) / "upstreams")
        with installed(engine, Path(name)) as made:
            _enrol(made, Path(name) / "upstreams")
            with _busy(beside):
                while released := nights.release():
                    swept = made.canonq("sweep", *released, "--wait", "--json", timeout=6 * 3600).json["outcomes"]
                    count += len(swept)
                    wrong += [_said(one) for one in swept if one["outcome"] != "promoted"]
                    wrong += [f"{name} was not swept" for name in {*released} - {one["recipe"] for one in swept}]
    return count, wrong


def _said(outcome: dict[str, object]) -> str:
    return json.dumps({key: outcome.get(key) for key in ("recipe", "version", "outcome", "reason", "detail")})
