from __future__ import annotations

from collections.abc import Iterator

import pytest

from .deployment import Deployment, Images, built_images, running_stack


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    """canonq's image, built from this tree without a registry."""
    with built_images() as built:
        yield built


@pytest.fixture(scope="session")
def deployment(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The stack of docker-compose.yml, up, with both workers answering. The checkout has a tests/ without recipes."""
    with running_stack(images, tmp_path_factory.mktemp("deployment")) as running:
        yield running
