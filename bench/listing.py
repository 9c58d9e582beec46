"""What `canonq plan` cannot do without: its own imports, and a bare `git ls-remote` of each address on standard input."""

import subprocess
import sys

import canonq.cli.checking  # noqa: F401 - for what it costs

if __name__ == "__main__":
    subprocess.run(["xargs", "-P", sys.argv[1], "-n", "1", "git", "ls-remote"], check=True)
