"""Pictures of the app, fresh and after the upgrade, for people who look at a green run. They decide nothing."""

from __future__ import annotations

from collections.abc import Mapping

from canonq.adapters.network.forward import Forwarder
from canonq.adapters.network.screenshot import browser, take_picture
from canonq.core.errors import CanonqError
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.run import Run

FOLDER = "screenshots"


def keep_pictures(run: Run, stacks: Mapping[str, Running]) -> None:
    """Keep a picture of each stack (name of the file -> what runs); a trouble is a note. Not of code that nobody trusts."""
    health, world = run.enrolment.health, run.world
    if not world.settings.screenshots or health.kind != "http" or run.target.ref is not None or (program := browser()) is None:
        return
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
