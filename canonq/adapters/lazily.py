"""Modules that are imported when something of them is first asked for: most commands need no Docker and no Redis."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["docker", "http", "redis", "requests"]


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
