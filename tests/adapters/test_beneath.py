"""Files of a tree are opened as the kernel would open them, and never where the way leaves the tree."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from canonq.adapters.beneath import read_beneath
from canonq.core.errors import RecipeProblem

NAMES = ("a", "b", "c", "f", "g")
STEPS = (*NAMES, "..", ".", "")


def way(random_: random.Random) -> str:
    """A relative path of a few steps, which may lead anywhere."""
    return "/".join(random_.choice(STEPS) for _ in range(random_.randint(1, 5))).lstrip("/") or "."


def grown(root: Path, random_: random.Random) -> None:
    """Fill a folder with folders, files and links at random."""
    for _ in range(14):
        place = root / way(random_).replace("..", "a")
        if os.path.lexists(place) or not place.parent.is_dir() or not place.parent.resolve().is_relative_to(root):
            continue
        match random_.randint(0, 3):
            case 0:
                place.mkdir()
            case 1:
                place.write_text(f"content of {len(os.listdir(root))}")
            case _:
                place.symlink_to(way(random_))


def stays(root: Path, path: str, left: int = 40) -> bool:
    """Whether no step of the way, links taken along, is above the root: what is asked of every step, not of the end only."""
    at: list[str] = []
    steps = path.split("/")
    while steps:
        step = steps.pop(0)
        if step in ("", "."):
            continue
        if step == "..":
            if not at:
                return False
            at.pop()
            continue
        here = root.joinpath(*at, step)
        if here.is_symlink():
            left -= 1
            if left < 0:
                return True
            target = os.readlink(here)
            if target.startswith("/"):
                return False
            steps = target.split("/") + steps
        elif here.is_dir():
            at.append(step)
        else:
            return True
    return True


@pytest.mark.parametrize("seed", range(60))
def test_random_trees_are_read_as_the_kernel_reads_them(tmp_path: Path, seed: int) -> None:
    random_, root = random.Random(seed), tmp_path / "root"
    root.mkdir()
    (tmp_path / "f").write_text("secret")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("secret")
    grown(root, random_)
    for _ in range(40):
        path = way(random_)
        if not stays(root, path):
            with pytest.raises(RecipeProblem):
                read_beneath(root, path, 100)
            continue
        whole = f"{root}/{path}"  # as it is written: Path leaves the last slash out
        wanted = Path(whole).read_bytes() if os.path.isfile(whole) else None
        assert read_beneath(root, path, 100) == wanted, path


def test_what_is_no_plain_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "device").symlink_to("/dev/zero")
    for path in ("folder", "pipe", "round", "nothing", "pipe/x", "a" * 5000, "a\0b", "."):
        assert read_beneath(tmp_path, path, 100) is None
    with pytest.raises(RecipeProblem):
        read_beneath(tmp_path, "device", 100)


def test_a_file_above_the_limit_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecipeProblem) as told:
        read_beneath(tmp_path, "large", 1000)
    assert told.value.code == "file-too-large"
    (tmp_path / "fits").write_bytes(b"x" * 1000)
    assert read_beneath(tmp_path, "fits", 1000) == b"x" * 1000
