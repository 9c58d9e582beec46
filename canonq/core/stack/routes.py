"""Which labels a ref's services may carry: those of known shape, whole, that speak of its own routes only. Pure.

Labels are orders to whatever on the host reads them: the ingress above all, whose routers, services and middlewares are one
namespace of all apps. So nothing is looked for that would be bad: what is not known to be harmless is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: Of tools that do no more than note or back up the app itself.
_HARMLESS = ("backupbot.", "coop-cloud.", "org.opencontainers.")
_NAME = r"[a-z0-9_-]{1,128}"
_WORD = re.compile(r"[A-Za-z0-9_-]{1,128}")
_WORDS = re.compile(r"[A-Za-z0-9_-]{1,128}(?: *, *[A-Za-z0-9_-]{1,128}){0,20}")
_YES_OR_NO = re.compile(r"(?:true|false)?", re.I)
_NUMBER = re.compile(r"[0-9]{1,9}")
_SCHEME = re.compile(r"https?|h2c")
_TEXT = re.compile(r"[^\0]*")
_FEW = re.compile(r"[0-9]{1,2}")
_WHILE = re.compile(r"(?:[0-9]{1,9}(?:ns|us|ms|s|m)?)?")
#: `name:hash`: each login is tried by the ingress, and a bcrypt of cost 31 takes it days.
_LOGIN = (
    r"[^:, \0][^:,\0]{0,199}:(?:\$2[abxy]?\$(?:0[0-9]|1[0-2])\$[./A-Za-z0-9]{53}|\$(?:apr)?1\$[^,$\0]{0,16}\$[./A-Za-z0-9]{22}"
    r"|\{SHA\}[A-Za-z0-9+/=]{28})"
)
_LOGINS = re.compile(rf"(?: *{_LOGIN}(?: *, *{_LOGIN}){{0,50}})?")
#: Label -> how its value is written; OWN is a name of the stack's own, ANY what follows.
_FORMS = tuple(
    (re.compile(r"traefik\." + label.replace(".", r"\.").replace("OWN", _NAME).replace("ANY", ".{1,200}")), value)
    for label, value in (
        ("enable", _YES_OR_NO),
        ("docker.lbswarm", _YES_OR_NO),
        ("swarm.lbswarm", _YES_OR_NO),
        ("http.routers.OWN.entrypoints", _WORDS),
        ("http.routers.OWN.priority", _NUMBER),
        ("http.routers.OWN.tls", _YES_OR_NO),
        ("http.routers.OWN.tls.certresolver", _WORD),
        ("http.services.OWN.loadbalancer.server.port", _NUMBER),
        ("http.services.OWN.loadbalancer.server.scheme", _SCHEME),
        ("http.services.OWN.loadbalancer.passhostheader", _YES_OR_NO),
        ("http.services.OWN.loadbalancer.sticky", _YES_OR_NO),
        ("http.services.OWN.loadbalancer.sticky.cookie", _YES_OR_NO),
        ("http.services.OWN.loadbalancer.sticky.cookie.(?:name|samesite)", _WORD),
        ("http.services.OWN.loadbalancer.sticky.cookie.(?:secure|httponly)", _YES_OR_NO),
        ("http.middlewares.OWN.headers.ANY", _TEXT),
        ("http.middlewares.OWN.(?:addprefix|stripprefix|stripprefixregex|replacepath|replacepathregex).ANY", _TEXT),
        ("http.middlewares.OWN.(?:redirectscheme|redirectregex|contenttype|compress).ANY", _TEXT),
        ("http.middlewares.OWN.retry.attempts", _FEW),
        ("http.middlewares.OWN.retry.initialinterval", _WHILE),
        ("http.middlewares.OWN.(?:inflightreq|ipwhitelist|ipallowlist).ANY", _TEXT),
        ("http.middlewares.OWN.buffering.max(?:request|response)bodybytes", _NUMBER),
        ("http.middlewares.OWN.ratelimit.(?:average|burst|period|sourcecriterion.ANY)", _TEXT),
        ("http.middlewares.OWN.(?:compress|contenttype)", _YES_OR_NO),
        ("http.middlewares.OWN.basicauth.users", _LOGINS),
        ("http.middlewares.OWN.basicauth.(?:realm|removeheader|headerfield)", _TEXT),
    )
)
_NETWORK = re.compile(r"traefik\.(?:docker|swarm)\.network")
_RULE = re.compile(rf"traefik\.http\.routers\.({_NAME})\.rule")
_SERVICE = re.compile(rf"traefik\.http\.routers\.({_NAME})\.service")
_CHAIN = re.compile(rf"traefik\.http\.(?:routers\.({_NAME})\.middlewares|middlewares\.({_NAME})\.chain\.middlewares)")
_PORT = re.compile(rf"traefik\.http\.services\.{_NAME}\.loadbalancer\.server\.port")
_RESOLVER = re.compile(r"traefik\..*\.tls\.certresolver", re.I)
_ROUTER = re.compile(r"traefik\.(?:http|tcp|udp)\.routers\.([^.=]+)", re.I)
_NAMED = re.compile(r"traefik\.(?:http|tcp|udp)\.([a-z]+)\.([^.=]+)")
_QUOTED = r"(?:`[^`]{1,250}`|\"[^\"\\\\`]{1,250}\")"
_TERM = re.compile(rf"\s*(Host|PathPrefix|Path|Method|Query|Headers?)\(\s*({_QUOTED}(?:\s*,\s*{_QUOTED}){{0,50}})\s*\)\s*", re.I)
_IN_QUOTES = re.compile(r"`([^`]+)`|\"([^\"]+)\"")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")


MOST_ROUTERS, MOST_HOSTS = 50, 100  #: of a stack: the ingress keeps each, and may order a certificate for each host


@dataclass(frozen=True)
class Strange:
    """A label that is not known to be harmless."""

    word: str  #: that would allow it
    why: str


def is_routed(labels: Mapping[str, str | None]) -> bool:
    """Whether the ingress is told a port of the service."""
    return any(_PORT.fullmatch(label.lower()) for label in labels)


def resolvers(labels: Mapping[str, str | None]) -> dict[str, str]:
    """Label -> the resolver by which the ingress would order certificates in its operator's name."""
    return {label: value for label, value in labels.items() if value and _RESOLVER.fullmatch(label)}


def routed(labels: Mapping[str, str | None]) -> tuple[set[str], set[str]]:
    """Routers that the labels name, and hosts that their rules ask for."""
    routers = {found[1].lower() for label in labels if (found := _ROUTER.match(label))}
    rules = [value for label, value in labels.items() if value and _RULE.fullmatch(label.lower())]
    terms = (term for rule in rules for part in rule.split("||") for term in _terms(part))
    return routers, {host.lower() for name, hosts in terms if name == "host" for host in hosts}


def strange_labels(labels: Mapping[str, str | None], *, stack: str, domain: str, network: str) -> Iterator[Strange]:
    """What a service's labels say beyond its own routes."""
    for said, value in labels.items():
        yield from _strange(said.lower(), str(value or ""), stack.lower(), domain.lower(), network)


def _strange(label: str, value: str, stack: str, domain: str, network: str) -> Iterator[Strange]:
    if label.startswith(_HARMLESS):
        return
    if (named := _NAMED.match(label)) and stack not in named[2]:
        yield Strange(f"{named[1]}:{named[2]}", f"takes the name {named[2]} among all routes ({named[1]}:{named[2]})")
        return
    if _RULE.fullmatch(label):
        for foreign in _foreign(value, domain):
            yield Strange(f"route:{foreign}", f"takes requests for {foreign} (route:{foreign})")
        return
    if _fits(label, value, stack, network):
        return
    word = f"label:{label}={value}".replace(stack, "${STACK_NAME}")[:200]
    yield Strange(word, f"has a label that is not known to be harmless ({word})")


def _fits(label: str, value: str, stack: str, network: str) -> bool:
    if _NETWORK.fullmatch(label):
        return value == network
    if _SERVICE.fullmatch(label):
        return bool(_WORD.fullmatch(value)) and stack in value.lower()
    if _CHAIN.fullmatch(label):
        return bool(_WORDS.fullmatch(value)) and all(stack in name.lower() for name in value.split(","))
    # One without a value is as if it were not there: what fills it in is empty for runs (LETS_ENCRYPT_ENV).
    return any(form.fullmatch(label) and (not value or written.fullmatch(value)) for form, written in _FORMS)


def _foreign(rule: str, domain: str) -> list[str]:
    """What a rule would take that is not the app's own: hosts, or `*` for who knows what.

    Every alternative must ask for an own host; whatever else it asks for makes it take less.
    """
    alternatives = [_terms(part) for part in rule.split("||")]
    if not all(any(name == "host" for name, _ in terms) for terms in alternatives):
        return ["*"]
    asked = [host.lower() for terms in alternatives for name, hosts in terms if name == "host" for host in hosts]
    return list(dict.fromkeys(host for host in asked if not _is_own(host, domain)))


def _terms(part: str) -> list[tuple[str, list[str]]]:
    """The matchers of an alternative; none where one is of another shape."""
    found = [_TERM.fullmatch(term) for term in part.split("&&")]
    if any(one is None for one in found):
        return []
    return [(one[1].lower(), ["".join(pair) for pair in _IN_QUOTES.findall(one[2])]) for one in found if one is not None]


def _is_own(host: str, domain: str) -> bool:
    return bool(_HOST.fullmatch(host)) and (host == domain or host.endswith(f".{domain}"))
