"""What a release's files say before Docker is asked anything, and whose it is once install steps have had their hands in them."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from canonq.core.deployable import Identity
from canonq.core.enrolment import parse_enrolment
from canonq.core.errors import CanonqError, Fault
from canonq.flows.deploying.deployment import start
from canonq.flows.deploying.stages import Account, Deployment
from canonq.flows.world import World
from tests.flows.deploying.test_what_a_pull_request_tries import APP, Ref

CONFIG = f"{APP}    configs: [page]\nconfigs: {{page: {{file: page.html}}}}\n"
TEMPLATE = (
    f"{APP}    configs: [page]\n    secrets: [db_password]\nconfigs: {{page: {{file: page.html, template_driver: golang}}}}\n"
    "secrets: {db_password: {external: true, name: s-1_db_password_v1}}\n"
)
SAMPLE = "SECRET_DB_PASSWORD_VERSION=v1\n"


@pytest.fixture
def release(tmp_path: Path) -> Ref:
    return Ref(tmp_path, trusted=True)


def said(release: Ref, compose: str, **files: str) -> CanonqError:
    with pytest.raises(CanonqError) as told:
        release.says(compose, **files)
    return told.value


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("", "file-empty", "configs.page is made from the file 'page.html', which is empty, and Swarm takes nothing empty."),
        ("x" * 1_024_000, "file-too-large", "which has 1024000 bytes, and Swarm takes fewer than 1024000."),
    ],
    ids=["empty", "too-large"],
)
def test_a_config_that_swarm_does_not_take_is_the_releases(release: Ref, content: str, code: str, words: str) -> None:
    found = said(release, CONFIG, **{"page.html": content})
    assert (found.fault, found.code) == (Fault.RECIPE, code)
    assert words in found.what
    release.says(CONFIG, **{"page.html": content[:-1] or "\n"})


def test_a_config_from_a_folder_or_from_a_submodule_is_told_as_that(release: Ref) -> None:
    (release.root / "tree" / "page.html").mkdir()
    assert "configs.page is made from 'page.html', which is a folder." in said(release, CONFIG).what
    found = said(release, CONFIG.replace("page.html", "sub/page.html"), **{".gitmodules": '[submodule "s"]\n\tpath = sub\n'})
    assert "the file 'sub/page.html', which lies in the submodule 'sub': a release is what its own repository has" in found.what


@pytest.mark.parametrize(
    "text", ['{{ secret "db_pasword" }}', 'a={{- secret `db_pasword` -}}\n{{ env "X" }}', '{{secret "db_pasword"}}']
)
def test_a_template_that_takes_a_secret_which_its_service_is_not_given_is_the_releases(release: Ref, text: str) -> None:
    found = said(release, TEMPLATE, sample=SAMPLE, **{"page.html": text})
    assert (found.fault, found.code, found.certain) == (Fault.RECIPE, "cannot-start", True)
    assert found.what == (
        "configs.page: its template 'page.html' takes the secret 'db_pasword', which the service 'app' is not given; "
        "did you mean 'db_password'?"
    )


@pytest.mark.parametrize(
    "text",
    [
        '{{ secret "db_password" }}',
        '{{ if eq (env "X") "1" }}{{ secret "other" }}{{ end }}',
        '{{ "{{ secret" }} "other" }}',
        "{{",
    ],
)
def test_a_template_that_may_be_filled_in_is_left_to_swarm(release: Ref, text: str) -> None:
    assert release.says(TEMPLATE, sample=SAMPLE, **{"page.html": text})


def test_more_replicas_than_one_node_takes_are_the_releases(release: Ref) -> None:
    deploy = f"{APP}    deploy: {{replicas: 3, placement: {{max_replicas_per_node: MOST}}}}\n"
    found = said(release, deploy.replace("MOST", "1"))
    assert (found.fault, found.code, found.certain) == (Fault.RECIPE, "no-node-fits", True)
    assert "services.app.deploy asks for 3 replicas, and for 1 on each node at the most (max_replicas_per_node)" in found.what
    for most in ("0", "3"):
        release.says(deploy.replace("MOST", most))


# -- install steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo COMPOSE_FILE=s3.yml >> "$APP_ENV"\n', "install_steps.sh has changed COMPOSE_FILE in $APP_ENV before."),
        ('rm "$RECIPE_DIR/page.html"\n', "install_steps.sh has changed something: before it, it could be deployed."),
        ('sed -i s/page.html/x.html/ "$RECIPE_DIR/compose.yml"\n', "install_steps.sh has changed 'compose.yml' before."),
    ],
    ids=["env", "file", "compose"],
)  # fmt: skip
def test_what_install_steps_have_spoilt_is_the_enrolments(release: Ref, script: str, words: str) -> None:
    release.steps(script)
    found = said(release, CONFIG, **{"page.html": "hello"})
    assert found.fault is Fault.ENROLMENT
    assert words in found.what


def test_what_the_release_lacks_stays_its_own_though_install_steps_gave_it_a_variable(release: Ref) -> None:
    release.steps('echo ADMIN=me >> "$APP_ENV"\n')
    found = said(release, CONFIG.replace("    configs:", "    hostname: ${ADMIN:?say who}\n    configs:"))
    assert (found.fault, found.code) == (Fault.RECIPE, "file-missing")


NETWORK = f"{APP}    networks: [n]\nnetworks: {{n: {{external: true, name: 'NAME'}}}}\n"
MOTD = f"{APP}    configs: [motd]\nconfigs: {{motd: {{external: true, name: 'NAME'}}}}\n"
ADDS = "printf '    networks: [n]\\nnetworks: {n: {external: true, name: inside}}\\n' >> \"$RECIPE_DIR/compose.yml\"\n"


@pytest.mark.parametrize(
    ("compose", "script", "fault", "code", "words"),
    [
        (NETWORK.replace("NAME", "prxy"), "true\n", Fault.RECIPE, "network-missing", "did you mean 'proxy'?"),
        (NETWORK.replace("NAME", "intranet"), "true\n", Fault.HOST, "network-missing", "network 'intranet' of others"),
        (APP, ADDS, Fault.ENROLMENT, "network-missing", "tests/enrolment/install_steps.sh or the overlay asks for it."),
        (MOTD.replace("NAME", "site_motd"), "", Fault.HOST, "config-missing", "config 'site_motd' of others (external)"),
        (MOTD.replace("NAME", "${STACK_NAME}_motd_v1"), "", Fault.ENROLMENT, "config-missing", "whoever deploys the app makes"),
        (MOTD.replace("NAME", "${STACK_NAME}_m"), "true\n", Fault.ENROLMENT, "config-missing", "install_steps.sh has not."),
        (MOTD.replace("NAME", "site_there"), "", None, "", ""),
    ],
)  # fmt: skip
def test_what_others_are_to_have_made_is_looked_for_after_install_steps(
    release: Ref, compose: str, script: str, fault: Fault | None, code: str, words: str
) -> None:
    if script:
        release.steps(script)
    (release.root / "tree" / "compose.yml").write_text(compose)
    found = asked(release)
    if fault is None:
        assert str(found) == "everything is there"
        return
    assert (found.fault, found.code, found.certain) == (fault, code, True), found
    assert words in found.what


def asked(release: Ref) -> CanonqError:
    """What stops a deployment on a host that has one config, and no network."""

    def deployed(_: object) -> None:
        raise CanonqError("everything is there")

    stacks = SimpleNamespace(
        strangers=lambda *_: [],
        check_network=lambda _: False,
        networks=list,
        configs=lambda: ["site_there"],
    )
    checkout = SimpleNamespace(folder=lambda _: release.root / "enrolment")
    world = cast(World, SimpleNamespace(checkout=checkout, stacks=stacks, images=SimpleNamespace(image_sizes=deployed)))
    enrolment = parse_enrolment("site", 'upstream = "/x"\n', where="recipe.toml")
    identity = Identity("i", "run", "site", "o", "s-1", "s-1.canonq.test", "1.0.0+1.0", "c" * 40)
    app = Deployment(identity, enrolment, release.root / "tree", release.root / "work", Account())
    with pytest.raises(CanonqError) as told:
        start(world, app, "install", time.monotonic() + 600)
    return told.value


def test_a_config_of_others_that_the_overlay_makes_from_a_file_is_the_stacks_own(release: Ref) -> None:
    (release.root / "enrolment" / "compose.canonq.yml").write_text("configs: {motd: {external: false, file: motd.txt}}\n")
    release.steps('echo hello > "$RECIPE_DIR/motd.txt"\n')
    prepared = release.says(MOTD.replace("NAME", "${STACK_NAME}_motd_v1"))
    made = prepared.stack.file["configs"]["motd"]
    assert (made["name"], made["external"], Path(made["file"]).read_text()) == ("s-1_motd_v1", False, "hello\n")
    assert made["labels"]
