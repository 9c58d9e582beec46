"""The mirror: made equal to upstream by pushes that fail, and are thought over, when it moved meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from canonq.adapters.git.clones import GitRepos
from canonq.adapters.git.program import failed, sync_failed, timed_out
from canonq.core.errors import SyncFailed, TimedOut
from canonq.core.text import readable
from canonq.core.upstream.addresses import moved
from canonq.core.upstream.mirror import Change, changes, kept_as, losses, told
from canonq.ports import Mirrored, Repos

#: Refs in one push: a command's arguments are limited, and so is what a forge likes to take at once.
_BATCH = 400
_MOST_ROUNDS = 4
_STALE = re.compile(r"stale info|fetch first|non-fast-forward|cannot lock ref|failed to update ref|reference already exists")
_PORCELAIN = re.compile(r"(?P<flag>[ +\-*!=])\t(?P<from>[^\t:]*):(?P<ref>refs/[^\t]+)\t(?P<said>.*)")


class Mirrors:
    """Mirrors (see ports), over the bare clones."""

    def __init__(self, repos: GitRepos) -> None:
        self._repos = repos

    def over(self, repos: Repos) -> Mirrors:
        """See ports.Mirrors.over."""
        assert isinstance(repos, GitRepos)
        return Mirrors(repos)

    def bring(self, recipe: str, url: str, branch: str, dry_run: bool = False) -> Mirrored:
        """See ports.Mirrors.bring."""
        done: list[Change] = []
        notes: list[str] = []
        with self._repos.alone(recipe):
            for _ in range(_MOST_ROUNDS):
                theirs = self._repos.listing(url, which="mirror")
                renamed = moved("mirror", url, theirs.moved_to)
                todo = changes(branch, self._ours(recipe, branch), theirs.refs)
                if dry_run or not todo:
                    return Mirrored(
                        tuple(todo if dry_run else done),
                        (*notes, *told(done), *([renamed] if renamed else [])),
                        theirs.digest(branch),
                    )
                notes += self._keep(recipe, url, branch, todo)
                done += self._push(recipe, url, todo)
        raise sync_failed(
            "mirror", url, "moving", f"It was changed by somebody else {_MOST_ROUNDS} times while it was pushed to."
        )

    def _ours(self, recipe: str, branch: str) -> dict[str, str]:
        return self._repos.refs(self._repos.clone(recipe), f"refs/heads/{branch}", "refs/tags")

    def _keep(self, recipe: str, url: str, branch: str, todo: Sequence[Change]) -> Iterator[str]:
        """Fetch what is about to be taken from the mirror, so that nothing is lost; a note for a branch that had diverged."""
        lost = losses(todo)
        clone = self._repos.clone(recipe)
        main = next((change for change in lost if change.ref == f"refs/heads/{branch}"), None)
        if main is not None and self._contains(recipe, main):
            lost = tuple(change for change in lost if change is not main)
            main = None
        for batch in _batches(lost):
            self._repos.keep_refs(recipe, url, {change.ref: kept_as(change) for change in batch}, which="mirror")
        if main is not None:
            ahead = self._repos.must(clone, "rev-list", "--count", f"{main.new}..{main.old}")
            yield (
                f"the mirror's {branch} had {ahead} commit(s) that upstream has not and is upstream's again; "
                f"the clone keeps them as {kept_as(main)}"
            )

    def _contains(self, recipe: str, change: Change) -> bool:
        """Whether a branch only moves forward."""
        asked = self._repos.git.local(self._repos.clone(recipe), "merge-base", "--is-ancestor", f"{change.old}", f"{change.new}")
        return asked.status == 0

    def _push(self, recipe: str, url: str, todo: Sequence[Change]) -> list[Change]:
        """Push; the changes that were made. Those for which the mirror had moved are left for another round."""
        done: list[Change] = []
        for batch in _batches(todo):
            leases = [f"--force-with-lease={change.ref}:{change.old or ''}" for change in batch]
            refspecs = [f"{change.new or ''}:{change.ref}" for change in batch]
            try:
                ended = self._repos.git.transfer(
                    self._repos.clone(recipe), url, "push", "--porcelain", "--no-verify", *leases, "--", url, *refspecs
                )
            except TimedOut as error:
                raise timed_out("mirror", url, error) from error
            said = {found["ref"]: found for line in ended.output.split("\n") if (found := _PORCELAIN.fullmatch(line))}
            refused: list[tuple[Change, str]] = []
            for change in batch:
                answer = said.get(change.ref)
                if answer is None:
                    raise failed("mirror", url, ended)
                if answer["flag"] != "!":
                    done.append(change)
                elif not _STALE.search(answer["said"]):
                    refused.append((change, answer["said"]))
            if refused:
                raise _refused(url, refused, ended.errors)
        return done


def _refused(url: str, refused: Sequence[tuple[Change, str]], more: str) -> SyncFailed:
    """One push stands or falls whole with most servers: what is named is the ref that the server itself speaks of."""
    hints = " ".join(line.removeprefix("remote:").strip() for line in more.splitlines() if line.startswith("remote:"))
    spoken_of = [one for one in refused if re.search(rf"(?<![\w./+-]){re.escape(one[0].name)}(?![\w/+-])", hints)]
    change, said = (spoken_of or refused)[0]
    more_refs = len(refused) - 1
    others = f" (and {more_refs} more ref{'s' * (more_refs > 1)} with it)" if more_refs else ""
    mend = (
        "let canonq's user push the default branch and all tags there, by force and with deletion: "
        "look at its protected branches and tags, its hooks and its quota."
    )
    return sync_failed("mirror", url, "refused", f"It refused {readable(change.ref)}{others}: {said}. {hints}", mend)


def _batches(found: Sequence[Change]) -> Iterator[Sequence[Change]]:
    for start in range(0, len(found), _BATCH):
        yield found[start : start + _BATCH]
