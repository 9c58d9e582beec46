"""The processes in which tasks are done: one that ended while the broker was away ends no worker.

Celery watches each of them again when it has a new connection, also one whose end it has seen and that it has not put another in
the place of yet. It is ready for the error that kombu raised for that once, and kombu raises another.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool as CelerysTaskPool


class PatientPool(AsynPool):  # type: ignore[misc]  # Celery has no types
    """Celery's, which watches only those that may end yet."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        if getattr(proc, "_sentinel_poll", proc) is not None:
            super()._track_child_process(proc, hub)


class TaskPool(CelerysTaskPool):  # type: ignore[misc]
    """Celery's, of these processes."""

    Pool = PatientPool
