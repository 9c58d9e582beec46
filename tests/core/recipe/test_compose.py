"""Compose files laid over each other, and what they come to."""

from __future__ import annotations

import json

import pytest
import yaml

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.compose import resolve, unset, written


def test_emoji_and_odd_characters_are_written_as_dockers_reader_of_yaml_takes_them() -> None:
    said = {"services": {"app": {"image": "x", "environment": {"A": "Garden \U0001f33b \x7f \x85 \u2028 \\ud83c"}}}}
    text = written(said)
    assert "\U0001f33b" in text
    assert "\\ud83c\\udf3b" not in text
    assert json.loads(text) == yaml.safe_load(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "services: []",
        "services: {}",
        "services: {app: [1]}",
        "services: {app: {build: .}}",
        "services: {app: {image: x}}\nservixes: {}",
        "services: {app: {image: x}}\nconfigs:",
        "services: {app: {image: x}, db: }",
        "services: {app: {image: x}}\nx-note: 5 $ a month",
        "version: 3.8\nservices: {app: {image: x}}",
        "version:\nservices: {app: {image: x}}",
        "services:\n" + "\n".join(f"  s{n}: {{image: x}}" for n in range(10_000)),
    ],
)
def test_a_stack_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(RecipeProblem):
        resolve([("compose.yml", text)], {})


@pytest.mark.parametrize(("one", "other"), [("3.8", "3.9"), ("3.8", None), (None, "3.8"), ("3", "3.8")])
def test_files_of_two_versions_are_refused_as_docker_refuses_them(one: str | None, other: str | None) -> None:
    texts = [
        f'version: "{version}"\n{services}' if version else services
        for version, services in ((one, "services: {app: {image: x}}"), (other, "services: {app: {tty: true}}"))
    ]
    with pytest.raises(RecipeProblem, match=r"over\.yml.* Docker takes files of one version only"):
        resolve([("compose.yml", texts[0]), ("over.yml", texts[1])], {})
    assert resolve([("compose.yml", texts[0])], {}, ("compose.canonq.yml", texts[1])).version, "the enrolment's own is no file"


def test_a_file_without_a_version_has_the_one_that_its_keys_need() -> None:
    def version(health: str) -> str:
        return resolve(
            [("compose.yml", f"services: {{app: {{image: x, healthcheck: {{test: [CMD, x], {health}}}}}}}")], {}
        ).version

    assert version("interval: 2s") == "3.8"
    assert version("start_interval: 2s") == "3.12"


def test_an_orphan_service_in_an_overlay_is_named() -> None:
    """An overlay kept a service after the base file had dropped it."""
    with pytest.raises(RecipeProblem, match="sidekiq"):
        resolve([("compose.yml", "services: {app: {image: x}}"), ("over.yml", "services: {sidekiq: {environment: [A=b]}}")], {})


def test_variables_that_nothing_sets_are_told_once_with_their_line() -> None:
    text = 'services:\n  app:\n    image: x:1\n    environment: ["A=${ADMIN_MAIL}", "B=${ADMIN_MAIL}", "C=${C:-}", "D=$$E"]\n'
    assert unset([("compose.yml", text)], {"ADMIN_EMAIL": "x"}) == [
        "compose.yml:4 services.app.environment.0: nothing sets ADMIN_MAIL; did you mean 'ADMIN_EMAIL'?"
    ]
