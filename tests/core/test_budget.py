"""The disk budget as values: what work needs, and which images may go."""

from __future__ import annotations

import pytest

from canonq.core.budget import (
    Disk,
    Need,
    PulledImage,
    Standing,
    gib,
    images_to_drop,
    need_of_promotion,
    need_of_run,
    split_promotion,
    tightest,
    who_ends,
)

MIB = 2**20


def test_without_history_the_setting_says_what_a_run_needs_wherever_it_goes() -> None:
    assert need_of_run([], 7) == need_of_run([0, Need()], 7) == Need(anywhere=7)
    assert need_of_run([], 7).of(["images"]) == need_of_run([], 7).of(["state", "volumes"]) == 7


def test_the_largest_peak_of_the_last_five_runs_counts_and_older_ones_do_not() -> None:
    peaks = [900 * MIB, 100 * MIB, 200 * MIB, 100 * MIB, 100 * MIB, 100 * MIB]
    assert need_of_run(peaks, 7).total == 250 * MIB


def test_what_a_run_needs_is_the_largest_of_each_kind_and_goes_where_that_kind_lies() -> None:
    need = need_of_run([Need(images=800 * MIB, volumes=8 * MIB), Need(volumes=80 * MIB, state=40 * MIB)], 7)
    assert need == Need(images=1000 * MIB, volumes=100 * MIB, state=50 * MIB)
    assert (need.of(["images"]), need.of(["state", "volumes"])) == (1000 * MIB, 150 * MIB)


def test_small_runs_still_need_room_for_what_is_around_them() -> None:
    assert need_of_run([1], 7).total == need_of_promotion(1, 7) == 64 * MIB


def test_a_promotion_needs_the_volumes_anew_and_their_snapshot() -> None:
    assert need_of_promotion(100 * MIB, 7) == 250 * MIB
    assert need_of_promotion(0, 7) == 7
    assert split_promotion(need_of_promotion(100 * MIB, 7)) == Need(volumes=125 * MIB, state=125 * MIB)


def test_what_was_taken_is_no_longer_needed_kind_by_kind() -> None:
    left = Need(volumes=10, images=100, anywhere=60).less(Need(volumes=40, images=30))
    assert left == Need(volumes=0, images=70, anywhere=0)


def test_the_disk_that_is_shortest_is_the_one_that_is_told() -> None:
    roomy = Disk(free=900 * MIB, floor=MIB, need=MIB, path="/srv/state", holds=("state", "volumes"))
    tight = Disk(free=10 * MIB, floor=100 * MIB, need=800 * MIB, path="/srv/containerd", holds=("images",))
    told = tightest([roomy, tight]).why_short
    assert "/srv/containerd" in told
    assert "images and containers' layers" in told
    assert "/srv/state" not in told


def test_a_floor_is_eaten_into_by_what_is_used_and_not_by_what_is_reserved() -> None:
    assert not Disk(free=5, floor=10, need=0, reserved=5).below_floor
    assert Disk(free=4, floor=10, need=0, reserved=5).below_floor


def test_below_the_floor_the_work_ends_that_took_most_beyond_its_word_and_one_at_a_time() -> None:
    modest, greedy = Standing("a", over=-5), Standing("b", over=70)
    assert who_ends([modest, greedy]) == "b"
    assert who_ends([modest, Standing("b", over=70, ending=True)]) is None
    assert who_ends([modest]) == "a"
    assert who_ends([]) is None


@pytest.mark.parametrize(("free", "short"), [(31, -1), (30, 0), (29, 1)])
def test_room_is_what_is_left_above_the_floor(free: int, short: int) -> None:
    assert Disk(free=free, floor=10, need=20).short == short


def test_what_others_have_reserved_is_told() -> None:
    told = Disk(free=MIB, floor=10 * MIB, need=20 * MIB, reserved=5 * MIB).why_short
    assert "5 MiB more are reserved" in told
    assert "29 MiB short" in told


def test_sizes_are_told_in_units_people_read() -> None:
    assert (gib(3 * 2**30), gib(5 * MIB)) == ("3.0 GiB", "5 MiB")


def pulled(reference: str, version: str, recipe: str = "site", used: float = 0) -> PulledImage:
    return PulledImage(reference, recipe, version, used)


def test_an_image_of_a_dropped_version_may_go_and_says_whose_it_was() -> None:
    dropped = images_to_drop([pulled("nginx:1", "1.0.0+1"), pulled("nginx:2", "2.0.0+2")], {"site": {"2.0.0+2"}}, since=10)
    assert list(dropped) == ["nginx:1"]
    assert "site 1.0.0+1" in dropped["nginx:1"]


def test_an_image_that_a_wanted_release_shares_stays() -> None:
    shared = [pulled("db:1", "1.0.0+1"), pulled("db:1", "2.0.0+2"), pulled("db:1", "9.0.0+9", recipe="blog")]
    assert images_to_drop(shared, {"blog": {"9.0.0+9"}}, since=10) == {}


def test_an_image_that_was_used_lately_stays_for_the_run_that_may_need_it() -> None:
    assert images_to_drop([pulled("nginx:1", "1.0.0+1", used=11)], {}, since=10) == {}


def test_what_canonq_did_not_have_pulled_is_never_named() -> None:
    assert images_to_drop([], {}, since=10) == {}
