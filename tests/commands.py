"""The process that others are forked of (`tests.forks`): `python -m tests.commands`."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import itertools
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import celery.__main__
import celery.bin.celery
import docker
import redis
import requests

import canonq
from canonq.adapters.host import UPKEEP, Host
from canonq.adapters.pages import render
from canonq.adapters.processes.preloaded import die_with, keep_shared, leave, serve
from canonq.adapters.processes.programs import begun
from canonq.cli import main as canonq_typed
from canonq.settings import load_settings
from canonq.tiers import runner
from tests.forks import COMMANDS, LARGEST, forked, of
from workers import supervise
from workers.tree import OF_A_WORKER

#: What the modules of commands import when they need it.
_LATER = (docker, redis, requests)
_PROGRAMS: dict[str, Callable[[], object]] = {"canonq": canonq_typed, "celery": celery.__main__.main}


def import_all() -> None:
    """Import all that a fork may come to need, but what reads the settings while it is imported: the app is made of them.
    Nor the tests of tiers, which pytest itself has to load.
    """
    for module in pkgutil.walk_packages(canonq.__path__, "canonq."):
        if module.name not in ("canonq.__main__", "canonq.celery") and not module.name.startswith("canonq.tiers.test_"):
            importlib.import_module(module.name)
    for name in OF_A_WORKER:
        if name != "workers.upkeep":
            importlib.import_module(name)
    runner.prepare()
    render.prepare()
    assert "workers.app" not in sys.modules, "a command's own settings would not be read"


class Origin:
    """Forks what it is asked for, and knows how each of them ended."""

    def __init__(self, answering: socket.socket, ends: socket.socket) -> None:
        self._answering, self._ends = answering, ends
        self._numbers = itertools.count()
        self._living: dict[int, int] = {}  #: process -> its number, which no other ever has
        self._statuses: dict[int, int] = {}

    def fork(self) -> None:
        """Do so until whoever tests has ended; then nothing of it lives on."""
        died, tells = os.pipe()
        os.set_blocking(tells, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(tells)
        while True:
            ready = select.select([self._answering.fileno(), self._ends.fileno(), died], [], [])[0]
            if self._ends.fileno() in ready:
                return
            if died in ready:
                os.read(died, 1 << 16)
            self._reap()
            if self._answering.fileno() in ready:
                raw, given, _, _ = socket.recv_fds(self._answering, LARGEST, 8)
                with socket.socket(fileno=given[0]) as back, contextlib.suppress(BrokenPipeError):
                    self._answer(json.loads(raw), back, given[1:])

    def _reap(self) -> None:
        for pid, number in list(self._living.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._living[pid]
                self._statuses[number] = os.waitstatus_to_exitcode(status)

    def _answer(self, orders: Mapping[str, Any], back: socket.socket, given: list[int]) -> None:
        if "status" in orders:
            back.send(json.dumps({"status": self._statuses[orders["status"]]}).encode())
            return
        us, pid = os.getpid(), os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._answering, self._ends, back):
                end.close()
            leave(_become, orders, given, us)
        number = self._living[pid] = next(self._numbers)
        handle = os.pidfd_open(pid)
        for one in given:
            os.close(one)
        try:
            socket.send_fds(back, [json.dumps({"number": number, "pid": pid}).encode()], [handle])
        finally:
            os.close(handle)


# -- forks --------------------------------------------------------------------------------------------------


def _become(orders: Mapping[str, Any], given: Sequence[int], origin: int) -> int:
    os.setsid()
    os.environ.clear()
    os.environ.update(orders["env"])
    os.chdir(orders["cwd"])
    if (module := orders.get("serve")) is not None:  # until nobody can ask it any more
        sys.argv = [module, str(given[0])]
        return serve({"typed": typed} if module == COMMANDS else importlib.import_module(module).CALLS)
    die_with(origin)
    os.dup2(given[0], 1)
    os.dup2(given[0], 2)
    os.close(given[0])
    if "upkeep" in orders:
        _keep_up(orders["upkeep"], given[1])
    _be(*orders["program"])
    return 0


def typed(command: Sequence[str], errors: str) -> int:
    """What typing it does; standard error goes to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    begun()
    _be(*command)
    return 0


def _first() -> None:
    """What a test has its processes do before anything else."""
    for module in os.environ.get("TESTS_FIRST", "").split():
        importlib.import_module(module).first()


def _be(name: str, *arguments: str) -> None:
    supervise.start = _start_upkeep  # before anybody imports the app, which takes it from there
    _first()
    sys.argv = [name, *arguments]
    begin = _PROGRAMS.get(name) or importlib.import_module(name).main
    begin()


def _start_upkeep() -> None:
    turn = Host(load_settings().state.absolute() / "locks").lock_file(UPKEEP)
    worker = os.pidfd_open(os.getpid())
    forked({"upkeep": str(turn), "env": dict(os.environ), "cwd": str(Path.cwd())}, 2, worker)
    os.close(worker)


def _keep_up(turn: str, worker: int) -> NoReturn:
    """What `workers.supervise` starts: it waits for its turn, and ends with its worker, however that ends."""

    def end_with_it() -> None:
        select.select([worker], [], [])
        os._exit(1)

    _first()
    threading.Thread(target=end_with_it, daemon=True).start()
    time.sleep(supervise.START_AFTER)
    fcntl.flock(os.open(turn, os.O_RDWR | os.O_CREAT, 0o644), fcntl.LOCK_EX)
    importlib.import_module("workers.upkeep").main()
    raise AssertionError("it goes on for ever")


if __name__ == "__main__":
    import_all()
    asking, answering, ends = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    of(asking)
    keep_shared()
    Origin(answering, ends).fork()
