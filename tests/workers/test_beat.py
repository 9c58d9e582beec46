"""Beat goes on after a clock that was ahead, and a night has one name whoever asks and whenever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import workers.webhook
from beat_schedule import night_before, the_night_before
from canonq.settings import Settings, WebhookSettings
from workers.beat import NightlyScheduler
from workers.factory import make_app, say_what_runs


def scheduler(tmp_path: Path) -> NightlyScheduler:
    app = make_app(Settings(state=tmp_path, redis_url="redis://127.0.0.1:1/0"))
    assert app.conf.beat_scheduler == "workers.beat:NightlyScheduler"
    return NightlyScheduler(app, schedule_filename=str(tmp_path / "beat-schedule"))


@pytest.mark.parametrize(("ahead", "mended"), [(400 * 86400, True), (3600, True), (1, False), (-86400, False)])
def test_a_last_run_of_the_future_is_forgotten_at_the_start_and_while_beat_runs(tmp_path: Path, ahead: int, mended: bool) -> None:
    first = scheduler(tmp_path)
    entry = first.schedule["nightly-sweep"]
    entry.last_run_at = entry.default_now() + timedelta(seconds=ahead)
    first.close()
    again = scheduler(tmp_path)
    assert again.forget_the_future() == (["nightly-sweep"] if mended else [])
    assert again.schedule["nightly-sweep"].last_run_at <= again.schedule["nightly-sweep"].default_now() + timedelta(seconds=5)
    assert again.forget_the_future() == []
    again.close()


def test_beat_may_be_the_first_to_begin_on_a_new_host(tmp_path: Path) -> None:
    begun = scheduler(tmp_path / "state")
    assert "nightly-sweep" in begun.schedule
    begun.close()


@pytest.mark.parametrize(
    ("nightly", "now", "due"),
    [
        ("0 3 * * *", "2026-06-17 03:00:00", "2026-06-17 03:00"),
        ("0 3 * * *", "2026-06-17 08:59:59", "2026-06-17 03:00"),
        ("0 3 * * *", "2026-06-17 02:59:59", "2026-06-16 03:00"),
        ("30 1,13 * * *", "2026-06-17 12:00:00", "2026-06-17 01:30"),
        ("0 3 * * sun", "2026-06-17 12:00:00", "2026-06-14 03:00"),
        ("0 3 1 * *", "2026-06-17 12:00:00", "2026-06-01 03:00"),
        ("0 3 29 2 *", "2026-06-17 12:00:00", "2024-02-29 03:00"),
    ],
)
def test_a_night_is_called_after_the_time_at_which_it_was_due(nightly: str, now: str, due: str) -> None:
    found = night_before(datetime.fromisoformat(now).replace(tzinfo=UTC), nightly)
    assert found == datetime.fromisoformat(due).replace(tzinfo=UTC)


def test_the_night_before_another_is_the_one_that_was_due_before_it() -> None:
    assert the_night_before("20260617T030000Z") == "20260616T030000Z"
    assert the_night_before("20260615T030000Z", "0 3 * * 1") == "20260608T030000Z"


def test_a_process_says_which_checkout_it_works_with_or_why_it_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkout").mkdir()
    (tmp_path / "secret").write_text("signs-what-is-pushed")
    monkeypatch.setattr(workers.webhook, "_serve", lambda *_: None)
    monkeypatch.setattr("asyncio.run", lambda _: None)
    served = Settings(
        repo=tmp_path / "checkout",
        state=tmp_path / "state",
        redis_url="redis://127.0.0.1:1/0",
        webhook=WebhookSettings(secret_file=tmp_path / "secret"),
    )
    workers.webhook.serve(served)
    assert f"Checkout {tmp_path / 'checkout'} (not a git checkout), state {tmp_path / 'state'}" in caplog.text
    say_what_runs(Settings(repo=tmp_path / "nowhere", state=tmp_path / "state"))
    assert f"The checkout {tmp_path / 'nowhere'} (CANONQ_REPO) does not exist" in caplog.text
