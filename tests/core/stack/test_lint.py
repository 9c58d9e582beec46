"""The lint rules: what each finds, what it lets pass, and what they say of the demonstration's releases."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canonq.core.backup import backup_plan
from canonq.core.errors import RecipeProblem
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.envfile import parse_env, parse_exports
from canonq.core.stack.lint import RULES, LintFacts, lint
from canonq.core.stack.policy import refusals
from canonq.core.stack.resolved import Stack, stack_of
from demo import upstreams

STACK = "r-1"
VERSION = "1.2.0+4.5.6"
SAMPLE = "TYPE=r\nDOMAIN=r.example.com\n"
APP: dict[str, Any] = {
    "image": "x/r:4.5.6",
    "healthcheck": {"test": ["CMD", "true"], "interval": "30s"},
    "deploy": {"update_config": {"failure_action": "rollback"}, "labels": {f"coop-cloud.{STACK}.version": VERSION}},
}


def stack(app: dict[str, Any] | None = None, **sections: Any) -> Stack:
    """A resolved stack with nothing to find; `app` goes over its service, `services` beside it."""
    services = {"app": {**APP, **(app or {})}, **sections.pop("services", {})}
    return stack_of({"version": "3.8", "services": services, **sections})


def labels(*, on: dict[str, str] | None = None, **deploy: Any) -> dict[str, Any]:
    """An `app` with further labels under deploy."""
    return {"deploy": {**APP["deploy"], "labels": {**APP["deploy"]["labels"], **(on or {})}, **deploy}}


def facts(resolved: Any = None, **others: Any) -> LintFacts:
    given: dict[str, Any] = {
        "version": VERSION,
        "resolved": stack() if resolved is None else resolved,
        "stack": STACK,
        "env": {},
        "sample": SAMPLE,
        "files": {},
        "base_resolved": None,
        "base_files": {},
        "annotated": True,
    }
    return LintFacts(**{**given, **others})


def found(rule: str, given: LintFacts) -> list[str]:
    """Where a rule finds something."""
    findings = dict(RULES)[rule](given)
    assert all(finding.rule == rule and finding.what.endswith(".") for finding in findings)
    return [finding.where for finding in findings]


def test_every_rule_is_named_also_when_it_found_nothing() -> None:
    assert lint(facts()) == {code: () for code, _ in RULES}
    assert len(dict(RULES)) == len(RULES)


def test_a_service_without_an_image_is_found() -> None:
    assert found("image-missing", facts(stack(services={"sidekiq": {"image": None}}))) == ["services.sidekiq"]
    assert found("image-missing", facts()) == []


@pytest.mark.parametrize("image", ["nginx", "registry:5000/nginx", "nginx:", "nginx:latest", "nginx:Stable-alpine", "x/y:main"])
def test_an_image_that_moves_on_is_found(image: str) -> None:
    assert found("image-not-pinned", facts(stack({"image": image}))) == ["services.app.image"]


@pytest.mark.parametrize("image", ["nginx:1.27", "registry:5000/nginx:1", "x@sha256:ab", "x:latest@sha256:ab", "x:main-3f2a9c1"])
def test_an_image_that_stays_passes(image: str) -> None:
    assert found("image-not-pinned", facts(stack({"image": image}))) == []


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("1.0.0+1.31.1", "1.31.0"),
        ("1.0.0+1.31.1", "1.31.11"),
        ("1.0.0+v1.6.870-0", "v1.6.870-1"),
        ("1.0.0+27.0.1-fpm", "27.0.1-apache"),
        ("1.0.0+trixie", "bookworm"),
    ],
)
def test_an_image_of_another_version_than_the_release_says_is_found(version: str, tag: str) -> None:
    given = facts(stack({"image": f"x/r:{tag}"}), version=version)
    assert found("app-version-differs", given) == ["services.app.image"]


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("1.0.0+1.31.1", ":1.31.1"),
        ("1.0.0+1.31.1", ":v1.31.1"),
        ("1.0.0+v2.0.0", ":2.0.0"),
        ("1.0.0+6.42.0", ":6.42.0-alpine"),
        ("1.0.0+1.24.2-rootless", ":1.24.2"),
        ("1.0.0+1.2.3", ":noble-1.2.3"),
        ("1.0.0+2024.06.37", ":2024.06.37"),
        ("1.0.0+trixie", ":trixie-slim"),
        ("1.0.0", ":9"),
        ("1.0.0+1.31.1", "@sha256:ab"),
    ],
)
def test_an_image_of_the_version_that_the_release_says_passes(version: str, tag: str) -> None:
    assert found("app-version-differs", facts(stack({"image": f"x/r{tag}"}), version=version)) == []


def test_a_recipe_without_a_service_app_is_found_once() -> None:
    given = facts(stack_of({"services": {"web": {"image": "x:1"}}}))
    assert {code for code, findings in lint(given).items() if findings} == {"no-app-service"}
    assert found("no-app-service", facts()) == []


@pytest.mark.parametrize(
    "app",
    [
        {"deploy": {}},
        {"deploy": {}, "labels": APP["deploy"]["labels"]},
        {"deploy": {"labels": {"coop-cloud.${STACK_NAME}.version": VERSION}}},
        {"deploy": {"labels": [f"coop-cloud.{STACK}.version=1.1.0+4.5.6"]}},
    ],
)
def test_a_version_label_that_does_not_name_the_release_is_found(app: dict[str, Any]) -> None:
    assert found("version-label", facts(stack(app))) == ["services.app.deploy.labels"]


def test_a_version_label_that_names_the_release_passes() -> None:
    assert found("version-label", facts()) == []


def test_a_variable_in_the_key_of_a_label_is_explained() -> None:
    given = facts(stack({"deploy": {"labels": {"traefik.http.routers.${STACK_NAME}.rule": "x"}}}))
    assert "as a list" in dict(RULES)["version-label"](given)[0].what
    assert "as a list" in dict(RULES)["traefik-name-shared"](given)[0].what


def test_a_head_that_is_not_tagged_yet_is_not_told_about_its_tag() -> None:
    head = facts(version="ref-0123456789ab", ref=True, annotated=False)
    assert found("tag-not-annotated", head) == []
    assert found("version-label", head) == []
    assert found("version-label", facts(version="9.9.9+9")) == ["services.app.deploy.labels"]


def test_a_lightweight_tag_is_found() -> None:
    assert found("tag-not-annotated", facts(annotated=False)) == [f"tag {VERSION}"]
    assert found("tag-not-annotated", facts(annotated=True)) == []


def test_a_sample_without_domain_and_type_is_found() -> None:
    assert found("sample-incomplete", facts(sample="#TYPE=r\n# DOMAIN=x\n")) == [".env.sample", ".env.sample"]
    assert found("sample-incomplete", facts(sample="RECIPE=r\nexport DOMAIN=x\n")) == []


def test_a_secret_that_the_sample_does_not_declare_is_found() -> None:
    resolved = stack(secrets={"db": {"external": True, "name": f"{STACK}_db_password_v1"}})
    line = "SECRET_DB_PASSWORD_VERSION=v1\n"
    assert found("secret-not-in-sample", facts(resolved)) == ["secrets.db"]
    assert found("secret-not-in-sample", facts(resolved, sample=f"#{line}")) == ["secrets.db"]
    assert found("secret-not-in-sample", facts(resolved, sample=line)) == []


def test_a_secret_of_an_overlay_may_be_commented_out_in_the_sample_when_the_env_has_it() -> None:
    resolved = stack(secrets={"key": {"external": True, "name": f"{STACK}_key_v1"}, "file": {"file": "x"}})
    given = facts(resolved, sample="# SECRET_KEY_VERSION=v1\n", env={"SECRET_KEY_VERSION": "v1"})
    assert found("secret-not-in-sample", given) == []


@pytest.mark.parametrize("section", ["configs", "secrets"])
def test_a_name_above_dockers_limit_is_found(section: str) -> None:
    long, short = "n" * 61, "n" * 60
    assert found("name-too-long", facts(stack(**{section: {long: {}}}))) == [f"{section}.{long}"]
    assert found("name-too-long", facts(stack(**{section: {"k": {"name": f"{STACK}_{long}", "external": True}}})))
    assert found("name-too-long", facts(stack(**{section: {short: {}}}))) == []


def config(version: str, path: str = "./a.conf") -> Stack:
    return stack(configs={"conf": {"name": f"{STACK}_conf_{version}", "file": path}})


def test_a_config_that_changed_under_its_old_name_is_found() -> None:
    given = facts(config("v1"), files={"a.conf": "new"}, base_resolved=config("v1"), base_files={"a.conf": "old"})
    assert found("config-not-bumped", given) == ["configs.conf"]
    moved = replace(given, resolved=config("v1", "b.conf"), files={"b.conf": "new"})
    assert found("config-not-bumped", moved) == ["configs.conf"]


def test_a_config_that_changed_with_its_version_or_not_at_all_passes() -> None:
    given = facts(config("v2"), files={"a.conf": "new"}, base_resolved=config("v1"), base_files={"a.conf": "old"})
    assert found("config-not-bumped", given) == []
    assert found("config-not-bumped", replace(given, resolved=config("v1"), files={"a.conf": "old"})) == []
    assert found("config-not-bumped", replace(given, resolved=config("v1"), base_resolved=None)) == []
    assert found("config-not-bumped", replace(given, resolved=config("v1"), base_files={})) == []


def test_a_fixed_container_name_is_found() -> None:
    assert found("container-name", facts(stack({"container_name": "r"}))) == ["services.app.container_name"]
    assert found("container-name", facts()) == []


def test_an_image_to_be_built_is_found() -> None:
    assert found("build", facts(stack({"build": "."}))) == ["services.app.build"]
    assert found("build", facts()) == []


def test_a_name_in_traefik_that_every_stack_would_have_is_found_once() -> None:
    fixed = {"traefik.http.routers.blog.rule": "x", "traefik.http.routers.blog.entrypoints": "y"}
    own = {f"traefik.http.routers.{STACK}-api.rule": "x", f"traefik.tcp.services.{STACK}.loadbalancer.server.port": "1"}
    assert found("traefik-name-shared", facts(stack(labels(on=fixed)))) == ["services.app.deploy.labels"]
    assert found("traefik-name-shared", facts(stack(labels(on={**own, "traefik.enable": "true"})))) == []


def test_backup_labels_on_the_container_are_found() -> None:
    given = {"backupbot.backup": "true"}
    assert found("backup-labels-outside-deploy", facts(stack({"labels": given}))) == ["services.app.labels"]
    assert found("backup-labels-outside-deploy", facts(stack(labels(on=given)))) == []


def test_a_backup_label_of_a_volume_that_the_service_does_not_have_is_found() -> None:
    def of(volume: str) -> LintFacts:
        app = {**labels(on={f"backupbot.backup.volumes.{volume}.path": "x"}), "volumes": ["data:/data"]}
        return facts(stack(app, volumes={"data": None, "other": None}))

    assert found("backup-volume-unknown", of("typo")) == ["services.app.deploy.labels"]
    assert found("backup-volume-unknown", of("other")) == ["services.app.deploy.labels"]
    assert found("backup-volume-unknown", of("data")) == []


def backed_up(db: dict[str, str], app: dict[str, str] | None = None, image: str = "postgres:16") -> LintFacts:
    """A stack with backup on for `app`, and a service `db`; both with labels."""
    beside = {"db": {"image": image, "volumes": ["pg:/var/lib/postgresql/data"], "deploy": {"labels": db}}}
    on = {"backupbot.backup": "true", **(app or {})}
    return facts(stack(labels(on=on), services=beside, volumes={"pg": {}}))


def test_a_database_that_the_backup_leaves_out_is_found() -> None:
    assert found("database-not-backed-up", backed_up({})) == ["services.db.deploy.labels"]
    assert found("database-not-backed-up", backed_up({}, image="ghcr.io/immich-app/postgres:15-pgvectors")) != []


def test_a_database_that_is_backed_up_or_left_out_on_purpose_passes() -> None:
    assert found("database-not-backed-up", backed_up({"backupbot.backup": "true"})) == []
    assert found("database-not-backed-up", backed_up({"backupbot.backup": "false"})) == []
    assert found("database-not-backed-up", backed_up({}, {"backupbot.backup": "false"})) == []
    assert found("database-not-backed-up", backed_up({}, {"backupbot.backup.volumes.pg": "false"})) == []
    assert found("database-not-backed-up", backed_up({}, {"backupbot.backup.pre-hook": "pg_dump -h db > /x"})) == []
    assert found("database-not-backed-up", backed_up({}, image="redis:7")) == []


def test_a_dump_that_nothing_loads_back_is_found() -> None:
    dump = {"backupbot.backup": "true", "backupbot.backup.pre-hook": "dump"}
    assert found("dump-not-restored", backed_up(dump)) == ["services.db.deploy.labels"]
    assert found("dump-not-restored", backed_up({**dump, "backupbot.restore.post-hook": "load"})) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("php occ maintenance:mode --on", "php occ maintenance:mode --off", False),
        ("su -c 'occ maintenance:mode --on' www-data", "su -c 'occ maintenance:mode --off' www-data", False),
        ("/maintenance_on.sh", "/maintenance_off.sh", False),
        ("php artisan down", "php artisan up", False),
        ("curl -X POST http://x/lock", "curl -X POST http://x/unlock", False),
        ("occ maintenance:mode --on", "", True),  # which says nothing of what else it does
        ("occ maintenance:mode --on && dump > /x", "occ maintenance:mode --off", True),
        ("dump /x", "rm /x", True),
        ("dump /x --on", "dump /x --on", True),
    ],
)
def test_a_hook_that_the_one_after_the_backup_takes_back_is_no_dump(before: str, after: str, *, told: bool) -> None:
    pair = {"backupbot.backup.pre-hook": before, **({"backupbot.backup.post-hook": after} if after else {})}
    assert bool(found("dump-not-restored", backed_up({}, pair))) is told
    dump = {"backupbot.backup": "true", "backupbot.backup.pre-hook": "dump"}
    where = "services.app.deploy.labels" if told else "services.db.deploy.labels"
    assert found("dump-not-restored", backed_up(dump, pair)) == [where]


def test_an_app_whose_image_may_have_a_check_of_its_own_is_told_so() -> None:
    (told,) = dict(RULES)["healthcheck-missing"](facts(stack({"healthcheck": None})))
    assert "unless its image has a check of its own, which canonq does not look for here" in told.what
    (told,) = dict(RULES)["healthcheck-missing"](facts(stack({"healthcheck": {"disable": True}})))
    assert "image" not in told.what, "that one is switched off, too"


@pytest.mark.parametrize("check", [None, {}, {"disable": True}, {"test": ["NONE"]}, {"test": "NONE"}])
def test_an_app_without_a_healthcheck_is_found(check: Any) -> None:
    assert found("healthcheck-missing", facts(stack({"healthcheck": check}))) == ["services.app.healthcheck"]


def test_an_app_with_a_healthcheck_passes() -> None:
    assert found("healthcheck-missing", facts()) == []


@pytest.mark.parametrize("update", [None, {}, {"order": "start-first"}, {"failure_action": "continue"}])
def test_an_update_without_a_word_on_failure_is_found(update: Any) -> None:
    given = facts(stack(labels(update_config=update)))
    assert found("failure-action-missing", given) == ["services.app.deploy.update_config"]


@pytest.mark.parametrize("action", ["rollback", "pause"])
def test_an_update_that_ends_well_or_stops_passes(action: str) -> None:
    assert found("failure-action-missing", facts(stack(labels(update_config={"failure_action": action})))) == []


def test_a_port_of_the_host_with_two_tasks_at_once_is_found() -> None:
    def of(order: str, mode: str) -> LintFacts:
        ports = [{"target": 64738, "published": 64738, "mode": mode}]
        return facts(stack({**labels(update_config={"order": order}), "ports": ports}))

    assert found("host-port-start-first", of("start-first", "host")) == ["services.app.deploy.update_config"]
    assert found("host-port-start-first", of("stop-first", "host")) == []
    assert found("host-port-start-first", of("start-first", "ingress")) == []


def test_a_database_with_two_tasks_at_once_is_found() -> None:
    def of(**db: Any) -> LintFacts:
        return facts(stack(services={"db": {"image": "mariadb:11", "volumes": ["data:/var/lib/mysql"], **db}}))

    both = {"update_config": {"order": "start-first"}, "rollback_config": {"order": "start-first"}}
    assert found("database-start-first", of(deploy=both)) == [
        "services.db.deploy.update_config",
        "services.db.deploy.rollback_config",
    ]
    assert found("database-start-first", of(deploy={"update_config": {"order": "stop-first"}})) == []
    assert found("database-start-first", of()) == []
    assert found("database-start-first", of(deploy=both, volumes=[])) == []


def test_a_dependency_on_a_service_that_is_not_there_is_found() -> None:
    assert found("depends-on-unknown", facts(stack({"depends_on": ["db"]}))) == ["services.app.depends_on"]
    assert found("depends-on-unknown", facts(stack({"depends_on": {"app": {"condition": "x"}}}))) == []


@pytest.mark.parametrize("value", ["${X:-1m}", "1 minute", "30", 30, "", "-1s", ["1s"]])
def test_a_duration_that_docker_does_not_read_is_found(value: Any) -> None:
    given = facts(stack({"healthcheck": {"test": "x", "start_period": value}}))
    assert found("duration-unreadable", given) == ["services.app.healthcheck.start_period"]
    given = facts(stack(labels(update_config={"failure_action": "pause", "monitor": value})))
    assert found("duration-unreadable", given) == ["services.app.deploy.update_config.monitor"]


@pytest.mark.parametrize("value", ["30s", "1m30s", "1.5h", "500ms", "0", "0s", None])
def test_a_duration_that_docker_reads_passes(value: Any) -> None:
    assert found("duration-unreadable", facts(stack({"stop_grace_period": value}))) == []


# The demonstration's releases

#: What is wrong with two of them on purpose, as far as files can show it.
KNOWN = {("forge", "3.6.0+1.25.0-rootless"): ["config-not-bumped"], ("tiny-html", "1.2.0+2.43.0"): ["tag-not-annotated"]}
RELEASES = [
    (name, commit.tag) for name in upstreams.recipe_names() for commit in upstreams.history(name).commit if commit.tag is not None
]


def read(tree: Path) -> tuple[Stack, dict[str, str], dict[str, str]]:
    """(resolved stack, env, hashes) of a recipe's tree."""
    sample = (tree / ".env.sample").read_text()
    env = parse_env(sample, {"DOMAIN": "r.example.com", "STACK_NAME": STACK, "LETS_ENCRYPT_ENV": ""})
    env |= parse_exports((tree / "abra.sh").read_text(), env)
    resolved = resolve([(name, (tree / name).read_text()) for name in env["COMPOSE_FILE"].split(":")], env)
    files = [path for path in tree.rglob("*") if path.is_file()]
    return resolved, env, {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(("name", "tag"), RELEASES)
def test_a_release_of_the_demonstration_has_only_the_defects_it_was_given(name: str, tag: str) -> None:
    commits = [commit for commit in upstreams.history(name).commit if commit.tag is not None]
    place = [commit.tag for commit in commits].index(tag)
    folder = upstreams.RECIPES / name
    resolved, env, files = read(folder / commits[place].tree)
    base = read(folder / commits[place - 1].tree) if place else None
    given = LintFacts(
        version=tag,
        resolved=resolved,
        stack=STACK,
        env=env,
        sample=(folder / commits[place].tree / ".env.sample").read_text(),
        files=files,
        base_resolved=base[0] if base else None,
        base_files=base[2] if base else {},
        annotated=commits[place].annotated,
    )
    assert [code for code, findings in lint(given).items() if findings] == KNOWN.get((name, tag), [])


# Whatever shape it has

ODD: list[Any] = [None, {}, [], "", "x", "a:b", 0, 1.5, True, ["a"], [None], [[]], [{}], {"a": None}, {"a": ["b"]}, {1: 2}]
SERVICE = (
    *("image", "build", "deploy", "labels", "healthcheck", "volumes", "ports", "depends_on", "configs", "secrets", "environment"),
    *("stop_grace_period", "container_name"),
)
DEPLOY = ("labels", "update_config", "rollback_config", "restart_policy")


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_whatever_is_not_refused_breaks_no_rule(odd: Any) -> None:
    service = {**APP, "deploy": {**APP["deploy"]}}
    on = {**APP["deploy"]["labels"], "backupbot.backup": "true"}
    shapes: list[Any] = [{}, {"services": odd}, {"services": {"app": odd}}]
    declared = ("volumes", "configs", "secrets", "networks")
    shapes += [{"services": {"app": service}, section: one} for section in declared for one in (odd, {"x": odd})]
    shapes += [{"services": {"app": service}, "configs": {"x": {key: odd}}} for key in ("name", "file", "external")]
    shapes += [{"services": {"app": service}, "secrets": {"x": {"external": odd, "name": odd}}}]
    services = [{**service, key: odd} for key in SERVICE]
    services += [{**service, "deploy": {key: odd}} for key in DEPLOY]
    services += [{**service, "deploy": {key: {inner: odd}}} for key in DEPLOY for inner in ("order", "failure_action", "delay")]
    services += [{**service, "healthcheck": {key: odd}} for key in ("test", "disable", "interval")]
    services += [{**service, key: [odd]} for key in ("volumes", "ports", "configs", "secrets", "env_file")]
    services += [{**service, "volumes": [{"target": "/x", key: odd}]} for key in ("type", "source", "target", "read_only")]
    services += [{**service, "ports": [{"target": 1, key: odd}]} for key in ("target", "published", "mode")]
    services += [{**service, "deploy": {"labels": {**on, key: odd}}} for key in ("backupbot.backup.path", "backupbot.backup.x")]
    shapes += [{"services": {"app": one}} for one in services]
    passed = 0
    for shape in shapes:
        try:
            read = resolve([("compose.yml", json.dumps(shape))], {})
        except RecipeProblem:
            continue
        passed += 1
        for base in (None, read):
            given = facts(read, base_resolved=base, files={"x": "1", "a": "1"}, base_files={"x": "2"})
            assert list(lint(given)) == [code for code, _ in RULES]
        refusals(read, name=STACK, domain="x.test")
        backup_plan(read)
    assert passed, "or this would prove nothing"


def test_code_whose_lines_end_as_in_windows_is_found() -> None:
    assert found("windows-line-ends", facts(windows=("abra.sh",))) == ["abra.sh"]
    assert found("windows-line-ends", facts()) == []
