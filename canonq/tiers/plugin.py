"""The pytest plugin that gives a tier's tests the deployed app. Its facts come from the file CANONQ_TIER names."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.ingress import HttpIngress
from canonq.core.convergence import Convergence, Service, Task, judge
from canonq.core.deployable import version_label
from canonq.core.enrolment import Health
from canonq.ports import Answer
from canonq.settings import IngressSettings

VARIABLE = "CANONQ_TIER"


class TierFacts(BaseModel):
    """What a tier's tests are told. No secret is among it."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    stack: str
    domain: str
    version: str  #: the version that is deployed now
    base: str | None  #: the version that was deployed before it, in the upgrade tier
    health: Health
    ingress: IngressSettings | None
    markers: dict[str, str] = {}  #: volume -> what was written into it before the upgrade


@dataclass(frozen=True)
class DeployedApp:
    """The running app, as tests see it."""

    facts: TierFacts
    engine: SwarmEngine

    def observe(self) -> tuple[list[Service], list[Task]]:
        """Services and tasks as they are now."""
        return self.engine.observe(self.facts.stack)

    def convergence(self) -> Convergence:
        """How far the stack is now."""
        return judge(*self.observe())

    def deployed_version(self) -> str | None:
        """The version that the app service's label names."""
        services, _ = self.observe()
        app = next((service for service in services if service.name == "app"), None)
        return (app.labels or {}).get(version_label(self.facts.stack)) if app else None

    def answer(self) -> Answer:
        """Ask the app as the enrolment says: through the ingress when there is one, else from inside."""
        if self.facts.ingress is None or self.facts.health.kind != "http":
            return self.engine.probe(self.facts.stack, self.facts.health, self.facts.domain, 10)
        status, _ = HttpIngress(self.facts.ingress).get(self.facts.domain, self.facts.health.path, 10)
        return Answer(status in self.facts.health.status, f"the ingress answered {status}")

    def found_markers(self) -> dict[str, str]:
        """Volume -> marker that is in it now."""
        return self.engine.find_markers(self.facts.stack)


@pytest.fixture(scope="session")
def app() -> DeployedApp:
    """The app under test."""
    facts = TierFacts.model_validate_json(Path(os.environ[VARIABLE]).read_text())
    return DeployedApp(facts, SwarmEngine())


@pytest.fixture
def steadily() -> Callable[[Callable[[], object]], None]:
    """Repeat a check on several looks in a row, so that a passing state is not taken for the lasting one."""

    def repeat(check: Callable[[], object]) -> None:
        for look in range(3):
            if look:
                time.sleep(0.15)
            check()

    return repeat


def write_facts(path: Path, facts: TierFacts) -> None:
    """Hand facts to the tests' process."""
    path.write_text(json.dumps(facts.model_dump(mode="json"), indent=1))
