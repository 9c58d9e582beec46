"""The guestbook's own tests: what a visitor does."""

from __future__ import annotations

from canonq.tiers.app import DeployedApp

ENTRIES = "/cgi-bin/entries"


def test_an_entry_can_be_written_and_read(app: DeployedApp) -> None:
    assert app.http.post(ENTRIES, form={"name": "Ada", "message": "it's here"}).status < 300
    assert "Ada\tit's here" in app.http.get(ENTRIES).text


def test_the_password_is_the_one_that_was_generated(app: DeployedApp) -> None:
    password = app.secret("db_password")
    asked = app.exec("app", "sh", "-c", 'PGPASSWORD=$(cat "$DB_PASSWORD_FILE") psql -tAc "SELECT 1"')
    assert len(password) == 32
    assert asked.output.strip() == "1"


def test_the_database_keeps_its_data_in_the_volume(app: DeployedApp) -> None:
    assert app.volume("postgres_data").read("pgdata/PG_VERSION").strip() == b"15"
