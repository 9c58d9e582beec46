"""Pictures of an app's page, taken by a Chromium of this host that sees nothing but the app.

What a page says is run by the browser: so it is nobody's process with the browser's own sandbox around it, every name but the
app's leads nowhere (addresses too), and of its folder only a picture is read, as one.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from canonq.adapters.files import write_durably
from canonq.adapters.processes.programs import run
from canonq.core.errors import CanonqError

#: The shell that has no window starts in less than half the time.
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_NOBODY = 65534
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 8 << 20  #: bytes
_SETTLES = 5000  #: milliseconds of the page's own time until it is taken
_LIMIT = 60.0  #: seconds


def browser() -> str | None:
    """The browser of this host; None without one."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


def take_picture(program: str, url: str, leads_to: str, path: Path) -> str | None:
    """Keep a picture of `url` at `path`; what went wrong, or None. `leads_to`: host:port for which the URL's own host stands."""
    with tempfile.TemporaryDirectory(prefix="canonq-picture-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        try:
            ended = run(
                [*_as_nobody(), program, *_options(folder, leads_to, url), url],
                timeout=_LIMIT, cwd=folder, env={"HOME": name, "PATH": os.environ.get("PATH", os.defpath)}, strangers=True,
            )  # fmt: skip
            found = _read(folder / "picture.png")
        except (CanonqError, OSError) as error:
            return str(getattr(error, "what", error))
        if found is None:
            return f"{program} ended with {ended.status} and left no picture"
        write_durably(path, found)
        return None


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs"]


def _options(folder: Path, leads_to: str, url: str) -> list[str]:
    host = url.partition("://")[2].partition("/")[0]
    return [
        "--headless=new", "--no-first-run", "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--window-size=1280,800",
        "--disable-background-networking", "--disable-component-update", "--ignore-certificate-errors",
        f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules=MAP {host} {leads_to}, MAP * ~NOTFOUND",
        f"--virtual-time-budget={_SETTLES}", f"--screenshot={folder / 'picture.png'}",
    ]  # fmt: skip


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode) or told.st_size > _LARGEST:
            return None
        content = file.read(_LARGEST)
    return content if content.startswith(_PNG) else None
