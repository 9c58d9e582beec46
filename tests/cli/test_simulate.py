"""`canonq simulate`: a night that is not there, in numbers that add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Installation


def test_a_fleet_of_a_thousand_on_twenty_hosts_ends_within_a_tenth_of_what_it_must(tmp_path: Path) -> None:
    told = Installation(tmp_path).canonq("simulate", "--fleet", "1000", "--hosts", "20", "--memory", "16 GiB", "--json")
    assert told.status == 0, told.err
    assert told.json["lower_bound_seconds"] <= told.json["makespan_seconds"] <= 1.1 * told.json["lower_bound_seconds"]
    assert len(told.json["recipes"]) == 1000
    assert sum(host["recipes"] for host in told.json["hosts"]) == 1000
    assert told.json["one_host_more_seconds"] <= told.json["makespan_seconds"]
    assert all(host["memory_peak_bytes"] <= 16 * 2**30 for host in told.json["hosts"])


def test_the_same_seed_gives_the_same_night_and_what_does_not_fit_is_left_out_and_told(tmp_path: Path) -> None:
    ask = ("simulate", "--fleet", "50", "--light", "1", "--heavy", "0", "--window", "10m", "--json")
    told = Installation(tmp_path).canonq(*ask)
    assert told.status == 1
    assert told.json == Installation(tmp_path).canonq(*ask).json
    assert all(row["end_seconds"] <= 600 for row in told.json["recipes"])
    assert len(told.json["left_out"]) + len(told.json["recipes"]) == 50


def test_a_night_is_drawn_with_its_slots_what_it_takes_and_what_other_hosts_would_bring(tmp_path: Path) -> None:
    page = tmp_path / "night.html"
    ask = ("simulate", "--fleet", "40", "--hosts", "6", "--light", "2", "--memory", "8 GiB", "--page", str(page))
    told = Installation(tmp_path).canonq(*ask)
    assert told.status == 0, told.err
    assert f"drawn in {page}" in told.out
    text = page.read_text()
    for title in ("Who works when", "Hosts (6)", "Memory that runs take", "Disk that runs take", "What more hosts bring"):
        assert title in text
    assert text.count("<svg") == 4
    assert all(f">host-{number} light 2<" in text for number in range(1, 7))
    assert [f">{count}</th>" in text for count in (2, 3, 9, 10)] == [False, True, True, False]
    assert "<script" not in text


@pytest.mark.parametrize(
    "wrong",
    [("--hosts", "-1"), ("--hosts", "201"), ("--fleet", "-1"), ("--fleet", "99999999"), ("--memory", "much"),
     ("--memory", "-1 GiB"), ("--window", "soon"), ("--light", "65")],
)  # fmt: skip
def test_numbers_that_nobody_has_are_refused(tmp_path: Path, wrong: tuple[str, str]) -> None:
    fleet = () if wrong[0] == "--fleet" else ("--fleet", "5")
    assert Installation(tmp_path).canonq("simulate", *fleet, *wrong).status == 2
