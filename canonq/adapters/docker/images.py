"""Images: looked at, pulled, let go of."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from canonq.adapters.docker.client import DockerClient, translated
from canonq.adapters.lazily import docker
from canonq.adapters.network import registries
from canonq.adapters.processes.programs import plain_environment, run
from canonq.core.blame import deploy_problem, names_of_image
from canonq.core.deployable import LABEL_OWNER
from canonq.core.errors import CanonqError, HostProblem, TimedOut
from canonq.core.pulling import WORTH_ASKING, meaning
from canonq.core.stack.images import digest_of, image_name, is_known_as

log = logging.getLogger("canonq")

_NOBODY = "nobody-at-all"
_LONGEST_PULL = 1800.0  #: seconds for one image
_OF_A_REGISTRY = frozenset({
    "pull-failed", "registry-certificate", "registry-rate-limit", "registry-refused", "registry-unavailable",
    "registry-unreachable",
})  # fmt: skip


class DockerImages(DockerClient):
    """See ports.Images."""

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        """See ports.Images.ensure_images. RecipeProblem for an image that cannot be had."""
        ends = time.monotonic() + timeout
        found: dict[str, str] = {}
        for reference in dict.fromkeys(references):
            image = self._image(reference)
            if image is None:
                self._pull(reference, max(1.0, ends - time.monotonic()))
                image = self._image(reference)
            if image is None:
                raise HostProblem(
                    f"The image {reference} is not there after its pull.",
                    mend="something on this host removes images while canonq works, such as a nightly `docker system prune`.",
                    code="image-gone",
                )
            found[reference] = digest_of(reference, image)
        return found

    def had_from(self, other: str, reference: str, timeout: float) -> bool:
        """See ports.Images.had_from. The other name goes again: who drops the image later knows its own."""
        name = image_name(reference)
        try:
            self._pull(other, timeout)
        except CanonqError as error:
            log.warning("%s could not be pulled as %s, and is pulled from %s itself: %s", reference, other, name.registry, error)
            return False
        with translated(f"name the image {reference}"):
            self._api.tag(other, reference.removesuffix(f":{name.tag}"), name.tag)
            self._api.remove_image(other)
        return True

    def is_image(self, reference: str, digest: str) -> bool:
        """See ports.Images.is_image."""
        image = self._image(reference)
        return image is not None and is_known_as(reference, digest, image)

    def _image(self, reference: str) -> dict[str, Any] | None:
        image_name(reference)
        with translated("look at an image"):
            try:
                return dict(self._api.inspect_image(reference))
            except docker.errors.ImageNotFound:
                return None

    def _pull(self, reference: str, timeout: float) -> None:
        name = image_name(reference)
        try:
            ended = run(["docker", "pull", "--quiet", reference], timeout=min(timeout, _LONGEST_PULL), env=plain_environment())
        except TimedOut as error:
            raise HostProblem(
                f"The pull of {reference} did not finish within {min(timeout, _LONGEST_PULL):.0f} s.",
                mend="look at the network and at the registry.",
                code="registry-unreachable",
                outside=name.registry,
            ) from error
        if ended.status == 0:
            return
        problem = deploy_problem(ended.tail, f"The pull of {reference}", default="pull-failed", names=names_of_image(reference))
        if problem.code in WORTH_ASKING:
            asked = registries.ask(name, self._insecure())
            problem = meaning(problem, asked, registry=name.registry, logged_in=registries.has_login(name.registry))
        if problem.code in _OF_A_REGISTRY:
            problem.outside = name.registry
        raise problem

    def _insecure(self) -> list[str]:
        """The networks and addresses of registries that Docker asks without TLS too."""
        with translated("tell its registries"):
            config = self._info().get("RegistryConfig") or {}
        named = [name for name, one in (config.get("IndexConfigs") or {}).items() if not one.get("Secure", True)]
        return [*(config.get("InsecureRegistryCIDRs") or []), *named]

    def image_sizes(self, references: Sequence[str]) -> dict[str, int]:
        """See ports.Images.image_sizes."""
        found = {reference: self._image(reference) for reference in references}
        return {reference: int(image.get("Size") or 0) for reference, image in found.items() if image is not None}

    def drop_image(self, reference: str) -> bool:
        """See ports.Images.drop_image. Never by force: Docker itself knows which containers need it."""
        with translated(f"remove the image {reference}"):
            try:
                self._api.remove_image(reference)
            except docker.errors.ImageNotFound:
                return True
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    return False
                raise
        return True

    def drop_unfinished_pulls(self) -> None:
        """See ports.Images.drop_unfinished_pulls. With containerd's store they stay for hours, or until a prune."""
        if self.roots().store == "containerd":
            with translated("give back what pulls have left"):
                # The filter is what no image has: of pruning, only this part is wanted.
                self._api.prune_images(filters={"dangling": True, "label": f"{LABEL_OWNER}={_NOBODY}"})
