"""What the documents say is what the code has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from beat_schedule import MOST_NIGHTS, NIGHT_IS_OVER
from canonq.adapters.git import tree as gittree
from canonq.adapters.host import MOST_WAIT
from canonq.adapters.processes import programs
from canonq.core import budget
from canonq.core.bases import MOST_STEPS
from canonq.core.blame import CERTAIN, PATTERNS
from canonq.core.enrolment import LONGEST_RUN, Enrolment, SecretSource, parse_enrolment
from canonq.core.keeping import LEAST_SWEEPS
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.masks import Masks
from canonq.core.names import DOCKER_NAME_LIMIT
from canonq.core.pulls import FREELY
from canonq.core.recipe.envfile import LONGEST_SECRET, LONGEST_VALUE
from canonq.core.records import Canonical, Promotion, Synced, Verdict
from canonq.core.records import Decision as DecisionValue
from canonq.core.stack import staying
from canonq.core.stack.lint import RULES
from canonq.core.sweeps import slots
from canonq.core.sweeps.again import AWAITED_PAUSE, MOST_AWAITED, MOST_TRIES, NIGHT
from canonq.flows.deploying import treefiles
from canonq.flows.keeping import room
from canonq.flows.keeping.history import LOG_SIZE
from canonq.flows.sweeps import opening
from canonq.settings import (
    CheckoutSettings,
    ForgeSettings,
    GitSettings,
    HostsSettings,
    IngressSettings,
    NotifySettings,
    RegistriesSettings,
    ReportSettings,
    Settings,
    WebhookSettings,
    WebSettings,
    load_settings,
)
from tests.support import ROOT, ours
from workers import webhook
from workers.factory import HARD_LIMIT, VISIBILITY_TIMEOUT, make_app
from workers.tree import STOP_LIMIT

CONFIGURATION = ROOT / "docs" / "configuration.md"
ENROLMENT = ROOT / "docs" / "enrolment.md"
#: Settings that are tables, each with a section of its own.
TABLES: dict[str, type[BaseModel]] = {
    "checkout": CheckoutSettings,
    "ingress": IngressSettings,
    "git": GitSettings,
    "forge": ForgeSettings,
    "webhook": WebhookSettings,
    "report": ReportSettings,
    "web": WebSettings,
    "notify": NotifySettings,
    "hosts": HostsSettings,
    "registries": RegistriesSettings,
}
SOFT_STOP = make_app(Settings()).conf.worker_soft_shutdown_timeout
VARIABLE = re.compile(r"(?<!_)CANONQ_[A-Z][A-Z_]*[A-Z]")


def documents() -> list[Path]:
    """All but the demonstration's recipes, whose documents are made up."""
    found = [path for path in ours() if path.suffix == ".md" and path.relative_to(ROOT).parts[0] != "demo"]
    assert {"README.md", "CONTRIBUTING.md", "runbook.md"} <= {path.name for path in found}
    return found


def fences(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        elif prefix + name != "recipe":
            yield prefix + name


def rows(path: Path) -> dict[str, list[str]]:
    """First cell of each table row that is one code word -> the other cells."""
    lines = re.findall(r"^ *\| `([^`|]+)` \|(.*)\|$", path.read_text(), re.MULTILINE)
    return {first: [cell.strip() for cell in rest.split(" | ")] for first, rest in reversed(lines)}


def section(path: Path, table: str) -> str:
    """What stands below the heading that names `[table]`, as far as the next heading of its rank."""
    (found,) = re.findall(rf"^## `\[{table}\]`.*?(?=^## |\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def known_variables() -> set[str]:
    """Every CANONQ_ variable that a setting or a file of the project reads."""
    known = {f"CANONQ_{name.upper()}" for name in Settings.model_fields if name not in TABLES}
    known |= {f"CANONQ_{table.upper()}__{name.upper()}" for table, model in TABLES.items() for name in model.model_fields}
    for path in ours():
        place = path.relative_to(ROOT)
        if path.suffix != ".md" and (
            place.parts[0] in ("canonq", "workers", "nix", "deploy", "scripts", ".ci")
            or place.name in ("Dockerfile", "docker-compose.yml", "beat_schedule.py")
        ):
            known |= set(VARIABLE.findall(path.read_text()))
    return known


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_and_its_variable_is_documented(name: str) -> None:
    assert name in rows(CONFIGURATION)
    if name not in TABLES:
        assert rows(CONFIGURATION)[name][0] == f"`CANONQ_{name.upper()}`"


FIXED = sorted(
    name
    for name, field in Settings.model_fields.items()
    if field.default and name not in TABLES and field.default_factory is None and not field.is_required()
)


@pytest.mark.parametrize("name", FIXED)
def test_the_documented_default_of_a_setting_is_the_real_one(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_settings(monkeypatch, tmp_path)
    monkeypatch.setenv(f"CANONQ_{name.upper()}", rows(CONFIGURATION)[name][2].strip("`"))
    assert getattr(load_settings(), name) == Settings.model_fields[name].default


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, model in TABLES.items() for name in model.model_fields])
def test_every_key_of_a_table_and_its_variable_is_documented(table: str, name: str) -> None:
    assert f"| `{name}` | `CANONQ_{table.upper()}__{name.upper()}` |" in section(CONFIGURATION, table)


def test_every_variable_that_is_read_is_documented() -> None:
    text = CONFIGURATION.read_text()
    assert [name for name in sorted(known_variables()) if f"`{name}`" not in text] == []


def test_every_variable_that_a_document_names_is_read() -> None:
    known = known_variables()
    assert known
    unknown = {str(path.relative_to(ROOT)): set(VARIABLE.findall(path.read_text())) - known for path in documents()}
    assert {path: names for path, names in unknown.items() if names} == {}


@pytest.mark.parametrize("key", sorted(keys(Enrolment)))
def test_every_key_of_an_enrolment_is_documented(key: str) -> None:
    table, _, name = key.rpartition(".")
    if table:
        assert f"| `{name}` |" in section(ENROLMENT, table)
    else:
        assert f"| `{name}` |" in ENROLMENT.read_text() or section(ENROLMENT, name)


@pytest.mark.parametrize("name", sorted(SecretSource.model_fields))
def test_every_source_of_a_secret_is_documented(name: str) -> None:
    assert f"| `{name}` |" in section(ENROLMENT, "secrets")


@pytest.mark.parametrize("model", [Verdict, Promotion, Synced, DecisionValue, Canonical])
def test_every_key_of_the_values_is_documented(model: type[BaseModel]) -> None:
    text = (ROOT / "docs" / "json.md").read_text()
    for name, field in model.model_fields.items():
        assert f"`{field.serialization_alias or name}`" in text, name


def without_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of the caller's settings: no variables, and a folder and a file that say nothing."""
    for name in [name for name in os.environ if name.startswith("CANONQ_")]:
        monkeypatch.delenv(name)
    (folder / "canonq.toml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CANONQ_CONFIG", str(folder / "canonq.toml"))


def test_the_example_configuration_loads_and_leaves_no_key_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_settings(monkeypatch, tmp_path)
    examples = fences(CONFIGURATION, "toml")
    assert examples
    for example in examples:
        (tmp_path / "canonq.toml").write_text(example)
        settings = load_settings()
        assert settings.disk_floor == 10 * 2**30
        assert set(Settings.model_fields) - settings.model_fields_set == {"redis_url"}  # its file is there instead


@pytest.mark.parametrize("path", [ROOT / "README.md", ENROLMENT], ids=lambda path: path.name)
def test_the_example_enrolments_parse(path: Path) -> None:
    examples = [example for example in fences(path, "toml") if "upstream" in example]
    assert examples
    for example in examples:
        parse_enrolment("site", example, where=path.name)


def test_the_example_enrolment_leaves_no_key_out() -> None:
    (example,) = fences(ENROLMENT, "toml")
    assert parse_enrolment("site", example, where=ENROLMENT.name).model_fields_set == set(Enrolment.model_fields)


def codes() -> set[str]:
    """Every reason code in the sources."""
    found = (
        {code for code, _ in RULES}
        | {pattern.code for pattern in PATTERNS}
        | set(CERTAIN)
        | {f"{tier}-failed" for tier in PROVEN_TIERS}
    )
    literal = re.compile(r'\b(?:code|reason)\s*=\s*"([a-z]+(?:-[a-z]+)*)"|Refusal\(\s*"([a-z-]+)"|_Judged\("green", "([a-z-]+)"')
    looks = re.compile(r'Convergence\(\s*"failed", "([a-z-]+)"')
    answers = re.compile(r'_answer\(\w+, "\w+", "([a-z-]+)"')
    for folder in ("canonq", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            found |= {code for match in literal.findall(text) for code in match if code}
            found |= set(looks.findall(text)) | set(answers.findall(text))
    return found


def test_every_reason_and_every_lint_rule_has_a_heading_in_the_runbook() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    assert len(codes()) > 100
    assert {code: count for code in sorted(codes()) if (count := text.count(f"\n### `{code}`\n")) != 1} == {}


def test_the_runbook_has_no_heading_that_no_code_gives() -> None:
    sources = "".join(path.read_text() for folder in ("canonq", "workers") for path in (ROOT / folder).rglob("*.py"))
    headings = re.findall(r"^### `([a-z-]+)`$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    built = {f"{tier}-failed" for tier in PROVEN_TIERS}
    assert not [heading for heading in headings if f'"{heading}"' not in sources and heading not in built]


def test_every_link_leads_somewhere() -> None:
    links = [(path, target) for path in documents() for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())]
    local = [(path, target) for path, target in links if "://" not in target]
    assert local
    broken = [f"{path.relative_to(ROOT)}: {target}" for path, target in local if not (path.parent / target).exists()]
    assert broken == []


def test_every_test_that_is_named_for_a_known_failure_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "known-failures.md").read_text()))
    sources = [path.read_text() for folder in ("tests", "canonq/tiers") for path in (ROOT / folder).rglob("test_*.py")]
    there = set(re.findall(r"^def (test_\w+)\(", "\n".join(sources), re.MULTILINE))
    assert named - there == set()


def test_every_table_has_a_head_and_as_many_columns_in_each_row() -> None:
    """One that a blank line cuts in two is shown as text from there on."""
    broken = []
    for path in documents():
        shown = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
        for table in re.findall(r"(?:^[ ]*\|.*\n)+", shown, re.M):
            rows = [re.sub(r"`[^`]*`|\\\|", "", row).count("|") for row in table.splitlines()]
            if len(rows) < 2 or len(set(rows)) > 1 or not re.fullmatch(r" *\|[ :|-]+\|", table.splitlines()[1]):
                broken.append(f"{path.relative_to(ROOT)}: {table.splitlines()[0][:80]}")
    assert broken == []


def test_every_make_verb_of_the_readme_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readme = ROOT / "README.md"
    named = set(re.findall(r"^make ([a-z][a-z-]*)", "\n".join(fences(readme, "sh")), re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z][a-z-]*)", readme.read_text()))
    assert named
    assert named <= verbs


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    # In parts, so that this file does not match itself. A tool may be told to leave the address out.
    names = re.compile(
        "|".join(
            [
                r"py" + r"pi\.org",
                r"python" + r"hosted\.org",
                r"deb\." + r"debian\.org",
                r"registry\." + r"npmjs",
                r"(?<!--no-emit-)index" + r"[-_]url",
                r"/work" + r"/main",
            ]
        ).encode()
    )
    found = {str(path.relative_to(ROOT)): hits for path in ours() if (hits := names.findall(path.read_bytes()))}
    assert found == {}


def test_every_section_of_the_rules_that_is_named_is_there() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    sections = dict(re.findall(r"^## (\d)\. .*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    there = set(sections) | {
        f"{number}.{point}" for number, body in sections.items() for point in re.findall(r"^(\d)\. ", body, re.M)
    }
    named = [
        (path, number)
        for path in ours()
        if path.suffix in (".py", ".md")
        for first, second in re.findall(r"rules\.md (\d(?:\.\d)?)(?: and (\d(?:\.\d)?))?", path.read_text())
        for number in (first, second)
        if number
    ]
    assert len(named) > 40
    assert [f"{path.relative_to(ROOT)}: {number}" for path, number in named if number not in there] == []


def test_no_file_speaks_of_a_contract_that_is_not_in_the_repository() -> None:
    word = re.compile(rb"\bSP" + rb"EC\b")
    found = [str(path.relative_to(ROOT)) for path in ours() if path.suffix in (".py", ".md", ".toml", ".nix", ".yml")
             and word.search(path.read_bytes())]  # fmt: skip
    assert found == []


def test_each_decision_has_a_number_of_its_own_which_its_title_and_those_who_name_it_use() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [path.name[:4] for path in files]
    assert len(set(numbers)) == len(numbers) > 20
    assert [path.name for path in files if not path.read_text().startswith(f"# {int(path.name[:4])}. ")] == []
    named = {
        (str(path.relative_to(ROOT)), number)
        for path in ours()
        if path.suffix in (".py", ".md") and path.relative_to(ROOT).parts[0] != "tests"
        for number in re.findall(r"\b[Dd]ecisions?[ /](\d{4})\b", path.read_text())
    }
    assert named
    assert {(path, number) for path, number in named if number not in numbers} == set()


@pytest.mark.parametrize(
    ("document", "sentence", "holds"),
    [
        ("configuration.md", "after this pause, then after twice that, five times in all", MOST_TRIES == 5),
        ("configuration.md", "twice, after 5 and 10 seconds at the most", (MOST_AWAITED, AWAITED_PAUSE) == (2, 5)),
        ("configuration.md", "`[limits] run` is above 5400 seconds", LONGEST_RUN == 2 * 5400),
        ("configuration.md", "Redis itself delivers again after four and a half hours", VISIBILITY_TIMEOUT == 4.5 * 3600),
        ("configuration.md", "Tasks are stopped after four hours", HARD_LIMIT == 4 * 3600),
        ("configuration.md", "the running step gets 60 seconds", SOFT_STOP == 60),
        ("enrolment.md", "| `run` | seconds, 10 to 10800 |", LONGEST_RUN == 10800),
        (
            "enrolment.md",
            "for values of fewer than 4 characters",
            Masks([("pin", "123")]).text("a 123") == "a 123",
        ),
        ("enrolment.md", "for values of fewer than 4 characters", "1234" not in Masks([("pin", "1234")]).text("a 1234")),
        ("runbook.md", "the step under way gets 60 seconds", SOFT_STOP == 60),
        ("runbook.md", "`canonq up` gives its workers 30 seconds", STOP_LIMIT == 30),
        ("runbook.md", "longer than Docker allows (64 characters", DOCKER_NAME_LIMIT == 64),
        ("decisions/0010-runs-that-cannot-promote.md", "wait, for 15 minutes, and are then deferred", MOST_WAIT == 15 * 60),
        ("decisions/0010-runs-that-cannot-promote.md", "than three hours less two runs", LONGEST_RUN == 3 * 3600),
        (
            "decisions/0013-disk-budget.md",
            "last five runs (volumes, the backup's artifact, images that were not there) and a quarter",
            (budget.LATELY, budget._MARGIN) == (5, 1.25),
        ),
        (
            "decisions/0013-disk-budget.md",
            "twice its volumes (they and their snapshot) and a quarter; either 64 MiB at the least",
            (budget.need_of_promotion(2**30, 0), budget._AT_LEAST) == (2 * 2**30 * 5 // 4, 64 * 2**20),
        ),
        ("decisions/0027-bases-that-do-not-come-up.md", "the release before it, up to three times", MOST_STEPS == 3),
        ("rules.md", "the one before it, up to three times", MOST_STEPS == 3),
        ("runbook.md", "Older releases, where there is no canonical yet: four in a row", MOST_STEPS == 3),
        ("enrolment.md", "| `length=` | 32 | characters, 1 to 4096 |", LONGEST_SECRET == 4096),
        ("enrolment.md", "`hex` | 1 to 512 |", SecretSource(hex=512).hex == 512),
        (
            "runbook.md",
            "(50,000 files, 512 MiB, 64 folders deep)",
            (gittree._MOST_FILES, gittree._MOST_BYTES, gittree._DEEPEST) == (50_000, 512 * 2**20, 64),
        ),
        ("runbook.md", "A program that canonq asks wrote more than 256 MiB", programs._MOST_DATA == 256 * 2**20),
        ("configuration.md", "A sweep that no worker took within six hours is dropped", NIGHT_IS_OVER == 6 * 3600),
        ("configuration.md", "The same delivery again within a week is ignored", webhook._REMEMBERED == 7 * 24 * 3600),
        ("configuration.md", "when the checkout has been behind for three days", opening._STALE_AFTER == 3 * 24 * 3600),
        ("json.md", "the last 30 at most", MOST_NIGHTS == 30),
        ("runbook.md", "becomes a config (1000 KiB) or a secret (500 KiB", treefiles._MOST_OF["configs"] == 1000 << 10),
        ("runbook.md", "becomes a config (1000 KiB) or a secret (500 KiB", treefiles._MOST_OF["secrets"] == 500 << 10),
        ("runbook.md", "more than 64 KiB once it is filled in, an env more than 1 MiB or 5000 names", LONGEST_VALUE == 64 << 10),
        ("runbook.md", "are put aside at 16 MiB, three of each", LOG_SIZE == 16 * 2**20),
        ("runbook.md", "1.7 times its `[health] soak`", staying._IN_ALL == 1.7),
        (
            "configuration.md",
            "one for each 512 MiB of memory, whichever is less, at most 16",
            (slots._LEAST_MEMORY, slots._MOST) == (2**29, 16),
        ),
        ("configuration.md", "The first four fifths are used as they come", FREELY == 0.8),
        ("configuration.md", "The newest 10 sweeps always stay", LEAST_SWEEPS == 10),
        ("decisions/0013-disk-budget.md", "nobody used it for six hours", room._IN_USE == 6 * 3600),
        ("decisions/0019-whose-fault.md", "not later than six hours after the sweep began", NIGHT == 6 * 3600),
    ],
)
def test_a_sentence_with_a_number_says_what_the_constant_is(document: str, sentence: str, holds: bool) -> None:
    assert sentence in " ".join((ROOT / "docs" / document).read_text().split())
    assert holds


def test_every_folder_and_file_that_the_sources_put_into_the_state_folder_is_in_its_tree() -> None:
    (tree,) = re.findall(r"^## The state folder\n\n```\n(.*?)^```", (ROOT / "docs" / "architecture.md").read_text(), re.M | re.S)
    told = {line.split("/")[0].split()[0] for line in tree.splitlines()}
    sources = [path.read_text() for folder in ("canonq", "workers") for path in (ROOT / folder).rglob("*.py")]
    made = {name for text in sources for name in re.findall(r'\bstate / "([^"]+)"', text)}
    assert {"repos", "warm", "logs", "redis"} <= made
    assert made - told == set()


def test_contributing_names_all_that_make_check_looks_at() -> None:
    (recipe,) = re.findall(r"^check:.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (said,) = re.findall(r"`make check` (.*?);", " ".join((ROOT / "CONTRIBUTING.md").read_text().split()))
    words = {
        "ruff format": "formatting",
        "ruff check": "lint",
        "mypy": "types",
        "lint-imports": "imports",
        "shellcheck": "shell scripts",
    }
    assert {word for program, word in words.items() if program in recipe and word not in said} == set()
    assert set(re.findall(r"\.venv/bin/([a-z-]+)", recipe)) == {"ruff", "mypy", "lint-imports"}
    assert "ruff format --check" in recipe  # it looks, and changes nothing


def test_the_tables_of_the_rules_name_every_answer_of_decide_and_of_the_gate() -> None:
    rules = (ROOT / "docs" / "rules.md").read_text()
    source = "".join((ROOT / "canonq" / "core" / name).read_text() for name in ("decide.py", "gate.py"))
    reasons = set(re.findall(r'reason="([a-z-]+)"|Refusal\(\s*"([a-z-]+)"|reason="[a-z-]+" if .* else "([a-z-]+)"', source))
    named = {code for found in reasons for code in found if code}
    assert len(named) > 20
    assert {code for code in named if f"`{code}`" not in rules} == set()
