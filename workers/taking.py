"""Taking messages off the queues: one that cannot be taken is dropped and told, and ends no worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

from celery.worker.consumer import Consumer

from canonq.core.text import shown

log = logging.getLogger("canonq")

#: What is wrong with a message, and not with the broker or the worker: Celery looks for some of it only.
_OF_A_MESSAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_SHOWN = 200  #: characters of what it said
_LONGEST_ID = 255  #: characters
_NUMBER = (int, float, NoneType)
#: Headers of which Celery takes for granted what they are, some of them when the task is under way already.
_KINDS: dict[str, tuple[type, ...]] = {
    "task": (str,), "id": (str,), "lang": (str, NoneType), "eta": (str, NoneType), "expires": (str, *_NUMBER), "retries": _NUMBER,
    "group": (str, NoneType), "group_index": (int, NoneType), "root_id": (str, NoneType), "parent_id": (str, NoneType),
    "argsrepr": (str, NoneType), "kwargsrepr": (str, NoneType), "origin": (str, NoneType), "shadow": (str, NoneType),
    "ignore_result": (bool, NoneType), "stamped_headers": (list, NoneType), "stamps": (dict, NoneType),
    "timelimit": (list, NoneType), "replaced_task_nesting": _NUMBER,
}  # fmt: skip


def wrong_in(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    """What of a message's headers is of another kind than Celery sends; None where nothing is."""
    for name, kinds in _KINDS.items():
        if name in headers and not isinstance(headers[name], kinds):
            return f"its {name} is {headers[name]!r}"
    if len(headers.get("id", "")) > _LONGEST_ID:
        return "its id is too long"
    if not all(isinstance(one, _NUMBER) for one in headers.get("timelimit") or ()):
        return "its timelimit is no two numbers"
    if not isinstance(properties.get("reply_to"), str | NoneType) or not isinstance(
        properties.get("correlation_id"), str | NoneType
    ):
        return "whom its answer goes to is no name"
    return None


class PatientConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's, which a message with a header of another kind ends for good, and again when it is delivered again."""

    def create_task_handler(self, *given: Any, **more: Any) -> Callable[[Any], Any]:
        """See Consumer."""
        take = super().create_task_handler(*given, **more)

        def taken(message: Any) -> Any:
            try:
                if (why := wrong_in(message.headers, message.properties)) is None:
                    return take(message)
            except _OF_A_MESSAGE as error:
                why = f"{type(error).__name__}: {error}"
            log.error("A message cannot be taken, and is dropped: %s", shown(why, _SHOWN))
            if not message.acknowledged:
                message.reject_log_error(log, self.connection_errors)
            return None

        return taken
