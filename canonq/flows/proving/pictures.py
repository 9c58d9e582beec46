"""Pictures of the app, fresh and after the upgrade, for people who look at a green run. They decide nothing.

Each is taken when all that is asked of its stack was asked, and the run goes on meanwhile.
"""

from __future__ import annotations

import threading
from contextvars import copy_context

from canonq.adapters.network.forward import Forwarder
from canonq.adapters.network.screenshot import browser, take_picture
from canonq.core.errors import CanonqError
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.run import Run

FOLDER = "screenshots"


def begin_picture(run: Run, name: str, running: Running) -> None:
    """Begin to take a picture of a stack that nobody asks anything any more, to be kept under that name; a trouble is a note. Not
    of code that nobody trusts."""
    health, world = run.enrolment.health, run.world
    if not world.settings.screenshots or health.kind != "http" or run.target.ref is not None or (program := browser()) is None:
        return

    def take() -> None:
        try:
            trouble = _picture(run, program, running, name)
        except (CanonqError, OSError) as error:
            trouble = str(getattr(error, "what", error))
        if trouble:
            run.account.notes.append(f"no-screenshot: none was taken of the {name} stack: {trouble}")

    # It is stopped by whoever stops the run.
    thread = threading.Thread(target=copy_context().run, args=(take,), daemon=True, name=f"picture-{name}")
    thread.start()
    run.pictures.append(thread)


def await_pictures(run: Run) -> None:
    """Wait for those that were begun: their stacks are to be removed."""
    if run.pictures:
        with run.account.timed("screenshots"):
            while run.pictures:
                run.pictures.pop().join()


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
