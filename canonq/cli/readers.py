"""Who reads may go, as `| head -1` and a closed terminal do: that ends no work and changes no exit status.

What cannot be written for another reason, as on a full disk, ends no work either, and is told when that is done.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import Any, TextIO


class _Output(io.FileIO):
    """Writes to a descriptor; once nobody reads there any more, or nothing can be written, to nowhere."""

    unread = False
    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self._is_left(error):
                self.unread = True
            else:
                self.lost = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes

    def _is_left(self, error: OSError) -> bool:
        if error.errno == errno.EIO:  # of a terminal that was closed, and not of a disk that breaks
            return stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
        return error.errno == errno.EPIPE


class Readers:
    """Of this process' standard output and error."""

    def __init__(self) -> None:
        self._out: _Output | None = None

    def install(self) -> None:
        """From now on nobody has to read to the end, nor at all."""
        _hold()
        if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
            sys.stdout, self._out = _instead_of(sys.__stdout__)
        if sys.__stderr__ is not None and sys.stderr is sys.__stderr__:
            sys.stderr, _ = _instead_of(sys.__stderr__)

    def left(self) -> bool:
        """Whether what was printed last reached nobody: what only shows something ends then."""
        return self._out is not None and self._out.unread

    def lost(self) -> OSError | None:
        """Why what was printed on standard output could not be written; None where nothing was lost."""
        sys.stdout.flush()
        return self._out.lost if self._out is not None else None


def _hold() -> None:
    """Descriptors that whoever started us has closed lead nowhere: else the next file that is opened gets what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            raw = io.FileIO(number, "w" if number else "r", closefd=False)
            stream = io.TextIOWrapper(io.BufferedWriter(raw) if number else io.BufferedReader(raw), "utf-8")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _instead_of(stream: TextIO) -> tuple[io.TextIOWrapper, _Output]:
    stream.flush()
    output = _Output(stream.fileno(), "w", closefd=False)
    # What the encoding has not is written as its number: a name from somewhere else ends no command.
    errors = "backslashreplace" if stream.errors == "strict" else stream.errors
    # A line is out as soon as it is printed: what was left unprinted to the end would find its reader gone too late to be known.
    return io.TextIOWrapper(io.BufferedWriter(output), stream.encoding, errors, write_through=True), output


readers = Readers()
