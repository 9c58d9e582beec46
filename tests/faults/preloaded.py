"""What the processes that are killed have imported: once, in the process that they are forks of."""

import gc

import tests.faults.scenario  # noqa: F401 - for the forks

# A fork that looked for garbage in it would make a copy of nearly all of it.
gc.collect()
gc.freeze()
