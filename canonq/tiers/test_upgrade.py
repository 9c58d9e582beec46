"""The upgrade tier: the target really runs, in place, with the data kept (docs/rules.md 3)."""

from __future__ import annotations

from collections.abc import Sequence

from canonq.tiers.app import DeployedApp, Look


def test_the_version_label_moved_to_the_target(app: DeployedApp) -> None:
    assert app.facts.base != app.facts.version
    assert app.deployed_version() == app.facts.version


def test_the_commit_label_moved_to_the_target(app: DeployedApp) -> None:
    assert app.deployed_commit() == app.facts.commit


def test_every_service_runs_the_image_of_the_target(app: DeployedApp) -> None:
    services, _ = app.observe()
    assert {service.name: service.image for service in services} == app.facts.images


def test_no_update_was_rolled_back(app: DeployedApp) -> None:
    services, _ = app.observe()
    states = {service.name: service.update for service in services}
    assert not [name for name, state in states.items() if state and state.startswith("rollback")], states


def test_only_tasks_of_the_target_run(looks: Sequence[Look]) -> None:
    for look in looks:
        stale = [task for task in look.tasks if task.state == "running" and task.desired == "running" and not task.current]
        assert not stale, [task.service for task in stale]
        assert look.convergence.state == "converged", look.convergence.detail


def test_the_app_answers_after_the_upgrade(looks: Sequence[Look]) -> None:
    for look in looks:
        assert look.answer.ok, look.answer.detail


def test_data_written_before_the_upgrade_is_there(app: DeployedApp) -> None:
    assert app.facts.lost is not None
    assert not app.facts.lost, f"what was written before the upgrade is gone: {', '.join(app.facts.lost)}"
