"""Whose fault a failed deploy or task is: one table of texts, in the order they are tried. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from canonq.core.errors import CanonqError, HostProblem, RecipeProblem


@dataclass(frozen=True)
class Pattern:
    """One text that tells what went wrong."""

    text: str  #: in lower case
    code: str
    kind: type[CanonqError]  #: whose fault it is
    mend: str
    final: bool = False  #: said of a task, it means that no later task will do better


PATTERNS: tuple[Pattern, ...] = (
    Pattern("only updates to labels are allowed", "config-not-bumped", RecipeProblem,
            "the release changes a config or secret without a new *_VERSION in abra.sh; bump it and tag again."),
    Pattern("toomanyrequests", "registry-rate-limit", HostProblem, "wait, or log the Engine in to the registry.", final=True),
    Pattern("cannot connect to the docker daemon", "docker-unreachable", HostProblem, "start Docker."),
    Pattern("is not a swarm manager", "no-swarm", HostProblem, "run `docker swarm init`."),
    Pattern("no space left on device", "disk-full", HostProblem, "free some disk.", final=True),
    Pattern("manifest unknown", "image-unavailable", RecipeProblem,
            "the release names an image that is not there any more.", final=True),
    Pattern("pull access denied", "image-unavailable", RecipeProblem, "the release names an image nobody may pull.", final=True),
    Pattern("no such image", "image-unavailable", RecipeProblem, "the release names an image that is not there.", final=True),
    Pattern("host-mode port already in use", "port-taken", HostProblem, "another app has the port; stop it.", final=True),
    Pattern("port is already allocated", "port-taken", HostProblem, "another program has the port; stop it.", final=True),
    Pattern("address already in use", "port-taken", HostProblem, "another program has the port; stop it."),
    Pattern("invalid mount config", "mount-invalid", RecipeProblem, "the release mounts what is not there.", final=True),
    Pattern("executable file not found", "cannot-start", RecipeProblem, "the image lacks the command.", final=True),
    Pattern("oci runtime create failed", "cannot-start", RecipeProblem, "the release's container cannot be made.", final=True),
    Pattern("exec format error", "cannot-start", RecipeProblem, "the release's image is for another kind of machine."),
    Pattern("no such host", "registry-unreachable", HostProblem, "the registry cannot be reached; check the network."),
    Pattern("i/o timeout", "registry-unreachable", HostProblem, "the registry cannot be reached; check the network."),
    Pattern("connection refused", "registry-unreachable", HostProblem, "the registry cannot be reached; check the network."),
    Pattern("unauthorized", "registry-refused", HostProblem, "log the Engine in to the registry."),
    Pattern("could not be found", "network-missing", HostProblem,
            "an external network, secret or config is missing on this host."),
    Pattern("does not match format 'duration'", "compose-invalid", RecipeProblem, "write durations as literals, such as 30s."),
    Pattern("characters allowed", "name-too-long", RecipeProblem, "shorten the config's or secret's name."),
    Pattern("already exists", "leftovers", HostProblem, "run `canonq janitor`."),
    Pattern("alreadyexists", "leftovers", HostProblem, "run `canonq janitor`."),
)  # fmt: skip

#: What newer versions of Docker's command print about themselves.
_NOTICES = ("Since --detach=false", "In a future release, --detach", "Creating ", "Updating ", "Ignoring ", "Removing ")

#: Told by the files themselves or by Docker's reading of them: no load of the host changes it, so trying again is vain.
CERTAIN = frozenset({
    "compose-invalid", "compose-missing", "config-not-bumped", "env-missing", "env-unreadable", "image-unavailable",
    "mount-invalid", "name-too-long", "no-app-service", "not-text", "path-outside-recipe", "policy-refused", "secret-charset",
    "secret-length", "unsafe-tree",
})  # fmt: skip


def known(text: str) -> Pattern | None:
    """The first pattern that the text shows."""
    lowered = text.lower()
    return next((pattern for pattern in PATTERNS if pattern.text in lowered), None)


def deploy_problem(output: str, what: str, *, default: str = "deploy-refused") -> CanonqError:
    """Turn what a Docker command printed into the error to raise; unknown texts are the recipe's."""
    said = " ".join(line.strip() for line in output.splitlines() if line.strip() and not line.startswith(_NOTICES))[-500:]
    if found := known(output):
        return found.kind(f"{what} failed: {said}.", mend=found.mend, code=found.code)
    return RecipeProblem(f"{what} failed: {said}.", code=default)
