"""`celery call` and `celery result` as people type them, with a light worker and no heavy one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.locks import redis_client
from canonq.cli.waiting import await_result, told_by_task
from canonq.core.errors import Busy, CanonqError, EnrolmentInvalid, HollowSweep, HostProblem, RecipeProblem, TagMoved
from canonq.settings import Settings
from canonq.wiring import live
from tests.core.test_decide import canonical
from tests.core.test_gate import verdict
from tests.flows.conftest import Whoever
from tests.support import Ended, Installation, make_recipe
from workers.console import Words, since_named
from workers.factory import HEAVY, LIGHT, make_app
from workers.steps import StepFailed

LIMIT = 1800.0  #: seconds


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("words")
    make_recipe(root / "upstream", {"1.0.0+1.0": {"compose.yml": "services: {}\n"}})
    with embedded_redis() as url:
        made = Installation(root, {"CANONQ_REDIS_URL": url})
        for recipe, weight in (("custom-html", "light"), ("wiki", "heavy")):
            made.enrol(recipe, f'upstream = "{root}/upstream"\nweight = "{weight}"\n')
        with (root / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "worker", "-n", "words@%h", "-Q", "light", "-c", "1"],
                env=made.environment,
                cwd=root,
                stdout=log,
                stderr=log,
            )
        try:
            until(lambda: app_of(made).control.ping(timeout=2))
            yield made
        finally:
            worker.terminate()
            worker.wait(600)


def app_of(installed: Installation) -> Celery:
    return make_app(Settings(state=installed.state, redis_url=SecretStr(installed.settings["CANONQ_REDIS_URL"])))


def until(true: Callable[[], object]) -> None:
    ends = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.fixture
def client(installed: Installation) -> Iterator[redis.Redis]:
    with redis_client(installed.settings["CANONQ_REDIS_URL"]) as found:
        yield found
        found.delete(HEAVY)


@pytest.mark.parametrize(
    "typed", ["custom-html", '"custom-html"', '["custom-html"]', "[custom-html]", "['custom-html']", " [ custom-html ] "]
)
def test_one_recipe_may_be_given_as_people_and_their_shells_write_it(typed: str) -> None:
    """A shell leaves `[custom-html]` of an array that has no quotes around it."""
    assert Words().convert(typed, None, None) == ["custom-html"]


@pytest.mark.parametrize("typed", ["[custom-html", "['a\"]", "[a b]", "{a}", '{"recipe": "custom-html"}'])
def test_what_is_neither_a_word_nor_an_array_is_refused(typed: str) -> None:
    with pytest.raises(click.UsageError):
        Words().convert(typed, None, None)


@pytest.mark.long
@pytest.mark.parametrize("words", [("--args", "custom-html"), ("--kwargs", '{"recipe": "custom-html"}')])
def test_a_bare_word_or_the_name_recipe_says_which_and_the_answer_is_json(
    installed: Installation, words: tuple[str, str]
) -> None:
    called = installed.celery("call", "canonq.promote", *words)
    assert called.status == 0, called.err
    answer = installed.celery("result", called.out.strip(), "--timeout", str(LIMIT), timeout=2 * LIMIT)
    assert answer.status == 0, answer.err
    assert (answer.json["recipe"], answer.json["outcome"], answer.json["reason"]) == ("custom-html", "refused", "no-verdict")


@pytest.mark.long
def test_a_canonical_is_asked_for_anew_at_the_command_line_and_by_a_call(installed: Installation) -> None:
    """The gate's answer shows that the word came through: only with it does it ask for a new run of the canonical's version."""
    world = live(Settings(repo=installed.checkout, state=installed.state, redis_url=SecretStr("redis://127.0.0.1:1/0")))
    present = canonical("1.0.0+1.0", "a" * 40).model_copy(update={"recipe": "custom-html", "run": verdict().run})
    world.registry.write(present, Whoever())
    old = verdict(recipe="custom-html", version="1.0.0+1.0", commit="a" * 40, fence=present.fence)
    world.runs.make("custom-html", old.run)
    world.runs.record(old)
    try:
        again = '{"again": {"by": "ada", "reason": "its data went bad"}}'
        called = installed.celery("call", "canonq.promote", "--args", "custom-html", "--kwargs", again)
        assert called.status == 0, called.err
        answer = installed.celery("result", called.out.strip(), "--timeout", str(LIMIT), timeout=2 * LIMIT).json
        assert answer["outcome"] == "refused"
        assert any(reason.startswith("not-a-new-run: ") for reason in answer["reasons"]), answer
        typed = installed.canonq("promote", "custom-html", "--again", "--reason", "its data went bad")
        assert typed.status == 1, typed.err
        assert "not-a-new-run" in typed.out
        plain = installed.canonq("promote", "custom-html", "--json")
        assert plain.json["outcome"] == "already"
        for wrong in (["--again"], ["--reason", "x"], ["--again", "--reason", " "]):
            assert "belong together" in installed.canonq("promote", "custom-html", *wrong).err
        nobody = '{"again": {"by": "", "reason": "x"}}'
        called = installed.celery("call", "canonq.promote", "--args", "custom-html", "--kwargs", nobody)
        answer = installed.celery("result", called.out.strip(), "--timeout", str(LIMIT), timeout=2 * LIMIT).json
        assert (answer["state"], answer["code"]) == ("failed", "bad-argument")
    finally:
        shutil.rmtree(installed.state / "warm")
        shutil.rmtree(installed.state / "runs")


@pytest.mark.long
def test_celery_beside_canonq_knows_its_tasks_though_no_app_is_named(installed: Installation, client: redis.Redis) -> None:
    installed = Installation(installed.root, {**installed.settings, "CELERY_APP": ""})
    broker = installed.settings["CANONQ_REDIS_URL"]
    called = installed.anew("celery", "-b", broker, "call", "canonq.decide", "--kwargs", '{"recipe": "../etc"}')
    assert called.status == 2
    assert "is not a recipe name" in called.err
    called = installed.anew("celery", "-b", broker, "call", "canonq.sync", "--kwargs", '{"recipe": "custom-html"}')
    assert called.status == 0, called.err
    answer = installed.anew("celery", "result", called.out.strip(), "--timeout", str(LIMIT), timeout=2 * LIMIT)
    assert answer.json["latest"] == "1.0.0+1.0"
    assert client.llen("celery") == 0, "nobody reads Celery's own default queue"


#: Many commands in one process, each as its own: starting one takes seconds on a busy machine.
_TYPIST = """
import json, sys
from celery.bin.celery import celery
from click.testing import CliRunner
for line in json.load(sys.stdin):
    ended = CliRunner().invoke(celery, line, auto_envvar_prefix="CELERY")
    print(json.dumps([ended.exit_code, ended.stdout, ended.stderr]))
"""


def type_all(installed: Installation, lines: list[list[str]]) -> list[Ended]:
    done = subprocess.run(
        [sys.executable, "-c", _TYPIST],
        input=json.dumps(lines),
        env=installed.environment,
        cwd=installed.root,
        capture_output=True,
        text=True,
        timeout=LIMIT * 3,
        check=True,
    )
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.long
def test_a_call_that_no_worker_would_do_fails_where_it_is_typed(installed: Installation, client: redis.Redis) -> None:
    told = {
        ("canonq.promot", "--args", "custom-html"): "did you mean canonq.promote?",
        ("canonq.promote", "--args", "custom-htm"): "'custom-htm' is not enrolled",
        ("canonq.promote", "--kwargs", '{"repice": "custom-html"}'): "it takes: recipe",
        ("canonq.promote", "--args", '["custom-html"'): "this is no JSON",
        ("canonq.promote", "--args", '{"recipe": "custom-html"}'): "give it to --kwargs",
        ("canonq.promote", "--args", "7"): "'7' is not enrolled",
        ("canonq.promote", "--args", "custom-html", "--queue", "lite"): "There is no queue 'lite'",
        ("canonq.promote", "--args", "custom-html", "--serializer", "pickle"): "read JSON only",
        ("canonq.promote", "--args", "custom-html", "--exchange", "other"): "--exchange cannot be given",
        ("canonq.promote", "--args", "wiki"): "No worker takes work from the queue heavy.",
        ("canonq.test", "--kwargs", '{"recipe": "wiki"}'): "No worker takes work from the queue heavy.",
        ("canonq.sweep", "--args", "custom-htm"): "'custom-htm' is not enrolled",
    }
    for typed, ended in zip(told, type_all(installed, [["call", *typed] for typed in told]), strict=True):
        assert ended.status in (2, 3), typed
        assert told[typed] in ended.err, typed
        assert "Traceback" not in ended.err
        assert ended.out == ""
    assert client.llen(LIGHT) == client.llen(HEAVY) == 0


def test_a_sweep_that_is_called_goes_with_the_fences_of_that_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait for a worker for long, and a rollback that is made meanwhile has a higher one."""
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path))
    record = canonical("1.0.0+1.0", "a" * 40).model_copy(update={"fence": 7})
    live(Settings(state=tmp_path)).registry.write(record, Whoever())
    with_fences = {"fences": {record.recipe: 7}}
    for given in ([record.recipe], [[record.recipe]]):
        assert since_named("canonq.sweep", given, {}) == with_fences
    assert since_named("canonq.sweep", [], {"recipes": record.recipe}) == {"recipes": record.recipe, **with_fences}
    for name, args, kwargs in (("canonq.sweep", [], {"nightly": True}), ("canonq.promote", [record.recipe], {})):
        assert since_named(name, args, kwargs) == kwargs


@pytest.mark.long
def test_asking_for_a_result_ends_whatever_became_of_the_task(installed: Installation, client: redis.Redis) -> None:
    app = app_of(installed)
    queued = app.send_task("canonq.promote", args=["wiki"], queue=HEAVY).id
    begun = "11111111-2222-3333-4444-555555555555"
    app.backend.store_result(begun, None, "STARTED")
    failed = app.send_task("canonq.sync", args=["../x"], queue=LIGHT).id
    answers = type_all(installed, [["result", id_] for id_ in (queued, begun, "no-such-id", failed)])
    assert [answer.status for answer in answers] == [1, 1, 1, 1]
    assert [answer.json["state"] for answer in answers] == ["queued", "lost", "unknown", "failed"]
    assert "the queue heavy" in answers[0].json["detail"]
    assert answers[3].json["code"] == "bad-recipe-name"
    assert answers[3].json["detail"].startswith("'../x' is not a recipe name.")


@pytest.mark.long
def test_a_heavy_recipe_found_on_the_light_queue_goes_on_to_the_heavy_one(installed: Installation, client: redis.Redis) -> None:
    """So calls whoever has no checkout at hand."""
    asked = app_of(installed).send_task("canonq.promote", kwargs={"recipe": "wiki"}, queue=LIGHT)
    until(lambda: client.llen(HEAVY) == 1)
    assert client.llen(LIGHT) == 0
    (message,) = client.lrange(HEAVY, 0, -1)
    assert json.loads(message)["headers"]["id"] == asked.id


@pytest.mark.long
def test_a_redis_that_is_away_is_told_in_one_line(installed: Installation) -> None:
    away = Installation(installed.root, {"CANONQ_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"})
    for typed in (["call", "canonq.promote", "--args", "custom-html"], ["result", "some-id"]):
        ended = away.celery(*typed)
        assert ended.status == 3
        assert ended.err.count("\n") == 1
        assert "Redis does not answer" in ended.err
        assert "hunter2" not in ended.err


def test_commands_find_the_redis_that_up_runs_for_their_state_folder(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "a state")
    assert settings.broker_url() is None
    with embedded_redis(settings.state / "redis", address=settings.up_file) as url:
        assert settings.broker_url() == url
        redis_client(url).ping()
        assert make_app(settings).connection_for_read().ensure_connection(max_retries=1, timeout=5)
    assert settings.broker_url() is None


def test_the_embedded_redis_runs_where_paths_are_too_long_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("a" * 60) / ("b" * 60)
    long.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    for data in (None, long / "redis"):
        with embedded_redis(data) as url:
            assert redis_client(url).ping()


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "options", "status", "code", "fault"),
    [
        (["custom-html"], {"ref": "nobranch"}, 2, "no-such-ref", "user"),
        (["custom-html"], {"tag": "9.9.9"}, 2, "not-a-release", "user"),
        (["custom-html"], {"quick": True}, 2, "no-canonical", "user"),
        ([{"action": "none"}], {}, 2, "bad-argument", "user"),
    ],
)
def test_what_a_worker_refuses_ends_the_waiting_command_as_the_same_refusal_would_here(
    installed: Installation, client: redis.Redis, arguments: list[object], options: dict[str, object], status: int, code: str,
    fault: str,
) -> None:  # fmt: skip
    app = app_of(installed)
    await_result(app.send_task("canonq.sync", args=["custom-html"], queue=LIGHT), None, LIMIT)
    asked = app.send_task("canonq.test", args=arguments, kwargs=options, queue=LIGHT)
    with pytest.raises(CanonqError) as told:
        await_result(asked, None, LIMIT)
    assert (told.value.exit_status, told.value.code, told.value.fault) == (status, code, fault)
    assert "Mend:" not in told.value.what


@pytest.mark.long
def test_any_error_travels_from_worker_to_command_whole() -> None:
    for kind in (HollowSweep, TagMoved, EnrolmentInvalid, HostProblem, RecipeProblem, CanonqError):
        sent = kind("It is so: really.", mend="do this.", code="some-code")
        got = told_by_task(StepFailed(*json.loads(json.dumps(StepFailed.of(sent).args))))
        assert (got.code, got.what, got.mend) == ("some-code", "It is so: really.", "do this.")
        assert (got.exit_status, got.fault) == (sent.exit_status, sent.fault)
    assert told_by_task(RuntimeError("its worker was killed")).exit_status == 3


class _Ready:
    """A task that is done."""

    id = "x"
    backend = SimpleNamespace()

    def __init__(self, value: dict[str, Any]) -> None:
        self.result = value

    def ready(self) -> bool:
        return True

    def failed(self) -> bool:
        return False


@pytest.mark.long
@pytest.mark.parametrize(
    ("value", "code", "mend"),
    [
        (
            {"reason": "disk-below-budget", "detail": "No room. Mend: free some disk."},
            "disk-below-budget",
            "free some disk.",
        ),
        ({"reason": "busy", "detail": "Another run is under way."}, "busy", "wait until it ends."),
        ({"detail": "As an older worker says it."}, "busy", "wait until it ends."),
    ],
    ids=["no room", "busy", "of an older worker"],
)
def test_what_kept_a_task_from_its_work_is_told_with_its_own_code_and_one_mend(
    value: dict[str, Any], code: str, mend: str
) -> None:
    with pytest.raises(Busy) as told:
        await_result(cast(Any, _Ready({"outcome": "busy", **value})), None, LIMIT)
    assert (told.value.code, told.value.mend, str(told.value).count("Mend:")) == (code, mend, 1)
