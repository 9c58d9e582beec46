"""The demonstration's images, built by the Docker Engine that is there."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from canonq.core.errors import WrongUse
from demo import images

_POSTGRES = "canonq-demo/postgres:15"
_MEGABYTE = 1_000_000


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.mark.real
def test_a_second_build_changes_nothing(engine: docker.DockerClient) -> None:
    first = images.build()
    created = {reference: engine.images.get(reference).attrs["Created"] for reference in first}
    assert images.build() == first
    assert {reference: engine.images.get(reference).attrs["Created"] for reference in first} == created


@pytest.mark.real
def test_every_tag_is_an_image_of_its_own() -> None:
    built = images.build(["static"])
    assert len(built) == len(set(built.values())) > 1


@pytest.mark.real
def test_the_tools_are_where_a_recipe_looks_for_them(engine: docker.DockerClient) -> None:
    reference = "canonq-demo/static:1.30.0"
    images.build([reference])
    said = engine.containers.run(reference, ["ls", "/bin"], remove=True, network_mode="none")
    assert {"sh", "httpd", "wget", "sed"} <= set(said.decode().split())


@pytest.mark.real
def test_postgresql_is_small_and_does_not_run_as_root(engine: docker.DockerClient) -> None:
    images.build([_POSTGRES])
    assert engine.images.get(_POSTGRES).attrs["Size"] < 150 * _MEGABYTE
    said = engine.containers.run(_POSTGRES, ["sh", "-c", "id -un; postgres --version"], remove=True, network_mode="none")
    user, version = said.decode().splitlines()
    assert user == "postgres"
    assert version.startswith("postgres (PostgreSQL) 15.")


@pytest.mark.real
def test_every_program_of_the_guestbook_finds_its_libraries(engine: docker.DockerClient) -> None:
    for reference in images.build(["guestbook"]):
        for program in ("psql", "pg_isready"):
            said = engine.containers.run(reference, [program, "--version"], remove=True, network_mode="none", entrypoint=[])
            assert b"(PostgreSQL) 15." in said, reference


def test_a_name_that_nobody_builds_is_refused_with_those_that_are() -> None:
    with pytest.raises(WrongUse, match=r"no demo image 'nginx'.*canonq-demo/static:1\.29\.0"):
        images.build(["nginx"])
