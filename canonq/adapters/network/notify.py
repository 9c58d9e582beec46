"""Messages to people, by Apprise: Matrix, e-mail, ntfy, webhooks and a hundred others, each by an address of its own.

An address has a password or token in it as a rule: what is said of one is its channel, its number and its kind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import tomllib
from collections.abc import Iterator

from pydantic import TypeAdapter, ValidationError

from canonq.adapters.processes.preloaded import HOME
from canonq.adapters.processes.programs import read
from canonq.core.errors import HostProblem, TimedOut, WrongConfiguration
from canonq.core.jsontext import json_of
from canonq.core.masks import Masks
from canonq.core.report.messages import DEFAULT, calling_nobody
from canonq.core.text import beginning, readable
from canonq.settings import NotifySettings

_CHANNELS = TypeAdapter(dict[str, list[str]])
_LIMITS = {"cto": "10", "rto": "20"}  #: seconds for a connection, and for each piece of an answer
MOST = 60.0  #: seconds for a whole message


def channels(settings: NotifySettings | None) -> dict[str, list[str]]:
    """Channel -> addresses. WrongConfiguration says what is wrong with the file, and nothing of what is in it."""
    if settings is None:
        return {}
    found: dict[str, list[str]] = {}
    if (path := settings.channels_file) is not None:
        try:
            found = _CHANNELS.validate_python(tomllib.loads(path.read_text()), strict=True)
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            why = "is not text"
        except tomllib.TOMLDecodeError as error:
            why = f"is not TOML{_place(str(error))}"
        except ValidationError:
            why = "has something else than channels with lists of addresses"
        else:
            why = ""
        if why:
            raise WrongConfiguration(
                f"[notify] channels_file = {path} {why}.", mend='write lines such as default = ["ntfy://..."].', code="no-channel"
            )
    if settings.url is not None and settings.url.get_secret_value():
        found[DEFAULT] = settings.url.get_secret_value().split()
    return found


def _place(told: str) -> str:
    """Where in the file, and not what stands there."""
    found = re.search(r"\(at (?:line \d+, column \d+|end of document)\)", told)
    return f" {found[0]}" if found else ""


class Notifier:
    """Delivers messages to channels."""

    def __init__(self, settings: NotifySettings | None) -> None:
        self._channels = channels(settings)

    @property
    def names(self) -> list[str]:
        """The channels that there are."""
        return sorted(self._channels)

    def problem(self, channel: str, number: int, title: str, text: str) -> str | None:
        """Say something to one address of a channel; why it did not take it, None when it did."""
        listed = self._channels.get(channel, [])
        if not 1 <= number <= len(listed):
            return "there is no such address any more"
        return _say(listed[number - 1], title, text)

    def unknown(self, channel: str) -> list[int]:
        """The numbers of a channel's addresses that Apprise knows no service for; nobody is told anything."""
        return [number for number, one in enumerate(self._channels.get(channel, []), start=1) if not _is_known(one)]

    def addresses(self, channel: str) -> list[str]:
        """The kinds of a channel's addresses, such as ntfy; none for a channel that there is not."""
        return [readable(address.partition("://")[0][:20]) for address in self._channels.get(channel, [])]


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def _overheard() -> Iterator[_Heard]:
    """Whatever is logged meanwhile stays here: Apprise, and what it stands on, name addresses whole."""
    root, heard = logging.getLogger(), _Heard()
    before = root.handlers
    root.handlers = [heard]
    try:
        yield heard
    finally:
        root.handlers = before


def _say(address: str, title: str, text: str) -> str | None:
    """Why one address did not take a message; None when it did.

    A process of its own says it: of a service that answers a byte at a time no limit of Apprise's has an end, and others wait for
    who tells. What is secret goes by its standard input.
    """
    said = json.dumps([address, title, text]).encode()
    try:
        ended = read([sys.executable, "-m", __name__], timeout=MOST, stdin=said, env=os.environ, cwd=HOME)
        problem = json_of(ended.output) if ended.status == 0 else f"what sends messages ended with {ended.status}"
    except TimedOut:
        problem = f"it did not take it within {MOST:.0f} s"
    except (HostProblem, ValueError) as error:
        problem = f"what sends messages could not be asked: {error}"
    return None if problem is None else str(problem)


def _say_here(address: str, title: str, text: str) -> str | None:
    import apprise  # with what its services need, which only who has something to say needs

    logging.getLogger("apprise").setLevel(logging.WARNING)
    with _overheard() as heard:
        try:
            asset = apprise.AppriseAsset(app_id="canonq", app_desc="canonq", app_url="", image_url_mask="", async_mode=False)
            service = apprise.Apprise.instantiate(_limited(address), asset=asset, suppress_exceptions=True)
            if service is None:
                return "it is not an address that Apprise knows"
            body, head = calling_nobody(text), calling_nobody(title)
            if service.notify(body=body, title=head, body_format=apprise.NotifyFormat.TEXT):
                return None
        except Exception as error:  # noqa: BLE001 - a service's own fault is a delivery that failed
            heard.lines.append(f"{type(error).__name__}: {error}")
    told = Masks(("address", part) for part in _parts(address)).text(" ".join(heard.lines))
    return beginning(readable(told), 300) or "it did not take it"


def _is_known(address: str) -> bool:
    import apprise

    with _overheard():
        try:
            return apprise.Apprise.instantiate(_limited(address), suppress_exceptions=True) is not None
        except Exception:  # noqa: BLE001 - what it cannot even read is none
            return False


def _limited(address: str) -> str:
    more = "&".join(f"{key}={value}" for key, value in _LIMITS.items() if f"{key}=" not in address)
    return f"{address}{'&' if '?' in address else '?'}{more}" if more else address


def _parts(address: str) -> list[str]:
    """What may be secret in an address: all but its kind and its host."""
    _, _, rest = address.partition("://")
    login, _, place = rest.rpartition("@")
    host = re.split(r"[/?#]", place)[0]
    parts = re.split(r"[:@/?&=#,]", login) + re.split(r"[/?&=#,]", place[len(host) :])
    return [part for part in (*parts, *([] if login or "." in host else [host])) if part]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_say_here(*json_of(sys.stdin.read()))))
