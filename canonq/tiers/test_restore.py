"""The restore tier: from destroyed data back to what was there (docs/rules.md 3)."""

from __future__ import annotations

from collections.abc import Sequence

from canonq.tiers.app import DeployedApp, Look
from canonq.tiers.facts import BackupFacts


def restored(app: DeployedApp) -> BackupFacts:
    assert app.facts.backup is not None
    return app.facts.backup


def test_the_restore_began_with_destroyed_data(app: DeployedApp) -> None:
    assert not restored(app).still_there, "still there before the restore: " + ", ".join(map(str, restored(app).still_there))


def test_every_restore_hook_succeeded(app: DeployedApp) -> None:
    failed = [hook for hook in restored(app).hooks if hook.status != 0]
    assert not failed, "; ".join(f"{hook.label} of '{hook.service}' exited with {hook.status}: {hook.output}" for hook in failed)


def test_all_services_run_after_the_restore(looks: Sequence[Look]) -> None:
    for look in looks:
        assert look.convergence.state == "converged", look.convergence.detail


def test_the_app_answers_after_the_restore(looks: Sequence[Look]) -> None:
    for look in looks:
        assert look.answer.ok, look.answer.detail


def test_the_destroyed_data_is_back(app: DeployedApp) -> None:
    assert app.facts.lost is not None
    assert not app.facts.lost, f"the restore did not bring back what was destroyed: {', '.join(app.facts.lost)}"
