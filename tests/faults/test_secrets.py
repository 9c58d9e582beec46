"""No secret in what a promotion, a restore or a run that was killed leaves behind or says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.redis_server import embedded_redis
from canonq.core.errors import WrongConfiguration
from canonq.flows.keeping.room import tidy
from canonq.flows.promoting.restore import restore
from tests.faults.scenario import RECIPE, Scenario


@pytest.fixture(scope="module")
def scenario() -> Iterator[Scenario]:
    """One canonical."""
    with embedded_redis() as url, tempfile.TemporaryDirectory() as folder:
        made = Scenario(Path(folder), url).prepare()
        made.prove()
        assert made.promote().outcome == "promoted"
        yield made


STEPS = """set -ex
pw=made-up-for-$STACK_NAME
echo "MADE_UP_PASSWORD=$pw" >> "$APP_ENV"
echo "admin=$ADMIN_PASSWORD" > app.ini
case "$STACK_NAME" in warm-*|look) exit 1;; esac
"""


@pytest.mark.long
def test_what_fails_at_the_warm_domain_or_in_a_restore_says_no_secret(scenario: Scenario) -> None:
    folder = scenario.root / "checkout" / "tests" / RECIPE
    toml = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(f"{toml}[env]\nADMIN_PASSWORD = 'correct horse & battery'\n")
    (folder / "install_steps.sh").write_text(STEPS)
    scenario.prove()
    promoted = scenario.promote()
    with pytest.raises(WrongConfiguration) as told:
        restore(scenario.world(), RECIPE, "look")
    for said in (promoted.detail, str(told.value)):
        assert "install_steps.sh ended with status 1" in said
        assert "***ADMIN_PASSWORD***" in said
        assert "***MADE_UP_PASSWORD***" in said
    kept = [path for path in scenario.state.rglob("*") if path.is_file() and "secrets" not in path.name]
    for text in (promoted.model_dump_json(), repr(told.value), *(path.read_text(errors="replace") for path in kept)):
        assert "correct horse" not in text
        assert "made-up-for-" not in text


def test_what_a_killed_run_had_kept_is_masked_before_its_secrets_are_forgotten(scenario: Scenario) -> None:
    world = scenario.world()
    run = world.new_id(RECIPE)
    kept, work = world.runs.make(RECIPE, run), world.work / run
    (kept / "install").mkdir()
    (kept / "install" / "pytest.log").write_text("logged in with hunter2-hunter2, token neighbours-own\n")
    (kept / "page.html").write_text("<p>so-made-up</p>")
    (kept / "picture").write_bytes(b"\0hunter2-hunter2")
    for app, secrets in (("app", {"db_password": "hunter2-hunter2"}), ("dep-other/app", {"token": "neighbours-own"})):
        (work / app).mkdir(parents=True)
        (work / app / "secrets.json").write_text(json.dumps(secrets))
    (work / "app" / "app.env").write_text('ADMIN_PASSWORD="so-made-up"\n')
    tidy(world)
    assert not work.exists()
    assert (kept / "install" / "pytest.log").read_text() == "logged in with ***db_password***, token ***token***\n"
    assert (kept / "page.html").read_text() == "<p>***ADMIN_PASSWORD***</p>"
    assert (kept / "picture").read_bytes() == b"\0hunter2-hunter2", "what is no text is left as it is"
