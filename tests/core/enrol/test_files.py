"""The files that `enrol` writes."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from canonq.core.enrol.files import enrolment_text
from canonq.core.enrol.inspect import Guess
from canonq.core.enrolment import parse_enrolment
from tests.core.enrol.test_inspect import SAMPLE, WEB, looked_into


def test_the_file_is_a_valid_enrolment_with_its_reasons_as_comments() -> None:
    text = enrolment_text("site", "https://h/site.git", looked_into(WEB, SAMPLE), version="1.0.0+1.0", description="A site")
    read = parse_enrolment("site", text, where="x")
    assert (read.upstream, read.weight, read.health.port, read.health.path) == ("https://h/site.git", "light", 8080, "/health")
    assert "# smtp = { file" in text
    assert '# SMTP_HOST = ""' in text


def test_hostile_texts_of_a_recipe_stay_inside_their_comments() -> None:
    evil = 'services: {app: {image: "x\\nenrolled = false\\n[env]\\nA = \\"b\\"\\n"}}'
    text = enrolment_text(
        "site", 'https://h/"x', looked_into(evil), version="1", description='d"\n[secrets]\nx = { env = "Y" }\n'
    )
    found = tomllib.loads(text)
    assert set(found) == {"upstream", "weight", "health", "env"}
    assert found["env"] == {}
    assert found["upstream"] == 'https://h/"x'


@pytest.mark.parametrize("path", ["/é", "/\U0001f600", "/\x7f\x01", '/"\\'])
def test_a_guess_of_any_characters_is_written_as_it_is(path: str) -> None:
    found = replace(looked_into(WEB, SAMPLE), path=Guess(path, "its health check asks for it"))
    assert tomllib.loads(enrolment_text("site", "/x", found, version="1.0.0+1"))["health"]["path"] == path


def test_what_could_not_be_looked_into_says_so_in_the_file() -> None:
    text = enrolment_text("site", "/x", "compose.yml: is not\nYAML", version="1.0.0+1")
    assert parse_enrolment("site", text, where="x").upstream == "/x"
    assert "# The recipe could not be looked into: compose.yml: is not YAML" in text
