"""What the history in a bare clone says about a pull request: is its change in the default branch, and by which commit."""

from __future__ import annotations

from pathlib import Path

from canonq.adapters.git.program import GitProgram, local_problem
from canonq.core.upstream.pulls import Landing

_MOST_MERGES = 100  #: in one pull request; each costs a program
_NOBODY = ("user.name=canonq", "user.email=canonq@localhost", "commit.gpgSign=false")


class History:
    """Questions to one clone. Nothing is changed but that a commit nobody names may be added."""

    def __init__(self, git: GitProgram, clone: Path) -> None:
        self._git = git
        self._clone = clone

    def landing(self, main: str, head: str) -> Landing:
        """See core.pulls.Landing. `main` and `head` are commits of the clone."""
        if self._git.local(self._clone, "merge-base", "--is-ancestor", head, main).status == 0:
            return Landing(self._brought_in(main, head), 0, 0, None, None)
        base = self._git.local(self._clone, "merge-base", main, head)
        below = base.output.strip()
        # Without anything in common, and without any change, there is nothing that could be upstream.
        if base.status != 0 or self._tree(head) == self._tree(below):
            return Landing(None, 0, 0, None, None)
        if self._is_undone(main, head):
            return Landing(None, 0, 0, None, None)
        own, equal, last = self._compared(main, head)
        return Landing(None, own, equal, last, self._squashed(main, head, below))

    def _is_undone(self, main: str, head: str) -> bool:
        """Whether the head's change could be merged once more, as upstream took it back or never had it.

        What cannot be merged without a decision says nothing: upstream may have gone on from it.
        """
        made = self._git.local(self._clone, "merge-tree", "--write-tree", "--no-messages", main, head)
        return made.status == 0 and made.output.strip() != self._tree(main)

    def _brought_in(self, main: str, head: str) -> str:
        """The first commit on the branch itself that contains the head; the head when it is on the branch."""
        below = self._lines("rev-list", "--first-parent", "--ancestry-path", "--reverse", f"{head}..{main}")
        on_branch = not below or self._lines("rev-parse", f"{below[0]}^") == [head]
        return head if on_branch else below[0]

    def _compared(self, main: str, head: str) -> tuple[int, int, str | None]:
        """(commits of the head's own, how many are upstream with the same change, upstream's newest of these).

        A merge that brings changes of its own counts as one that upstream has not: none of its can be the same. What git calls
        the same may have other blanks, and in YAML those are a change.
        """
        marks = "--cherry-mark", "--no-merges"
        own = self._lines("rev-list", *marks, "--right-only", f"{main}...{head}")
        theirs = self._lines("rev-list", *marks, "--left-only", f"{main}...{head}")
        offered = self._changes(own)
        theirs_with = self._changes(theirs) if offered else {}
        both = set(offered.values()) & set(theirs_with.values())
        newest = next((commit for commit, change in theirs_with.items() if change in both), None)
        mine = sum(change in both for change in offered.values())
        return len(own) + self._changing_merges(main, head), mine, newest

    def _changes(self, marked: list[str]) -> dict[str, str]:
        """What those commits change that git calls the same on both sides, in the order given."""
        return {line[1:]: self._change(line[1:]) for line in marked if line.startswith("=")}

    def _change(self, commit: str) -> str:
        """What a commit changes, wherever in its files: without the numbers of lines and the names of contents."""
        told = self._git.local(self._clone, "diff-tree", "-p", "-U0", "--no-commit-id", "--no-renames", "--no-ext-diff", commit)
        if told.status != 0:
            raise local_problem(told, f"`git diff-tree` failed in {self._clone}", self._clone)
        return "\n".join(line for line in told.output.split("\n") if not line.startswith(("@@ ", "index ")))

    def _changing_merges(self, main: str, head: str) -> int:
        """How many of the head's merges are not what git itself makes of their parents; of very many, all are taken for such."""
        merges = self._lines("rev-list", "--merges", f"{main}..{head}")
        if len(merges) > _MOST_MERGES:
            return len(merges)
        return sum(not self._is_plain(merge) for merge in merges)

    def _is_plain(self, merge: str) -> bool:
        parents = self._lines("rev-parse", f"{merge}^@")
        # A git before 2.38 cannot say what it would make, nor any of more than two parents: then it may change anything.
        made = self._git.local(self._clone, "merge-tree", "--write-tree", "--no-messages", *parents)
        return made.status == 0 and made.output.strip() == self._tree(merge)

    def _squashed(self, main: str, head: str, base: str) -> str | None:
        """Upstream's commit with the change of all the head's commits together."""
        options = [part for option in _NOBODY for part in ("-c", option)]
        one = self._lines(*options, "commit-tree", self._tree(head), "-p", base, "-m", "all of it")[0]
        return self._compared(main, one)[2]

    def _tree(self, commit: str) -> str:
        return self._lines("rev-parse", f"{commit}^{{tree}}")[0]

    def _lines(self, *arguments: str) -> list[str]:
        ended = self._git.local(self._clone, *arguments)
        if ended.status != 0:
            raise local_problem(ended, f"`git {arguments[0]}` failed in {self._clone}", self._clone)
        return ended.output.split()
