"""The upgrade tier: the target really runs, in place, with the data kept (SPEC section 3)."""

from __future__ import annotations

from collections.abc import Callable

from canonq.tiers.plugin import DeployedApp

Steadily = Callable[[Callable[[], object]], None]


def test_the_version_label_moved_to_the_target(app: DeployedApp) -> None:
    assert app.facts.base != app.facts.version
    assert app.deployed_version() == app.facts.version


def test_no_update_was_rolled_back(app: DeployedApp) -> None:
    services, _ = app.observe()
    states = {service.name: service.update for service in services}
    assert not [name for name, state in states.items() if state and state.startswith("rollback")], states


def test_only_tasks_of_the_target_run(app: DeployedApp, steadily: Steadily) -> None:
    def check() -> None:
        _, tasks = app.observe()
        stale = [task for task in tasks if task.state == "running" and task.desired == "running" and not task.current]
        assert not stale, [task.service for task in stale]
        look = app.convergence()
        assert look.state == "converged", look.detail

    steadily(check)


def test_the_app_answers_after_the_upgrade(app: DeployedApp, steadily: Steadily) -> None:
    def check() -> None:
        answer = app.answer()
        assert answer.ok, answer.detail

    steadily(check)


def test_data_written_before_the_upgrade_is_there(app: DeployedApp) -> None:
    found = app.found_markers()
    lost = {volume for volume, marker in app.facts.markers.items() if found.get(volume) != marker}
    assert not lost, f"the marker is gone from {', '.join(sorted(lost))}"
