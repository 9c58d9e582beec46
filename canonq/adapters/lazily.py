"""What is imported, or made, when something of it is first asked for: most commands need no Docker and no Redis."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

__all__ = ["docker", "http", "later", "redis", "requests"]

_T = TypeVar("_T")


class _Later:
    """Stands for a module, and imports it when it is looked into.

    The module itself is imported as any other. One that stood there already, but empty (importlib's LazyLoader),
    would have its submodules loaded twice by whoever imports one of these: two classes of each exception, and nobody catches the
    other's.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


class _Made:
    """Stands for an object, and has it made when something of it is asked for."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    @functools.cached_property
    def _made(self) -> object:
        return self._make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def later(make: Callable[[], _T]) -> _T:
    """What `make` makes, made when something of it is first asked for."""
    return cast(_T, _Made(make))


if TYPE_CHECKING:
    import docker
    import docker.errors
    import docker.types
    import redis
    import redis.exceptions
    import redis.lock
    import requests

    from canonq.adapters.network import http
else:
    docker, redis, requests = map(_Later, ("docker", "redis", "requests"))
    http = _Later("canonq.adapters.network.http")  # a class of it is one of the library's
