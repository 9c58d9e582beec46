"""Settings: what wins, what is refused, and what an empty variable means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, StringConstraints

from canonq.adapters.state.locks import redis_client
from canonq.core.errors import WrongConfiguration
from canonq.settings import _PATTERNS, _TABLES, IngressSettings, RegistryLimit, Settings, load_settings
from workers.factory import make_app


@pytest.fixture(autouse=True)
def no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "canonq.toml"
    path.write_text("")
    monkeypatch.setenv("CANONQ_CONFIG", str(path))
    return path


def test_a_variable_wins_over_the_file(no_file_of_this_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_file_of_this_machine.write_text('keep = 5\nzone = "file.test"\n')
    monkeypatch.setenv("CANONQ_KEEP", "3")
    settings = load_settings()
    assert (settings.keep, settings.zone) == (3, "file.test")


def test_an_empty_variable_counts_as_not_set(no_file_of_this_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_file_of_this_machine.write_text("keep = 5\n")
    for name in ("CANONQ_KEEP", "CANONQ_NIGHTLY", "CANONQ_INGRESS__SCHEME", "CANONQ_INGRESS__ADDRESS", "CANONQ_REDIS_URL"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.keep, settings.nightly, settings.ingress, settings.broker_url()) == (5, None, None, None)


@pytest.mark.parametrize("written", [b'zone = "\xff"', b"\xff\xfez\x00", b"keep = " + b"[" * 5000, b"keep ="])
def test_a_file_that_is_no_text_or_no_toml_is_a_wrong_configuration(no_file_of_this_machine: Path, written: bytes) -> None:
    no_file_of_this_machine.write_bytes(written)
    with pytest.raises(WrongConfiguration, match=r"canonq\.toml is not TOML"):
        load_settings()


@pytest.mark.parametrize("times", ["99 3 * * *", "a b c d e", "0 3 * *", "0 3 1 13 *", "*/0 * * * *"])
def test_a_nightly_that_is_no_crontab_line_is_named(times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_NIGHTLY", times)
    with pytest.raises(WrongConfiguration, match="nightly"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "said", "told"),
    [
        ("CANONQ_KEEP", "0", "keep: must be 1 or more"),
        ("CANONQ_NIGHTLY", "every day", "nightly: must be five times as crontab has them"),
        ("CANONQ_ZONE", "CI.Example.Org", "zone: must be a domain in lower case"),
        ("CANONQ_WEB__LISTEN", "8788", "web.listen: must be address:port"),
        ("CANONQ_INGRESS__ADDRESS", "http://here", "ingress.address: must be a host"),
        ("CANONQ_INGRESS", '{"address": "a b"}', "ingress.address: must be a host"),
        ("CANONQ_DISK_FLOOR", "9" * 400, "disk_floor: must be 1 EiB or less"),
    ],
)
def test_a_wrong_variable_is_named_and_not_the_file_that_it_wins_over(
    no_file_of_this_machine: Path, variable: str, said: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_file_of_this_machine.write_text("keep = 3\n")
    monkeypatch.setenv(variable, said)
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    assert raised.value.what.startswith(f"The settings in the environment cannot be used: {told}")
    assert f"({variable}). Mend: " in str(raised.value)
    assert "pattern" not in raised.value.what


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("keep = true", "line 1, keep: must be a whole number, without quotes"),
        ('keep = "3"', "line 1, keep: must be a whole number, without quotes"),
        ("keep = 3.0", "line 1, keep: must be a whole number, without quotes"),
        ("hold_reds = false", "line 1, hold_reds: must be a whole number, without quotes"),
        ("light_workers = true", 'line 1, light_workers: must be a number from 1 to 64, or the text "auto"'),
        ('light_workers = "4"', 'line 1, light_workers: must be a number from 1 to 64, or the text "auto"'),
        ("loaded_above = true", "line 1, loaded_above: must be a number, without quotes"),
        ("disk_floor = true", 'line 1, disk_floor: must be a size, such as "512 MiB"'),
        ("disk_floor = [1]", 'line 1, disk_floor: must be a size, such as "512 MiB"'),
        ("screenshots = 0", "line 1, screenshots: must be true or false, without quotes"),
        ("[git]\ntimeout = true", "line 2, git.timeout: must be a whole number, without quotes"),
        ('[checkout]\npull = "yes"', "line 2, checkout.pull: must be true or false, without quotes"),
        ("zone = 5", "line 1, zone: must be a text in quotes"),
        ("repo = 5", "line 1, repo: must be a text in quotes"),
        ('state = ""', "line 1, state: must not be empty"),
        ('catalogue = ""', "line 1, catalogue: must not be empty"),
        ('[report]\nfolder = ""', "line 2, report.folder: must not be empty"),
        ('git = { credentials_file = "" }', "line 1, git.credentials_file: must not be empty"),
        (
            '[registries]\nlimits = { "docker.io" = { pulls = true } }',
            "registries.limits.docker.io.pulls: must be a whole number",
        ),
    ],
)
def test_a_value_of_another_type_in_the_file_is_refused_and_not_read_as_something_else(
    no_file_of_this_machine: Path, written: str, told: str
) -> None:
    no_file_of_this_machine.write_text(f"{written}\n")
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    assert told in raised.value.what


@pytest.mark.parametrize(
    ("variable", "said", "read"),
    [
        ("CANONQ_KEEP", "3", lambda made: made.keep == 3),
        ("CANONQ_SCREENSHOTS", "false", lambda made: made.screenshots is False),
        ("CANONQ_CHECKOUT__PULL", "1", lambda made: made.checkout.pull is True),
        ("CANONQ_LOADED_ABOVE", "2", lambda made: made.loaded_above == 2.0),
        ("CANONQ_LIGHT_WORKERS", "4", lambda made: made.light_workers == 4),
        ("CANONQ_LIGHT_WORKERS", "auto", lambda made: made.light_workers == "auto"),
        ("CANONQ_GIT__LARGEST", "1 MiB", lambda made: made.git.largest == 2**20),
        ("CANONQ_GIT", '{"timeout": 5, "largest": "1 MiB"}', lambda made: (made.git.timeout, made.git.largest) == (5, 2**20)),
        ("CANONQ_HOSTS__TIMEOUT", "5", lambda made: made.hosts.timeout == 5),
        ("CANONQ_REGISTRIES__LIMITS", '{"docker.io": {"pulls": 7}}', lambda made: made.registries.limits["docker.io"].pulls == 7),
    ],
)
def test_a_variable_is_text_from_which_what_is_asked_for_is_read(
    variable: str, said: str, read: Callable[[Settings], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, said)
    assert read(load_settings())


@pytest.mark.parametrize(
    ("variable", "said", "told"),
    [
        ("CANONQ_KEEP", "true", "keep: must be a whole number (CANONQ_KEEP)"),
        ("CANONQ_KEEP", "3.5", "keep: must be a whole number (CANONQ_KEEP)"),
        ("CANONQ_SCREENSHOTS", "maybe", "screenshots: must be true or false (CANONQ_SCREENSHOTS)"),
        ("CANONQ_DISK_FLOOR", "true", "disk_floor: must be a size"),
        ("CANONQ_GIT", '{"timeout": true}', "git.timeout: must be a whole number (CANONQ_GIT)"),
        ("CANONQ_REPORT", '{"folder": ""}', "report.folder: must not be empty (CANONQ_REPORT)"),
        (
            "CANONQ_LIGHT_WORKERS",
            "true",
            'light_workers: must be a number from 1 to 64, or the text "auto" (CANONQ_LIGHT_WORKERS)',
        ),
    ],
)
def test_a_variable_from_which_that_cannot_be_read_is_refused(
    variable: str, said: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, said)
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    assert told in raised.value.what


@pytest.mark.parametrize(
    ("variable", "said", "told"),
    [
        ("CANONQ_HOSTS__FETCH", "rsync -a", 'hosts.fetch: must be a list in JSON, such as ["a", 1] (CANONQ_HOSTS__FETCH)'),
        ("CANONQ_HOSTS__FETCH", '["rsync", 1]', "hosts.fetch.1: must be a text in quotes"),
        ("CANONQ_HOSTS__FETCH", "[" * 100_000, "hosts.fetch: must be a list in JSON"),
        ("CANONQ_GIT", "timeout = 5", 'git: must be an object in JSON, such as {"key": ...} (CANONQ_GIT)'),
        ("CANONQ_GIT", "[1]", "git: must be an object in JSON"),
        ("CANONQ_INGRESS", "127.0.0.1", "ingress: must be an object in JSON"),
        ("CANONQ_REGISTRIES__LIMITS", '{"docker.io":', 'registries.limits: must be an object in JSON, such as {"key": ...} '),
        ("CANONQ_REGISTRIES__LIMITS", '{"docker.io": NaN}', "registries.limits: must be an object in JSON"),
    ],
)
def test_a_variable_that_is_to_be_json_and_is_not_is_named(
    variable: str, said: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, said)
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    assert raised.value.what.startswith("The settings in the environment cannot be used: ")
    assert told in raised.value.what
    assert f"({variable})" in raised.value.what


ADDRESSES = {
    "WEB__LISTEN": "127.0.0.1:PORT",
    "WEBHOOK__LISTEN": "[::1]:PORT",
    "INGRESS__ADDRESS": "127.0.0.1:PORT",
    "FORGE__URL": "https://git.example.org:PORT/forge",
    "REPORT__URL": "https://ci.example.org:PORT/",
    "QUEUE_URL": "amqp://user:hunter2@rabbit:PORT/vhost",
    "REDIS_URL": "redis://:hunter2@redis:PORT/0",
    "REGISTRIES__LIMITS": '{"registry.test:PORT": {"pulls": 5}}',
    "REGISTRIES__MIRRORS": '{"docker.io": "mirror.test:PORT/docker"}',
}


@pytest.mark.parametrize("name", sorted(ADDRESSES))
@pytest.mark.parametrize(("port", "is_one"), [(1, True), (8080, True), (65535, True), (0, False), (65536, False), (99999, False)])
def test_a_port_is_one_that_there_is(name: str, port: int, is_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("WEBHOOK__SECRET_FILE", "FORGE__TOKEN_FILE"):
        if needed.partition("_")[0] == name.partition("_")[0]:
            monkeypatch.setenv(f"CANONQ_{needed}", "/nowhere")
    monkeypatch.setenv(f"CANONQ_{name}", ADDRESSES[name].replace("PORT", str(port)))
    if is_one:
        load_settings()
        return
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    assert name.lower().replace("__", ".") in raised.value.what
    assert "hunter2" not in raised.value.what


def test_a_limit_that_is_no_table_is_told_its_own_keys(no_file_of_this_machine: Path) -> None:
    no_file_of_this_machine.write_text('[registries]\nlimits = { "docker.io" = 5, "ghcr.io" = { pull = 1 } }\n')
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    assert "registries.limits.docker.io: must be a table, such as { key = ... }, with keys of pulls, window" in raised.value.what
    assert "registries.limits.ghcr.io.pull: unknown key (allowed: pulls, window); did you mean 'pulls'?" in raised.value.what


def test_what_is_wrong_in_the_file_has_its_line_beside_what_a_variable_says(
    no_file_of_this_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_file_of_this_machine.write_text('zone = "ci.test"\nrepoo = "/srv"\n[web]\nlisten = "8788"\n')
    monkeypatch.setenv("CANONQ_KEEP", "0")
    with pytest.raises(WrongConfiguration) as raised:
        load_settings()
    what = raised.value.what
    assert what.startswith(f"The settings in {no_file_of_this_machine} cannot be used: ")
    for told in (
        "line 2, repoo: unknown key",
        "line 4, web.listen: must be address:port",
        "keep: must be 1 or more (CANONQ_KEEP)",
    ):
        assert told in what


def test_every_pattern_of_a_setting_has_its_words() -> None:
    tables: list[type[BaseModel]] = [Settings, *_TABLES.values(), RegistryLimit]
    patterns = {
        one.pattern for table in tables for field in table.model_fields.values() for one in _constraints(field) if one.pattern
    }
    assert patterns <= set(_PATTERNS)
    assert len(patterns) > 5


def _constraints(field: Any) -> Iterator[StringConstraints]:
    waiting = [field.annotation, *field.metadata]
    while waiting:
        one = waiting.pop()
        if isinstance(one, StringConstraints):
            yield one
        waiting += [*getattr(one, "__metadata__", ()), *get_args(one)]


def test_the_ingress_may_stand_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_INGRESS__SCHEME", "http")
    monkeypatch.setenv("CANONQ_INGRESS__ADDRESS", "127.0.0.1:8080")
    ingress = load_settings().ingress
    assert ingress is not None
    assert (ingress.scheme, ingress.address) == ("http", "127.0.0.1:8080")


@pytest.mark.parametrize(("size", "bytes_"), [("1 KiB", 1024), ("1.5 MB", 1_500_000), ("7", 7)])
def test_sizes_have_units(size: str, bytes_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_DISK_FLOOR", size)
    assert load_settings().disk_floor == bytes_


@pytest.mark.parametrize("size", ["-1", "1 parsec", "1 mibi"])
def test_a_size_that_is_none_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_DISK_FLOOR", size)
    with pytest.raises(WrongConfiguration, match="disk_floor"):
        load_settings()


def test_the_broker_of_the_environment_wins_over_the_file_in_either_form(
    no_file_of_this_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").write_text("redis://:password@10.0.0.5:6379/3\n")
    no_file_of_this_machine.write_text('redis_url = "redis://127.0.0.1:6379/0"\n')
    monkeypatch.setenv("CANONQ_REDIS_URL_FILE", str(tmp_path / "theirs"))
    assert load_settings().broker_url() == "redis://:password@10.0.0.5:6379/3"
    monkeypatch.delenv("CANONQ_REDIS_URL_FILE")
    no_file_of_this_machine.write_text(f'redis_url_file = "{tmp_path}/theirs"\n')
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://10.0.0.6:6379/1")
    assert load_settings().broker_url() == "redis://10.0.0.6:6379/1"
    assert load_settings(redis_url_file=tmp_path / "theirs").broker_url() == "redis://:password@10.0.0.5:6379/3"


def test_two_brokers_in_one_place_are_refused(no_file_of_this_machine: Path, tmp_path: Path) -> None:
    no_file_of_this_machine.write_text(f'redis_url = "redis://127.0.0.1/0"\nredis_url_file = "{tmp_path}/other"\n')
    with pytest.raises(WrongConfiguration, match="both set in one place"):
        load_settings()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("rediss://u:pw@redis.example.org:6380/0", "rediss://u:pw@redis.example.org:6380/0?ssl_cert_reqs=required"),
        ("rediss://h:1/0?ssl_cert_reqs=CERT_NONE", "rediss://h:1/0?ssl_cert_reqs=none"),
        (
            "rediss://h:1/0?ssl_ca_certs=/etc/ca%20of%20ours.pem",
            "rediss://h:1/0?ssl_ca_certs=/etc/ca+of+ours.pem&ssl_cert_reqs=required",
        ),
        ("redis://:p%2Fw@[::1]:6379", "redis://:p%2Fw@[::1]:6379"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("redis+socket:///run/redis.sock?virtual_host=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_a_redis_address_is_one_that_all_its_readers_take(written: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_REDIS_URL", written)
    url = load_settings().broker_url()
    assert url == read
    app = make_app(load_settings())
    database = 3 if read.endswith("virtual_host=3") else 0
    assert app.backend.connparams["db"] == database
    assert redis_client(url).connection_pool.connection_kwargs.get("db", 0) == database
    assert app.connection_for_read().transport_cls == url.partition(":")[0].partition("+")[0]
    redis_client(url).connection_pool.make_connection()


@pytest.mark.parametrize(
    "url",
    [
        "redis.example.org:6379", "amqp://guest@h//", "redis://h:port/0", "redis://:hunter2/x@h:1/0", "redis://h:1/name",
        "rediss://h:1/0?ssl_cert_reqs=maybe", "redis://h:1/0?ssl_cert_reqs=none", "redis+socket://run/redis.sock", "redis://",
    ],
)  # fmt: skip
def test_an_address_that_one_reader_would_not_take_is_told_without_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text(url)
    monkeypatch.setenv("CANONQ_REDIS_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(WrongConfiguration, match="redis_url_file") as told:
        load_settings().broker_url()
    monkeypatch.delenv("CANONQ_REDIS_URL_FILE")
    monkeypatch.setenv("CANONQ_REDIS_URL", url)
    with pytest.raises(WrongConfiguration, match="redis_url") as again:
        load_settings()
    assert "hunter2" not in str(told.value) + str(again.value)


def test_paths_are_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "STATE": "./state",
        "REPO": "checkout",
        "REDIS_URL_FILE": "url",
        "FORGE__URL": "http://h",
        "FORGE__TOKEN_FILE": "t",
    }.items():
        monkeypatch.setenv(f"CANONQ_{name}", value)
    settings = load_settings()
    assert settings.forge is not None
    assert (settings.state, settings.repo, settings.redis_url_file, settings.forge.token_file) == (
        tmp_path / "state",
        tmp_path / "checkout",
        tmp_path / "url",
        tmp_path / "t",
    )


def test_a_state_folder_that_is_relative_is_below_the_current_folder_wherever_programs_run_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANONQ_STATE", "here/state")
    made = load_settings()
    monkeypatch.chdir("/")
    assert made.state == tmp_path / "here" / "state"


def test_what_the_tiers_are_told_of_the_ingress_comes_to_them_as_it_is(tmp_path: Path) -> None:
    ingress = IngressSettings(scheme="https", address="127.0.0.1:8443", ca_file=tmp_path / "ca.pem")
    assert IngressSettings.model_validate_json(json.dumps(ingress.model_dump(mode="json"))) == ingress
