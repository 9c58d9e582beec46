"""What the processes that are killed have imported: once, in the process that they are forks of."""

import tests.faults.scenario  # noqa: F401 - for the forks
from canonq.adapters.processes.preloaded import keep_shared

keep_shared()
