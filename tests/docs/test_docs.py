"""What the documents say is what the code has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from canonq.core.blame import PATTERNS
from canonq.core.enrolment import Enrolment, parse_enrolment
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.records import Canonical, Promotion, Synced, Verdict
from canonq.core.records import Decision as DecisionValue
from canonq.settings import IngressSettings, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", ".demo", "demo", "node_modules"} & set(path.relative_to(ROOT).parts)
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def fences(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        elif prefix + name != "recipe":
            yield prefix + name


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_and_its_variable_is_documented(name: str) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert f"`{name}`" in text
    if name != "ingress":
        assert f"`CANONQ_{name.upper()}`" in text


def test_the_documented_defaults_are_the_real_ones() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for name in ("light_workers", "hold_reds", "loaded_above", "keep", "keep_runs", "lease", "teardown_timeout", "log_lines"):
        assert f"`CANONQ_{name.upper()}` | {Settings.model_fields[name].default} |" in text, name


def test_every_key_of_the_ingress_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert all(f"`CANONQ_INGRESS__{name.upper()}`" in text for name in IngressSettings.model_fields)


@pytest.mark.parametrize("key", sorted(keys(Enrolment)))
def test_every_key_of_an_enrolment_is_documented(key: str) -> None:
    text = (ROOT / "docs" / "enrolment.md").read_text()
    table, _, name = key.rpartition(".")
    assert f"`{key}`" in text or f"`{name}`" in text or f"`[{name}]`" in text
    assert not table or f"[{table}]" in text


@pytest.mark.parametrize("model", [Verdict, Promotion, Synced, DecisionValue, Canonical])
def test_every_key_of_the_values_is_documented(model: type[BaseModel]) -> None:
    text = (ROOT / "docs" / "json.md").read_text()
    for name, field in model.model_fields.items():
        assert f"`{field.serialization_alias or name}`" in text, name


def test_the_example_configuration_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = fences(ROOT / "docs" / "configuration.md", "toml")
    (tmp_path / "canonq.toml").write_text(example)
    monkeypatch.setenv("CANONQ_CONFIG", str(tmp_path / "canonq.toml"))
    for name in ("CANONQ_REPO", "CANONQ_STATE", "CANONQ_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    assert load_settings().disk_floor == 10 * 2**30


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "enrolment.md"], ids=lambda path: path.name)
def test_the_example_enrolments_parse(path: Path) -> None:
    examples = fences(path, "toml")
    assert examples
    for example in examples:
        parse_enrolment("site", example, where=path.name)


def codes() -> set[str]:
    """Every reason code in the sources."""
    found = {pattern.code for pattern in PATTERNS} | {f"{tier}-failed" for tier in PROVEN_TIERS}
    literal = re.compile(r'\b(?:code|reason)\s*=\s*"([a-z]+(?:-[a-z]+)*)"|Refusal\(\s*"([a-z-]+)"|_Judged\("green", "([a-z-]+)"')
    looks = re.compile(r'Convergence\(\s*"failed", "([a-z-]+)"')
    answers = re.compile(r'_answer\(\w+, "\w+", "([a-z-]+)"')
    for folder in ("canonq", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            found |= {code for match in literal.findall(text) for code in match if code}
            found |= set(looks.findall(text)) | set(answers.findall(text))
    return found


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_reason_has_a_heading_in_the_runbook(code: str) -> None:
    assert (ROOT / "docs" / "runbook.md").read_text().count(f"\n### `{code}`\n") == 1


def test_the_runbook_has_no_heading_that_no_code_gives() -> None:
    sources = "".join(path.read_text() for folder in ("canonq", "workers") for path in (ROOT / folder).rglob("*.py"))
    headings = re.findall(r"^### `([a-z-]+)`$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    built = {f"{tier}-failed" for tier in PROVEN_TIERS}
    assert not [heading for heading in headings if f'"{heading}"' not in sources and heading not in built]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_test_that_is_named_for_a_known_failure_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "known-failures.md").read_text()))
    sources = [path.read_text() for folder in ("tests", "canonq/tiers") for path in (ROOT / folder).rglob("test_*.py")]
    there = set(re.findall(r"^def (test_\w+)\(", "\n".join(sources), re.MULTILINE))
    assert named - there == set()


def test_every_make_verb_of_the_readme_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z][a-z-]*)", "\n".join(fences(ROOT / "README.md", "sh"))))
    assert named
    assert named <= verbs


def test_nothing_that_is_tracked_names_a_machine_or_a_package_registry() -> None:
    names = [
        "py" + "pi.org",
        "python" + "hosted.org",
        "deb." + "debian.org",
        "registry." + "npmjs",
        "/work" + "/main",
    ]
    found: dict[str, Any] = {}
    for path in tracked():
        text = path.read_bytes()
        if hits := [name for name in names if name.encode() in text]:
            found[str(path.relative_to(ROOT))] = hits
    assert found == {}
