"""What is taken for a secret, and that nothing cuts one in two before it is masked."""

from __future__ import annotations

from typing import Any, cast

import pytest

from canonq.adapters.network.netns import judged
from canonq.core.enrolment import Health
from canonq.core.stack.convergence import failing_check
from canonq.flows.deploying.secrecy import Secrecy

SECRET = "Zk3vQ9tLw8sXb2nYc7mPa5dR"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mysql://u:p@ssw0rdLong@db", "p@ssw0rdLong"),
        ("redis://:ab/cdefghij@h", "ab/cdefghij"),
        ("postgres://u:p%40ssw0rd%2Flong@db/app", "p@ssw0rd/long"),
        ("postgres://u:p%40ssw0rd%2Flong@db/app", "p%40ssw0rd%2Flong"),
        ("amqp://a:first-of-two@x,amqp://b:second-of-two@y", "first-of-two"),
        ("amqp://a:first-of-two@x,amqp://b:second-of-two@y", "second-of-two"),
        ("see smtp://ada@example.org:in-an-address@mail:25 for more", "in-an-address"),
    ],
)
def test_passwords_of_addresses_are_known_as_each_reader_takes_them(value: str, said: str) -> None:
    secrecy = Secrecy()
    secrecy.env({"SOMEWHERE": value})
    assert said not in secrecy.masks.text(f"cannot log in with {said}.")


@pytest.mark.parametrize(
    "value", ["https://host:8080/path/of/ada@example.org", "postgres://postgres:postgres@db", "x@y: no address"]
)
def test_what_is_no_password_is_not_masked(value: str) -> None:
    secrecy = Secrecy()
    secrecy.env({"SOMEWHERE": value})
    assert secrecy.masks.text(value) == value


def test_no_half_of_a_secret_is_left_by_what_is_cut() -> None:
    secrecy = Secrecy()
    secrecy.secrets({"password": SECRET})
    for before in range(90, 135):
        told = judged(Health(), 302, b"", f"/login?{'x' * before}&token={SECRET}").detail
        assert SECRET[:8] not in secrecy.masks.text(told), before
    for after in range(270, 310):
        log = [{"End": "x", "ExitCode": 1, "Output": f"cannot log in with {SECRET} {'y' * after}"}]
        told = str(failing_check(cast(Any, {"State": {"Health": {"Log": log, "FailingStreak": 1}}})))
        assert SECRET[-8:] not in secrecy.masks.text(told), after
