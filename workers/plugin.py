"""Read by every `celery` of the environment that canonq is installed in, before Celery reads its own options.

canonq is an application: the `celery` beside it is for its tasks. Where no app is named, Celery would send them to a queue that
nobody reads (with only a broker given) or to a RabbitMQ on this host.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from celery.bin.call import call
from celery.utils import imports

from canonq.settings import not_ours

if not os.environ.get("CELERY_APP"):
    os.environ["CELERY_APP"] = "canonq"

# Flower runs a file of its own from its folder; where there is none that is ours, canonq's.
if not (flower := Path("flowerconfig.py")).is_file() or not_ours(flower):
    os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flowerconfig.py")))

# Celery looks for modules in the current folder first, whoever has put them there. Ours are installed.
imports.cwd_in_path = contextlib.nullcontext

#: What the entry point adds is what is there already.
__all__ = ["call"]
