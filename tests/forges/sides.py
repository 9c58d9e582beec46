"""One way of asking the stand-in and the real forge to be in some state, for tests that both must pass."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Protocol

from git.repo import Repo

from tests.forge import TOKEN, Forge
from tests.forges.gitea import Gitea

OWNER = "mirror"


class Side(Protocol):
    """A forge with repositories of the user `mirror`."""

    url: str
    token: str
    folder: Path  #: for clones

    def make(self, name: str) -> None:
        """Have an empty repository."""

    def pulls_off(self, name: str) -> None:
        """Switch its pull requests off."""

    def archive(self, name: str) -> None:
        """Put it into the archive."""

    def rename(self, name: str, new: str) -> None:
        """Call it something else."""

    def protect(self, name: str, tag: str) -> None:
        """Let nobody push a tag."""

    def copy(self, name: str, of: str) -> None:
        """Have a repository that the forge itself copies from another."""

    def propose(self, name: str, branch: str, title: str) -> int:
        """Open a pull request for a branch that was pushed; its number."""

    def state(self, name: str, number: int) -> str:
        """open or closed."""

    def comments(self, name: str, number: int) -> int:
        """How many comments a pull request has."""


def address(side: Side, name: str) -> str:
    """Where a repository's git is."""
    return f"{side.url}/{OWNER}/{name}.git"


def work_on(side: Side, name: str) -> Repo:
    """A clone of a repository, from which may be pushed."""
    with_token = address(side, name).replace("://", f"://{OWNER}:{side.token}@")
    return Repo.clone_from(with_token, side.folder / f"{name}-{len(list(side.folder.glob(f'{name}-*')))}")


class StandIn:
    """The stand-in of the tests."""

    def __init__(self, forge: Forge, folder: Path) -> None:
        self.forge, self.url, self.token, self.folder = forge, forge.url, TOKEN, folder

    def make(self, name: str) -> None:
        """See Side. That something was pushed is noticed a moment later, as by the real one."""
        self.forge.repo(f"{OWNER}/{name}")
        self.forge.unnoticed = 2

    def pulls_off(self, name: str) -> None:
        """See Side."""
        self.forge.no_pulls.add(f"{OWNER}/{name}")

    def archive(self, name: str) -> None:
        """See Side."""
        self.forge.archived.add(f"{OWNER}/{name}")

    def rename(self, name: str, new: str) -> None:
        """See Side."""
        (self.forge.folder / OWNER / f"{name}.git").rename(self.forge.folder / OWNER / f"{new}.git")
        self.forge.renamed[f"{OWNER}/{name}"] = f"{OWNER}/{new}"

    def protect(self, name: str, tag: str) -> None:
        """See Side."""
        hook = Path(self.forge.repo(f"{OWNER}/{name}").git_dir) / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho 'Forge: Tag {tag} is protected' >&2\nexit 1\n")
        hook.chmod(0o755)

    def copy(self, name: str, of: str) -> None:
        """See Side."""
        there = self.forge.repo(f"{OWNER}/{name}")
        there.git.fetch(self.forge.repo(f"{OWNER}/{of}").git_dir, "+refs/*:refs/*")
        self.forge.copied.add(f"{OWNER}/{name}")

    def propose(self, name: str, branch: str, title: str) -> int:
        """See Side."""
        repo = f"{OWNER}/{name}"
        return self.forge.open_pull(repo, self.forge.repo(repo).commit(branch).hexsha, title=title)

    def state(self, name: str, number: int) -> str:
        """See Side."""
        return str(self.forge.pulls[f"{OWNER}/{name}"][number]["state"])

    def comments(self, name: str, number: int) -> int:
        """See Side."""
        return len(self.forge.comments.get((f"{OWNER}/{name}", number), []))


class Real:
    """A real Gitea."""

    def __init__(self, gitea: Gitea, folder: Path) -> None:
        self.gitea, self.url, self.token, self.folder = gitea, gitea.url, gitea.token, folder

    def make(self, name: str) -> None:
        """See Side."""
        self.gitea.ask("POST", "user/repos", {"name": name, "default_branch": "main"})

    def pulls_off(self, name: str) -> None:
        """See Side."""
        self.gitea.ask("PATCH", f"repos/{OWNER}/{name}", {"has_pull_requests": False})

    def archive(self, name: str) -> None:
        """See Side."""
        self.gitea.ask("PATCH", f"repos/{OWNER}/{name}", {"archived": True})

    def rename(self, name: str, new: str) -> None:
        """See Side."""
        self.gitea.ask("PATCH", f"repos/{OWNER}/{name}", {"name": new})

    def protect(self, name: str, tag: str) -> None:
        """See Side."""
        keeper = {"username": "keeper", "email": "keeper@example.org", "password": secrets.token_hex(16)}
        self.gitea.ask("POST", "admin/users", keeper | {"must_change_password": False}, allowed=(422,))  # of an earlier test
        protected = {"name_pattern": tag, "whitelist_usernames": ["keeper"]}
        self.gitea.ask("POST", f"repos/{OWNER}/{name}/tag_protections", protected)

    def copy(self, name: str, of: str) -> None:
        """See Side."""
        asked = {"clone_addr": f"{self.url}/{OWNER}/{of}.git", "repo_name": name, "mirror": True}
        self.gitea.ask("POST", "repos/migrate", asked)

    def propose(self, name: str, branch: str, title: str) -> int:
        """See Side."""
        asked = {"head": branch, "base": "main", "title": title}
        ends = time.monotonic() + 120
        # It notices what was pushed a moment later, and knows of no such thing until then.
        while (found := self.gitea.ask("POST", f"repos/{OWNER}/{name}/pulls", asked, allowed=(404,))) is None:
            assert time.monotonic() < ends, "what was pushed is not noticed"
            time.sleep(0.1)
        return int(found["number"])

    def state(self, name: str, number: int) -> str:
        """See Side."""
        return str(self.gitea.ask("GET", f"repos/{OWNER}/{name}/pulls/{number}")["state"])

    def comments(self, name: str, number: int) -> int:
        """See Side."""
        return len(self.gitea.ask("GET", f"repos/{OWNER}/{name}/issues/{number}/comments"))
