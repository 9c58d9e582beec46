"""Names of images as Docker reads them, and which digest of a local image is the one that a name stands for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canonq.core.errors import RecipeProblem

HUB = "docker.io"
_LONGEST = 255  #: characters of registry and repository together
_REGISTRY = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: Ends of names that no public DNS has.
_INSIDE = (".local", ".localhost", ".localdomain", ".internal", ".intranet", ".lan", ".home", ".home.arpa", ".corp", ".private")


@dataclass(frozen=True)
class ImageName:
    """An image's name, with what Docker adds when it is left out."""

    registry: str  #: address, with its port where it names one
    repository: str
    tag: str | None  #: None where only a digest is named
    digest: str | None = None

    @property
    def wanted(self) -> str:
        """What the registry is asked for: the digest, which decides where both are named, or the tag."""
        return self.digest or self.tag or "latest"


def image_name(reference: str, where: str = "") -> ImageName:
    """Read a reference. RecipeProblem (`image-name-invalid`) for what Docker would refuse, saying what is wrong with it."""

    def wrong(why: str) -> RecipeProblem:
        place = f" of {where}" if where else ""
        return RecipeProblem(
            f"The image {reference!r}{place} is not a name that Docker takes: {why}.",
            mend="correct `image` in the compose file, or the variable it is filled in from.",
            code="image-name-invalid",
        )

    named, at, digest = reference.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise wrong("what stands after '@' is not a digest")
    path, slash, last = named.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not tag:
        raise wrong("its tag is empty; does nothing set the variable in it?")
    if colon and not _TAG.fullmatch(tag):
        raise wrong("its tag has characters that a tag may not have")
    full = f"{path}{slash}{last}"
    first, slash, rest = full.partition("/")
    if slash and (set(first) & {".", ":", "["} or first == "localhost"):
        registry, repository = first, rest
    else:
        registry, repository = HUB, full if slash else f"library/{full}"
        if not full:
            raise wrong("it is empty; does nothing set the variable in it?")
    if registry == "index.docker.io":
        registry = HUB
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _REGISTRY.fullmatch(registry):
        raise wrong("what stands before the first '/' is not a registry's address")
    if not _REPOSITORY.fullmatch(repository):
        raise wrong(
            "it must be in lower case" if repository != repository.lower() else "it has characters that a name may not have"
        )
    if len(registry) + len(repository) >= _LONGEST:
        raise wrong(f"it is longer than {_LONGEST} characters")
    if registry == HUB and re.fullmatch(r"library/[0-9a-f]{64}", repository):
        raise wrong("it looks like an image's id")
    return ImageName(registry, repository, tag or (None if digest else "latest"), digest or None)


def is_inside(registry: str) -> bool:
    """Whether a registry's address, as it is written, may be this host or one near it: a number, no name of the public DNS."""
    host = registry.lower() if registry.endswith("]") else re.sub(r":[0-9]+$", "", registry.lower())
    return host.startswith("[") or "." not in host or bool(_NUMBER.fullmatch(host.rpartition(".")[2])) or host.endswith(_INSIDE)


def digest_of(reference: str, image: Mapping[str, Any]) -> str:
    """The digest that goes on record for a local image: of the repository that was named, else the image's id.

    One image may be known in several repositories (a mirror, a copy under another name), each with a digest of its own.
    """
    named = image_name(reference)
    if named.digest:
        return named.digest
    return min(_digests(named, image), default=str(image["Id"]))


def is_known_as(reference: str, digest: str, image: Mapping[str, Any]) -> bool:
    """Whether a local image is the one that was put on record as `digest`, by any digest of its repository or by its id."""
    return digest in (*_digests(image_name(reference), image), image["Id"])


def _digests(named: ImageName, image: Mapping[str, Any]) -> list[str]:
    found = []
    for listed in image.get("RepoDigests") or []:
        repository, _, digest = str(listed).partition("@")
        try:
            other = image_name(repository)
        except RecipeProblem:  # such as <none>
            continue
        if (other.registry, other.repository) == (named.registry, named.repository):
            found.append(digest)
    return found
