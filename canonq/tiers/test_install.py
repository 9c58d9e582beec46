"""The install tier: the app is up, whole and answers (docs/rules.md 3)."""

from __future__ import annotations

from collections.abc import Sequence

from canonq.tiers.app import DeployedApp, Look


def test_all_services_run_at_their_replica_counts(looks: Sequence[Look]) -> None:
    for look in looks:
        assert look.convergence.state == "converged", look.convergence.detail


def test_the_version_label_names_the_deployed_version(app: DeployedApp) -> None:
    assert app.deployed_version() == app.facts.version


def test_the_commit_label_names_the_deployed_commit(app: DeployedApp) -> None:
    assert app.deployed_commit() == app.facts.commit


def test_every_service_runs_the_image_of_its_release(app: DeployedApp) -> None:
    services, _ = app.observe()
    assert {service.name: service.image for service in services} == app.facts.images


def test_the_app_answers(looks: Sequence[Look]) -> None:
    for look in looks:
        assert look.answer.ok, look.answer.detail
