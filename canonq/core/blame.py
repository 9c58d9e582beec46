"""Whose fault a failed deploy is: one table of texts, in the order they are tried. Pure."""

from __future__ import annotations

from canonq.core.errors import CanonqError, HostProblem, RecipeProblem

#: (text in lower case, code, class, mend)
PATTERNS: tuple[tuple[str, str, type[CanonqError], str], ...] = (
    ("only updates to labels are allowed", "config-not-bumped", RecipeProblem,
     "the release changes a config or secret without a new *_VERSION in abra.sh; bump it and tag again."),
    ("toomanyrequests", "registry-rate-limit", HostProblem, "wait, or log the Engine in to the registry."),
    ("cannot connect to the docker daemon", "docker-unreachable", HostProblem, "start Docker."),
    ("is not a swarm manager", "no-swarm", HostProblem, "run `docker swarm init`."),
    ("no space left on device", "disk-full", HostProblem, "free some disk."),
    ("manifest unknown", "image-unavailable", RecipeProblem, "the release names an image that is not there any more."),
    ("pull access denied", "image-unavailable", RecipeProblem, "the release names an image nobody may pull."),
    ("no such image", "image-unavailable", RecipeProblem, "the release names an image that is not there."),
    ("no such host", "registry-unreachable", HostProblem, "the registry cannot be reached; check the network."),
    ("i/o timeout", "registry-unreachable", HostProblem, "the registry cannot be reached; check the network."),
    ("connection refused", "registry-unreachable", HostProblem, "the registry cannot be reached; check the network."),
    ("could not be found", "network-missing", HostProblem, "an external network, secret or config is missing on this host."),
    ("does not match format 'duration'", "compose-invalid", RecipeProblem, "write durations as literals, such as 30s."),
    ("characters allowed", "name-too-long", RecipeProblem, "shorten the config's or secret's name."),
    ("already exists", "leftovers", HostProblem, "run `canonq janitor`."),
)  # fmt: skip

#: What newer versions of Docker's command print about themselves.
_NOTICES = ("Since --detach=false", "In a future release, --detach", "Creating ", "Updating ", "Ignoring ", "Removing ")


def deploy_problem(output: str, what: str, *, default: str = "deploy-refused") -> CanonqError:
    """Turn what a Docker command printed into the error to raise; unknown texts are the recipe's."""
    lowered = output.lower()
    said = " ".join(line.strip() for line in output.splitlines() if line.strip() and not line.startswith(_NOTICES))[-500:]
    for text, code, kind, mend in PATTERNS:
        if text in lowered:
            return kind(f"{what} failed: {said}.", mend=mend, code=code)
    return RecipeProblem(f"{what} failed: {said}.", code=default)
