"""Lengths of time and sizes as people type them. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import ByteSize, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from canonq.core.errors import WrongUse
from canonq.core.text import shown

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LARGEST = 2**60  #: bytes


def _finite(said: object, read: ValidatorFunctionWrapHandler) -> ByteSize:
    """A size within reason: the library raises no error of its own for one beyond all numbers."""
    if isinstance(said, bool):  # which is a number to Python
        raise PydanticCustomError("byte_size", "")
    try:
        found = ByteSize(read(said))
    except OverflowError:
        found = ByteSize(_LARGEST + 1)
    if found > _LARGEST:
        raise ValueError("must be 1 EiB or less")
    return found


Size = Annotated[ByteSize, WrapValidator(_finite)]  #: 2 GiB, 500 MB, or bytes
_LENGTH = re.compile(r"([0-9]{1,6})([smhd])")


def seconds_in(text: str, *, most: float) -> float:
    """Seconds of a length such as 90s, 30m, 4h or 2d, `most` of them at the most. WrongUse for anything else."""
    found = _LENGTH.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise WrongUse(f"{shown(text)} is not a length of time.", mend="write it as 30m, 4h or 2d.", code="bad-duration")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > most:
        raise WrongUse(f"{shown(text)} is too long.", mend=f"at most {most / 86400:g}d can be had.", code="bad-duration")
    return float(seconds)


def bytes_in(text: str) -> int:
    """Bytes of a size such as 16 GiB, 500 MB or 1024. WrongUse for anything else."""
    try:
        return int(TypeAdapter(Size).validate_python(text))
    except ValidationError:
        raise WrongUse(f"{shown(text)} is no size.", mend="write it as 16 GiB or 500 MB.", code="bad-size") from None
