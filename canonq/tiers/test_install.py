"""The install tier: the app is up, whole and answers (SPEC section 3)."""

from __future__ import annotations

from collections.abc import Callable

from canonq.tiers.plugin import DeployedApp

Steadily = Callable[[Callable[[], object]], None]


def test_all_services_run_at_their_replica_counts(app: DeployedApp, steadily: Steadily) -> None:
    def check() -> None:
        look = app.convergence()
        assert look.state == "converged", look.detail

    steadily(check)


def test_the_version_label_names_the_deployed_version(app: DeployedApp) -> None:
    assert app.deployed_version() == app.facts.version


def test_the_app_answers(app: DeployedApp, steadily: Steadily) -> None:
    def check() -> None:
        answer = app.answer()
        assert answer.ok, answer.detail

    steadily(check)
