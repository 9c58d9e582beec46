"""`python -m canonq`."""

from canonq.cli import main

main()
