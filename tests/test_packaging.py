"""What is installed is what is here: a folder of modules that the package leaves out breaks every installation but this one."""

from __future__ import annotations

import tomllib

from setuptools import find_packages  # type: ignore[import-untyped]

from tests.support import ROOT, ours


def test_every_folder_of_modules_is_installed() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    installed = set(find_packages(str(ROOT), include=told["packages"]["find"]["include"]))
    folders = {path.parent.relative_to(ROOT) for path in ours() if path.suffix == ".py"}
    wanted = {".".join(folder.parts) for folder in folders if folder.parts and folder.parts[0] in ("canonq", "workers")}
    assert wanted <= installed
    assert {path.stem for path in ROOT.glob("*.py")} == set(told["py-modules"])


def test_every_template_is_installed_beside_its_module() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    named = {path for package, globs in told.items() for glob in globs for path in (ROOT / package.replace(".", "/")).glob(glob)}
    others = {path for path in ours() if path.relative_to(ROOT).parts[0] in ("canonq", "workers") and path.suffix != ".py"}
    assert others
    assert others <= named
