"""Flower's configuration: `celery flower` beside canonq reads it, unless the folder it is started in has one of its own.

What stands here is only overruled on the command line. Nobody sees the page without a login, and nobody acts by it.
"""

import sys

from tornado.options import options

from canonq.core.errors import WrongConfiguration
from workers.taskpage import format_task as format_task

if not (options.basic_auth or options.auth):
    no_login = WrongConfiguration(
        "Flower has no login, and does not start without one.",
        mend="set FLOWER_BASIC_AUTH=user:password in its environment, or --auth and what it needs.",
        code="no-login",
    )
    sys.stderr.write(f"{no_login.line}\n")
    raise SystemExit(int(no_login.exit_status))

address = "127.0.0.1"
read_only = True
natural_time = True
max_tasks = 20_000
tasks_columns = "name,args,result,state,received,runtime,worker,uuid"
