"""Pictures of the app, fresh and after the upgrade, for people who look at a green run. They decide nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial

from canonq.adapters.network.forward import Forwarder
from canonq.adapters.network.screenshot import browser, take_picture
from canonq.adapters.processes.stopping import meanwhile
from canonq.core.errors import CanonqError
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.run import Run

FOLDER = "screenshots"


@contextlib.contextmanager
def pictures_of(run: Run, stacks: Mapping[str, Running]) -> Iterator[None]:
    """Keep a picture of each stack (name of the file -> what runs) while the block goes on with the run; a trouble is a note. Not
    of code that nobody trusts."""
    wanted = bool(stacks) and run.world.settings.screenshots and run.target.ref is None and run.enrolment.health.kind == "http"
    if not wanted or (program := browser()) is None:
        yield
        return
    with meanwhile("pictures", partial(_keep, run, program, stacks)):
        yield


def _keep(run: Run, program: str, stacks: Mapping[str, Running]) -> None:
    with run.account.timed("screenshots"):
        for name, running in stacks.items():
            try:
                trouble = _picture(run, program, running, name)
            except (CanonqError, OSError) as error:
                trouble = str(getattr(error, "what", error))
            if trouble:
                run.account.notes.append(f"no-screenshot: none was taken of the {name} stack: {trouble}")


def _picture(run: Run, program: str, running: Running, name: str) -> str | None:
    folder, domain, health = run.folder / FOLDER, running.identity.domain, run.enrolment.health
    folder.mkdir(exist_ok=True)
    ingress = run.world.settings.ingress
    if ingress is not None:
        host, port = ingress.host_and_port
        return take_picture(program, f"{ingress.scheme}://{domain}{health.path}", f"{host}:{port}", folder / f"{name}.png")
    stack = running.stack.stack
    forwarder = Forwarder(lambda: run.world.containers.process_of(stack, health.service), health.port)
    try:
        return take_picture(program, f"http://{domain}{health.path}", f"127.0.0.1:{forwarder.port}", folder / f"{name}.png")
    finally:
        forwarder.close()
