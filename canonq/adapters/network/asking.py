"""Asking an app whether it answers: through the ingress where one is configured, else from inside its network."""

from __future__ import annotations

import secrets

from canonq.adapters.network.netns import judged
from canonq.core.enrolment import Health
from canonq.ports import Answer, Containers, Ingress


def ask(containers: Containers, ingress: Ingress | None, stack: str, health: Health, domain: str, timeout: float) -> Answer:
    """Ask once. Kinds other than http do not pass an ingress, so they are asked inside."""
    if ingress is None or health.kind != "http":
        return containers.probe(stack, health, domain, timeout)
    try:
        status, body = ingress.get(domain, health.path, timeout)
    except OSError as error:
        return Answer(False, f"the ingress gave no answer for {domain}: {error}", reached=False)
    answer = judged(health, status, body)
    if answer.ok and (status, body) == _answer_for_nobody(ingress, health, domain, timeout):
        return Answer(False, f"{domain}{health.path} answered {status}, as the ingress does for a domain that nobody has")
    return Answer(answer.ok, f"through the ingress, {domain}{answer.detail}", answer.reached, answer.status)


def _answer_for_nobody(ingress: Ingress, health: Health, domain: str, timeout: float) -> tuple[int, bytes] | None:
    """What the ingress says for a domain that nobody has: its own 404, mostly."""
    zone = domain.partition(".")[2]
    try:
        return ingress.get(f"canonq-nobody-{secrets.token_hex(3)}.{zone}", health.path, timeout)
    except OSError:
        return None
