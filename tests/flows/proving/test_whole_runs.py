"""Whole runs without Docker: base, upgrade, backup, restore and a recipe's own tests, to each kind of verdict there is.

Git, files, archives, markers, locks, and the tiers' own tests are real; Docker is the Engine of files.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.files import remove_tree
from canonq.adapters.state.budget import Budget
from canonq.core.deployable import LABEL_INSTANCE, Deployable, Identity, version_label
from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.records import Verdict
from canonq.core.stack.convergence import Service, Task
from canonq.flows.deploying import appetite
from canonq.flows.deploying.deployment import bring_up, tear_down
from canonq.flows.deploying.stages import Account, Deployment
from canonq.flows.keeping.janitor import clean
from canonq.flows.promote import promote
from canonq.flows.sync import sync
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.world import World
from canonq.ports import Answer, Ended
from canonq.settings import Settings
from canonq.wiring import live
from tests import tiers
from tests.fakes import LINEAGE, FakeEngine
from tests.support import make_recipe

BASE, TARGET = "1.0.0+1.0", "1.1.0+1.1"
COMPOSE = """
services:
  app:
    image: site:{app}
    volumes: ["files:/srv/files", "/cache"]
    secrets: [password]
    healthcheck: {{test: [CMD, "true"]}}
    deploy:
      update_config: {{failure_action: rollback}}
      labels:
        - "coop-cloud.${{STACK_NAME}}.version={version}"
        - "backupbot.backup=true"
  db:
    image: postgres:15
    volumes: ["rows:/var/lib/postgresql"]
    deploy:
      labels:
        backupbot.backup: "true"
        backupbot.backup.pre-hook: dump /var/lib/postgresql/dump.sql
        backupbot.backup.volumes.rows.path: dump.sql
        backupbot.restore.post-hook: load /var/lib/postgresql/dump.sql
volumes: {{files: {{}}, rows: {{}}}}
secrets:
  password: {{external: true, name: "${{STACK_NAME}}_password_${{SECRET_PASSWORD_VERSION}}"}}
"""
SAMPLE = "TYPE=site\nDOMAIN=site.example.com\nSECRET_PASSWORD_VERSION=v1\n"
TOML = "[health]\nkind = 'exec'\ncommand = ['true']\ntimeout = 2\nsoak = 0\n"
OWN = """
def test_the_secret_is_the_apps_own(app):
    assert len(app.secret("password")) > 20
    assert app.env["DOMAIN"] == app.domain


def test_what_is_written_can_be_read(app):
    app.volume("files").write("page", "hello")
    assert app.volume("files").read("page") == b"hello"
"""


def files(version: str, **replaced: str) -> dict[str, str]:
    compose = COMPOSE.format(app=version.partition("+")[2], version=version)
    for old, new in replaced.items():
        compose = compose.replace(PLACES[old], new)
    return {"compose.yml": compose, ".env.sample": SAMPLE, "abra.sh": ""}


PLACES = {"hook": "dump /var/lib/postgresql/dump.sql", "load": "load /var/lib/postgresql/dump.sql", "image": "site:1.1"}


@dataclass
class Docker(FakeEngine):
    """The Engine of files, and what its apps do when they start."""

    folder: Path
    starts: dict[str, Callable[[Docker, Deployable], object]] = field(default_factory=dict)  #: version -> what it does
    said: dict[str, str] = field(default_factory=dict)  #: service -> its log

    def __post_init__(self) -> None:
        super().__init__(self.folder)
        self.deployed: list[str] = []
        self.asked: list[str] = []  #: stacks of the programs that were run
        self.says: Callable[[str], str] = lambda _: ""  #: stack -> what its services say
        self.broken: set[str] = set()  #: stacks whose app does not answer
        self.dead: dict[str, list[Task]] = {}  #: stack -> tasks that have ended
        self.gone: set[tuple[str, str]] = set()  #: stack and service of what does not come back
        self.starved = False  #: whether what dies dies for want of memory

    def dies(self, stack: str, service: str, *, for_good: bool = False) -> None:
        """A task of it ends now, and another takes its place unless it is `for_good`."""
        number = len(self.dead.setdefault(stack, [])) + 1
        self.dead[stack].append(
            Task(f"dead-{number}", service, "failed", "shutdown", True, 1, "task: non-zero exit (3)", 3, f"container-{number}")
        )
        if for_good:
            self.gone.add((stack, service))

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        services, tasks = super().observe(stack)
        there = [task for task in tasks if (stack, task.service) not in self.gone]
        return services, [*there, *self.dead.get(stack, ())] if services else []

    def out_of_memory(self, stack: str) -> frozenset[str]:
        return frozenset(task.container for task in self.dead.get(stack, ()) if self.starved)

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        self.asked.append(stack)
        return super().execute(stack, service, command, timeout)

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        return Answer(False, "it says 500") if stack in self.broken else super().probe(stack, health, domain, timeout)

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        super().deploy(stack, folder, timeout)
        version = stack.file["services"]["app"]["deploy"]["labels"][version_label(stack.stack)]
        self.deployed.append(version)
        if version in self.starts:
            self.starts[version](self, stack)

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        return {service: self.said.get(service, text or self.says(stack)) for service, text in super().logs(stack, lines).items()}


@dataclass
class Site:
    """A recipe with two releases, enrolled, on an Engine of files."""

    root: Path
    redis_url: str
    engine: Docker
    patched: pytest.MonkeyPatch
    more: dict[str, Any] = field(default_factory=dict)  #: settings

    def prepare(
        self,
        *,
        base: dict[str, str] | None = None,
        target: dict[str, str] | None = None,
        own: str | None = OWN,
        toml: str = "",
        soak: int = 0,
    ) -> World:
        """Release, enrol and sync it."""
        make_recipe(self.root / "site", {BASE: base or files(BASE), TARGET: target or files(TARGET)})
        folder = self.root / "checkout" / "tests" / "site"
        folder.mkdir(parents=True)
        health = TOML.replace("soak = 0", f"soak = {soak}")
        (folder / "recipe.toml").write_text(f'upstream = "{self.root / "site"}"\n{toml}{health}')
        if own is not None:
            (folder / "test_site.py").write_text(own)
        tiers.on(self.engine, self.patched)
        sync(self.world, "site")
        return self.world

    @property
    def world(self) -> World:
        """The world as a new process sees it."""
        settings = Settings(
            repo=self.root / "checkout",
            state=self.root / "state",
            redis_url=self.redis_url,
            disk_need=1,
            loaded_above=0,
            screenshots=False,
            **self.more,
        )
        budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
        return replace(live(settings), engine=self.engine, budget=budget)

    def left(self) -> dict[str, list[str]]:
        """What Docker has of canonq's."""
        owned = self.engine.owned({LABEL_INSTANCE: self.world.instance})
        return {kind: names for kind, names in owned.items() if names}


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, redis_url, Docker(tmp_path / "docker"), monkeypatch)


def is_fresh(stack: str) -> bool:
    """Whether a stack is the fresh install beside the upgrade: six digits and a letter of its own."""
    return len(stack.rpartition("-")[2]) == 7


def statuses(verdict: Verdict) -> dict[str, str]:
    return {name: tier.status for name, tier in verdict.tiers.items()}


def test_a_green_run_goes_through_every_tier_and_its_release_is_promoted_with_its_data(site: Site) -> None:
    world = site.prepare()
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert statuses(verdict) == dict.fromkeys(("install", "upgrade", "backup", "restore", "functional", "lint"), "pass")
    assert site.engine.deployed == [TARGET, BASE, TARGET]
    assert (verdict.base, verdict.level, verdict.deployments) == (BASE, 5, 2)
    assert [gap.partition(":")[0] for gap in verdict.gaps] == ["redeploy-unproven"], "hooks.py has no marker of its own"
    assert len(verdict.tiers["functional"].tests) == 2
    assert verdict.tiers["functional"].fresh == verdict.tiers["functional"].tests, "they run on both stacks"
    assert verdict.fresh == f"a stack of its own, beside the upgrade from {BASE}"
    for tier, kinds in (("upgrade", ["database", "file", "file"]), ("restore", ["database", "file"])):
        facts = json.loads((Path(verdict.directory) / tier / "facts.json").read_text())
        assert sorted(marker["kind"] for marker in facts["markers"]) == kinds, "as far as the backup covers it"
        assert facts["lost"] == []
    assert site.left() == {}
    assert promote(site.world, "site").outcome == "promoted"
    record = world.registry.read("site")
    assert record is not None
    assert site.left() == {"volumes": sorted(record.volumes)}
    assert set(record.images) == {"app", "db"}


def wipe(engine: Docker, stack: Deployable) -> None:
    """What a release does whose migration forgets the database."""
    (engine.place(stack.stack, "db", "/var/lib/postgresql/rows")).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("broken", "tier", "reason", "said"),
    [
        ({"starts": {TARGET: wipe}}, "upgrade", "upgrade-failed", "database of the service db (its table is not there)"),
        ({"target": files(TARGET, hook="dmup it")}, "backup", "backup-failed", "pre-hook of 'db' exited with 127"),
        ({"target": files(TARGET, hook="true")}, "backup", "backup-failed", "is empty or not there"),
        ({"target": files(TARGET, load="true")}, "restore", "restore-failed", "did not bring back what was destroyed"),
        ({"target": files(TARGET, load="laod it")}, "restore", "restore-failed", "post-hook of 'db' exited with 127"),
        ({"own": "def test_a():\n    assert False, 'no page'\n"}, "functional", "functional-failed", "test_a: no page"),
    ],
    ids=[
        "upgrade loses data", "backup hook fails", "dump is not written", "restore brings nothing back", "restore hook fails",
        "own test fails",
    ],
)  # fmt: skip
def test_a_red_run_says_at_which_tier_and_why_and_leaves_nothing(
    site: Site, broken: dict[str, Any], tier: str, reason: str, said: str
) -> None:
    site.engine.starts = broken.pop("starts", {})
    verdict = prove_tag(site.prepare(**broken), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", reason, "recipe"), verdict.detail
    assert said in verdict.detail
    order = ["install", "upgrade", "backup", "restore", "functional"]
    passed = order[: order.index(tier)]
    found = statuses(verdict)
    assert found == {**dict.fromkeys(passed, "pass"), tier: "fail", "lint": "pass"}, "lint is run beside a red"
    assert site.left() == {}
    assert not list(site.world.work.glob("[!.]*"))
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1


def test_a_release_that_names_a_missing_image_ends_before_any_deploy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known failure 37: a pull that failed was taken for a slow app."""

    def pulls(references: Sequence[str], timeout: float) -> dict[str, str]:
        if "site:1.1" in references:
            raise RecipeProblem("There is no image site:1.1.", code="image-unavailable")
        return there(references, timeout)

    there = site.engine.ensure_images
    world = site.prepare()
    monkeypatch.setattr(site.engine, "ensure_images", pulls)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "image-unavailable", "recipe"), verdict.detail
    assert site.engine.deployed == []


def test_a_database_whose_engine_cannot_read_its_data_is_told_with_its_own_last_words(site: Site) -> None:
    class Paused(Docker):
        """An Engine whose newer database dies at once on older data."""

        def last_words(self, stack: str, service: str) -> str:
            return self.said.get(service, "")

        def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
            services, tasks = super().observe(stack)
            if self.deployed[-1:] != [TARGET] or is_fresh(stack) or len(self.deployed) < 3:
                return services, tasks
            paused = replace(next(one for one in services if one.name == "db"), update="paused", update_message="update paused")
            old = Task("old", "db", "running", "running", current=False, slot=1, container="old")
            dead = Task("new", "db", "failed", "shutdown", True, 1, "task: non-zero exit (1)", 1, "new")
            return [one for one in services if one.name != "db"] + [paused], [t for t in tasks if t.service != "db"] + [old, dead]

    site.engine = Paused(site.root / "docker2")
    site.engine.said = {"db": "FATAL:  database files are incompatible with server\nDETAIL:  initialized by version 14"}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "update-paused", "db"), verdict.detail
    assert (
        "Its last words: FATAL:  database files are incompatible with server / DETAIL:  initialized by version 14"
        in verdict.detail
    )


def away(engine: Docker, stack: Deployable) -> None:
    raise HostProblem("The Docker Engine does not answer: connection refused.", code="docker-unreachable", outside="Docker")


def on_nothing(engine: Docker, stack: Deployable) -> None:
    """What a release does whose first start is broken: it comes up on what its predecessor has left, and on nothing else."""
    if not (engine.place(stack.stack, "db", "/var/lib/postgresql") / LINEAGE).read_text().startswith(BASE):
        engine.broken.add(stack.stack)


def test_a_release_that_cannot_be_installed_on_empty_volumes_is_red_though_it_upgrades_well(site: Site) -> None:
    site.engine.starts = {TARGET: on_nothing}
    verdict = prove_tag(site.prepare(toml=""), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.cause) == ("red", "install-failed", "not-answering"), verdict.detail
    assert "On empty volumes, as somebody new installs it, 1.1.0+1.1 did not come up" in verdict.detail
    assert (verdict.rungs["install"].status, verdict.rungs["upgrade"].status, verdict.level) == ("fail", "not-reached", 0)
    assert site.engine.deployed == [TARGET, BASE], "nothing is upgraded that cannot be installed"
    assert site.left() == {}


@pytest.mark.parametrize(
    ("fails", "reason", "cause", "fault"),
    [
        ("app.fresh and app.version == '1.1.0+1.1'", "install-failed", "hook-failed", "recipe"),
        ("True", "hook-failed", None, "enrolment"),
    ],
)
def test_a_hook_that_the_base_is_content_with_shows_a_new_install_that_nobody_can_use(
    site: Site, fails: str, reason: str, cause: str | None, fault: str
) -> None:
    world = site.prepare()
    hook = f"def after_install(app):\n    assert not ({fails}), 'there is no such page'\n"
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text(hook)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.cause or None, verdict.fault) == ("red", reason, cause, fault), (
        verdict.detail
    )
    assert "there is no such page" in verdict.detail
    assert statuses(verdict)["install"] == "fail"
    assert site.left() == {}


def test_a_secret_that_only_the_bases_sample_makes_is_the_releases_to_mend(site: Site) -> None:
    lacking = files(TARGET)
    lacking[".env.sample"] = lacking[".env.sample"].replace("SECRET_PASSWORD_VERSION=v1\n", "")
    lacking["compose.yml"] = lacking["compose.yml"].replace("${SECRET_PASSWORD_VERSION}", "v1")
    verdict = prove_tag(site.prepare(target=lacking), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "install-failed", "recipe"), verdict.detail
    assert "'password'" in verdict.detail
    assert verdict.rungs["install"].status == "fail"


def test_what_a_new_install_leaves_open_is_found_by_the_recipes_own_tests_on_the_fresh_stack(site: Site) -> None:
    own = "def test_nobody_can_register(app):\n    assert not app.fresh, 'registration is open'\n"
    site.engine.says = lambda stack: "said by the fresh one" if len(stack) == len("s-012345f") else "said by the other"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "functional-failed"), verdict.detail
    assert "on the fresh install: test_nobody_can_register: registration is open" in verdict.detail
    assert verdict.log_tail == ("said by the fresh one",), "the log is the fresh one's too"
    assert (Path(verdict.directory) / "fresh" / "functional" / "facts.json").is_file()
    assert statuses(verdict)["restore"] == "pass"


def test_a_fresh_install_that_cannot_be_beside_the_base_comes_before_it(site: Site) -> None:
    ports = {version: files(version) for version in (BASE, TARGET)}
    for tree in ports.values():
        tree["compose.yml"] = tree["compose.yml"].replace(
            "    secrets: [password]", '    secrets: [password]\n    ports: ["8080:80"]', 1
        )
    up: list[int] = []
    site.engine.starts = dict.fromkeys(ports, lambda engine, _: up.append(len(list((engine.folder / "stacks").glob("[!.]*")))))
    verdict = prove_tag(site.prepare(base=ports[BASE], target=ports[TARGET]), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed == [TARGET, BASE, TARGET, TARGET], "the last one for the backup alone"
    assert up == [1, 1, 1, 1], "one after the other"
    assert verdict.deployments == 2
    assert verdict.fresh == f"a stack of its own, before the upgrade from {BASE}: both publish the port 8080 of this host"
    assert len(verdict.tiers["functional"].fresh) == len(verdict.tiers["functional"].tests) == 2
    assert site.left() == {}


DIES = """
def test_who_dies(app):
    if {when}:
        for _ in range({times}):
            app.engine.dies(app.facts.stack, "{service}")
"""


@pytest.mark.parametrize("where", ["fresh", "upgraded"])
def test_a_worker_that_keeps_dying_is_a_crash_loop_though_the_app_answers(site: Site, where: str) -> None:
    own = DIES.format(when="app.fresh" if where == "fresh" else "not app.fresh", times=2, service="db")
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "crash-loop", "db"), verdict.detail
    assert "'db' died 2 times after it had come up; last error: task: non-zero exit (3)" in verdict.detail
    assert verdict.deaths == {"db": 2}
    assert site.left() == {}


def test_what_dies_once_is_told_and_has_to_stay_up_anew(site: Site) -> None:
    own = DIES.format(when="not app.fresh", times=1, service="app")
    verdict = prove_tag(site.prepare(own=own, toml=""), "site", None)
    assert (verdict.verdict, verdict.deaths) == ("green", {"app": 1}), verdict.detail
    assert "died: 'app' died once, and came back" in verdict.notes


def test_who_dies_for_want_of_memory_is_told_so(site: Site) -> None:
    site.engine.starved = True
    verdict = prove_tag(site.prepare(own=DIES.format(when="True", times=1, service="app")), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "out-of-memory", "app"), verdict.detail


def test_who_dies_later_and_stays_away_is_red_with_its_name(site: Site) -> None:
    own = "def test_it(app):\n    app.fresh or app.engine.dies(app.facts.stack, 'db', for_good=True)\n"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "dies-later", "db"), verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"


def test_a_tier_that_a_restart_has_interrupted_is_proven_again_once_the_app_is_back(site: Site) -> None:
    own = """
import os
def test_it(app):
    if not app.fresh and not os.path.exists(app.facts.own + "/seen"):
        open(app.facts.own + "/seen", "w").close()
        app.engine.dies(app.facts.stack, "app")
        assert False, "connection refused"
"""
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert verdict.verdict == "green", verdict.detail
    (told,) = [note for note in verdict.notes if note.startswith("interrupted: ")]
    assert "'app' died (task: non-zero exit (3)) while canonq was at the functional tier, and 1.1.0+1.1 came back" in told


def test_a_test_that_fails_beside_a_dying_app_does_not_hide_that(site: Site) -> None:
    own = DIES.format(when="not app.fresh", times=2, service="app") + "    assert app.fresh, 'no running container'\n"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "crash-loop", "recipe"), verdict.detail


def test_a_green_run_has_stayed_up_for_its_soak_since_its_last_deploy(site: Site) -> None:
    verdict = prove_tag(site.prepare(soak=2), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert verdict.seconds >= 2
    assert {"soak", "soak.fresh"} <= set(verdict.timings)


def test_what_a_run_takes_is_seen_though_it_ends_before_a_look_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for between in ("_EVERY", "_AT_LEAST_EVERY"):
        monkeypatch.setattr(appetite, between, 3600.0)
    site.engine.taken = 2**29
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert max(peak.memory_bytes for peak in verdict.peaks.values()) == 2**29


def holds(**tables: int) -> Callable[[Docker, Deployable], None]:
    """What a release does at its start whose database has these tables then."""

    def starts(engine: Docker, stack: Deployable) -> None:
        engine.place(stack.stack, "db", "/var/lib/postgresql/tables.json").write_text(json.dumps(tables))

    return starts


def test_a_release_that_empties_a_table_is_red_with_its_name_and_count_though_every_mark_is_there(site: Site) -> None:
    site.engine.starts = {BASE: holds(posts=5, users=1), TARGET: holds(posts=0, users=1)}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-lost", "recipe"), verdict.detail
    assert "the table posts of db is empty; it had 5 rows" in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"


def test_what_may_get_smaller_or_go_is_declared_and_a_name_that_is_nothing_is_told(site: Site) -> None:
    site.engine.starts = {BASE: holds(posts=5, sessions=9, jobs=3), TARGET: holds(posts=5, sessions=1)}
    declared = "[data]\nvolatile = {'db.jobs' = 'done by then'}\nshrink = {'db.sessions' = 'purged'}\n"
    verdict = prove_tag(site.prepare(toml=declared), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert (verdict.census["db.posts"], verdict.census["db.sessions"], verdict.stale) == (5, 1, ())
    assert "db.jobs" not in verdict.census, "it is there no more"
    assert "db.jobs" in verdict.known_names, "what may go was seen before it went"
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(toml.read_text().replace("db.sessions", "db.session"))
    site.engine.starts = dict.fromkeys((BASE, TARGET), holds(posts=5))
    wrong = prove_tag(site.world, "site", None)
    assert (wrong.verdict, wrong.reason, wrong.fault) == ("red", "data-name-unknown", "enrolment"), wrong.detail
    assert "[data] shrink names 'db.session', which nothing in this run was; is it db.sessions" in wrong.detail
    assert "db.jobs" not in wrong.detail, "an earlier run has seen it"
    assert [one for one in wrong.stale if "db.jobs" in one] == [
        "[data] volatile names 'db.jobs', which is gone: earlier releases had it, and nothing in this run did"
    ]
    remove_tree(Path(verdict.directory))
    toml.write_text(toml.read_text().replace("db.session'", "db.posts'"))
    later = prove_tag(site.world, "site", None)
    assert later.verdict == "green", "though the run that saw it go is no longer kept"
    assert "db.jobs" in later.known_names


def fills(*names: str, gone: bool = False) -> Callable[[Docker, Deployable], None]:
    """What a release does at its start to the files of its volume."""

    def starts(engine: Docker, stack: Deployable) -> None:
        folder = engine.place(stack.stack, "app", "/srv/files")
        for path in folder.iterdir() if gone else ():
            if path.name != LINEAGE:
                path.unlink()
        for name in names:
            (folder / name).write_text("kept by its users")

    return starts


def but_the_mark(engine: Docker, stack: Deployable) -> None:
    """What a release does that forgets all but what canonq has put there."""
    for path in engine.place(stack.stack, "app", "/srv/files").iterdir():
        if path.name[0] != ".":
            path.unlink()


@pytest.mark.parametrize("carries", [True, False])
def test_a_release_that_moves_to_a_server_is_green_where_the_rows_are_there_and_red_where_not(site: Site, carries: bool) -> None:
    def had(engine: Docker, stack: Deployable) -> None:
        but_the_mark(engine, stack)
        with contextlib.closing(sqlite3.connect(engine.place(stack.stack, "app", "/srv/files/app.db"))) as file:
            file.executescript("CREATE TABLE notes (text); INSERT INTO notes VALUES ('a'), ('b'), ('c');")

    def moves(engine: Docker, stack: Deployable) -> None:
        there = engine.place(stack.stack, "app", "/srv/files/app.db").exists()
        if not there:
            but_the_mark(engine, stack)
        holds(notes=3 if there and carries else 0)(engine, stack)

    site.engine.starts = {BASE: had, TARGET: moves}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    if carries:
        assert verdict.verdict == "green", verdict.detail
        assert "data-moved: what was in SQLite files of 'files' is in a database server now" in verdict.notes
    else:
        assert (verdict.verdict, verdict.reason) == ("red", "data-abandoned"), verdict.detail


def test_a_release_that_forgets_the_files_beside_the_mark_is_red_with_their_number(site: Site) -> None:
    site.engine.starts = {BASE: fills("a", "b", "c"), TARGET: but_the_mark}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the volume files is empty; it had 4 files with" in verdict.detail


def test_a_cache_that_is_emptied_with_its_mark_is_green_where_that_is_declared(site: Site) -> None:
    site.engine.starts = {BASE: fills("a", "b", "c"), TARGET: fills(gone=True)}
    toml = "[data]\nvolatile = {files = 'thumbnails, made anew'}\n"
    verdict = prove_tag(site.prepare(toml=toml, own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail


def test_a_restore_that_brings_back_less_than_there_was_is_red_though_the_mark_is_back(site: Site) -> None:
    site.engine.starts = dict.fromkeys((BASE, TARGET), holds(posts=5))

    def loads(words: list[str]) -> Ended:
        stack = min((path.name for path in (site.engine.folder / "stacks").glob("[!.]*")), key=len)  # not the fresh one
        rows = site.engine.place(stack, "db", "/var/lib/postgresql/rows")
        rows.write_text("".join(site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)[1:-1]))
        site.engine.place(stack, "db", "/var/lib/postgresql/tables.json").write_text("{}")
        return Ended(0, "")

    site.engine.programs["load"] = loads
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the postgres of db has lost its only table with data (posts: 5 rows)" in verdict.detail
    assert verdict.tiers["restore"].status == "fail"


def test_a_release_that_needs_a_volume_of_another_stack_is_red_where_there_is_none_and_told_by_lint(site: Site) -> None:
    sharing = files(TARGET)
    sharing["compose.yml"] = (
        sharing["compose.yml"]
        .replace('"files:/srv/files"', '"files:/srv/files", "shared:/shared"')
        .replace("volumes: {files: {}", "volumes: {shared: {external: true, name: media}, files: {}")
    )
    verdict = prove_tag(site.prepare(target=sharing), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "volume-missing", "recipe"), verdict.detail
    assert "docker volume create media" in verdict.detail
    assert site.engine.deployed == [], "that is known before anything is deployed"
    assert "(media, external)" in verdict.tiers["lint"].reason
    media = site.engine.make_volume("media", {}, "another")
    (media / "film").write_text("theirs")
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert [path.name for path in media.iterdir()] == ["film"], "nothing of it was touched"
    assert "(media, external)" in verdict.tiers["lint"].reason


@pytest.mark.parametrize("seed", [False, True])
def test_a_backup_that_only_comes_back_where_it_was_taken_is_red(site: Site, seed: bool) -> None:
    taken: list[str] = []

    def loads(words: list[str]) -> Ended:
        """A restore hook that knows the name of the stack it was written for."""
        stack = site.engine.asked[-1]
        taken.append(stack)
        if stack == taken[0]:
            lines = site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)
            site.engine.place(stack, "db", "/var/lib/postgresql/rows").write_text("".join(lines[1:-1]))
        return Ended(0, "")

    site.engine.programs["load"] = loads
    verdict = prove_tag(site.prepare(), "site", BASE if seed else None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "restore-not-portable", "recipe"), verdict.detail
    assert "missing is canonq's row in the database of the service db" in verdict.detail
    assert verdict.tiers["restore"].status == "fail"
    assert "not on a new stack with the same address and secrets: missing is canonq's row" in verdict.tiers["restore"].reason
    assert site.engine.deployed == ([BASE, BASE] if seed else [TARGET, BASE, TARGET, TARGET])
    assert verdict.deployments == (1 if seed else 2), "it is there for the restore alone"
    assert ("restore.elsewhere.begin" in verdict.timings) == seed, "it comes up while the other soaks, where there is but one"
    assert site.left() == {}
    with (site.root / "checkout" / "tests" / "site" / "recipe.toml").open("a") as toml:
        toml.write("[expected_na]\nelsewhere = 'its key is made by the first start'\n")
    taken.clear()
    verdict = prove_tag(site.world, "site", BASE if seed else None)
    assert verdict.verdict == "green", verdict.detail
    assert "restored-elsewhere: not tried (declared: its key is made by the first start)" in verdict.notes


def test_an_app_that_refuses_the_data_of_another_address_is_restored_under_its_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    named: dict[str, str] = {}  #: stack -> its address

    def loads(words: list[str]) -> Ended:
        loaded.append(stack := site.engine.asked[-1])
        lines = site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)
        site.engine.place(stack, "db", "/var/lib/postgresql/rows").write_text("".join(lines[1:-1]))
        return Ended(0, "")

    def probe(stack: str, _: Health, domain: str, __: float) -> Answer:
        named[stack] = domain
        knows = stack not in loaded or domain == named[loaded[0]]
        return Answer(knows, "" if knows else "it says 421")

    site.engine.programs["load"] = loads
    monkeypatch.setattr(site.engine, "probe", probe)
    verdict = prove_tag(site.prepare(), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed == [TARGET, BASE, TARGET, TARGET]
    assert len(loaded) == 3, "in place, on the fresh install, and on one with its address"
    assert "restored-beside: not on the fresh install, whose address is another" in " ".join(verdict.notes)


def test_a_secret_that_has_to_be_made_in_another_way_by_now_is_made_anew_for_a_fresh_install(site: Site) -> None:
    longer = files(TARGET)
    longer[".env.sample"] = SAMPLE.replace("VERSION=v1", "VERSION=v1  # length=90")
    own = "def test_it(app):\n    assert len(app.secret('password')) == 90 or not app.fresh or app.version == '1.0.0+1.0'\n"
    verdict = prove_tag(site.prepare(target=longer, own=own), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed == [TARGET, BASE, TARGET, TARGET], "the backup is restored into one with the secrets of its data"


def test_a_database_that_no_label_covers_is_red(site: Site) -> None:
    target = files(TARGET)
    target["compose.yml"] = target["compose.yml"].replace('backupbot.backup: "true"', 'backupbot.backup: "false"')
    verdict = prove_tag(site.prepare(target=target), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "not-backed-up", "db"), verdict.detail


def test_a_tier_that_was_skipped_without_a_word_is_a_gap_and_a_declaration_that_does_not_hold_is_stale(site: Site) -> None:
    world = site.prepare(own=None)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert [gap.split()[0] for gap in verdict.gaps] == ["functional", "redeploy-unproven:"]
    recipe = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    recipe.write_text(f'{recipe.read_text()}[expected_na]\nbackup = "has nothing to keep"\nfunctional = "a page"\n')
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.verdict, statuses(verdict)["backup"]) == ("green", "pass"), verdict.detail
    assert [stale.split()[1] for stale in verdict.stale] == ["backup"], verdict.stale
    assert [gap.split()[0] for gap in verdict.gaps] == ["redeploy-unproven:"]


def test_fresh_data_is_chosen_by_the_enrolment(site: Site) -> None:
    """Where it is not, the data of the first release lives on in every later one."""
    site.engine.starts = {BASE: fills("first"), TARGET: lambda *_: None}
    site.prepare(own=None, toml='[promote]\ndata = "fresh"\n')
    for tag in (BASE, TARGET):
        assert prove_tag(site.world, "site", tag).verdict == "green"
        assert promote(site.world, "site").outcome == "promoted"
    record = site.world.registry.read("site")
    assert record is not None
    assert record.version == TARGET
    (folder,) = [site.engine.volume_path(name) for name in record.volumes if "_files." in name]
    assert folder is not None
    assert not (folder / "first").exists()


@pytest.mark.long
def test_an_sqlite_file_that_is_open_is_marked_and_counted(site: Site) -> None:
    kept: list[sqlite3.Connection] = []

    def begins(engine: Docker, stack: Deployable) -> None:
        path = engine.place(stack.stack, "app", "/srv/files/app.db")
        kept.append(sqlite3.connect(path, check_same_thread=False))
        kept[-1].executescript("CREATE TABLE IF NOT EXISTS channels (name); INSERT INTO channels VALUES ('a'), ('b'), ('c');")

    def forgets(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        kept[-1].executescript("DELETE FROM channels;")

    site.engine.starts = {BASE: begins, TARGET: forgets}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the table channels of app:app.db is empty; it had 3 rows" in verdict.detail
    site.engine.starts = {BASE: begins, TARGET: begins}
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    markers = json.loads((Path(verdict.directory) / "restore" / "facts.json").read_text())["markers"]
    assert [marker["place"].partition("/")[2] for marker in markers if marker["kind"] == "sqlite"] == ["app.db"]


def red_with_a_canonical(site: Site, test: str) -> Verdict:
    """The verdict of the newer release under a test that fails, where the older one is the canonical."""
    world = site.prepare()
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    (site.root / "checkout" / "tests" / "site" / "test_site.py").write_text(test)
    before = site.left()
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "functional-failed"), verdict.detail
    assert site.left() == before, "the control run has left nothing either"
    return verdict


def test_a_red_that_its_canonical_has_as_well_is_no_regression_and_holds_nothing(site: Site) -> None:
    verdict = red_with_a_canonical(site, "def test_it(app):\n    assert False, 'the world has changed'\n")
    assert verdict.regression == "no"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0
    (told,) = [note for note in verdict.notes if note.startswith("control-run: ")]
    assert f"its canonical {BASE} is red (functional-failed) on the same host" in told
    kept = json.loads((Path(verdict.directory) / "control" / "verdict.json").read_text())
    assert (kept["version"], kept["data"]) == (BASE, "empty volumes")
    newest = site.world.runs.verdicts("site")[-1]
    assert (newest.run, newest.regression) == (verdict.run, "no"), "a control run is no run of the recipe's own"


def test_a_red_that_its_canonical_has_not_is_a_regression_and_counts(site: Site) -> None:
    verdict = red_with_a_canonical(site, f"def test_it(app):\n    assert app.version == {BASE!r}, 'broken'\n")
    assert verdict.regression == "yes"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1
    assert verdict.timings["control"] > 0


def test_a_control_run_that_there_is_no_budget_for_is_not_made_and_told(site: Site) -> None:
    site.more = {"control_seconds": 0}
    verdict = red_with_a_canonical(site, "def test_it(app):\n    assert False\n")
    assert verdict.regression == "unknown"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1
    assert any("the control runs of this sweep may take 0 s together" in note for note in verdict.notes)


def elsewhere(engine: Docker, stack: Deployable) -> None:
    """What a release does whose setting has another name now: it keeps its data in the container, and leaves the volume alone."""
    for path in engine.place(stack.stack, "app", "/srv/files").iterdir() if is_fresh(stack.stack) else ():
        path.unlink()


def test_a_release_that_looks_at_the_old_data_no_more_is_red_though_all_of_it_is_there(site: Site) -> None:
    site.engine.starts = {BASE: fills("notes.txt"), TARGET: elsewhere}
    own = "def test_notes_are_shown(app):\n    assert app.version == '1.0.0+1.0', 'there are none'\n"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-abandoned", "recipe"), verdict.detail
    assert verdict.tiers["functional"].status == "fail", "that is what comes of it"
    assert "1.1.0+1.1 leaves 'files' (2 there) empty where it is installed anew" in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"
    assert site.left() == {}


def test_the_same_is_seen_where_the_base_is_the_canonical_by_what_its_own_run_has_counted(site: Site) -> None:
    site.engine.starts = {BASE: fills("notes.txt"), TARGET: elsewhere}
    world = site.prepare()
    first = prove_tag(world, "site", BASE)
    assert (first.verdict, first.first_start["files"]) == ("green", 2)
    assert promote(site.world, "site").outcome == "promoted"
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.reason, verdict.base_from) == ("data-abandoned", "canonical"), verdict.detail
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"{toml.read_text()}[data]\nvolatile = {{files = 'moved into the database'}}\n")
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail


def test_a_run_whose_docker_goes_away_is_an_error_of_the_hosts_and_no_red(site: Site) -> None:
    site.engine.starts = {TARGET: away}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "docker-unreachable", "host")
    assert verdict.outside == "Docker"
    assert statuses(verdict) == {}, "the release itself is what was deployed first"
    assert site.left() == {}
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0


def test_an_unforeseen_error_within_a_run_is_canonqs_and_leaves_nothing(site: Site) -> None:
    def breaks(engine: Docker, stack: Deployable) -> None:
        raise KeyError("not foreseen")

    site.engine.starts = {TARGET: breaks}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.fault) == ("error", "canonq")
    assert "not foreseen" in verdict.detail
    assert site.left() == {}


def test_no_secret_is_in_anything_that_a_run_leaves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given, made = "given-to-this-host-1234", list[str]()

    def learns(engine: Docker, stack: Deployable) -> None:
        made.extend(json.loads(path.read_text())["value"] for path in (engine.folder / "secrets").glob("[!.]*"))
        engine.said = {service: f"connected with {' and '.join(made)}" for service in ("app", "db")}
        engine.programs["leak"] = lambda *_: Ended(1, f"cannot log in with {made[0]} {given}")

    monkeypatch.setenv("SMTP_PASSWORD", given)
    site.engine.starts = {TARGET: learns}
    toml = (
        "[secrets]\nsmtp = {env = 'SMTP_PASSWORD'}\n"
        "[env]\nSMTP_TOKEN = 'in-the-env-567890'\nDATABASE_URL = 'postgres://app:in-an-address-1234@db/app'\n"
    )
    verdict = prove_tag(site.prepare(target=files(TARGET, hook="leak"), toml=toml), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "backup-failed"), verdict.detail
    assert "cannot log in with ***password*** ***smtp***" in verdict.detail
    secret = [given, "in-the-env-567890", "in-an-address-1234", *made]
    assert len(made[0]) > 20
    kept = [path for path in Path(verdict.directory).rglob("*") if path.is_file()]
    assert {"verdict.json", "app.log", "env.txt"} <= {path.name for path in kept} | {"verdict.json"}
    for path in kept:
        assert not [one for one in secret if one.encode() in path.read_bytes()], path
    assert not [one for one in secret if one in verdict.model_dump_json()]


def test_what_all_recipes_share_is_a_part_of_each_enrolment(site: Site) -> None:
    world, shared = site.prepare(), site.root / "checkout" / "tests" / "_shared"
    before = world.checkout.digest("site")
    shared.mkdir()
    (shared / "everywhere.py").write_text("A = 1\n")
    with_it = site.world.checkout.digest("site")
    (shared / "everywhere.py").write_text("A = 2\n")
    assert len({before, with_it, site.world.checkout.digest("site")}) == 3


def test_a_quick_run_looks_at_a_copy_of_the_canonicals_data_and_proves_no_more(site: Site) -> None:
    world = site.prepare()
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    before = site.left()
    verdict = prove_tag(site.world, "site", None, quick=True)
    assert (verdict.verdict, verdict.reason, verdict.quick) == ("green", "quick", True), verdict.detail
    assert statuses(verdict)["functional"] == "pass"
    assert verdict.data == f"a copy of the data of the canonical {BASE}"
    assert site.left() == before
    upgraded = prove_tag(site.world, "site", None)
    assert (upgraded.verdict, upgraded.base, upgraded.base_from) == ("green", BASE, "canonical"), upgraded.detail


def test_a_pull_request_has_the_canonicals_data_and_secrets_only_where_the_enrolment_says_so(site: Site) -> None:
    world, made = site.prepare(), list[str]()

    def learns(engine: Docker, stack: Deployable) -> None:
        made[:] = [json.loads(path.read_text())["value"] for path in (engine.folder / "secrets").glob("[!.]*")]

    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    record = world.registry.read("site")
    assert record is not None
    kept, commit = world.registry.secrets(record)["password"], world.repos.tags("site")[TARGET]
    site.engine.starts = {f"ref-{commit[:12]}": learns}
    for quick, data in ((False, "empty volumes"), (True, "empty volumes")):
        verdict = prove_ref(site.world, "site", "main", quick=quick)
        assert (verdict.verdict, verdict.data) == ("green", data), verdict.detail
        assert [note for note in verdict.notes if note.startswith("on-empty-volumes: ")]
        assert made
        assert kept not in made
    path = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    path.write_text(f"{path.read_text()}[refs]\ndata = true\n")
    verdict = prove_ref(site.world, "site", "main", quick=True)
    assert (verdict.verdict, verdict.data) == ("green", f"a copy of the data of the canonical {BASE}"), verdict.detail
    assert made == [kept]
    assert not [note for note in verdict.notes if note.startswith("on-empty-volumes: ")]


def test_a_pull_request_that_reaches_for_the_host_is_refused_before_anything_is_deployed(site: Site) -> None:
    bad = files(TARGET)
    bad["compose.yml"] = bad["compose.yml"].replace('"/cache"', '"C:x/../../..:/host"')
    world = site.prepare(target=bad)
    verdict = prove_ref(world, "site", "main")
    assert (verdict.verdict, verdict.reason) == ("red", "policy-refused"), verdict.detail
    assert site.engine.deployed == []


def test_what_a_run_of_two_recipes_needs_is_deployed_beside_it_and_gone_with_it(site: Site) -> None:
    world = site.prepare()
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    before = site.left()
    beside = files(BASE)
    beside["compose.yml"] = beside["compose.yml"].replace(
        "    secrets: [password]", "    environment: {S: '${DEP_SITE_STACK:?}'}\n    secrets: [password]", 1
    )
    make_recipe(site.root / "other", {BASE: beside})
    folder = site.root / "checkout" / "tests" / "other"
    folder.mkdir()
    (folder / "recipe.toml").write_text(f'upstream = "{site.root / "other"}"\ndeps = ["site"]\n{TOML}')
    sync(site.world, "other")
    verdict = prove_tag(site.world, "other", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed[-2:] == [BASE, BASE]
    assert (Path(verdict.directory) / "dependency-site" / "resolved.json").is_file()
    assert site.left() == before
    of_a_ref = prove_ref(site.world, "other", "main")
    assert of_a_ref.verdict == "green", of_a_ref.detail
    assert f"on-empty-volumes: the dependency site {BASE} ran without its canonical's data and secrets" in of_a_ref.notes


ONCE = """
import pathlib

def test_log_in(app):
    mark = pathlib.Path({mark!r})
    there = mark.exists()
    mark.touch()
    assert there, "nobody can log in"
"""


def with_a_consumer(site: Site) -> Path:
    """Have canonicals of the site and of a recipe that needs it; the folder of that one's enrolment."""
    assert prove_tag(site.prepare(), "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    make_recipe(site.root / "other", {BASE: files(BASE)})
    folder = site.root / "checkout" / "tests" / "other"
    folder.mkdir()
    (folder / "recipe.toml").write_text(f'upstream = "{site.root / "other"}"\ndeps = ["site"]\n{TOML}')
    (folder / "test_log_in.py").write_text("def test_log_in(app):\n    pass\n")
    sync(site.world, "other")
    assert prove_tag(site.world, "other", None).verdict == "green"
    assert promote(site.world, "other").outcome == "promoted"
    return folder


def test_a_release_that_breaks_what_depends_on_it_is_not_promoted_until_a_person_approves_it(site: Site) -> None:
    folder, mark = with_a_consumer(site), site.root / "was-asked"
    before = site.left()
    verdict = prove_tag(site.world, "site", TARGET)
    assert verdict.verdict == "green", verdict.detail

    # Its tests fail the first time that they are asked: beside the candidate, and not beside the present canonical.
    (folder / "test_log_in.py").write_text(ONCE.format(mark=str(mark)))
    begun = len(site.engine.deployed)
    refused = promote(site.world, "site")
    assert (refused.outcome, refused.reason) == ("refused", "consumer-broken")
    assert "nobody can log in" in refused.detail
    assert f"canonq approve site '{TARGET}'" in refused.detail
    assert site.engine.deployed[begun:] == [TARGET, BASE, BASE, BASE], (
        "the candidate, then the present one, each with its consumer"
    )
    assert [run.version for run in site.world.runs.verdicts("other")] == [BASE], "they are no runs of its own"
    evidence = Path(verdict.directory) / "consumers" / "other"
    assert {path.name for path in evidence.iterdir()} == {"candidate", "present", "tried.json"}
    assert site.left() == before

    begun = len(site.engine.deployed)
    assert promote(site.world, "site").reason == "consumer-broken"
    assert len(site.engine.deployed) == begun, "nothing has changed, so it is not asked twice"

    # The consumer is mended: it is asked anew, and another one that fails with anything does not stand in the way.
    (folder / "test_log_in.py").write_text("def test_log_in(app):\n    assert False, 'never'\n")
    promoted = promote(site.world, "site")
    assert promoted.outcome == "promoted", promoted.detail
    assert [note.partition(":")[0] for note in promoted.notes if note.startswith("consumer-")] == ["consumer-fails-anyway"]


WAITS = """
import pathlib, time

def test_log_in(app):
    mark = pathlib.Path({mark!r})
    if not mark.exists():
        mark.touch()
        time.sleep(3600)
"""


def test_killed_in_the_middle_of_a_consumers_run_both_canonicals_are_whole_and_done_again_it_ends(site: Site) -> None:
    folder, mark = with_a_consumer(site), site.root / "is-asked"
    records = {name: site.world.registry.read(name) for name in ("site", "other")}
    before = site.left()
    assert prove_tag(site.world, "site", TARGET).verdict == "green"
    (folder / "test_log_in.py").write_text(WAITS.format(mark=str(mark)))

    killed = multiprocessing.get_context("fork").Process(target=promote, args=(site.world, "site"))
    killed.start()
    ends = time.monotonic() + 600
    while not mark.exists():
        assert killed.is_alive(), "it was asked"
        assert time.monotonic() < ends
        time.sleep(0.05)
    killed.kill()
    killed.join()
    assert site.left() != before, "it was killed in the middle of it"
    assert {name: site.world.registry.read(name) for name in records} == records
    assert all(record and record.snapshot and problem_of(record.snapshot) is None for record in records.values())
    clean(site.world)
    assert site.left() == before, "what it had is gone, and what both canonicals have is not"

    promoted = promote(site.world, "site")
    assert promoted.outcome == "promoted", promoted.detail
    assert [note for note in promoted.notes if note.startswith("consumer-")] == []
    assert site.world.registry.read("other") == records["other"]


def test_one_piece_of_work_may_have_two_stacks_of_a_recipe_which_know_nothing_of_each_other(site: Site) -> None:
    world, ends = site.prepare(), time.monotonic() + 600
    commits, enrolment, account = world.repos.tags("site"), world.checkout.enrolment("site"), Account()

    def tree(app: Deployment) -> Deployment:
        folder = site.root / f"tree-{app.identity.stack}-{app.identity.version}"
        world.repos.checkout("site", app.identity.commit, folder)
        return replace(app, tree=folder)

    def planned(stack: str, version: str) -> Deployment:
        identity = Identity(world.instance, "run", "site", "one-owner", stack, f"{stack}.test", version, commits[version])
        work = site.root / "work" / stack
        work.mkdir(parents=True)
        return account.begins(Deployment(identity, enrolment, work, work, account))

    below, fresh = (
        bring_up(world, tree(planned(*which)), which[0], ends) for which in (("site-below", BASE), ("site-fresh", TARGET))
    )
    upgraded = bring_up(world, tree(below.over(TARGET, commits[TARGET])), "upgrade", ends)
    assert upgraded.prepared.secrets == below.prepared.secrets, "in place it keeps what it has"
    assert upgraded.prepared.secrets["password"] != fresh.prepared.secrets["password"]
    assert not set(upgraded.stack.volumes.values()) & set(fresh.stack.volumes.values())
    assert upgraded.deployment.answered
    assert not fresh.deployment.answered
    assert [one.identity.stack for one in account.begun] == ["site-below", "site-fresh"]
    for running in (upgraded, fresh):
        assert account.images(running.identity.stack) == running.images
        assert account.filled(running.identity.stack, commits[TARGET]) is running.prepared.filled
        lived = (site.engine.place(running.identity.stack, "app", "/srv/files") / LINEAGE).read_text().split()
        assert lived == ([BASE, TARGET] if running is upgraded else [TARGET])
    said = account.secrecy.masks.text(" ".join(one.prepared.secrets["password"] for one in (below, fresh)))
    assert said == "***password*** ***password***"
    assert {"site-below.healthy", "site-fresh.healthy", "upgrade.healthy"} <= set(account.timings)
    tear_down(world, fresh.identity)
    assert site.left() == {}, "they are of one owner, and end together"
