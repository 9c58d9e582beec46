"""Whoever types a command in somebody else's folder obeys nobody there: no settings and no modules of it count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from canonq.core.errors import WrongConfiguration
from canonq.settings import config_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a canonq.toml."""
    monkeypatch.delenv("CANONQ_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canonq.toml").write_text('repo = "/elsewhere"\n')
    (tmp_path / "canonq.toml").chmod(0o644)
    tmp_path.chmod(0o755)
    return tmp_path


def test_ones_own_settings_in_the_current_folder_count(folder: Path) -> None:
    assert config_file() == Path("canonq.toml")


@pytest.mark.parametrize("place", ["canonq.toml", "."])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_settings_that_somebody_else_may_write_are_an_error(
    folder: Path, place: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / place
    if how == "mode":
        path.chmod(path.stat().st_mode | 0o002)
    elif os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:  # nobody but root can give a file away: we are somebody else instead
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(WrongConfiguration, match="is not read") as told:
        config_file()
    assert "CANONQ_CONFIG" in told.value.mend
    monkeypatch.setenv("CANONQ_CONFIG", str(folder / "canonq.toml"))
    assert config_file() == folder / "canonq.toml", "named, it is meant"


@pytest.mark.long
def test_no_module_of_the_current_folder_is_run_by_celery(folder: Path) -> None:
    ran = folder / "ran"
    for name in ("beat_schedule", "celeryconfig", "canonq", "workers", "flowerconfig"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\n")
    (folder / "flowerconfig.py").chmod(0o666)
    (folder / "canonq.toml").unlink()
    command = [str(Path(sys.executable).with_name("celery")), "-A", "workers.app", "report"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert "canonq" in done.stdout, done.stderr
    assert not ran.exists(), ran.read_text()
