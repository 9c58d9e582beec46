"""A resolved stack fitted out for one deployment: whose it is, what it is called, where its files are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canonq.core.deployable import Deployable, Identity, deployable, external_secrets
from canonq.core.errors import CanonqError, RecipeProblem
from canonq.core.recipe.compose import resolve
from canonq.core.stack.mounts import with_own

STACK = "s-0a1b2c"
WHO = Identity(
    instance="i1", kind="run", recipe="site", owner="run-1", stack=STACK, domain="s.example", version="1.0.0+1.0", commit="a" * 40
)
OURS = {"canonq.instance": "i1", "canonq.kind": "run", "canonq.recipe": "site", "canonq.owner": "run-1"}
COMPOSE = """
version: "3.8"
x-note: {a: 1}
services:
  app:
    x-mine: 1
    image: nginx:1.25
    environment:
      - OWN=own
      - FROM_ENV
      - NOWHERE
      - MONEY=$$5
    networks: [proxy, inner]
    volumes: ["data:/data", "media:/media"]
    secrets: [db_password]
    configs: [nginx_conf]
    deploy:
      replicas: 1
      labels:
        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)"
        - "coop-cloud.${STACK_NAME}.timeout=120"
  db:
    image: postgres:15
    environment: {POSTGRES_USER: x, FROM_ENV: }
    networks: [inner]
    labels: {backupbot.backup: "true"}
networks:
  proxy: {external: true}
  inner:
volumes:
  data: {labels: {keep: "1"}}
  media: {external: true, name: films}
secrets:
  db_password: {external: true, name: "${STACK_NAME}_db_password_${SECRET_DB_PASSWORD_VERSION}"}
  made: {file: made.txt}
configs:
  nginx_conf: {name: "${STACK_NAME}_nginx_conf_${NGINX_CONF_VERSION}", file: conf/nginx.conf}
"""
ENV = {
    "STACK_NAME": STACK, "DOMAIN": "s.example", "SECRET_DB_PASSWORD_VERSION": "v2", "NGINX_CONF_VERSION": "v7",
    "FROM_ENV": "given", "ELSE": "$x",
}  # fmt: skip


def fit(compose: str = COMPOSE, *, who: Identity = WHO, **env: str) -> Deployable:
    resolved, _ = with_own(resolve([("compose.yml", compose)], {**ENV, **env}))
    names = {key: f"{who.stack}_{key}" for key in resolved.volumes}
    return deployable(resolved, who, {**ENV, **env}, folder="/scratch/tree", volume_names=names)


def fit_app(body: str = "", *, top: str = "", who: Identity = WHO) -> Deployable:
    return fit(f"services:\n  app:\n    image: nginx:1\n{body}\n{top}", who=who)


def has_ours(labels: dict[str, str]) -> bool:
    return labels.items() >= OURS.items()


def test_services_their_containers_volumes_networks_configs_and_secrets_say_whose_they_are() -> None:
    file = fit().file
    for service in file["services"].values():
        assert has_ours(service["labels"])
        assert has_ours(service["deploy"]["labels"])
    for made in (file["volumes"]["data"], file["networks"]["inner"], file["configs"]["nginx_conf"], file["secrets"]["made"]):
        assert has_ours(made["labels"])


def test_what_is_external_is_not_claimed() -> None:
    file = fit().file
    assert file["networks"]["proxy"] == {"external": True, "name": "proxy"}
    assert "external" not in file["volumes"]["media"], "a volume of somebody else's is never given to a stack"
    assert file["secrets"]["db_password"] == {"external": True, "name": f"{STACK}_db_password_v2"}
    assert fit().networks == ("proxy",)


def test_the_recipes_own_labels_stay_with_the_stacks_name_in_them() -> None:
    file = fit().file
    app = file["services"]["app"]["deploy"]["labels"]
    assert app[f"traefik.http.routers.{STACK}.rule"] == "Host(`s.example`)"
    assert app[f"coop-cloud.{STACK}.timeout"] == "120"
    assert file["services"]["db"]["labels"]["backupbot.backup"] == "true"
    assert file["volumes"]["data"]["labels"]["keep"] == "1"


def test_a_recipe_cannot_pass_its_things_off_as_anothers() -> None:
    body = "    labels: {canonq.owner: other}\n    deploy: {labels: {canonq.kind: warm}}"
    top = "volumes: {data: {labels: {canonq.recipe: other}}}\nnetworks: {n: {labels: {canonq.owner: other}}}"
    file = fit_app(body, top=top).file
    app = file["services"]["app"]
    for labels in (app["labels"], app["deploy"]["labels"], file["volumes"]["data"]["labels"], file["networks"]["n"]["labels"]):
        assert has_ours(labels)


def test_the_app_says_which_version_is_deployed_and_the_others_do_not() -> None:
    services = fit().file["services"]
    labels = services["app"]["deploy"]["labels"]
    assert labels[f"coop-cloud.{STACK}.version"] == "1.0.0+1.0"
    assert labels[f"coop-cloud.{STACK}.recipe"] == "site"
    assert labels["canonq.commit"] == "a" * 40
    assert f"coop-cloud.{STACK}.version" not in services["db"]["deploy"]["labels"]


def test_the_version_label_is_canonqs_whatever_the_recipe_wrote() -> None:
    labels = fit_app(f'    deploy: {{labels: {{"coop-cloud.{STACK}.version": "0.0.1+1"}}}}').file["services"]["app"]["deploy"][
        "labels"
    ]
    assert labels[f"coop-cloud.{STACK}.version"] == "1.0.0+1.0"


def test_nothing_changes_which_image_runs_or_how() -> None:
    body = '    command: ["a", "b"]\n    healthcheck: {test: ["CMD", "x"], interval: 5s}\n    deploy: {replicas: 3}'
    app = fit_app(body).file["services"]["app"]
    assert (app["image"], app["command"], app["healthcheck"]) == ("nginx:1", ["a", "b"], {"test": ["CMD", "x"], "interval": "5s"})
    assert app["deploy"]["replicas"] == 3
    assert fit().images == {"app": "nginx:1.25", "db": "postgres:15"}


def test_the_app_gets_the_whole_env_and_the_others_what_they_ask_for() -> None:
    services = fit().file["services"]
    app = services["app"]["environment"]
    assert (app["OWN"], app["FROM_ENV"], app["DOMAIN"]) == ("own", "given", "s.example")
    assert "NOWHERE" not in app
    assert services["db"]["environment"] == {"POSTGRES_USER": "x", "FROM_ENV": "given"}


def test_dollars_survive_dockers_second_reading() -> None:
    app = fit().file["services"]["app"]["environment"]
    assert (app["MONEY"], app["ELSE"]) == ("$$5", "$$x")


def test_secrets_are_called_in_docker_by_stack_name_and_version() -> None:
    assert fit().secrets == {f"{STACK}_db_password_v2": "db_password"}
    assert fit(SECRET_DB_PASSWORD_VERSION="v3").secrets == {f"{STACK}_db_password_v3": "db_password"}


def test_a_secret_whose_key_differs_from_its_name_is_known_by_its_name() -> None:
    top = 'secrets: {pw: {external: true, name: "${STACK_NAME}_root_password_v1"}, shared: {external: true, name: of_the_host}}'
    assert fit_app(top=top).secrets == {f"{STACK}_root_password_v1": "root_password", "of_the_host": "shared"}


def test_volumes_have_the_names_they_are_given() -> None:
    assert fit().volumes["data"] == f"{STACK}_data"
    assert fit().file["volumes"]["data"]["labels"]["canonq.volume"] == "data"


@pytest.mark.parametrize(
    "body", ["{external: true}", "{driver: nfs}", "{driver_opts: {type: none, o: bind, device: /srv/x}}"], ids=["1", "2", "3"]
)
def test_no_option_of_a_volume_reaches_docker(body: str) -> None:
    compose = f"services: {{app: {{image: 'nginx:1'}}}}\nvolumes: {{data: {body}}}"
    fitted = fit(compose)
    assert set(fitted.file["volumes"]["data"]) == {"name", "labels"}
    assert fitted.volumes == {"data": f"{STACK}_data"}
    with pytest.raises(CanonqError, match="was about to be given to the stack"):  # not replaced before
        deployable(resolve([("compose.yml", compose)], ENV), WHO, ENV, folder="/x", volume_names=fitted.volumes)


def test_a_volume_with_a_fixed_name_gets_the_deployments_own() -> None:
    assert fit_app(top="volumes: {data: {name: fixed}}").file["volumes"]["data"]["name"] == f"{STACK}_data"


@pytest.mark.parametrize(("section", "key"), [("configs", "config"), ("secrets", "secret"), ("networks", "network")])
def test_a_fixed_name_cannot_clash_with_another_deployment(section: str, key: str) -> None:
    body = "{name: fixed, file: x}" if section != "networks" else "{name: fixed}"
    cold = fit_app(top=f"{section}: {{{key}: {body}}}").file[section][key]["name"]
    warm = fit_app(top=f"{section}: {{{key}: {body}}}", who=replace(WHO, stack="warm-site")).file[section][key]["name"]
    assert cold.startswith(f"{STACK}_")
    assert warm.startswith("warm-site_")


def test_a_service_without_networks_gets_a_default_one_that_is_ours() -> None:
    network = fit_app().file["networks"]["default"]
    assert network["name"] == f"{STACK}_default"
    assert has_ours(network["labels"])
    assert "default" not in fit().file["networks"]


def test_notes_of_the_recipe_do_not_reach_docker() -> None:
    file = fit().file
    assert set(file) == {"version", "services", "networks", "volumes", "configs", "secrets"}
    assert "x-mine" not in file["services"]["app"]
    assert set(fit_app().file) == {"version", "services", "networks"}


def test_files_are_found_in_the_recipes_tree() -> None:
    top = "configs: {c: {file: ./a/../b.conf}}\nsecrets: {s: {file: /scratch/tree/s.txt}}"
    deploys = fit_app("    env_file: [one.env, sub/two.env]", top=top).file
    assert deploys["configs"]["c"]["file"] == "/scratch/tree/b.conf"
    assert deploys["secrets"]["s"]["file"] == "/scratch/tree/s.txt"
    assert deploys["services"]["app"]["env_file"] == ["/scratch/tree/one.env", "/scratch/tree/sub/two.env"]
    assert fit_app("    env_file: one.env").file["services"]["app"]["env_file"] == ["/scratch/tree/one.env"]


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/shadow", "/scratch/tree2/x", "/scratch/tree/../x", ".", "/", "/scratch/tree"]
)
@pytest.mark.parametrize("where", ["configs", "secrets", "env_file"])
def test_a_path_that_leads_out_of_the_recipe_is_refused(path: str, where: str) -> None:
    with pytest.raises(RecipeProblem) as told:
        fit_app(f"    env_file: {path}") if where == "env_file" else fit_app(top=f"{where}: {{x: {{file: {path}}}}}")
    assert told.value.code == "path-outside-recipe"
    assert where in told.value.what
    assert repr(path) in told.value.what


def test_a_recipe_without_an_app_is_refused() -> None:
    with pytest.raises(RecipeProblem, match="no service called 'app'") as told:
        fit("services: {web: {image: nginx:1}}")
    assert told.value.code == "no-app-service"


@pytest.mark.parametrize("image", ["ghcr.io/Org/app:1", "app:", "app:1 2"])
def test_an_image_name_that_docker_would_refuse_is_told_with_its_service(image: str) -> None:
    with pytest.raises(RecipeProblem, match="of the service 'app'") as told:
        fit(f"services:\n  app:\n    image: '{image}'\n")
    assert told.value.code == "image-name-invalid"


@pytest.mark.parametrize("section", ["configs", "secrets"])
@pytest.mark.parametrize("external", [True, False])
def test_a_name_longer_than_dockers_64_characters_is_told(section: str, external: bool) -> None:
    def top(stack: str, length: int) -> dict[str, Any]:
        how = "external: true" if external else "file: x"
        who = replace(WHO, stack=stack)
        found: dict[str, Any] = fit_app(
            top=f"{section}: {{x: {{name: {stack}_{'n' * (length - len(stack) - 1)}, {how}}}}}", who=who
        ).file
        return found

    assert len(top("warm-site", 64)[section]["x"]["name"]) == 64
    with pytest.raises(RecipeProblem, match="65 characters") as told:
        top("warm-site", 65)
    assert told.value.code == "name-too-long"


LONG = "a-recipe-of-a-very-patient-cooperative"


@pytest.mark.parametrize(
    ("top", "service"),
    [
        (f"configs: {{{'c' * 21}: {{file: x}}}}", "app"),
        (f"secrets: {{s: {{external: true, name: {STACK}_{'s' * 18}_v1}}}}", "app"),
        (f"networks: {{{'n' * 20}: {{}}}}", "app"),
        ("", "s" * 20),
    ],
)
def test_a_name_that_only_the_canonical_could_not_have_is_told_before_anything_is_deployed(top: str, service: str) -> None:
    """A run's stack has a short name: proven under it, and refused at every promotion."""
    compose = (
        f"services:\n  app: {{image: x:1}}\n  {service}: {{image: x:1}}\n{top}"
        if service != "app"
        else (f"services:\n  app: {{image: x:1}}\n{top}")
    )
    assert fit(compose, who=replace(WHO, recipe="site")).file
    with pytest.raises(RecipeProblem, match=r"never be promoted: as the canonical, .*warm-a-recipe") as told:
        fit(compose, who=replace(WHO, recipe=LONG))
    assert told.value.code == "name-too-long"


@pytest.mark.parametrize("top", ["networks: {inner.net: {}}", "configs: {c_: {file: x}}"])
def test_a_name_with_characters_that_swarm_does_not_take_is_told(top: str) -> None:
    with pytest.raises(RecipeProblem, match="Docker takes no") as told:
        fit_app(top=top)
    assert told.value.code == "name-invalid"


@pytest.mark.parametrize(
    ("version", "env", "name"),
    [
        ("", {}, "db_password"),
        ("_v12", {}, "db_password"),
        ("_blue", {"SECRET_DB_PASSWORD_VERSION": "blue"}, "db_password"),
        ("_blue", {}, "db_password_blue"),
        ("_v1_2", {"SECRET_DB_PASSWORD_VERSION": "v1_2"}, "db_password"),
        ("_2026_11_rotated", {"SECRET_DB_PASSWORD_VERSION": "2026_11_rotated"}, "db_password"),
        ("_", {}, "db_password"),
    ],
)
def test_a_secret_keeps_its_last_word_where_that_is_no_version(version: str, env: dict[str, str], name: str) -> None:
    resolved = resolve(
        [
            (
                "compose.yml",
                f"services: {{app: {{image: x}}}}\nsecrets: {{k: {{external: true, name: {STACK}_db_password{version}}}}}",
            )
        ],
        {},
    )
    assert list(external_secrets(resolved, STACK, env).values()) == [name]


@pytest.mark.parametrize("key", ["..", ".", "a/b", "a b", "ü", "x" * 300])
def test_a_volume_whose_name_no_folder_can_have_is_refused(key: str) -> None:
    """Snapshots keep a volume's data under its name."""
    stack = resolve([("compose.yml", f"services: {{app: {{image: a}}}}\nvolumes: {{'{key}': {{}}}}")], ENV)
    with pytest.raises(RecipeProblem) as refused:
        deployable(stack, WHO, ENV, folder="/scratch/tree", volume_names={key: "x"})
    assert refused.value.code == "name-invalid"
