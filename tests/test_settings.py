"""Settings: what wins, what is refused, and what an empty variable means."""

from __future__ import annotations

from pathlib import Path

import pytest

from canonq.core.errors import WrongConfiguration
from canonq.settings import load_settings


@pytest.fixture(autouse=True)
def no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "canonq.toml"
    path.write_text("")
    monkeypatch.setenv("CANONQ_CONFIG", str(path))
    return path


def test_a_variable_wins_over_the_file(no_file_of_this_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_file_of_this_machine.write_text('keep = 5\nzone = "file.test"\n')
    monkeypatch.setenv("CANONQ_KEEP", "3")
    settings = load_settings()
    assert (settings.keep, settings.zone) == (3, "file.test")


def test_an_empty_variable_counts_as_not_set(no_file_of_this_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_file_of_this_machine.write_text("keep = 5\n")
    for name in ("CANONQ_KEEP", "CANONQ_NIGHTLY", "CANONQ_INGRESS__SCHEME", "CANONQ_INGRESS__ADDRESS", "CANONQ_REDIS_URL"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.keep, settings.nightly, settings.ingress, settings.broker_url()) == (5, None, None, None)


@pytest.mark.parametrize("times", ["99 3 * * *", "a b c d e", "0 3 * *", "0 3 1 13 *", "*/0 * * * *"])
def test_a_nightly_that_is_no_crontab_line_is_named(times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_NIGHTLY", times)
    with pytest.raises(WrongConfiguration, match="nightly"):
        load_settings()


def test_the_ingress_may_stand_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_INGRESS__SCHEME", "http")
    monkeypatch.setenv("CANONQ_INGRESS__ADDRESS", "127.0.0.1:8080")
    ingress = load_settings().ingress
    assert ingress is not None
    assert (ingress.scheme, ingress.address) == ("http", "127.0.0.1:8080")


@pytest.mark.parametrize(("size", "bytes_"), [("1 KiB", 1024), ("1.5 MB", 1_500_000), ("7", 7)])
def test_sizes_have_units(size: str, bytes_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_DISK_FLOOR", size)
    assert load_settings().disk_floor == bytes_


@pytest.mark.parametrize("size", ["-1", "1 parsec", "1 mib"])
def test_a_size_that_is_none_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_DISK_FLOOR", size)
    with pytest.raises(WrongConfiguration, match="disk_floor"):
        load_settings()
