"""Symbolic links of a recipe: where one ends when all others of its tree are followed as well. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: Links followed for one path; the kernel gives up after as many.
_MOST_FOLLOWED = 40


def stays_inside(path: str, links: Mapping[str, str]) -> bool:
    """Whether the link at `path` ends below the tree's root, and not in git's own files.

    `links`: all links of the tree, path -> target. Every `..` is taken from where the way really leads: behind a link
    to a folder that is higher up, a target that looks harmless as a text can lie outside. A circle leads nowhere, and so
    stays inside.
    """
    here: list[str] = []
    ahead = path.split("/")[::-1]
    followed = 0
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return False
            here.pop()
            continue
        here.append(part)
        target = links.get("/".join(here))
        if target is None:
            continue
        followed += 1
        if target.startswith("/"):
            return False
        if followed > _MOST_FOLLOWED:
            return True
        here.pop()
        ahead += target.split("/")[::-1]
    return not here or here[0].lower() != ".git"
