"""A person's own tests and hooks: what they do wrong is told with its place, and is never a pass."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from canonq.core.enrolment import Health
from canonq.core.errors import CanonqError, EnrolmentProblem, Fault, WrongConfiguration
from canonq.core.ladder import TierResult
from canonq.core.masks import Masks
from canonq.flows.proving import tiers
from canonq.flows.proving.hooks import KNOWN_HOOKS, call_hook, hook_names, hooks_told
from canonq.flows.proving.tiers import no_proof, read_progress, run_generic, run_own
from canonq.tiers import plugin, runner
from canonq.tiers.facts import BROKE, TierFacts

FACTS = TierFacts(recipe="site", tier="functional", stack="s", domain="s.test", version="1.0.0+1", commit="c", health=Health())
LONG = 3600.0  #: seconds


def facts_in(folder: Path) -> TierFacts:
    """What the code is told, with a scratch folder below a folder of the test's."""
    return FACTS.model_copy(update={"secrets_file": str(folder / "app" / "secrets.json")})


BOTH_FINE = "def test_one(): pass\ndef test_two(): pass\n"
ENDED_WITHIN = """
import pytest
def test_one(): pass
def test_two(): pytest.exit("no browser here", returncode=0)
def test_three(): assert False, "the app is broken"
"""
TAKEN_AWAY = """
def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=items[1:])
    del items[1:]
"""


def own(folder: Path, tests: str, *, conftest: str = "", limit: float = LONG) -> TierResult:
    (folder / "test_own.py").write_text(tests)
    if conftest:
        (folder / "conftest.py").write_text(conftest)
    return run_own(facts_in(folder), folder / "run", [folder / "test_own.py"], limit, time.monotonic() + LONG, Masks())


def test_what_was_collected_and_ran_is_a_pass(tmp_path: Path) -> None:
    assert own(tmp_path, BOTH_FINE).status == "pass"
    assert read_progress(tmp_path / "run" / "functional").not_run == ()


@pytest.mark.long
@pytest.mark.parametrize(
    ("tests", "conftest", "code", "said"),
    [
        (ENDED_WITHIN, "", "functional-incomplete", "test_three"),
        (BOTH_FINE, TAKEN_AWAY, "functional-incomplete", "test_two"),
        (
            "import pytest\n@pytest.mark.skip\ndef test_one(): pass\n",
            "",
            "functional-incomplete",
            "its one test was skipped (test_one)",
        ),
        ("", "", "functional-incomplete", "no test was collected"),
        ("import not_there_at_all\n", "", "functional-uncollected", "No module named 'not_there_at_all'"),
        ("import sys\nsys.exit('no browser')\n", "", "functional-uncollected", "test_own.py:2: SystemExit: no browser"),
        (BOTH_FINE, "import os\nURL = {}['TALLY_URL']\n", "functional-uncollected", "conftest.py:2: KeyError: 'TALLY_URL'"),
        (
            "def test_one(ap): pass\n",
            "",
            "functional-broken",
            "test_one: asks for the fixture 'ap', which there is not; did you mean 'app'?",
        ),
        ("def test_one(): import nowhere\n", "", "functional-broken", "test_one: ModuleNotFoundError: No module named 'nowhere'"),
        (
            "def test_one():\n  pass\n    assert 1\n",
            "",
            "functional-uncollected",
            "IndentationError: unexpected indent (test_own.py:3)",
        ),
        ("def test_one(): assert soup\n", "", "functional-broken", "test_one: NameError: name 'soup' is not defined"),
        ("def test_one(app): app.http.gett('/')\n", "", "functional-broken", "'Http' object has no attribute 'gett'"),
        (
            "def test_one(app): app.http.get(paths='/', path='/')\n",
            "",
            "functional-broken",
            "unexpected keyword argument 'paths'",
        ),
    ],
)
def test_own_tests_that_prove_nothing_are_the_enrolments_fault(
    tests: str, conftest: str, code: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(EnrolmentProblem) as told:
        own(tmp_path, tests, conftest=conftest)
    assert (told.value.code, told.value.fault) == (code, Fault.ENROLMENT)
    assert said in told.value.what


def test_a_test_that_fails_beside_a_broken_one_is_asked_of_the_release(tmp_path: Path) -> None:
    found = own(tmp_path, "def test_one(): assert soup\ndef test_two(): assert 1 == 2, 'it is broken'\n")
    assert (found.status, "it is broken" in found.reason, "'soup'" in found.reason) == ("fail", True, True)


def test_what_was_skipped_beside_tests_that_passed_is_told(tmp_path: Path) -> None:
    found = own(tmp_path, "import pytest\ndef test_one(): pass\n@pytest.mark.skip(reason='later')\ndef test_two(): pass\n")
    assert (found.status, found.reason) == ("pass", "skipped: test_two")


def test_what_looks_like_a_test_and_proves_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_one(): pass\ndef test_one(): pass\n")
    (tmp_path / "test_broken.py").write_text("def test_one(:\n")
    (tmp_path / "conftest.py").write_text("import pytest\n@pytest.fixture\ndef app(): return None\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "test_more.py").touch()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "test_more.py").touch()
    assert no_proof(tmp_path, sorted(tmp_path.glob("test_*.py"))) == [
        "more/test_more.py lies in a folder; tests are taken from beside recipe.toml only",
        "conftest.py:3: the fixture `app` is one of its own: tests that take it do not ask what is deployed",
        "test_own.py:1: test_one is never run: line 2 takes its name",
    ]


def test_a_failed_test_before_the_end_is_told_with_those_that_did_not_run(tmp_path: Path) -> None:
    tests = "import os\ndef test_one(): assert 1 == 2, 'it is broken'\ndef test_two(): pass\n"
    found = own(tmp_path, tests, conftest=TAKEN_AWAY)
    assert found.status == "fail"
    assert "it is broken" in found.reason
    assert "test_two" in found.reason


@pytest.mark.long
def test_of_a_test_that_hangs_its_name_its_line_and_what_it_printed_are_there(tmp_path: Path) -> None:
    tests = "import time\ndef test_fine(): pass\ndef test_hangs():\n    print('waiting for mail')\n    time.sleep(3600)\n"
    with pytest.raises(EnrolmentProblem) as told:
        own(tmp_path, tests, limit=6)
    assert "test_hangs' hangs in test_own.py, line 5: time.sleep(3600)" in told.value.what
    assert "waiting for mail" in (tmp_path / "run" / "functional" / "pytest.log").read_text()


@pytest.mark.parametrize(
    ("body", "said", "certain"),
    [
        ("    print('looking')\n    return {}['admin']\n", "hooks.py:3, before_upgrade: KeyError: 'admin'", True),
        ("    raise OSError('nobody answers')\n", "hooks.py:2, before_upgrade: OSError: nobody answers", False),
        ("    raise SystemExit('no luck')\n", "hooks.py:2, before_upgrade: SystemExit: no luck", False),
        ("    import sys; sys.exit(0)\n", "hooks.py:2, before_upgrade: SystemExit: 0", False),
        ("    import os; os._exit(0)\n", "ended with status 0; its last words: nothing was printed", False),
    ],
)
def test_a_hook_that_fails_is_told_with_its_place_and_is_the_enrolments_fault(
    body: str, said: str, certain: bool, tmp_path: Path
) -> None:
    (tmp_path / "hooks.py").write_text(f"def before_upgrade(app):\n{body}")
    with pytest.raises(EnrolmentProblem) as told:
        call_hook(tmp_path, "before_upgrade", facts_in(tmp_path), tmp_path / "run", LONG, time.monotonic() + LONG, Masks())
    assert said in told.value.what
    assert (told.value.code, told.value.fault, told.value.certain) == ("hook-failed", Fault.ENROLMENT, certain)
    assert "canonq/tiers" not in (tmp_path / "run" / "before_upgrade.log").read_text()


@pytest.mark.long
def test_of_a_hook_that_hangs_its_line_and_what_it_printed_are_told(tmp_path: Path) -> None:
    body = "import time\ndef after_install(app):\n    print('waiting for the admin', flush=True)\n    time.sleep(3600)\n"
    (tmp_path / "hooks.py").write_text(body)
    with pytest.raises(EnrolmentProblem, match="did not end within 6 s") as told:
        call_hook(tmp_path, "after_install", facts_in(tmp_path), tmp_path / "run", 6, time.monotonic() + LONG, Masks())
    assert "it hangs in hooks.py, line 4: time.sleep(3600); its last words: waiting for the admin." in told.value.what


def test_a_failed_test_is_told_by_its_assertion_and_its_line_and_nothing_below(tmp_path: Path) -> None:
    found = own(tmp_path, "class Page:\n    text = 'tally'\n\ndef test_one():\n    assert 'hello' in Page().text\n")
    assert found.reason == "test_one: assert 'hello' in 'tally' (test_own.py:5)"


def test_what_a_hook_returns_is_handed_on_also_when_it_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("def read_marker(app):\n    return 'm'\ndef after_install(app):\n    return object()\n")
    answers = [
        call_hook(tmp_path, name, facts_in(tmp_path), tmp_path, LONG, time.monotonic() + LONG, Masks())
        for name in ("read_marker", "after_install")
    ]
    assert answers[0] == "m"


IMPORTED = """
import json
from shared import read_marker as found, write_marker
from shared import log_in
read_marker, after_install = found, log_in
before_upgrade: object = lambda app: None
try:
    from shared import after_upgrade
except ImportError:
    def after_backup(app): before_restore = 1
numbers = [after_restore for after_restore in range(3)]
class Page:
    def before_functional(self): pass
"""


def test_hooks_that_are_imported_or_assigned_are_hooks(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(IMPORTED)
    hooks = {"read_marker", "write_marker", "after_install", "before_upgrade", "after_upgrade", "after_backup"}
    assert hook_names(tmp_path) & KNOWN_HOOKS == hooks


def test_a_hook_that_is_imported_is_called(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text("def log_in(app):\n    return app.facts.recipe\n")
    (tmp_path / "hooks.py").write_text("from shared import log_in\nafter_install = log_in\n")
    assert (
        call_hook(tmp_path, "after_install", facts_in(tmp_path), tmp_path / "run", LONG, time.monotonic() + LONG, Masks())
        == "site"
    )


def test_own_tests_import_what_lies_beside_them_and_what_all_recipes_share(tmp_path: Path) -> None:
    folder, shared = tmp_path / "my site", tmp_path / "_shared"
    folder.mkdir()
    shared.mkdir()
    (folder / "pages.py").write_text("PAGE = 2\n")
    (shared / "everywhere.py").write_text("def half(number):\n    return number / 2\n")
    found = own(folder, "from pages import PAGE\nfrom everywhere import half\n\n\ndef test_it():\n    assert half(PAGE) == 1\n")
    assert found.status == "pass", found


def test_a_hook_may_take_what_all_recipes_share(tmp_path: Path) -> None:
    own, shared = tmp_path / "site", tmp_path / "_shared"
    own.mkdir()
    shared.mkdir()
    (shared / "log_in_everywhere.py").write_text("def log_in(app):\n    return app.facts.recipe\n")
    (own / "hooks.py").write_text("from log_in_everywhere import log_in\nafter_install = log_in\n")
    until = time.monotonic() + LONG
    assert call_hook(own, "after_install", facts_in(own), own / "run", LONG, until, Masks()) == "site"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from shared import *\n", "takes all names of 'shared' with *"),
        ("async def after_install(app): ...\n", "is an `async def`, which does nothing"),
        ("def after_install(app:\n", "cannot be read as Python"),
    ],
)
def test_hooks_that_cannot_be_seen_or_do_nothing_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(text)
    with pytest.raises(WrongConfiguration, match=re.escape(said)):
        hook_names(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"after_install", "write_marker", "read_marker", "log_in"}, []),
        ({"after_install", "after_instal"}, ["hooks.py has after_instal, which canonq never calls"]),
        ({"before_promote"}, ["hooks.py has before_promote, which canonq never calls"]),
        ({"write_markers", "read_marker"}, ["write_markers, which canonq never calls", "hooks.py has no write_marker, so"]),
        ({"log_in"}, ["hooks.py has no name that canonq calls"]),
    ],
)
def test_what_looks_like_a_hook_and_is_never_called_is_told(names: set[str], told: list[str]) -> None:
    found = hooks_told(frozenset(names), there=True)
    assert [said in line for said, line in zip(told, found, strict=True)] == [True] * len(told)


def test_without_hooks_nothing_is_told_of_them(tmp_path: Path) -> None:
    assert hooks_told(hook_names(tmp_path), there=False) == ()


def test_what_tests_and_hooks_write_is_masked_before_it_is_in_its_place(tmp_path: Path) -> None:
    """Also where they never end: nothing of it was there before."""
    seen: list[bool] = []

    class Watching(Masks):
        def text(self, text: str) -> str:
            seen.append((tmp_path / "run" / "functional").is_dir() or (tmp_path / "hook").is_dir())
            return super().text(text)

    masks = Watching([("password", "s3cret-and-long")])
    (tmp_path / "test_own.py").write_text("def test_one():\n    assert 's3cret-and-long' == 1\n")
    (tmp_path / "hooks.py").write_text(
        "def after_install(app):\n    print('s3cret-and-long')\n    open('own', 'w').write('s3cret-and-long')\n"
    )
    ends = time.monotonic() + LONG
    run_own(facts_in(tmp_path), tmp_path / "run", [tmp_path / "test_own.py"], LONG, ends, masks)
    call_hook(tmp_path, "after_install", facts_in(tmp_path), tmp_path / "hook", LONG, ends, masks)
    kept = [path for folder in ("run", "hook") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert {"junit.xml", "pytest.log", "after_install.log", "own"} <= {path.name for path in kept}
    assert not [path for path in kept if b"s3cret-and-long" in path.read_bytes()]
    assert seen[0] is False, "the first is masked before there is a place to see it in"
    assert not list((tmp_path / "app").iterdir())


@pytest.mark.parametrize("status", [0, 1, BROKE])
def test_a_pytest_that_breaks_before_any_test_is_canonqs_own_error_and_no_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(tiers, "_pytest", lambda *_: (status, [], 0.1))
    with pytest.raises(CanonqError) as told:
        run_generic("upgrade", facts_in(tmp_path), tmp_path, time.monotonic() + LONG, Masks())
    assert (told.value.code, told.value.fault) == ("tier-machinery", Fault.CANONQ)
    if status == BROKE:
        with pytest.raises(CanonqError) as told:
            run_own(facts_in(tmp_path), tmp_path, [tmp_path / "test_it.py"], LONG, time.monotonic() + LONG, Masks())
        assert (told.value.code, told.value.fault) == ("tier-machinery", Fault.CANONQ)


def test_a_pytest_whose_files_are_gone_says_so_by_its_status(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def main(*_: Any, **__: Any) -> int:
        raise ModuleNotFoundError("No module named '_pytest._argcomplete'")

    monkeypatch.setattr(pytest, "main", main)
    monkeypatch.setenv("CANONQ_TIER", "")
    monkeypatch.setattr(plugin, "ends_after", lambda _: None)
    assert runner.run_pytest("facts.json", [], True, LONG) == BROKE
    assert "_argcomplete" in capsys.readouterr().err


def test_pytest_is_whole_before_the_first_fork_and_reads_nothing_of_the_folder_it_begins_in(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("raise SystemExit('it was read')\n")
    told = "print('_pytest.junitxml' in sys.modules, 'PYTEST_DISABLE_PLUGIN_AUTOLOAD' in os.environ)"
    code = f"import os, sys; from canonq.tiers import runner; runner.prepare(); {told}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "True False"
