"""`make demo`: canonq's main job on recipes made here. Two sweeps, with a release published between them.

Every expectation is checked; the exit status is 0 only when all came out as told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE
from canonq.flows.sweeps.summary import summary
from canonq.settings import load_settings
from canonq.wiring import live
from demo import images, upstreams

PLACE = Path(os.environ.get("DEMO_PLACE") or Path(__file__).resolve().parent.parent / ".demo")
OLD_RELEASE = "0.9.0+v1.5.735-0"
FIRST = {
    "custom-html": ("promoted", "seed"),
    "guestbook": ("promoted", "seed"),
    "tiny-html": ("promoted", "seed"),
    "voice": ("red", "install-failed"),
    "forge": ("red", "config-not-bumped"),
    "unreleased": ("skipped", "never-released"),
}
SECOND = {
    "custom-html": ("promoted", "new-version"),
    "guestbook": ("skipped", "no-new-version"),
    "tiny-html": ("skipped", "no-new-version"),
    "voice": ("skipped", "held-red"),
    "forge": ("skipped", "held-red"),
    "unreleased": ("skipped", "never-released"),
}


def main() -> int:
    """Run the demo; 0 when everything came out as expected."""
    began = time.monotonic()
    _say("Clearing what an earlier demo kept")
    _clear()
    _say("Building the images (nothing is pulled)")
    images.build()
    _say("Making the recipes' git repositories and the checkout with their enrolments")
    repos = PLACE / "upstreams"
    upstreams.make_upstreams(repos)
    checkout = upstreams.make_checkout(PLACE / "checkout", repos)
    mirror = _give_mirror(checkout, "custom-html")
    _configure(checkout)

    _say("Is everything there?")
    problems = [] if _canonq("doctor") == 0 else ["canonq doctor found something broken"]
    _say(f"By hand: prove the older release {OLD_RELEASE} of voice, and promote it")
    problems += [] if _canonq("test", "voice", "--tag", OLD_RELEASE) == 0 else ["the older release of voice was not green"]
    problems += [] if _canonq("promote", "voice") == 0 else ["the older release of voice was not promoted"]

    _say("What would tonight's sweep do?")
    _canonq("plan")
    _say("The first night")
    problems += _sweep(FIRST)
    _say("Upstream publishes a release of custom-html")
    tag = upstreams.publish(repos, "custom-html")
    print(f"    tagged {tag}")
    _say("The second night: only that recipe has work, and its mirror follows")
    problems += _sweep(SECOND)
    problems += _compare(mirror, repos / "custom-html", tag)

    _canonq("status")
    problems += [] if _canonq("verify") == 0 else ["canonq verify found something broken"]
    problems += _show_record(tag)
    state = PLACE / "state"
    print(f"\nReports of the sweeps: {state}/sweeps/*/report.json")
    print(f"Runs, with tests' results and the services' logs: {state}/runs/<recipe>/<run>/")
    print(f"Workers' logs: {state}/logs/")
    print(
        f"Look around with: CANONQ_CONFIG={PLACE}/canonq.toml .venv/bin/canonq status (retained volumes stay until the next demo)"
    )
    for problem in problems:
        print(f"NOT AS EXPECTED: {problem}", file=sys.stderr)
    print(
        f"\nThe demo took {time.monotonic() - began:.0f} s and came out {'other than expected' if problems else 'as expected'}."
    )
    return 1 if problems else 0


def _say(what: str) -> None:
    print(f"\n=== {what}", flush=True)


def _clear() -> None:
    instance = PLACE / "state" / "instance"
    if instance.is_file():
        SwarmEngine().remove_owned({LABEL_INSTANCE: instance.read_text().strip()}, 120)
    if PLACE.exists():
        shutil.rmtree(PLACE)
    PLACE.mkdir()


def _configure(checkout: Path) -> None:
    config = PLACE / "canonq.toml"
    # A red is held after its first night here, so that the second sweep touches the new release only.
    config.write_text(f'repo = "{checkout}"\nstate = "{PLACE / "state"}"\nhold_reds = 1\n')
    for name in [name for name in os.environ if name.startswith("CANONQ_")]:
        del os.environ[name]
    os.environ["CANONQ_CONFIG"] = str(config)


def _give_mirror(checkout: Path, recipe: str) -> Repo:
    """An empty mirror for one of the recipes, and its enrolment that names it."""
    mirror = Repo.init(PLACE / "mirrors" / f"{recipe}.git", bare=True, initial_branch="main")
    enrolment = checkout / "tests" / recipe / "recipe.toml"
    enrolment.write_text(f'mirror = "{mirror.git_dir}"\n{enrolment.read_text()}')
    return mirror


def _compare(mirror: Repo, upstream: Path, tag: str) -> list[str]:
    theirs = {one.name: one.commit.hexsha for one in Repo(upstream).tags}
    found = {one.name: one.commit.hexsha for one in mirror.tags}
    print(f"The mirror has {len(found)} tags, {tag} among them, and upstream's default branch.")
    same = found == theirs and mirror.head.commit == Repo(upstream).head.commit
    return [] if same else ["the mirror is not equal to upstream"]


def _canonq(*arguments: str) -> int:
    print(f"$ canonq {' '.join(arguments)}", flush=True)
    return subprocess.run([sys.executable, "-m", "canonq", *arguments], check=False).returncode


def _sweep(expected: dict[str, tuple[str, str]]) -> list[str]:
    status = _canonq("sweep", "--wait")
    world = live(load_settings())
    newest = world.sweeps.newest()
    if newest is None:
        return ["there is no sweep on record"]
    whole = summary(world, newest)
    found = {o["recipe"]: (o["outcome"], o["reason"]) for o in whole["outcomes"]}
    problems = [f"{recipe} is {found.get(recipe)}, not {want}" for recipe, want in expected.items() if found.get(recipe) != want]
    if sum(whole["counts"].values()) != whole["enrolled"]:
        problems.append("the counts do not add up to the enrolled recipes")
    if status != 1:
        problems.append(f"the sweep's exit status is {status}, though a red or held red must give 1")
    return problems


def _show_record(tag: str) -> list[str]:
    path = PLACE / "state" / "warm" / "custom-html" / "canonical.json"
    if path.is_file():
        print(f"\n{path}:\n{path.read_text()}")
    registry = live(load_settings()).registry
    problems = []
    for recipe, expected in (("custom-html", tag), ("voice", OLD_RELEASE)):
        record = registry.read(recipe)
        if record is None or record.version != expected:
            problems.append(f"the canonical of {recipe} is {record.version if record else 'missing'}, not {expected}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
