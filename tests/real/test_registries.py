"""Failed pulls on a real Engine, in whatever words it tells them: whose fault they are; and a sweep while a registry is down."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem
from tests.real.conftest import IMAGE, installed, tree, until
from tests.real.registry import serving
from tests.support import make_recipe
from tests.troubled import RETRY_AFTER, troubled

pytestmark = pytest.mark.real

RELEASE = "1.0.0+1"
#: Kind of trouble -> code of the failed pull; only those with no host's fault in them are the recipe's.
EXPECTED = {
    "no-tag": "image-unavailable",
    "no-name": "image-unavailable",
    "token-then-nothing": "image-unavailable",
    "denied": "image-unavailable",
    "proxy": "registry-unavailable",
    "unauthorized": "registry-refused",
    "forbidden": "registry-refused",
    "limited": "registry-rate-limit",
    "limited-for": "registry-rate-limit",
    "limited-without-words": "registry-rate-limit",
    "token-limited": "registry-rate-limit",
    "token-503": "registry-unavailable",
    "500": "registry-unavailable",
    "502": "registry-unavailable",
    "503": "registry-unavailable",
    "504": "registry-unavailable",
    "closes": "registry-unavailable",
    "hangs": "registry-unreachable",
    "resets": "registry-unavailable",
}


@pytest.mark.engines
def test_a_failed_pull_is_the_recipes_only_where_the_image_is_there_for_nobody(engine: SwarmEngine, tmp_path: Path) -> None:
    with troubled(tmp_path) as registry:

        def pulled(reference: str) -> CanonqError:
            with pytest.raises(CanonqError) as told:
                engine.ensure_images([reference], 5 if "/hangs/" in reference else 120)
            return told.value

        def named(kind: str) -> str:
            return f"{registry.guarded_address if kind.startswith('token') else registry.address}/{kind}/app:1"

        wanted = {named(kind): code for kind, code in EXPECTED.items()}
        wanted |= {
            f"{registry.tls_address}/no-tag/app:1": "registry-certificate",
            "127.0.0.1:1/app:1": "registry-unreachable",
            "127.0.0.1:1/Upper/app:1": "image-name-invalid",
        }
        with ThreadPoolExecutor(8) as side_by_side:
            found = dict(zip(wanted, side_by_side.map(pulled, wanted), strict=True))
    assert "did not finish within 5 s" in str(found[named("hangs")])
    assert {reference: error.code for reference, error in found.items()} == wanted, [str(error) for error in found.values()]
    for reference, error in found.items():
        recipes = error.code.startswith("image-")
        assert isinstance(error, RecipeProblem if recipes else HostProblem)
        assert error.outside == ("" if recipes else reference.split("/")[0])
    asked = {kind: found[named(kind)].retry_after for kind in EXPECTED if "limited" in kind}
    assert asked == {
        "limited": None, "limited-for": RETRY_AFTER, "limited-without-words": None, "token-limited": RETRY_AFTER,
    }  # fmt: skip


def test_recipes_that_a_registry_stopped_wait_and_are_tried_again_in_the_same_sweep(engine: SwarmEngine, tmp_path: Path) -> None:
    with serving() as registry, installed(engine, tmp_path) as made:
        image = registry.push(IMAGE, "one")
        registry.refuse = True
        made.settings["CANONQ_RETRY_PAUSE"] = "1"
        for recipe in ("one", "two"):
            make_recipe(made.root / recipe, {RELEASE: tree(RELEASE, image=image)})
            made.enrol(recipe, f'upstream = "{made.root}/{recipe}"\n[health]\ntimeout = 600\n')

        def waiting() -> bool:
            outcomes = [json.loads(path.read_text()) for path in made.state.glob("sweeps/*/outcomes/*.json")]
            return len([outcome for outcome in outcomes if outcome["retry_at"] is not None]) == 2

        with ThreadPoolExecutor(1) as beside:
            try:
                sweep = beside.submit(made.canonq, "sweep", "--wait", "--json")
                until("both recipes to wait for the registry", waiting)
            finally:
                registry.refuse = False
            swept = sweep.result().json
        subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)
    assert swept["counts"]["promoted"] == 2, swept
    for outcome in swept["outcomes"]:
        assert outcome["tries"], "the first try is told, though the last was green"
        assert (outcome["tries"][0]["reason"], outcome["tries"][0]["step"]) == ("registry-rate-limit", "test")
