"""The hosts that share a broker: who has joined, who lives, and what each says that it has.

Redis carries it, and may forget it: each host keeps on its own disk who it is, and what it last knew of the others. From there
Redis is told again, so that a Redis that lost its memory makes nobody a stranger, and no recipe look as if it were nowhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from canonq.adapters.filelocks import locked
from canonq.adapters.files import write_json
from canonq.adapters.lazily import redis
from canonq.adapters.state.records import read_often, readable_json
from canonq.core.errors import CanonqError, WrongConfiguration, WrongUse, redis_problem
from canonq.core.jsontext import json_of, table_of
from canonq.core.names import RECIPE_NAME, host_name, shown
from canonq.core.sweeps.placement import Claim, Member
from canonq.core.text import beginning

log = logging.getLogger("canonq")

_Model = TypeVar("_Model", bound=BaseModel)

OWN, OTHERS = "host.json", "hosts.json"  #: in the state folder
_CLUSTER, _MEMBERS = "canonq:cluster", "canonq:hosts"
_TOLD = ""  #: the field of a host's claims that says that it has told them, all of them
_FOUND = ":findings"  #: the field of a share that has its findings; no recipe has such a name
#: Seconds: between a worker's start and that of its upkeep, which says that the host lives, it is not to look dead.
LEAST_LEASE = 30.0
_SHARES_STAY = 7 * 86400  #: seconds
_MOST, _LONGEST = 50, 1000  #: findings of a share; characters of each


class Joined(BaseModel):
    """What is kept of a host that has joined."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instance: str  #: id of its state folder
    joined: str  #: stamp
    state: str = "in"  #: in, draining or removed
    why: str = ""  #: why it was removed, and by whom
    changed: float = 0.0  #: seconds, by the clock of Redis: of two that remember it, who has heard the later word is right


class Facts(BaseModel):
    """What a host last said of itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: float = 0.0  #: seconds, by the clock of Redis
    lease: float = Field(default=60.0, gt=0, le=86400)  #: seconds for which that counts
    light: int = Field(default=2, ge=0, le=64)
    heavy: int = Field(default=1, ge=0, le=64)
    memory: int | None = None
    disk: int | None = None
    load: float = 0.0


class _Claim(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str | None = None
    fence: int = 0
    last_run: str = ""
    leaving: str | None = None
    words: str = ""

    @field_validator("leaving")
    @classmethod
    def _a_host(cls, value: str | None) -> str | None:
        return value if value is None else host_name(value)


@dataclass(frozen=True)
class Known:
    """A host as it is known here."""

    name: str
    joined: Joined
    facts: Facts
    claims: Mapping[str, Claim] | None
    away: float | None  #: seconds since it was last heard of; None when that cannot be said, as without Redis
    told: bool = True  #: whether Redis has all that it has said that it has; False: it may have more by now than is known here

    @property
    def alive(self) -> bool:
        """Whether it was heard of within its lease."""
        return self.away is not None and self.away < self.facts.lease

    @property
    def removed(self) -> bool:
        """Whether a person has said that it does not come back."""
        return self.joined.state == "removed"

    @property
    def takes_new(self) -> bool:
        """Whether it may be given anything, as soon as it lives."""
        return self.joined.state == "in"

    def member(self) -> Member:
        """The same, as far as placing asks."""
        facts = self.facts
        return Member(
            self.name, self.alive, self.joined.state == "draining", self.removed, facts.light, facts.heavy, facts.memory,
            facts.disk, facts.load, self.claims,
        )  # fmt: skip


class Hosts:
    """Those of one broker. `wanted`: the name that this host is to have, where a setting says one."""

    def __init__(
        self, state: Path, client: Callable[[], redis.Redis], instance: str, *, lease: float, wanted: str | None
    ) -> None:
        self._state = state
        self._connect = client
        self._instance = instance
        self._lease = max(lease, LEAST_LEASE)
        self._wanted = wanted

    # -- this host ---------------------------------------------------------------------------------------------

    @property
    def own(self) -> str | None:
        """The name of this host; None as long as it has not joined. A state folder that was copied has none."""
        found = readable_json(self._state / OWN)
        name = found.get("name")
        return str(name) if name and found.get("instance") == self._instance else None

    @property
    def lease(self) -> float:
        """Seconds for which a host counts as alive after it was heard of."""
        return self._lease

    def join(self, stamp: str, *, asked: bool = False, name: str | None = None) -> str:
        """Join the hosts of this broker, or find that it has; this host's name.

        As the first one it joins by itself; beside others only when a person `asked`. WrongConfiguration for a state folder that
        the broker does not know, or a name that another has. HostProblem when Redis is away.
        """
        with self._changing(), _away():
            client = self._connect()
            mine, own = readable_json(self._state / OWN), self.own
            cluster = _text(client.get(_CLUSTER))
            if own is not None and cluster is None:  # Redis has lost its memory, or is a new one
                cluster = self._recall(client)
            members = self._members(client)
            if own is not None and not (asked and name not in (None, own)) and mine.get("cluster") == cluster:
                there = members.get(own)
                if there is not None and there.instance == self._instance and there.state != "removed":
                    return own
                if there is not None and there.state == "removed" and not asked:
                    raise WrongConfiguration(
                        f"This host, {own}, was removed: {there.why}.",
                        mend="its canonicals may have been begun anew elsewhere: look at `canonq hosts`; `canonq hosts join` "
                        "lets it in again.",
                        code="host-removed",
                    )
            others = {other: one for other, one in members.items() if one.instance != self._instance and one.state != "removed"}
            if others and not asked and (own is None or mine.get("cluster") != cluster):
                raise self._unknown(others)
            chosen = host_name(name or self._wanted or own or _hostname())
            if chosen in others:
                raise WrongConfiguration(
                    f"Another host has joined as {chosen}, with another state folder.",
                    mend="give this one a name of its own: `canonq hosts join --name NAME`, or CANONQ_HOST.",
                    code="host-name-taken",
                )
            self._enter(client, chosen, stamp, cluster)
            return chosen

    def _unknown(self, others: Mapping[str, Joined]) -> WrongConfiguration:
        return WrongConfiguration(
            f"The state folder {self._state} ({self._instance}) is not one of those that work for this broker: "
            f"{', '.join(sorted(others))}. Nothing is done with it.",
            mend="if this is a further host, `canonq hosts join`; if it replaces one, `canonq hosts remove NAME --reason ...` "
            "first; else set CANONQ_STATE to the folder that is meant.",
            code="host-not-joined",
        )

    def _enter(self, client: redis.Redis, name: str, stamp: str, cluster: str | None) -> None:
        if cluster is None:
            client.set(_CLUSTER, secrets.token_hex(8), nx=True)
            cluster = _text(client.get(_CLUSTER))
        for other, one in self._members(client).items():  # under the name that it had before
            if one.instance == self._instance and other != name:
                client.hdel(_MEMBERS, other)
                client.delete(*_keys_of(other))
        client.hset(_MEMBERS, name, Joined(instance=self._instance, joined=stamp, changed=_now(client)).model_dump_json())
        write_json(self._state / OWN, {"name": name, "instance": self._instance, "cluster": cluster, "joined": stamp})

    def _recall(self, client: redis.Redis) -> str | None:
        """Tell a Redis that has forgotten all of it who has joined, as it was last known here."""
        mine = readable_json(self._state / OWN)
        client.set(_CLUSTER, str(mine.get("cluster")), nx=True)
        if (cluster := _text(client.get(_CLUSTER))) == mine.get("cluster"):
            for name, one in self._joined_before().items():
                client.hsetnx(_MEMBERS, name, one.model_dump_json())
            own = Joined(instance=self._instance, joined=str(mine.get("joined")))
            client.hsetnx(_MEMBERS, str(mine.get("name")), own.model_dump_json())
        return cluster

    def _tell_again(self, client: redis.Redis) -> None:
        """What Redis has forgotten, it is told again. WrongConfiguration when it is not the one that this host has joined."""
        mine = readable_json(self._state / OWN)
        if self.own is None:
            return
        cluster = _text(client.get(_CLUSTER))
        if cluster is None or not client.hexists(_MEMBERS, str(self.own)):
            cluster = self._recall(client)
        if cluster != mine.get("cluster"):
            raise self._unknown(self._members(client))
        members = self._members(client)
        instances = {one.instance for one in members.values()}
        for name, one in self._joined_before().items():
            if name not in members and one.instance not in instances:
                client.hsetnx(_MEMBERS, name, one.model_dump_json())
            elif name in members and one.changed > members[name].changed:  # somebody was quicker who had not heard the last word
                client.hset(_MEMBERS, name, one.model_dump_json())

    def must_be_known(self) -> None:
        """WrongConfiguration for a state folder that is not one of those that work for this broker. Without Redis nobody is."""
        with _away():
            client = self._connect()
            others = {name: one for name, one in self._members(client).items() if one.state != "removed"}
            if others and self._instance not in {one.instance for one in others.values()} and not self._was_in(client):
                raise self._unknown(others)

    def _was_in(self, client: redis.Redis) -> bool:
        return self.own is not None and readable_json(self._state / OWN).get("cluster") == _text(client.get(_CLUSTER))

    def beat(self, facts: Facts) -> None:
        """Say that this host lives, and how it is."""
        if (own := self.own) is None:
            return
        with _away():
            client = self._connect()
            at = _now(client)
            client.set(_facts(own), facts.model_copy(update={"at": at, "lease": self._lease}).model_dump_json())

    def tell(self, claims: Mapping[str, Claim]) -> None:
        """Say what this host has of each recipe."""
        if (own := self.own) is None:
            return
        with _away():
            now = {name: json.dumps(claim.__dict__) for name, claim in claims.items()} | {_TOLD: "1"}
            _replace(self._connect(), _claims(own), now)

    def tell_one(self, recipe: str, claim: Claim) -> None:
        """Say it of one recipe."""
        if (own := self.own) is not None:
            with _away():
                self._connect().hset(_claims(own), recipe, json.dumps(claim.__dict__))

    def has_told(self) -> bool:
        """Whether Redis has all that this host has said that it has: one that has lost its memory has not."""
        if (own := self.own) is None:
            return True
        with _away():
            return bool(self._connect().hexists(_claims(own), _TOLD))

    # -- all of them -------------------------------------------------------------------------------------------

    def are_several(self) -> bool:
        """Whether there are others beside this one, by what was last known here."""
        own = self.own
        return any(one.state != "removed" and name != own for name, one in self._joined_before().items())

    def were_several(self) -> bool:
        """The same, with those that were removed: what was on its way to one of them is seen to."""
        own = self.own
        return any(name != own for name in self._joined_before())

    def learn(self) -> list[Known]:
        """What Redis knows of all hosts, completed by what was known here, and kept for when it forgets. HostProblem without it.

        This host must have joined.
        """
        with self._changing(), _away():
            client = self._connect()
            self._tell_again(client)
            found = self._read(client, self._remembered())
            self._remember(found)
            return sorted(found.values(), key=_by_age)

    def learn_of(self, recipe: str) -> list[Known]:
        """The same as far as one recipe goes, for who asks in each of thousands of promotions: nothing is kept."""
        with self._changing(), _away():
            client = self._connect()
            self._tell_again(client)
            found = []
            for name, joined in self._members(client).items():
                value = client.hget(_claims(name), recipe)
                claim = _claim(value)
                claims: Mapping[str, Claim] | None
                told = bool(client.hexists(_claims(name), _TOLD)) and (value is None or claim is not None)
                if told or claim is not None:
                    claims = {recipe: claim} if claim is not None else {}
                else:
                    old = self._remembered().get(name)
                    claims = old.claims if old is not None and old.joined.instance == joined.instance else None
                found.append(Known(name, joined, Facts(), claims, None, told))
            return sorted(found, key=_by_age)

    def all(self) -> list[Known]:
        """The same for who only looks: as it was last known here where Redis is away, and nothing is kept."""
        try:
            with _away():
                remembered = self._remembered()
                found = list(self._read(self._connect(), remembered).values())
                instances = {one.joined.instance for one in found}
                found += [one for one in remembered.values() if one.joined.instance not in instances]
        except CanonqError:
            found = list(self._remembered().values())
        return sorted(found, key=_by_age)

    def _read(self, client: redis.Redis, remembered: Mapping[str, Known]) -> dict[str, Known]:
        """What Redis knows of each host, completed by what was known here of the same state folder."""
        now, found = _now(client), {}
        for name, joined in self._members(client).items():
            facts, (claims, told) = _parsed(Facts, client.get(_facts(name))), _claims_in(client.hgetall(_claims(name)))
            old = remembered.get(name)
            if old is None or old.joined.instance != joined.instance:
                old = Known(name, joined, Facts(), None, None)
            if not told and old.claims is not None:
                claims = {**old.claims, **claims}
            known = told or old.claims is not None
            away = max(0.0, now - facts.at) if facts else None
            found[name] = Known(name, joined, facts or old.facts, claims if known else None, away, told)
        return found

    def mark(self, name: str, state: str, why: str = "") -> None:
        """Say of a host that it is in, draining, or removed, with who said so and why. WrongUse when none is called so."""
        with self._changing(), _away():
            client = self._connect()
            members = self._members(client)
            if name not in members:
                known = ", ".join(sorted(members)) or "none"
                raise WrongUse(f"No host called {shown(name)} has joined.", mend=f"there are: {known}.", code="host-unknown")
            now = {"state": state, "why": why, "changed": _now(client)}
            client.hset(_MEMBERS, name, members[name].model_copy(update=now).model_dump_json())
        self.learn()

    # -- what hosts say of a sweep that they share, and of recipes ---------------------------------------------

    def tell_share(self, sweep: str, outcomes: Mapping[str, str], *, state: str, findings: Sequence[str] = ()) -> None:
        """Say how this host's share of a sweep stands (open, closed, stopped), and JSON of each recipe's outcome, by name.

        `findings`: what it has to tell beside them.
        """
        if (own := self.own) is None:
            return
        with _away():
            client = self._connect()
            told: dict[Any, Any] = {**outcomes, **({_FOUND: json.dumps(list(findings))} if findings else {})}
            if told:
                client.hset(_share(sweep, own), mapping=told)
            client.hset(_share(sweep, own), _TOLD, state)  # last: what is closed is told whole
            client.expire(_share(sweep, own), _SHARES_STAY)

    def share(self, sweep: str, name: str) -> tuple[str, dict[str, str], list[str]]:
        """What a host said of its share: "" for nothing, open, closed or stopped; the outcomes by recipe; and its findings."""
        with _away():
            found = {_text(field): _text(value) for field, value in self._connect().hgetall(_share(sweep, name)).items()}
        state = found.pop(_TOLD, "")
        outcomes = {str(recipe): str(value) for recipe, value in found.items() if RECIPE_NAME.fullmatch(str(recipe))}
        return str(state), outcomes, _lines(found.get(_FOUND))

    def tell_rows(self, rows: Mapping[str, Any], *, whole: bool = True) -> None:
        """Say how this host's recipes stand: for each what `status` shows of it elsewhere. `whole`: these are all of them."""
        if (own := self.own) is None:
            return
        with _away():
            now = {recipe: json.dumps(row, sort_keys=True) for recipe, row in rows.items()}
            _replace(self._connect(), _rows(own), now, whole=whole)

    def rows(self, name: str) -> dict[str, dict[str, Any]]:
        """What a host said of its recipes; empty where Redis is away or has forgotten it."""
        try:
            with _away():
                found = self._connect().hgetall(_rows(name))
        except CanonqError:
            return {}
        rows: dict[str, dict[str, Any]] = {}
        for field, value in found.items():
            with contextlib.suppress(ValueError):
                rows[str(_text(field))] = table_of(value)
        return rows

    def claim_night(self, night: str) -> str | None:
        """Who sweeps a night, for all hosts: this one, when nobody has claimed it before. None where it has not joined."""
        if (own := self.own) is None:
            return None
        with _away():
            client = self._connect()
            client.set(f"canonq:night:{night}", own, nx=True, ex=_SHARES_STAY)
            return _text(client.get(f"canonq:night:{night}"))

    # -- kept here ---------------------------------------------------------------------------------------------

    def _members(self, client: redis.Redis) -> dict[str, Joined]:
        found = {}
        for field, value in client.hgetall(_MEMBERS).items():
            name, joined = _text(field), _parsed(Joined, value)
            with contextlib.suppress(WrongUse):
                if joined is not None:
                    found[host_name(name)] = joined
        return found

    def _kept(self) -> dict[str, dict[str, Any]]:
        kept = readable_json(self._state / OTHERS, read_often).get("hosts", {})
        return {name: one for name, one in kept.items() if isinstance(one, dict)} if isinstance(kept, dict) else {}

    def _joined_before(self) -> dict[str, Joined]:
        found = {name: _parsed(Joined, json.dumps(one.get("joined"))) for name, one in self._kept().items()}
        return {name: joined for name, joined in found.items() if joined is not None}

    def _remembered(self) -> dict[str, Known]:
        found, kept = {}, self._kept()
        for name, joined in self._joined_before().items():
            one = kept[name]
            facts = _parsed(Facts, json.dumps(one.get("facts"))) or Facts()
            claims = one.get("claims")
            read = {recipe: _claim(json.dumps(value)) for recipe, value in claims.items()} if isinstance(claims, dict) else None
            found[name] = Known(name, joined, facts, _all_read(read) if read is not None else None, None)
        return found

    def _remember(self, found: Mapping[str, Known]) -> None:
        remembered = self._remembered()
        # What was known of a host that Redis has forgotten stays; one that joined again under another name is that one.
        instances = {one.joined.instance for one in found.values()}
        gone = {name: one for name, one in remembered.items() if name not in found and one.joined.instance not in instances}
        everybody = {**gone, **found}
        kept = {
            name: {
                "joined": one.joined.model_dump(),
                "facts": one.facts.model_copy(update={"at": 0.0, "load": 0.0}).model_dump(exclude={"memory", "disk"}),
                "claims": {recipe: claim.__dict__ for recipe, claim in one.claims.items()} if one.claims is not None else None,
            }
            for name, one in everybody.items()
        }
        if readable_json(self._state / OTHERS, read_often).get("hosts") != kept:
            write_json(self._state / OTHERS, {"hosts": kept})

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with locked(self._state / "locks" / "hosts.lock"):
            yield


def _by_age(host: Known) -> tuple[str, str]:
    return host.joined.joined, host.name


def _facts(name: str) -> str:
    return f"canonq:host:{name}"


def _claims(name: str) -> str:
    return f"canonq:claims:{name}"


def _rows(name: str) -> str:
    return f"canonq:rows:{name}"


def _keys_of(name: str) -> tuple[str, ...]:
    return _facts(name), _claims(name), _rows(name)


def _lines(told: object) -> list[str]:
    """A few sentences of another host's; none where it is no list of such."""
    with contextlib.suppress(ValueError):
        found = json_of(told) if isinstance(told, str) else None
        return [beginning(line, _LONGEST) for line in found if isinstance(line, str)][:_MOST] if isinstance(found, list) else []
    return []


def _share(sweep: str, name: str) -> str:
    return f"canonq:share:{sweep}:{name}"


def _replace(client: redis.Redis, key: str, now: Mapping[str, str], *, whole: bool = True) -> None:
    """Make a hash of Redis' what is given, or have it among it; what is as it was is not sent."""
    before = {_text(field): _text(value) for field, value in client.hgetall(key).items()}
    gone = [field for field in before if field is not None and field not in now] if whole else []
    if gone:
        client.hdel(key, *gone)
    new: dict[Any, Any] = {field: value for field, value in now.items() if before.get(field) != value}
    if new:
        client.hset(key, mapping=new)


def _hostname() -> str:
    """The machine's name as a host's may be."""
    return socket.gethostname().lower().replace("_", "-").strip("-.")[:63] or "host"


def _now(client: redis.Redis) -> float:
    """The clock of Redis, which is one for all hosts."""
    seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _parsed(model: type[_Model], value: object) -> _Model | None:
    try:
        return model.model_validate_json(value) if isinstance(value, bytes | str) else None
    except (ValidationError, ValueError, RecursionError):
        return None


def _claim(value: object) -> Claim | None:
    found = _parsed(_Claim, value)
    return Claim(**found.model_dump()) if found else None


def _all_read(found: Mapping[str, Claim | None]) -> dict[str, Claim] | None:
    """Claims; None where one of them cannot be read: that host may have anything."""
    read = {recipe: claim for recipe, claim in found.items() if claim is not None}
    return read if len(read) == len(found) else None


def _claims_in(found: Mapping[Any, Any]) -> tuple[dict[str, Claim], bool]:
    """What a host claims, and whether these are all: what Redis has forgotten, it may have told in part by now."""
    named = {_text(field): value for field, value in found.items()}
    claims = {name: _claim(value) for name, value in named.items() if name and RECIPE_NAME.fullmatch(name)}
    whole = _all_read(claims) if _TOLD in named else None
    return {name: claim for name, claim in claims.items() if claim is not None}, whole is not None


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.RedisError as error:
        raise redis_problem(str(error)) from error
