"""The process of one tier: started ahead, so that its imports cost no time, it waits for its orders on standard input.

Orders are one line of JSON: `facts` (the file of the tier's facts), `folder` (where to work), `arguments` (pytest's),
`plugins` (whether pytest loads those that happen to be installed), `limit` (seconds until it is killed).
"""

from __future__ import annotations

import json
import os
import sys

import pytest

from canonq.tiers import markers, plugin  # noqa: F401 - markers now rather than when the tests begin
from canonq.tiers.facts import VARIABLE


def main() -> int:
    """Take the orders and run pytest; its exit status. Without orders, end."""
    line = sys.stdin.readline()
    if not line:
        return 0
    orders = json.loads(line)
    os.environ[VARIABLE] = orders["facts"]
    if not orders["plugins"]:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugin.ends_after(orders["limit"])
    os.chdir(orders["folder"])
    return int(pytest.main(orders["arguments"], plugins=[plugin]))


if __name__ == "__main__":
    sys.exit(main())
