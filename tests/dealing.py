"""How files of tests are dealt out to the processes that run them side by side."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

#: Files whose tests wait for Docker or for workers, for the most part: so many of them at once that each has a processor when it
#: needs one, and files that only compute beside them. With more, all wait longer, and asking whether it is over takes the rest.
WAITING = (
    "tests/real/", "tests/demo/", "tests/deploy/", "tests/apps/", "tests/workers/", "tests/cli/test_celery_words.py",
    "tests/hosts/test_several_hosts.py", "tests/hosts/test_cut_links.py",
)  # fmt: skip
MOST_WAITING = 5


class Mixed(LoadFileScheduling):  # type: ignore[misc]
    """Files as they come, but of those that wait for Docker only so many at once."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        waiting = sum(self._waits(other) for other in self.nodes if other is not node)
        wanted = next((scope for scope in self.workqueue if scope.startswith(WAITING) == (waiting < MOST_WAITING)), None)
        if wanted is not None:
            self.workqueue.move_to_end(wanted, last=False)
        super()._assign_work_unit(node)

    def _waits(self, node: WorkerController) -> bool:
        units = self.assigned_work.get(node, {})
        return any(scope.startswith(WAITING) and not all(done.values()) for scope, done in units.items())
