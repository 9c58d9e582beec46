"""`make bench`: ratios against baselines taken in the same run. Absolute times are not printed: machines differ, ratios less.

Each figure is the median of the pairwise ratios canonq / baseline, the two taken in turn. `make bench PARTS="order plan"`: these
parts alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from git.repo import Repo
from packaging.version import Version

from bench import load, reds
from canonq.adapters.data.archives import archive, copy_tree, sync_tree, unpack_archive
from canonq.adapters.engine import SwarmEngine, pause_until
from canonq.adapters.git.clones import GitRepos
from canonq.adapters.redis_server import embedded_redis
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.records import Verdict
from canonq.core.sweeps.schedule import Host, schedule
from canonq.core.versions import read_tags
from canonq.flows.sweeps import simulate
from canonq.flows.sweeps.opening import open_sweep, start
from canonq.flows.sync import sync
from canonq.flows.test import test_tag
from canonq.flows.world import World
from canonq.settings import GitSettings, Settings
from canonq.wiring import live
from demo import images
from tests.real import postgres
from tests.support import make_recipe

Action = Callable[[], object]

RECIPE = """
version: "3.8"
services:
  app:
    image: canonq-demo/static:1.29.0
    command: ["sh", "-c", "trap 'exit 0' TERM; echo hello > /srv/index.html; httpd -f -p 80 -h /srv & wait"]
    networks: [proxy]
    stop_grace_period: 2s
    healthcheck: {test: ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"], interval: 1s, retries: 3, start_period: 2s}
    volumes: ["data:/srv"]
networks:
  proxy: {external: true}
volumes:
  data: {}
"""


def seconds(action: Action) -> float:
    """How long an action takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def ratio(name: str, canonq: Action, baseline: Action, rounds: int) -> None:
    """Print the median of canonq / baseline over `rounds` pairs, after one of each that does not count."""
    canonq(), baseline()
    pairs = [seconds(canonq) / seconds(baseline) for _ in range(rounds)]
    print(f"{name:70} {statistics.median(pairs):6.2f}  ({min(pairs):.2f} to {max(pairs):.2f}, {rounds} pairs)", flush=True)


def bench_order(folder: Path) -> None:
    """Reading and ordering 2,000 tags, beside `packaging` on the same tags."""
    del folder
    chance = random.Random(1)
    tags = {f"{chance.randrange(9)}.{n % 50}.{n // 50}+{chance.randrange(9)}.{n}.0": "0" * 40 for n in range(2000)}
    ratio(
        "reading and ordering 2,000 tags / packaging.Version on them",
        lambda: read_tags(tags),
        lambda: sorted(tags, key=Version),
        5,
    )


def bench_listing(folder: Path) -> None:
    """One listing of an upstream with 200 tags, beside a bare `git ls-remote`."""
    repo = Repo.init(folder / "upstream")
    repo.git.commit("--allow-empty", "--message", "one")
    for number in range(200):
        repo.git.tag("--annotate", f"1.{number}.0+1", "--message", "x")
    repos = GitRepos(folder / "repos")
    url = str(folder / "upstream")
    bare = ["git", "ls-remote", url]
    ratio(
        "listing an upstream with 200 tags / git ls-remote",
        lambda: repos.listing(url),
        lambda: subprocess.run(bare, check=True, capture_output=True),
        9,
    )


TAGS = 20


def enrol_many(folder: Path, count: int) -> World:
    """A world of so many recipes, each with an upstream of 20 tags, synced and promoted, so that nothing is new."""
    repo = Repo.init(folder / "upstreams" / "first")
    repo.git.commit("--allow-empty", "--message", "one")
    for number in range(TAGS):
        repo.git.tag("--annotate", f"1.{number}.0+1", "--message", "x")
    repo.git.pack_refs("--all")
    settings = Settings(repo=folder / "checkout", state=folder / "state", git=GitSettings(per_host=AT_ONCE))
    world = live(settings)
    record = {"version": f"1.{TAGS - 1}.0+1", "commit": repo.head.commit.hexsha, "status": "idle", "ts": "20260617T050314Z"}
    for number in range(count):
        name = f"site-{number}"
        upstream = folder / "upstreams" / name
        shutil.copytree(repo.git_dir, upstream)
        enrolment = folder / "checkout" / "tests" / name
        enrolment.mkdir(parents=True)
        (enrolment / "recipe.toml").write_text(f'upstream = "file://{upstream}"\n[health]\nsoak = 0\n')
        if number == 0:
            sync(world, name)
        else:  # as a sync would leave it, and a thousand of them are quicker copied
            shutil.copytree(folder / "state" / "repos" / "site-0", folder / "state" / "repos" / name)
            kept = world.repos.remembered("site-0")
            world.repos.remember(name, {**kept, "upstream": f"file://{upstream}"})
        (folder / "state" / "warm" / name).mkdir(parents=True)
        (folder / "state" / "warm" / name / "canonical.json").write_text(json.dumps({"recipe": name, **record}))
    return world


AT_ONCE = 8


def idle_sweep(world: World) -> None:
    """A sweep as its task does it, from the enrolments to the report."""
    opened = open_sweep(world)
    begun = start(world, opened, lambda enrolment: None)
    assert len(begun["idle"]) == len(opened.chains), "nothing is new"


def bench_idle(folder: Path) -> None:
    """An idle sweep beside a bare `git ls-remote` of the same repositories, as many at a time; and 1,000 beside 200."""
    few, many = enrol_many(folder / "few", 200), enrol_many(folder / "many", 1000)
    listed = addresses(folder / "few")
    bare = ["xargs", "-P", str(AT_ONCE), "-n", "1", "git", "ls-remote"]
    processes: dict[str, list[int]] = {"canonq": [], "bare": []}

    def counted(name: str, action: Action) -> Action:
        def counts() -> None:
            before = forks()
            action()
            processes[name].append(forks() - before)

        return counts

    def list_bare() -> None:
        subprocess.run(bare, input=listed, check=True, stdout=subprocess.DEVNULL)

    ratio(
        f"idle sweep over 200 recipes / git ls-remote of each, {AT_ONCE} at a time",
        counted("canonq", lambda: idle_sweep(few)),
        counted("bare", list_bare),
        7,
    )
    print(f"{'processes that the idle sweep started / those of git ls-remote':70} "
          f"{statistics.median(processes['canonq']) / statistics.median(processes['bare']):6.2f}")  # fmt: skip
    ratio("idle sweep over 1,000 recipes / over 200", lambda: idle_sweep(many), lambda: idle_sweep(few), 3)
    upstream = str(folder / "few" / "upstreams" / "site-7")
    subprocess.run(["git", "--git-dir", upstream, "tag", "--annotate", "2.0.0+1", "--message", "x"], check=True)
    before = written(folder / "few" / "state" / "repos")
    changed: list[str] = []
    start(few, open_sweep(few), lambda enrolment: changed.append(enrolment.recipe))
    for recipe in changed:
        sync(few, recipe)
    after = written(folder / "few" / "state" / "repos")
    touched = {path.split("/")[0] for path in after if before.get(path) != after[path]}
    print(f"{'clones touched when one of 200 recipes has a new tag':70} {len(touched):6}")


RUNS = 20


def run_often(world: World, count: int) -> None:
    """Give each of so many recipes the runs that it keeps."""
    proven = Verdict(
        recipe="site-0", run="20260617T050014Z-site-0-aaaaaa", verdict="green", reason="proven", detail="", enrolment="0" * 64,
        version=f"1.{TAGS - 1}.0+1", commit="0" * 40, level=5, base=None, base_commit=None, base_from="none", fence=0,
        tiers={tier: TierResult(status="pass") for tier in PROVEN_TIERS}, images={}, ts="20260617T050314Z", disk_bytes=1,
    )  # fmt: skip
    for recipe in (f"site-{number}" for number in range(count)):
        for number in range(RUNS):
            run = f"20260617T05{number:02}14Z-{recipe}-aaaaaa"
            kept = proven.model_copy(update={"recipe": recipe, "run": run})
            (world.runs.make(recipe, run) / "run.json").write_text(kept.model_dump_json())


def typed(place: Path, *arguments: str) -> Action:
    """A command, as somebody types it."""
    settings = {"CANONQ_REPO": str(place / "checkout"), "CANONQ_STATE": str(place / "state")}
    command = [sys.executable, "-m", "canonq", *arguments]
    return lambda: subprocess.run(command, env=os.environ | settings, stdout=subprocess.DEVNULL, check=True)


def imports(names: str) -> Action:
    """A Python that imports them, and nothing else."""
    return lambda: subprocess.run([sys.executable, "-c", f"import {names}"], check=True)


def addresses(place: Path) -> bytes:
    """The upstreams of a place, one in each line."""
    return "".join(f"file://{path}\n" for path in sorted((place / "upstreams").glob("site-*"))).encode()


def bench_start(folder: Path) -> None:
    """Commands that only look, beside the imports that they cannot do without."""
    run_often(enrol_many(folder / "21", 21), 21)
    ratio("canonq --help / import click, rich", typed(folder / "21", "--help"), imports("click, rich"), 15)
    ratio("canonq status of 21 recipes / import click, rich, pydantic_settings", typed(folder / "21", "status"),
          imports("click, rich, pydantic_settings"), 15)  # fmt: skip


def bench_growth(folder: Path) -> None:
    """Commands that only look, at ten times as many recipes."""
    few, many = folder / "100", folder / "1000"
    for place, count in ((few, 100), (many, 1000)):
        run_often(enrol_many(place, count), count)
    for look in (["status"], ["plan"], ["janitor", "--dry-run"]):
        ratio(
            f"canonq {' '.join(look)} of 1,000 recipes with {RUNS} runs each / of 100", typed(many, *look), typed(few, *look), 3
        )


def bench_plan(folder: Path) -> None:
    """A plan beside a bare `git ls-remote` of the same repositories, as many at a time, and its own imports."""
    place = folder / "planned"
    enrol_many(place, 200)
    listed, bare = addresses(place), [sys.executable, "-m", "bench.listing", str(AT_ONCE)]
    ratio(
        f"canonq plan over 200 recipes / its imports and git ls-remote of each, {AT_ONCE} at a time",
        typed(place, "plan"),
        lambda: subprocess.run(bare, input=listed, stdout=subprocess.DEVNULL, check=True),
        5,
    )


def written(folder: Path) -> dict[str, int]:
    """When each file and folder was last written."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def forks() -> int:
    """How many processes and threads this machine has started since it was."""
    lines = Path("/proc/stat").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("processes ")).split()[1])


def bench_snapshot(folder: Path) -> None:
    """A snapshot of 400 MB, and back, durable and with its checksum, beside tar and zstd and a sync of what they wrote."""
    if shutil.which("zstd") is None:
        print("zstd is not installed: the snapshot was not measured", file=sys.stderr)
        return
    data, bare, back = folder / "data", folder / "bare", folder / "back"
    for each in (data, bare, back):
        each.mkdir()
    for number in range(40):
        (data / f"large-{number}").write_bytes(os.urandom(5 << 20) + bytes(5 << 20))
    packed = folder / "bare.tar.zst"
    pack = f"tar -C {data} -c . | zstd -q -3 -T2 -f -o {packed} && sync {packed}"
    ours = folder / "ours.tar.zst"

    def take() -> None:
        ours.unlink(missing_ok=True)  # the other one replaces its file as well
        archive({"data": data}, ours)

    ratio(
        "snapshot of 400 MB / tar | zstd -3 -T2, synced",
        take,
        lambda: subprocess.run(["sh", "-c", pack], check=True),
        5,
    )
    kept = archive({"data": data}, folder / "kept.tar.zst")
    unpack = f"find {bare} -mindepth 1 -delete; zstd -q -d -c {packed} | tar -C {bare} -x && sync -f {bare}"

    def restore() -> None:
        unpack_archive(kept, {"data": back})
        sync_tree(back)

    ratio("restore of 400 MB / zstd -d | tar -x, synced", restore, lambda: subprocess.run(["sh", "-c", unpack], check=True), 5)
    ratio(
        "copy of 400 MB, for a test to work on / cp -a",
        lambda: copy_tree(data, back),
        lambda: subprocess.run(["sh", "-c", f"find {bare} -mindepth 1 -delete; cp -a {data}/. {bare}"], check=True),
        5,
    )


def bench_cold_cycle(folder: Path) -> None:
    """A whole cold run of one service through the command's own flow, beside deploy, wait, rm in a bare loop."""
    for_deploys()
    make_recipe(folder / "cycle", {"1.0.0+1.29.0": {"compose.yml": RECIPE, ".env.sample": "TYPE=cycle\nDOMAIN=x\n"}})
    enrolment = folder / "checkout" / "tests" / "cycle"
    enrolment.mkdir(parents=True)
    (enrolment / "recipe.toml").write_text(f'upstream = "{folder}/cycle"\n[health]\nsoak = 0\n')
    (folder / "bare.yml").write_text(RECIPE)
    engine = SwarmEngine()

    def bare() -> None:
        deploy = ["docker", "stack", "deploy", "--resolve-image", "never", "-c", f"{folder}/bare.yml", "canonq-bench"]
        subprocess.run(deploy, check=True, capture_output=True)
        assert pause_until(lambda: any(t.state == "running" for t in engine.observe("canonq-bench")[1]), 60)
        subprocess.run(["docker", "stack", "rm", "canonq-bench"], check=True, capture_output=True)
        containers = ["docker", "ps", "-aq", "--filter", "label=com.docker.stack.namespace=canonq-bench"]
        assert pause_until(lambda: not subprocess.run(containers, capture_output=True, check=True).stdout, 60)
        volume = ["docker", "volume", "rm", "canonq-bench_data"]
        assert pause_until(lambda: subprocess.run(volume, capture_output=True, check=False).returncode == 0, 30)

    with embedded_redis() as url:
        settings = Settings(repo=folder / "checkout", state=folder / "state", redis_url=url)
        world = live(settings)
        sync(world, "cycle")

        def whole() -> None:
            assert test_tag(world, "cycle", None).verdict == "green"

        try:
            ratio("a whole cold run of one service / bare stack deploy, wait, stack rm", whole, bare, 3)
        finally:
            engine.remove_owned({LABEL_INSTANCE: world.instance}, 60)


def bench_upgrade_cycle(folder: Path) -> None:
    """A whole cold run with a base, fresh install included, beside a bare loop: both up together, one upgraded, both removed."""
    for_deploys()
    trees = {tag: RECIPE.replace("networks: [proxy]", f"networks: [proxy]\n    environment: {{TAG: '{tag}'}}") for tag in UPGRADE}
    label = '    deploy: {{labels: ["coop-cloud.${{STACK_NAME}}.version={tag}"]}}\n'
    trees = {tag: text.replace("networks:\n  proxy", f"{label.format(tag=tag)}networks:\n  proxy") for tag, text in trees.items()}
    sample = "TYPE=cycle\nDOMAIN=x\n"
    make_recipe(folder / "upgrade", {tag: {"compose.yml": text, ".env.sample": sample} for tag, text in trees.items()})
    enrolment = folder / "checkout" / "tests" / "upgrade"
    enrolment.mkdir(parents=True)
    (enrolment / "recipe.toml").write_text(f'upstream = "{folder}/upgrade"\n[health]\nsoak = 0\n')
    for tag, text in trees.items():
        (folder / f"{tag}.yml").write_text(text)
    engine = SwarmEngine()

    def deploy(stack: str, tag: str) -> None:
        command = ["docker", "stack", "deploy", "--resolve-image", "never", "-c", f"{folder}/{tag}.yml", stack]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "STACK_NAME": stack})

    def up(stack: str, updated: bool = False) -> bool:
        services, tasks = engine.observe(stack)
        done = not updated or all(service.update == "completed" for service in services)
        return done and any(task.state == "running" and task.current for task in tasks)

    def gone(stack: str) -> bool:
        volume = ["docker", "volume", "rm", f"{stack}_data"]  # refused as long as a container has it
        return subprocess.run(volume, capture_output=True, check=False).returncode == 0

    def bare() -> None:
        base, target = UPGRADE
        deploy("canonq-bench", base)
        deploy("canonq-benchf", target)
        assert pause_until(lambda: up("canonq-bench") and up("canonq-benchf"), 60)
        deploy("canonq-bench", target)
        assert pause_until(lambda: up("canonq-bench", updated=True), 60)
        for stack in ("canonq-bench", "canonq-benchf"):
            subprocess.run(["docker", "stack", "rm", stack], check=True, capture_output=True)
        for stack in ("canonq-bench", "canonq-benchf"):
            assert pause_until(partial(gone, stack), 60)

    with embedded_redis() as url:
        world = live(Settings(repo=folder / "checkout", state=folder / "state", redis_url=url))
        sync(world, "upgrade")

        def whole() -> None:
            verdict = test_tag(world, "upgrade", None)
            assert verdict.verdict == "green", verdict.detail
            spent.append(verdict.timings)

        spent: list[dict[str, float]] = []
        try:
            ratio("a cold run with a base and a fresh install / both deployed, one upgraded, removed", whole, bare, 3)
            for phase, took in sorted(spent[-1].items()):
                print(f"    {phase:66} {took:6.2f} s of the last one")
        finally:
            engine.remove_owned({LABEL_INSTANCE: world.instance}, 60)


UPGRADE = ("1.0.0+1.29.0", "1.1.0+1.29.0")
GB = 10**9


def bench_census(folder: Path) -> None:
    """Census and markers of databases of 1 GB: seconds and memory, canonq's and that of the process that asks."""
    with contextlib.closing(sqlite3.connect(folder / "app.db")) as file, file:
        file.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, text BLOB)")
        file.executemany("INSERT INTO posts (text) VALUES (?)", ((os.urandom(2000),) for _ in range(GB // 2000)))
    _counted("an SQLite database", [str(folder)])
    (folder / "app.db").unlink()
    with postgres.serving(folder / "log") as env:
        filled = postgres.psql(env, f"""
            CREATE UNLOGGED TABLE posts (id SERIAL PRIMARY KEY, text TEXT);
            ALTER TABLE posts ALTER text SET STORAGE PLAIN;
            INSERT INTO posts (text) SELECT repeat(md5(n::text), 62) FROM generate_series(1, {GB // 2000}) n;
            SELECT pg_total_relation_size('posts');
        """)  # fmt: skip
        assert int(filled.stdout or 0) > GB, filled.stderr
        _counted("a PostgreSQL", [], env)


def _counted(what: str, arguments: list[str], env: Mapping[str, str] = MappingProxyType({})) -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "bench.counting", *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    ).stdout.split()
    took, own, child = map(float, measured)
    print(f"{f'census and marks of {what} of 1 GB, seconds':70} {took:6.2f}")
    print(f"{'    memory of canonq beyond what it had, and of the process that asks, MB':70} {own:6.1f} {child:6.1f}")


_FEW, _MANY = 100, 1000
_NIGHT = 180.0  #: seconds that a night of 21 recipes takes, where none of it is canonq's own


def bench_load(folder: Path) -> None:
    """Fleets on real beat, Redis, workers and Flower, over an Engine of files: what a chain costs as they grow, and a night."""
    del folder
    few, many = (load.chains_that_end_early(count) for count in (_FEW, _MANY))
    measured: dict[str, Callable[[load.Seen], float]] = {
        "own CPU of a chain that ends early": lambda seen: seen.own,
        "CPU of the programs that it starts": lambda seen: seen.others,
        "Redis at its peak": lambda seen: seen.redis_peak,
        "events": lambda seen: seen.events,
    }
    for what, value in measured.items():
        grown = many.of_a_chain(value(many)) / few.of_a_chain(value(few))
        print(f"{f'{what}, of {_MANY:,} recipes / of {_FEW}':70} {grown:6.2f}")
    assert many.flower == many.executed, "Flower's list is that of what was executed"
    first = load.new_releases(_FEW).first_test or 0.0
    print(f"{f'seconds from beat to the first test of {_FEW} new releases / 5':70} {first / 5:6.2f}")
    imagined = simulate.imagined(21, seed=1)
    hosts = [Host("here", light=2, heavy=1)]
    shorter = _NIGHT / schedule(imagined, hosts).makespan
    jobs = [replace(job, seconds=job.seconds * shorter) for job in imagined]
    night, made = load.recipes_that_take(jobs), schedule(jobs, hosts)
    print(f"{'a night of 21 recipes, one heavy and two light slots / as simulated':70} {night.night / made.makespan:6.2f}")
    print(f"{'    the same / as simulated from what is on record of it':70} {night.night / night.replayed:6.2f}")
    print(f"{'    as simulated / what no schedule can beat':70} {made.makespan / made.lower_bound:6.2f}")


_BUSY = 20  #: processes that do nothing but work


def bench_reds(folder: Path) -> None:
    """False reds on 20 good releases, on a quiet machine and beside 20 busy processes (minutes, each)."""
    del folder
    for busy in (0, _BUSY):
        count, wrong = reds.good_releases(busy)
        print(f"{f'of {count} good releases, not promoted, beside {busy} busy processes':70} {len(wrong):6}", flush=True)
        for said in wrong:
            print(f"    {said}")


def for_deploys() -> None:
    """What the runs on a real Engine need of it."""
    SwarmEngine().preflight()
    SwarmEngine().ensure_network("proxy")
    images.build(["static"])


#: Each works below a folder of its own. The last three need an Engine.
PARTS: dict[str, Callable[[Path], None]] = {
    "order": bench_order,
    "listing": bench_listing,
    "idle": bench_idle,
    "start": bench_start,
    "growth": bench_growth,
    "plan": bench_plan,
    "snapshot": bench_snapshot,
    "census": bench_census,
    "load": bench_load,
    "cycle": bench_cold_cycle,
    "upgrade": bench_upgrade_cycle,
    "reds": bench_reds,
}


def main(wanted: list[str]) -> int:
    """Run the parts that are named, or all; canonq / baseline, so lower is better and 1.00 is the baseline."""
    if unknown := [name for name in wanted if name not in PARTS]:
        print(f"There is no part {', '.join(unknown)}; there are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    for role in ("AUTHOR", "COMMITTER"):  # a fresh machine has told git nobody's name
        os.environ.setdefault(f"GIT_{role}_NAME", "Bench")
        os.environ.setdefault(f"GIT_{role}_EMAIL", "bench@localhost")
    print("canonq / baseline, median of pairs; 1.00 is the baseline, lower is better")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="canonq-bench-") as name:
        for part in wanted or PARTS:
            folder = Path(name) / part
            folder.mkdir()
            try:
                PARTS[part](folder)
            except subprocess.CalledProcessError as error:  # how long it takes to fail is no figure
                failed = 1
                command = shlex.join(map(str, error.cmd)) if isinstance(error.cmd, list) else error.cmd
                print(f"{part}: NOT measured (further): `{command}` ended with {error.returncode}", file=sys.stderr)
            shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
