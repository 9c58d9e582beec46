"""A Docker Engine of files, for faults that cannot be staged on a real one. Both keep `test_engine_contract.py`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import posixpath
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.engine import NAMESPACE
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE, Deployable
from canonq.core.dockerinfo import Speaks, Unled
from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.peaks import Taking
from canonq.core.stack.convergence import Service, Task
from canonq.core.stack.databases import POSTGRES, database_kind
from canonq.ports import Answer, Beside, Ended, Outside, Roots, Versions

_LISTED = (NAMESPACE, LABEL_OWNER, LABEL_RECIPE, LABEL_KIND)  #: labels by which volumes are found, the rarest text first
LINEAGE = "lineage"  #: the file in which each deployment adds its version to the volume


class FakeEngine:
    """Stacks and secrets are JSON files, volumes are folders: a process that is killed leaves them as they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_before: dict[tuple[Path, int, int], dict[str, Any]] = {}
        self.taken = 0  #: bytes of memory that its containers take
        self.spent = 0.0  #: seconds of processors that they have taken
        self.programs: dict[str, Callable[[list[str]], Ended]] = {}  #: more programs that its containers have
        for kind in ("stacks", "secrets", "volumes"):
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def preflight(self) -> None:
        """Always there."""

    def firewall(self) -> Unled | None:
        """As Docker made it."""
        return None

    def ping(self) -> None:
        """The same."""

    def data_root(self) -> Path:
        """The folder of it all."""
        return self._folder

    def asked_at(self) -> str:
        """Here."""
        return str(self._folder)

    def versions(self) -> Versions:
        """All of one age."""
        return Versions("29.0.0", Speaks("the fake", "1.40", "1.52"), Speaks("no command", "0", "1.52"), "1.52", None)

    def roots(self) -> Roots:
        """The same folder for all."""
        return Roots(self._folder, self._folder, "graph driver", "told by Docker")

    # -- images, networks, secrets -------------------------------------------------------------------------

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        """Every image is there."""
        del timeout
        return {reference: f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}" for reference in references}

    def had_from(self, other: str, reference: str, timeout: float) -> bool:
        """Every mirror has every image."""
        del other, reference, timeout
        return True

    def is_image(self, reference: str, digest: str) -> bool:
        """See ports.Images.is_image."""
        return self.ensure_images([reference], 1)[reference] == digest

    def image_sizes(self, references: Sequence[str]) -> dict[str, int]:
        """Every image is there and takes nothing."""
        return dict.fromkeys(references, 0)

    def drop_image(self, reference: str) -> bool:
        """Nothing was pulled."""
        del reference
        return True

    def drop_unfinished_pulls(self) -> None:
        """Nothing was pulled."""

    def ensure_network(self, name: str) -> None:
        """Others' networks cost nothing here: they are names."""
        _write(self._folder / "networks" / name, {})

    def check_network(self, name: str) -> bool:
        """See ports.Stacks.check_network."""
        return (self._folder / "networks" / name).is_file()

    def networks(self) -> list[str]:
        """See ports.Stacks.networks."""
        return sorted(path.name for path in (self._folder / "networks").glob("*"))

    def configs(self) -> list[str]:
        """Nobody makes one beside a stack."""
        return []

    def put_secret(self, name: str, value: str, labels: Mapping[str, str]) -> None:
        """See ports.Stacks.put_secret."""
        path = self._folder / "secrets" / name
        if there := _labels_in(_read(path)):
            if any(there.get(key) != text for key, text in labels.items()):
                raise HostProblem(f"Docker has a secret '{name}' that is not of this run.", code="foreign-secret")
            return
        _write(path, {"labels": dict(labels), "value": value})

    def remove_secrets(self, labels: Mapping[str, str]) -> None:
        """See ports.Ownership.remove_secrets."""
        for name in self.owned(labels)["secrets"]:
            (self._folder / "secrets" / name).unlink(missing_ok=True)  # another janitor may have been quicker

    # -- stacks --------------------------------------------------------------------------------------------

    def strangers(self, stack: Deployable, labels: Mapping[str, str]) -> list[str]:
        """See ports.Stacks.strangers."""
        services = _read(self._folder / "stacks" / stack.stack)
        found = [f"a service '{stack.stack}_{name}'" for name, it in services.items() if not _any_has([it["labels"]], labels)]
        for kind, names in (("volume", stack.volumes.values()), ("secret", stack.secrets)):
            for name in names:
                path = self._folder / f"{kind}s" / name
                carried = _read(path / "labels") if kind == "volume" else _labels_in(_read(path))
                if path.exists() and not _any_has([carried], labels):
                    found.append(f"a {kind} '{name}'")
        return found

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        """The app adds its version to what is in its volumes, as a real one migrates its data."""
        del folder, timeout
        services = {
            name: {
                "labels": body["deploy"]["labels"],
                "image": stack.images[name],
                "mounts": [
                    (stack.volumes[item["source"]], item["target"])
                    for item in body.get("volumes", ())
                    if item["type"] == "volume" and "source" in item
                ],
                "ports": [_published(port) for port in body.get("ports", ())],
            }
            for name, body in stack.file["services"].items()
        }
        self._ports_are_free(stack.stack, {port for it in services.values() for port in it["ports"]})
        shutil.rmtree(self._folder / "layers" / stack.stack, ignore_errors=True)
        _write(self._folder / "stacks" / stack.stack, services)
        for key, name in stack.volumes.items():
            self.make_volume(name, stack.file["volumes"][key]["labels"], stack.stack)
            with (self._data(name) / LINEAGE).open("a") as file:
                file.write(f"{services['app']['labels'][f'coop-cloud.{stack.stack}.version']}\n")

    def _ports_are_free(self, stack: str, ports: set[str]) -> None:
        """As Docker has it: a port of the host is one stack's alone."""
        for path in (self._folder / "stacks").glob("[!.]*") if ports else ():
            taken = {port for it in _read(path).values() for port in it.get("ports", ())}
            if path.name != stack and (both := ports & taken):
                raise HostProblem(f"port '{min(both)}' is already in use by service '{path.name}'", code="port-in-use")

    def redeploy(self, stack: str) -> None:
        """See ports.Stacks.redeploy. What is in the layers is gone."""
        shutil.rmtree(self._folder / "layers" / stack, ignore_errors=True)
        kept = _read(self._folder / "stacks" / stack)
        _write(self._folder / "stacks" / stack, {name: {**it, "times": it.get("times", 0) + 1} for name, it in kept.items()})

    def outside_volumes(self, stack: str) -> list[Outside]:
        """See ports.Containers.outside_volumes. The layer of a service is a folder, so that a process of its own is none."""
        found = []
        for service in self._services(stack):
            layer = self._folder / "layers" / stack / service
            paths = tuple(f"/{path.relative_to(layer)}" for path in layer.rglob("*") if path.is_file())
            found.append(Outside(service, paths=paths, unnamed={"/": layer} if paths else {}))
        return found

    def container_names(self, stack: str) -> frozenset[str]:
        """See ports.Containers.container_names. One for each service."""
        return frozenset(self.container_name(stack, service) for service in self._services(stack))

    def container_name(self, stack: str, service: str) -> str:
        """What a service's container calls itself."""
        times = self._service(stack, service).get("times", 0)
        return hashlib.sha256(f"{stack} {service} {times}".encode()).hexdigest()[:12]

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        """What is deployed runs."""
        services = _read(self._folder / "stacks" / stack)
        found = [
            Service(name=name, replicas=1, update=None, labels=it["labels"], image=it["image"]) for name, it in services.items()
        ]
        tasks = [
            Task(id=name, service=name, state="running", desired="running", current=True, slot=1, container=name)
            for name in services
        ]
        return found, tasks

    @contextlib.contextmanager
    def changes(self, stack: str) -> Iterator[Callable[[float], bool]]:
        """Nothing ever happens, and is waited for a moment only: whoever looks on leaves the processor alone."""
        del stack
        yield _moment

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        """What is deployed answers."""
        del health, domain, timeout
        return Answer(bool(_read(self._folder / "stacks" / stack)), "the fake answers")

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        """Nothing is said."""
        del lines
        return dict.fromkeys(_read(self._folder / "stacks" / stack), "")

    def last_words(self, stack: str, service: str) -> str:
        """Nothing is said."""
        del stack, service
        return ""

    def failing_checks(self, stack: str) -> dict[str, str]:
        """Every check passes."""
        del stack
        return {}

    def out_of_memory(self, stack: str) -> frozenset[str]:
        """Nobody has too little."""
        del stack
        return frozenset()

    def listening(self, stack: str, service: str) -> list[int]:
        """Whatever listens, it answers."""
        del stack, service
        return []

    def undeploy(self, stack: str, timeout: float) -> tuple[str, ...]:
        """See ports.Stacks.undeploy. What runs here ends at once."""
        del timeout
        (self._folder / "stacks" / stack).unlink(missing_ok=True)
        shutil.rmtree(self._folder / "layers" / stack, ignore_errors=True)
        return ()

    def remove_service(self, stack: str, service: str) -> None:
        """What `docker service rm` does."""
        path = self._folder / "stacks" / stack
        _write(path, {name: it for name, it in _read(path).items() if name != service})

    # -- ownership -----------------------------------------------------------------------------------------

    def owned(self, labels: Mapping[str, str]) -> dict[str, list[str]]:
        """See ports.Ownership.owned."""
        secrets = {path.name: [_labels_in(_read(path))] for path in (self._folder / "secrets").glob("[!.]*")}
        volumes = {path.name: [self._labels(path / "labels")] for path in self._volumes_with(labels)}
        kinds = {"containers": {}, "networks": {}, "configs": {}, "secrets": secrets, "volumes": volumes}
        found = {kind: sorted(name for name, of in named.items() if _any_has(of, labels)) for kind, named in kinds.items()}
        return {"stacks": self._stacks_with(labels), **found}

    def volumes_owned(self, labels: Mapping[str, str]) -> dict[str, Path]:
        """See ports.Ownership.volumes_owned."""
        found = {name: self.volume_path(name) for name in self.owned(labels)["volumes"]}
        return {name: folder for name, folder in found.items() if folder is not None}

    def _stacks_with(self, labels: Mapping[str, str]) -> list[str]:
        of_stacks = {path.name: _read(path).values() for path in (self._folder / "stacks").glob("[!.]*")}
        return sorted(name for name, kept in of_stacks.items() if _any_has([service["labels"] for service in kept], labels))

    def _volumes_with(self, labels: Mapping[str, str]) -> Iterator[Path]:
        """Those that may have the labels. Of thousands, those with one of `_LISTED` are found without the others."""
        key = next((key for key in _LISTED if key in labels), None)
        if key is None:
            return (self._folder / "volumes").glob("[!.]*")
        return (
            path for name in self._listed(key, labels[key]).glob("*") if (path := self._folder / "volumes" / name.name).is_dir()
        )

    def _listed(self, key: str, text: str) -> Path:
        return self._folder / "listed" / key / (text or "-")

    def _labels(self, path: Path) -> dict[str, Any]:
        """Of a volume, which keeps them as long as it is there: with thousands of volumes they are not all read each time."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return {}
        key = (path, found.st_ino, found.st_mtime_ns)
        if key not in self._read_before:
            self._read_before[key] = _read(path)
        return self._read_before[key]

    def owners(self, labels: Mapping[str, str]) -> list[str]:
        """See ports.Ownership.owners."""
        found = set()
        for kind, names in self.owned(labels).items():
            for name in names:
                kept = _read(self._folder / kind / name / "labels" if kind == "volumes" else self._folder / kind / name)
                every = (
                    kept
                    if kind == "volumes"
                    else _labels_in(kept)
                    if kind == "secrets"
                    else _labels_in(next(iter(kept.values()), {}))
                )
                found.add(every.get(LABEL_OWNER, ""))
        return sorted(found - {""})

    def takings(self, labels: Mapping[str, str]) -> dict[str, Taking]:
        """See ports.Ownership.takings."""
        return {"all": Taking(self.taken, self.spent)} if self._stacks_with(labels) else {}

    def written_beside(self, labels: Mapping[str, str]) -> Beside:
        """See ports.Ownership.written_beside."""
        return Beside(tuple(self._folder / "layers" / stack for stack in self._stacks_with(labels)))

    def remove_owned(self, labels: Mapping[str, str], timeout: float) -> dict[str, list[str]]:
        """See ports.Ownership.remove_owned."""
        removed = self.owned(labels)
        for stack in removed["stacks"]:
            self.undeploy(stack, timeout)
        self.remove_secrets(labels)
        for name in removed["volumes"]:
            self.remove_volume(name)
        return {kind: names for kind, names in removed.items() if names}

    # -- volumes -------------------------------------------------------------------------------------------

    def make_volume(self, name: str, labels: Mapping[str, str], stack: str) -> Path:
        """See ports.Volumes.make_volume. As with Docker, one that is there keeps its labels."""
        folder = self._folder / "volumes" / name
        owner = {key: labels.get(key, "") for key in (LABEL_INSTANCE, LABEL_OWNER)}
        if folder.is_dir() and not _any_has([_read(folder / "labels")], owner):
            raise HostProblem(f"Docker has a volume '{name}' that is not of this run; it was left as it is.", code="name-taken")
        if not folder.is_dir():
            half = folder.with_name(f".new-{name}")
            shutil.rmtree(half, ignore_errors=True)
            (half / "_data").mkdir(parents=True)
            carried = {**labels, NAMESPACE: stack}
            (half / "labels").write_text(json.dumps(carried))
            for key in carried.keys() & set(_LISTED):  # first: what is listed and not there is passed over
                self._listed(key, carried[key]).mkdir(parents=True, exist_ok=True)
                (self._listed(key, carried[key]) / name).touch()
            half.rename(folder)
        return folder / "_data"

    def _data(self, name: str) -> Path:
        return self._folder / "volumes" / name / "_data"

    def volume_path(self, name: str) -> Path | None:
        """See ports.Volumes.volume_path."""
        return self._data(name) if self._data(name).is_dir() else None

    def volume_label(self, name: str, label: str) -> str | None:
        """See ports.Volumes.volume_label."""
        found = _read(self._folder / "volumes" / name / "labels").get(label)
        return None if found is None else str(found)

    def volumes_of(self, stack: str) -> list[str]:
        """See ports.Volumes.volumes_of."""
        return self.owned({NAMESPACE: stack})["volumes"]

    def remove_volume(self, name: str) -> None:
        """See ports.Volumes.remove_volume."""
        folder = self._folder / "volumes" / name
        if folder.is_dir():
            gone = folder.with_name(f".gone-{name}")
            shutil.rmtree(gone, ignore_errors=True)
            carried = self._labels(folder / "labels")
            with contextlib.suppress(FileNotFoundError):  # another janitor was quicker
                folder.rename(gone)
                shutil.rmtree(gone)
                for key in carried.keys() & set(_LISTED):
                    (self._listed(key, carried[key]) / name).unlink(missing_ok=True)

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        """See ports.Volumes.volumes_in_use."""
        named = {volume for service in self._services(stack).values() for volume, _ in service["mounts"]}
        return {name: self._data(name) for name in self.volumes_of(stack) if name in named}

    # -- containers ----------------------------------------------------------------------------------------

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        """See ports.Containers.mounted."""
        return [(volume, name, target) for name, service in self._services(stack).items() for volume, target in service["mounts"]]

    def process_of(self, stack: str, service: str) -> int:
        """All of them are this process."""
        self._service(stack, service)
        return os.getpid()

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        """Its containers have few programs: `rm`, `true`, `say`; in a database `psql`, and `dump` and `load` of a file."""
        del timeout, env
        self._service(stack, service)
        match list(command):
            case ["sh", "-c", script, "count", *_] if "psql" in script:
                tables = self.place(stack, service, f"{self._service(stack, service)['mounts'][0][1]}/tables.json")
                kept = json.loads(tables.read_text()) if tables.is_file() else {}
                lines = "".join(f"{table}\t{rows}\n" for table, rows in kept.items())
                return Ended(0, "", "", f"main app\nin app\n{lines}".encode())
            case ["sh", "-c", script, "write" | "read" | "destroy" | "enter" | "entered", statement, *_] if "psql" in script:
                return self._psql(stack, service, statement)
            case ["sh", "-c", _, hook]:
                return self._program(stack, service, hook.split())
            case words:
                return self._program(stack, service, words)

    def started_as(self, stack: str, service: str) -> Sequence[str]:
        """Nobody's words tell a password here."""
        self._service(stack, service)
        return ["true"]

    def _program(self, stack: str, service: str, words: list[str]) -> Ended:
        match words:
            case [name, *_] if name in self.programs:
                return self.programs[name](words)
            case ["true"]:
                return Ended(0, "")
            case ["say", *said]:
                return Ended(0, " ".join(said))
            case ["rm", "-rf", "--", path]:
                gone = self.place(stack, service, path)
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink(missing_ok=True)
                return Ended(0, "")
            case ["dump", path] if (rows := self._rows(stack, service)) is not None:
                kept = rows.read_text() if rows.is_file() else ""
                tables = rows.with_name("tables.json")
                held = f"{_TABLES}{tables.read_text()}\n" if tables.is_file() else ""
                self.place(stack, service, path).write_text(f"{_DUMP}\n{kept}{held}{_DUMP} complete\n")
                return Ended(0, "")
            case ["load", path] if (rows := self._rows(stack, service)) is not None:
                lines = self.place(stack, service, path).read_text().splitlines(keepends=True)[1:-1]
                rows.write_text("".join(line for line in lines if not line.startswith(_TABLES)))
                for line in lines:
                    if line.startswith(_TABLES):
                        rows.with_name("tables.json").write_text(line.removeprefix(_TABLES))
                return Ended(0, "")
            case _:
                return Ended(127, f"{words[0]}: executable file not found")

    def _psql(self, stack: str, service: str, statement: str) -> Ended:
        """A PostgreSQL of two tables: markers, and the ledger of promotions. Each is a file in the service's first volume."""
        if (rows := self._rows(stack, service)) is None:
            return Ended(127, "", "sh: psql: not found")
        if _OF_THE_LEDGER.search(statement):
            rows = rows.with_name("ledger")
            if found := _INSERTED.search(statement):
                with rows.open("a") as file:
                    file.write(f"{found[1]}\n")
                return Ended(0, "")
        if found := _INSERTED.search(statement):
            rows.write_text(f"{found[1]}\n")
        elif not rows.is_file():
            return Ended(1, "", 'ERROR:  42P01: relation "canonq_marker" does not exist')
        else:
            return Ended(0, rows.read_text(), "", rows.read_bytes())
        return Ended(0, "")

    def _rows(self, stack: str, service: str) -> Path | None:
        kept = self._service(stack, service)
        if database_kind(kept["image"]) != POSTGRES:
            return None
        folder = kept["mounts"][0][1] if kept["mounts"] else "/"
        return self.place(stack, service, f"{folder}/rows")

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        """See ports.Containers.read_archive."""
        place = self.place(stack, service, path)
        if not place.exists():
            raise RecipeProblem(f"'{service}' has no {path}.", code="path-missing")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(place, posixpath.basename(posixpath.normpath(path)))
        yield packed.getvalue()

    def write_archive(self, stack: str, service: str, folder: str, archive: Iterable[bytes]) -> None:
        """See ports.Containers.write_archive."""
        place = self.place(stack, service, folder)
        if not place.is_dir():
            raise RecipeProblem(f"'{service}' has no folder {folder}.", code="path-missing")
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as packed:
            packed.extractall(place, filter="tar")

    def place(self, stack: str, service: str, path: str) -> Path:
        """Where a path of a service's container is: in the volume that is mounted deepest there, or in a layer of its own."""
        whole = posixpath.normpath(posixpath.join("/", path))
        mounts = {target: volume for volume, target in self._service(stack, service)["mounts"]}
        within = [target for target in mounts if f"{whole}/".startswith(f"{target.rstrip('/')}/")]
        if not within:
            layer = self._folder / "layers" / stack / service
            layer.mkdir(parents=True, exist_ok=True)
            return layer / whole.lstrip("/")
        deepest = max(within, key=len)
        return self._data(mounts[deepest]) / whole[len(deepest.rstrip("/")) :].lstrip("/")

    def _services(self, stack: str) -> dict[str, Any]:
        return _read(self._folder / "stacks" / stack)

    def _service(self, stack: str, service: str) -> dict[str, Any]:
        if (found := self._services(stack).get(service)) is None:
            raise RecipeProblem(f"The service '{service}' has no running container.", code="not-running")
        return dict(found)


_DUMP, _TABLES = "-- PostgreSQL database dump", "-- tables: "
_OF_THE_LEDGER = re.compile(r"(?:FROM|INTO) canonq_ledger")
_INSERTED = re.compile(r"VALUES \((?:1, )?'((?:[^']|'')*)'\)")


def _moment(seconds: float) -> bool:
    time.sleep(min(seconds, 0.01))
    return False


def _published(port: Any) -> str:
    return str(port.get("published")) if isinstance(port, dict) else str(port).partition(":")[0]


def _any_has(carried: list[dict[str, str]], labels: Mapping[str, str]) -> bool:
    return any(all(it.get(key) == text for key, text in labels.items()) for it in carried)


def _labels_in(kept: Mapping[str, Any]) -> dict[str, str]:
    """None where it was removed while it was read."""
    return dict(kept.get("labels") or {})


def _read(path: Path) -> dict[str, Any]:
    """Empty for what is not there, or was removed by another process just now."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, IsADirectoryError):
        return {}


def _write(path: Path, value: object) -> None:
    half = path.with_name(f".half-{path.name}")
    half.write_text(json.dumps(value))
    os.replace(half, path)
