"""The backup tier: what was captured is what the labels name, is not empty, is whole and holds the marker (docs/rules.md 3)."""

from __future__ import annotations

from canonq.tiers.app import DeployedApp
from canonq.tiers.facts import BackupFacts


def taken(app: DeployedApp) -> BackupFacts:
    assert app.facts.backup is not None
    return app.facts.backup


def test_the_backup_labels_mean_something(app: DeployedApp) -> None:
    assert not taken(app).problems, "; ".join(taken(app).problems)


def test_every_backup_hook_succeeded(app: DeployedApp) -> None:
    failed = [hook for hook in taken(app).hooks if hook.status != 0]
    assert not failed, "; ".join(f"{hook.label} of '{hook.service}' exited with {hook.status}: {hook.output}" for hook in failed)


def test_every_part_was_captured_and_is_not_empty(app: DeployedApp) -> None:
    assert taken(app).captured, "nothing was captured: every volume is excluded, or the services have none"
    parts = [part for part in taken(app).captured if not part.may_be_empty]
    empty = [part for part in parts if not part.files or not (part.bytes or part.whole)]
    assert not empty, "; ".join(f"{part.path} of '{part.service}' is empty or not there" for part in empty)


def test_no_part_breaks_off(app: DeployedApp) -> None:
    broken = [f"{part.path} of '{part.service}': {problem}" for part in taken(app).captured for problem in part.problems]
    assert not broken, "; ".join(broken)


def test_the_marker_is_in_the_artifact(app: DeployedApp) -> None:
    lacking = [
        f"{part.path} of '{part.service}'" for part in taken(app).captured if not set(part.expected_marks) <= set(part.marks)
    ]
    assert not lacking, f"data written before the backup is not in {', '.join(lacking)}"
