"""Errors, written for the person who reads them at 07:00.

Every error says what happened, whose fault it is and how to mend it. `code` is stable and goes into
JSON; `exit_status` follows docs/rules.md 6.
"""

from __future__ import annotations

import enum
from typing import Any

from canonq.core.text import readable, readable_lines


class Fault(enum.StrEnum):
    """Whose fault a failure is."""

    RECIPE = "recipe"
    ENROLMENT = "enrolment"  #: what the person wrote for a recipe: hooks, tests, health, secrets, overlay
    HOST = "host"
    CANONQ = "canonq"
    USER = "user"


class ExitStatus(enum.IntEnum):
    """Exit statuses of the `canonq` command (docs/rules.md 6)."""

    DONE = 0
    ATTENTION = 1  #: something red, deferred, refused or waiting for a person
    WRONG_USE = 2  #: wrong use, wrong configuration or a hollow sweep
    MACHINERY = 3  #: the machinery failed


#: Cause of a HostProblem which says only that this user may not ask; who runs canonq may.
NOT_ALLOWED = "not-allowed"


class CanonqError(Exception):
    """The root of all errors canonq raises on purpose."""

    fault = Fault.CANONQ
    code = "canonq-failed"
    exit_status = ExitStatus.MACHINERY
    version = ""  #: the version of the recipe that it is about, where several are at work

    def __init__(
        self,
        what: str,
        *,
        mend: str = "",
        code: str = "",
        service: str = "",
        cause: str = "",
        outside: str = "",
        retry_after: float | None = None,
        certain: bool = False,
        fault: Fault | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend
        self.code = code or type(self).code
        self.service = service  #: the recipe's service it is about, where it is about one
        self.cause = cause  #: a finer code below `code`, where there is one
        self.outside = outside  #: what of the outside failed, such as a registry's address, where many recipes share it
        self.retry_after = retry_after  #: seconds that whoever refused asks to be left alone
        self.certain = certain  #: no load of the host can have caused it, so trying again is vain
        self.fault = fault or type(self).fault  #: of this one, where its kind may be another's as well

    def __str__(self) -> str:
        return f"{self.what} Mend: {self.mend}" if self.mend else self.what

    @property
    def line(self) -> str:
        """What a command prints of it: the code is its heading in docs/runbook.md."""
        return readable_lines(f"canonq: [{self.code}] {self}")

    @property
    def for_programs(self) -> dict[str, Any]:
        """What a command prints of it with `--json`."""
        return {"error": {"code": self.code, "fault": self.fault, "what": self.what, "mend": self.mend}}

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery's pool hands exceptions from child to parent by pickle, which calls cls(*args).
        kept = ("mend", "code", "service", "cause", "outside", "retry_after", "certain", "fault")
        return _rebuild, (type(self), self.what, {name: getattr(self, name) for name in kept})


def _rebuild(cls: type[CanonqError], what: str, more: dict[str, Any]) -> CanonqError:
    return cls(what, **more)


class WrongUse(CanonqError):
    """A name, option or argument that cannot be right; nothing was changed."""

    fault = Fault.USER
    code = "wrong-use"
    exit_status = ExitStatus.WRONG_USE


class WrongConfiguration(CanonqError):
    """A setting or an enrolment file that cannot be right."""

    fault = Fault.USER
    code = "wrong-configuration"
    exit_status = ExitStatus.WRONG_USE


class EnrolmentInvalid(WrongConfiguration):
    """An enrolment that cannot be used as it is written."""

    fault = Fault.ENROLMENT
    code = "enrolment-invalid"


class HollowSweep(WrongConfiguration):
    """There is nothing to sweep: no checkout, no `tests/`, or nobody enrolled (docs/rules.md 5.5)."""

    code = "hollow-sweep"


class HostProblem(CanonqError):
    """The host cannot do what is needed: Docker, Redis, disk, network or permissions."""

    fault = Fault.HOST
    code = "host-problem"


def redis_problem(said: str) -> HostProblem:
    """The error for what a Redis, or the way to it, said: it is away, or it is there and refuses to write."""
    words = said.strip().rstrip(".")
    refuses = words.startswith(("MISCONF", "OOM ", "READONLY", "NOREPLICAS"))
    return HostProblem(
        f"Redis {'answers, and takes nothing' if refuses else 'does not answer'}: {words}.",
        mend="look at its disk, its memory and its role; its own log says more." if refuses
        else "start Redis, or correct CANONQ_REDIS_URL.",
        code="redis-unreachable",
    )  # fmt: skip


def no_redis() -> WrongConfiguration:
    """The error where work needs a Redis and none is configured: whoever answers on its usual port is not asked."""
    return WrongConfiguration(
        "No Redis is configured, and no `canonq up` runs on this state folder.",
        mend="set CANONQ_REDIS_URL or redis_url_file, or let `canonq up` run one.",
        code="redis-not-configured",
    )


class RecipeProblem(CanonqError):
    """The recipe's own files cannot be used as they are."""

    fault = Fault.RECIPE
    code = "recipe-problem"
    exit_status = ExitStatus.ATTENTION


class EnrolmentProblem(RecipeProblem):
    """What a run was told to do by the enrolment's own files cannot be done: red as the recipe's, and the person's to mend."""

    fault = Fault.ENROLMENT
    code = "enrolment-problem"


class BaseNotHealthy(CanonqError):
    """The upgrade base does not come up, so nothing is known of the release: an error and no red, for a person to look at."""

    fault = Fault.RECIPE
    code = "base-not-healthy"
    exit_status = ExitStatus.ATTENTION


class NotReadable(HostProblem):
    """Something is there that this user may not look into: what it says is unknown, and by that neither broken nor gone."""

    code = "state-not-readable"


class SyncFailed(HostProblem):
    """The upstream could not be read, or the mirror not brought in line; nothing is decided on stale tags (docs/rules.md 2).

    `cause` says which and why: `upstream-gone`, `upstream-denied`, `mirror-refused`, ...
    """

    code = "sync-failed"


class ForgeProblem(HostProblem):
    """The forge did not do what it was asked for. It tidies pull requests and shows statuses; nothing is decided by it."""

    code = "forge-failed"


def verdict_gone(recipe: str, run: str) -> HostProblem:
    """The error for a run whose verdict decides something and cannot be read."""
    return HostProblem(
        f"The verdict of run {run} of {recipe} cannot be read any more.",
        mend=f"`canonq test {recipe}` proves it again.",
        code="verdict-gone",
    )


class TagMoved(RecipeProblem):
    """A release tag names another commit than it did before; it is never followed silently."""

    code = "tag-moved"


def tag_moved(recipe: str, tag: str, was: str, now: str, more: int = 0) -> TagMoved:
    """The error for a tag that named the commit `was` and now names `now`; `more` others moved as well."""
    others = f" (and {more} more)" if more else ""
    return TagMoved(
        f"The tag {readable(tag)}{others} of {recipe} named {was[:12]} and now names {now[:12]}. It was not followed.",
        mend=f"ask upstream why; `canonq sync {recipe} --accept-moved TAG` accepts what the tag names now.",
    )


class RecordUnreadable(CanonqError):
    """`canonical.json` is there but cannot be read; it is left as it is."""

    code = "record-unreadable"


class LockLost(CanonqError):
    """The lease on a recipe's registry ended; whatever was under way must not be written. Redis forgot it, or the host slept."""

    fault = Fault.HOST
    code = "lock-lost"


class Busy(CanonqError):
    """Another process works on this recipe; an outcome, not a failure."""

    fault = Fault.HOST
    code = "busy"
    exit_status = ExitStatus.ATTENTION


class NoRoom(Busy):
    """There is no room on disk for the work; it is deferred (docs/rules.md 5.6)."""

    code = "disk-below-budget"


class StoppedByPerson(CanonqError):
    """A person stopped a run or a promotion; it says nothing about what was run."""

    fault = Fault.HOST
    code = "run-stopped"
    exit_status = ExitStatus.ATTENTION


class Interrupted(CanonqError):
    """A person stopped the command itself, by Ctrl-C or a signal."""

    fault = Fault.USER
    code = "interrupted"


def interrupted() -> Interrupted:
    """The error of a command that was stopped, whatever it was at."""
    return Interrupted("Stopped by Ctrl-C or a signal.")


class TimedOut(CanonqError):
    """A phase did not end within its limit."""

    code = "timed-out"


class RunOver(TimedOut):
    """The limit that an enrolment sets to a whole run is over: nothing of canonq's broke, and a person has to look."""

    fault = Fault.ENROLMENT
