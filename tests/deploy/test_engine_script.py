"""The Docker that is built from source: what is pinned, what is refused, and that it runs beside another and leaves nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

from .host import must, run

TOOLS = (
    "awk", "base64", "bash", "basename", "cat", "chmod", "cp", "cut", "date", "dirname", "env", "find", "flock", "head", "id",
    "ls", "mkdir", "mktemp", "mv", "rm", "sed", "sha256sum", "sh", "sleep", "sort", "tail", "tar", "timeout", "git", "tr",
    "uname", "xargs",
)  # fmt: skip

#: Stands for Go: modules come from a folder, a build writes what it was asked for, and a file `fail` breaks it.
GO = """#!/bin/sh
case $1 in
    env) echo go1.99.0 ;;
    mod)
        [ "$2" = edit ] && exit 0
        printf '{\\n\\t"Dir": "%s"\\n}\\n' "$MODULES/${4%%@*}" ;;
    build)
        [ ! -e fail ] || { echo "it does not compile" >&2; exit 1; }
        while [ "$1" != -o ]; do shift; done
        echo "built from $(cat source.go)" >"$2/$(basename "$PWD")-$(cat source.go)" ;;
esac
"""


class Workplace:
    """A copy of the scripts, a PATH of chosen programs, and a cache of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.modules, self.cache = root, root / "modules", root / "cache"
        shutil.copytree(ROOT / "scripts", root / "scripts")
        shutil.copytree(ROOT / ".ci", root / ".ci")
        self.path = root / "path"
        self.path.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.path / tool).symlink_to(found)
        for tool in ("gcc", "pkg-config"):
            self.program(tool, "#!/bin/sh\n")

    @property
    def pins(self) -> Path:
        return self.root / "scripts" / "engine.pins"

    def program(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def module(self, set_: str, name: str, source: str) -> Path:
        """Pin a module, and give it to the stand-in for Go."""
        folder = self.modules / name
        folder.mkdir(parents=True)
        for file in ("go.mod", "vendor.mod", "vendor.sum"):
            (folder / file).write_text("")
        for part in ("options", "public", "templates"):
            (folder / part).mkdir()
            (folder / part / "Umlaut ä.txt").write_text(part)
        (folder / "source.go").write_text(source)
        with self.pins.open("a") as pins:
            pins.write(f"{set_} {name} v1.0.0 {checksum(folder, f'{name}@v1.0.0')} 1.0.0 .\n")
        return folder

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A script of the copy; the first word names it."""
        given = {"PATH": str(self.path), "CANONQ_CACHE": str(self.cache), "MODULES": str(self.modules), **env}
        return run(self.root / words[0], *words[1:], env=given, cwd=self.root)

    @property
    def kept(self) -> list[str]:
        """What a build left behind, but for its lock."""
        return sorted(path.name for path in (self.cache / "built").glob("*") if path.suffix != ".lock")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Nothing is pinned yet but Go, and nobody has said how long CI may take."""
    monkeypatch.delenv("CANONQ_CI_MINUTES", raising=False)
    made = Workplace(tmp_path)
    made.program("go", GO)
    made.pins.write_text("go go 1.26.6 - -\n")
    return made


def checksum(folder: Path, prefix: str) -> str:
    """A module's checksum as go.sum has it, by its definition: a hash over the sorted list of files with their hashes."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {prefix}/{name}\n" for name in names)
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def test_every_program_that_is_built_is_pinned_by_version_and_checksum() -> None:
    rows = [line.split() for line in (ROOT / "scripts" / "engine.pins").read_text().splitlines() if re.match(r"[a-z]", line)]
    programs = {(row[0], program.rpartition("/")[2]) for row in rows for program in row[5:]}
    wanted = {"dockerd", "docker-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "docker"}
    assert {("docker-29", name) for name in wanted} < programs
    assert {row[1] for row in rows} >= {"github.com/opencontainers/runc", "code.gitea.io/gitea", "miniflux.app/v2"}
    for set_, module, version, sum_, shown, *_ in rows:
        if set_ == "go":
            assert re.fullmatch(r"\d+\.\d+\.\d+", version)
            continue
        assert re.fullmatch(r"v\d+\.\d+\.\d+\S*", version), module
        assert re.fullmatch(r"h1:[A-Za-z0-9+/]{43}=", sum_), module
        # A version that is shown says which one it is; a module without one is only a requirement of another.
        assert shown == "-" or re.fullmatch(r"\d+\.\d+\.\d+\S*", shown), module


def test_a_set_is_built_once_and_kept_outside_the_checkout(workplace: Workplace) -> None:
    workplace.module("gitea", "code.gitea.io/gitea", "forge")
    first = workplace.run("scripts/engine", "build", "gitea")
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert [path.read_text() for path in (folder / "bin").iterdir()] == ["built from forge\n"]
    assert (folder / "templates" / "Umlaut ä.txt").read_text() == "templates"
    assert folder.is_relative_to(workplace.cache)
    workplace.program("go", "#!/bin/sh\nexit 1\n")
    again = workplace.run("scripts/engine", "build", "gitea")
    assert (again.stdout, again.stderr) == (first.stdout, "")


def test_a_changed_pin_builds_anew(workplace: Workplace) -> None:
    folder = workplace.module("gitea", "code.gitea.io/gitea", "forge")
    old = workplace.run("scripts/engine", "build", "gitea").stdout
    shutil.rmtree(folder)
    workplace.pins.write_text(workplace.pins.read_text().splitlines(keepends=True)[0])
    workplace.module("gitea", "code.gitea.io/gitea", "newer")
    new = workplace.run("scripts/engine", "build", "gitea").stdout
    assert new != old
    assert [path.read_text() for path in (Path(new.strip()) / "bin").iterdir()] == ["built from newer\n"]


def test_a_module_whose_checksum_is_another_is_refused_by_name(workplace: Workplace) -> None:
    folder = workplace.module("gitea", "code.gitea.io/gitea", "forge")
    (folder / "source.go").write_text("something else")
    done = workplace.run("scripts/engine", "build", "gitea")
    assert (done.returncode, done.stdout) == (3, "")
    found, pinned = re.findall(r"h1:\S+=", done.stderr)
    assert "code.gitea.io/gitea v1.0.0" in done.stderr
    assert found == checksum(folder, "code.gitea.io/gitea@v1.0.0")
    assert pinned in workplace.pins.read_text()
    assert workplace.kept == []


def test_half_a_build_is_never_used(workplace: Workplace) -> None:
    workplace.module("docker-29", "github.com/containerd/containerd/v2", "one")
    broken = workplace.module("docker-29", "github.com/docker/cli", "two")
    (broken / "fail").touch()
    workplace.pins.write_text(workplace.pins.read_text().replace(*_sums(workplace, broken)))
    done = workplace.run("scripts/engine", "build", "docker-29")
    assert (done.returncode, done.stdout) == (3, "")
    assert "it does not compile" in done.stderr
    assert workplace.kept == []
    # One that was killed half-way could not tidy up behind itself.
    left = workplace.cache / "built" / ".work-docker-29" / "kept" / "bin"
    left.mkdir(parents=True)
    (left / "dockerd").write_text("half")
    (broken / "fail").unlink()
    workplace.pins.write_text(workplace.pins.read_text().replace(*_sums(workplace, broken)))
    done = workplace.run("scripts/engine", "build", "docker-29")
    assert done.returncode == 0, done.stderr
    built = sorted(path.read_text() for path in (Path(done.stdout.strip()) / "bin").iterdir())
    assert built == ["built from one\n", "built from two\n"]
    assert workplace.kept == [Path(done.stdout.strip()).name]


def _sums(workplace: Workplace, folder: Path) -> tuple[str, str]:
    """The pinned checksum of a module's folder, and what it is now."""
    name = str(folder.relative_to(workplace.modules))
    (pinned,) = (line.split()[3] for line in workplace.pins.read_text().splitlines() if name in line)
    return pinned, checksum(folder, f"{name}@v1.0.0")


@pytest.mark.parametrize(("version", "said"), [("", "there is no Go"), ("go1.19.8", "go1.19.8, which is too old")])
def test_without_a_go_that_can_build_it_one_line_says_so_and_how_to_get_one(
    workplace: Workplace, version: str, said: str
) -> None:
    workplace.module("docker-29", "github.com/docker/cli", "cli")
    (workplace.path / "go").unlink()
    if version:
        workplace.program("go", f"#!/bin/sh\n[ $1 = env ] && echo {version} || echo go version {version} linux/amd64\n")
    for words in (("engine", "build", "docker-29"), ("engine", "check", "docker-29")):
        done = workplace.run(f"scripts/{words[0]}", *words[1:])
        assert (done.returncode, done.stdout) == (3, "")
        (line,) = done.stderr.splitlines()
        assert said in line
        assert "Install Go 1.26.6 or newer" in line


@pytest.mark.parametrize("words", [("build", "docker-7"), ("build", "go"), ("build",), ("run", "7", "true"), ("brew", "29")])
def test_what_is_not_known_is_refused_and_what_is_known_is_named(words: tuple[str, ...]) -> None:
    done = run(ROOT / "scripts" / "engine", *words)
    assert done.returncode == 3
    assert "docker-29" in done.stderr or "--help" in done.stderr


def test_with_engine_refuses_a_version_that_is_not_pinned() -> None:
    done = run(ROOT / "scripts" / "with-engine", "--engine", "7", "true")
    assert done.returncode == 3
    assert "there is no 'docker-7' to build; scripts/engine.pins knows: apps docker-29" in done.stderr


#: What CI tries besides, in this order: set -> what is run.
FURTHER = {"docker-29": "make test ENGINE=29 MARK=engines", "gitea": "make test-forge", "apps": "make test-apps FEW=1"}


def pin_all(workplace: Workplace) -> None:
    for set_, name in zip(FURTHER, ("github.com/docker/cli", "code.gitea.io/gitea", "miniflux.app/v2"), strict=True):
        workplace.module(set_, name, set_)


@pytest.mark.parametrize("has_go", [True, False])
def test_ci_runs_all_tests_and_says_what_was_not_tried(workplace: Workplace, has_go: bool) -> None:
    pin_all(workplace)
    workplace.program("make", '#!/bin/sh\necho "make $*"\n')
    if not has_go:
        (workplace.path / "go").unlink()
    done = workplace.run(".ci/run")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:2] == ["make check", "make test"]
    if has_go:
        assert said[2:] == list(FURTHER.values())
    else:
        for line, (name, set_) in zip(
            said[2:], {"Docker 29": "docker-29", "A real Gitea": "gitea", "Real applications": "apps"}.items(), strict=True
        ):
            assert line.startswith(f"{name} was NOT tried: engine: {set_} is built from Go modules, and there is no Go on PATH.")


#: A clock that stands still, but for what `make` takes: `slow` seconds for all tests, a third of that for anything else.
CLOCK = """#!/bin/sh
[ ! -e now ] && echo 0 || cat now
"""
SLOW_MAKE = """#!/bin/sh
echo "make $*"
took=$((SLOW / 3))
[ "$*" != test ] || took=$SLOW
echo $(($(date) + took)) >now
"""
LIMITED = """#!/bin/sh
echo "at most $2"
shift 2
exec "$@"
"""


def slowly(workplace: Workplace) -> None:
    pin_all(workplace)
    for name, text in {"date": CLOCK, "make": SLOW_MAKE, "timeout": LIMITED}.items():
        (workplace.path / name).unlink(missing_ok=True)
        workplace.program(name, text)


@pytest.mark.long
@pytest.mark.parametrize(("minutes", "tried"), [("3", ()), ("8", ("gitea",)), ("16", ("gitea", "apps")), ("17", tuple(FURTHER))])
def test_ci_begins_nothing_that_it_has_no_time_for_and_says_so(
    workplace: Workplace, minutes: str, tried: tuple[str, ...]
) -> None:
    """What must be built takes longer; what is kept does not."""
    slowly(workplace)
    told = workplace.run(".ci/run", SLOW="0", CANONQ_CI_MINUTES=minutes).stdout.splitlines()
    told = [line for line in told if not line.startswith("at most")][2:]
    assert [line for line in told if line.startswith("make")] == [FURTHER[set_] for set_ in tried]
    untried = [line for line in told if not line.startswith("make")]
    assert len(untried) == len(FURTHER) - len(tried)
    assert all(f"0 of {minutes} minutes are over" in line for line in untried)
    assert workplace.run("scripts/engine", "build", "docker-29").returncode == 0
    assert "make test ENGINE=29 MARK=engines" in workplace.run(".ci/run", SLOW="0", CANONQ_CI_MINUTES="5").stdout


def test_ci_guesses_what_a_part_takes_by_what_all_tests_took_here(workplace: Workplace) -> None:
    """On a machine half as fast, what must be built is not begun, as it would not end."""
    slowly(workplace)
    fast = workplace.run(".ci/run", SLOW="300", CANONQ_CI_MINUTES="30").stdout
    assert [line for line in fast.splitlines() if line.startswith("make")] == ["make check", "make test", *FURTHER.values()]
    (workplace.root / "now").unlink()
    slow = workplace.run(".ci/run", SLOW="960", CANONQ_CI_MINUTES="30").stdout
    assert [line for line in slow.splitlines() if line.startswith("make")] == ["make check", "make test"]
    assert "Docker 29 was NOT tried: it takes about 23 minutes on a machine as fast as this one, and 21 of 30 minutes are" in slow


def test_what_ci_begins_beside_has_only_the_time_that_is_left_and_all_tests_have_twice_as_much(workplace: Workplace) -> None:
    """A slow machine fails nothing; what hangs does."""
    slowly(workplace)
    said = workplace.run(".ci/run", SLOW="600", CANONQ_CI_MINUTES="40").stdout.splitlines()
    limits = [int(line.removeprefix("at most ")) for line in said if line.startswith("at most")]
    assert limits == [4800, 4800, 1600, 1400, 1200]


@pytest.mark.parametrize(
    ("stopped", "status", "said"),
    [
        ("test", 124, "'make test' did not end in 60 minutes, and was stopped (CANONQ_CI_MINUTES)."),
        ("test-forge", 0, "A real Gitea was NOT tried to its end: 30 minutes are over (CANONQ_CI_MINUTES), and it was stopped."),
    ],
)
def test_what_ci_had_to_stop_is_said(workplace: Workplace, stopped: str, status: int, said: str) -> None:
    pin_all(workplace)
    workplace.program("make", f'#!/bin/sh\n[ "$1" != "{stopped}" ] || exit 124\n')
    done = workplace.run(".ci/run")
    assert done.returncode == status
    assert said in (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("failing", ["check", "test", "test ENGINE=29 MARK=engines", "test-forge", "test-apps FEW=1"])
def test_ci_fails_when_any_of_its_parts_does(workplace: Workplace, failing: str) -> None:
    pin_all(workplace)
    workplace.program("make", f'#!/bin/sh\n[ "$*" != "{failing}" ]\n')
    assert workplace.run(".ci/run").returncode != 0


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, str]:
    """An environment in which the engine that is installed stands for a built one: these tests are about where it runs."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("only root, on a machine with dockerd installed, can start an engine")
    environment = {"CANONQ_CACHE": str(tmp_path / "cache")}
    scripts = tmp_path / "scripts"
    shutil.copytree(ROOT / "scripts", scripts)
    (scripts / "engine").write_text((scripts / "engine").read_text().replace("\nverb=", "\nfolder_of docker-29; exit\nverb="))
    folder = Path(run(scripts / "engine", env=environment).stdout.strip())
    (folder / "bin").mkdir(parents=True)
    for name in ("dockerd", "docker-proxy", "containerd", "containerd-shim-runc-v2", "runc", "docker"):
        (folder / "bin" / name).symlink_to(must("which", name).strip())
    (folder / "complete").touch()
    return environment


@pytest.mark.long
@pytest.mark.real
def test_an_engine_apart_touches_no_other_takes_signals_and_leaves_nothing_when_it_is_killed(apart: dict[str, str]) -> None:
    with_engine = (str(ROOT / "scripts" / "with-engine"), "--engine", "29", "bash", "-c")
    identity = ("docker", "info", "--format", "{{.ID}} {{.Swarm.NodeID}}")
    before = must(*identity)

    def started(command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            (*with_engine, command),
            env=os.environ | apart,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout
        said = process.stdout.readline()
        assert len(said.split()) == 2 and said != before, f"{said} {process.stderr.read() if process.stderr else ''}"
        return process

    told = "docker info --format '{{.ID}} {{.Swarm.NodeID}}'"
    killed = started(f"docker volume create left >/dev/null; {told}; sleep infinity")
    assert must(*identity) == before
    killed.kill()
    killed.communicate()
    (lock,) = (Path(apart["CANONQ_CACHE"]) / "data").glob("*/0.lock")
    must("flock", "-w", "100", lock, "true")  # every process of it holds the lock

    ended = started(f"trap 'docker volume ls -q; exit 7' TERM; {told}; while :; do sleep 0.1; done")
    ended.terminate()
    said, complaints = ended.communicate()
    assert (ended.returncode, said) == (7, ""), complaints
    assert "removing what a killed engine left" in complaints
    assert complaints.rstrip().endswith("stopped dockerd")
    must("flock", "-n", lock, "true")
    assert must(*identity) == before
