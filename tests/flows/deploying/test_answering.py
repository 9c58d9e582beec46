"""What a health check of the kind `exec` says of itself, and of its program."""

from __future__ import annotations

import pytest

from canonq.flows.deploying.answering import _NO_PROGRAM


@pytest.mark.parametrize(
    ("said", "lacks"),
    [
        ('`curl` exited with 126: OCI runtime exec failed: exec failed: unable to start container process: exec: "curl": '
         "executable file not found in $PATH: unknown", True),
        ('`/ready` exited with 126: OCI runtime exec failed: exec: "/ready": stat /ready: no such file or directory', True),
        ("`curl` exited with 127: executable file `curl` not found in $PATH: No such file or directory", True),
        ("`check` exited with 1: open /run/site/ready: no such file or directory", False),
        ("`cat` exited with 1: cat: can't open '/run/ready': No such file or directory", False),
    ],
)  # fmt: skip
def test_what_a_program_does_not_find_is_not_that_it_is_not_there_itself(said: str, lacks: bool) -> None:
    assert bool(_NO_PROGRAM.search(said)) is lacks
