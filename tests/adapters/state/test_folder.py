"""The state folder's id: one, whoever begins first."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from canonq.adapters.files import write_json
from canonq.adapters.state.folder import NO_INSTANCE, give_instance, instance_of, make_state, must_be_its_own, state_of
from canonq.core.errors import HostProblem


def test_programs_that_begin_at_the_same_moment_have_one_id(tmp_path: Path) -> None:
    for number in range(20):
        state = tmp_path / str(number)
        state.mkdir()
        begin = threading.Barrier(8)
        found: list[str] = []

        def one(state: Path = state, begin: threading.Barrier = begin, found: list[str] = found) -> None:
            begin.wait()
            give_instance(state)
            found.append(instance_of(state))

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert set(found) == {instance_of(state)}


RECORD = {"schema": 2, "recipe": "site", "version": "1.0.0+1", "volumes": ["site-warm_data"]}


@pytest.mark.parametrize(
    ("files", "mend"),
    [
        ({"warm/site/canonical.json": RECORD}, 'index .Labels "canonq.instance"}}\' site-warm_data` prints it'),
        ({"host.json": {"name": "here", "instance": "0123456789abcdef"}}, "printf %s 0123456789abcdef >"),
        ({"warm/site/canonical.json": {**RECORD, "volumes": []}}, "from a backup"),
    ],
    ids=["in a volume's label", "in host.json", "nowhere"],
)
def test_an_id_that_is_lost_is_told_with_where_it_stands_and_never_made_up(
    tmp_path: Path, files: dict[str, dict[str, object]], mend: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / name, content)
    for ask in (give_instance, instance_of):
        with pytest.raises(HostProblem) as told:
            ask(tmp_path)
        assert told.value.code == "instance-lost"
        assert f"{tmp_path}/instance" in told.value.what
        assert mend in told.value.mend
    assert not (tmp_path / "instance").exists()


def test_a_state_folder_of_the_server_before_has_no_id_yet_and_gets_one(tmp_path: Path) -> None:
    (tmp_path / "warm" / "site").mkdir(parents=True)
    write_json(tmp_path / "warm" / "site" / "canonical.json", {"recipe": "site", "version": "1.0.0+1", "status": "ok"})
    assert instance_of(tmp_path) == NO_INSTANCE
    give_instance(tmp_path)
    assert instance_of(tmp_path) != NO_INSTANCE


def a_state(folder: Path) -> Path:
    make_state(folder)
    give_instance(folder)
    must_be_its_own(folder)
    return folder


def test_a_copy_of_a_state_folder_does_nothing_beside_its_original_and_says_the_way_out(tmp_path: Path) -> None:
    original = a_state(tmp_path / "state")
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    with pytest.raises(HostProblem, match=f"{copy} is a copy of {original}, which is there still") as refused:
        must_be_its_own(copy)
    assert refused.value.code == "state-copied"
    assert (state_of(copy).state, state_of(original).state) == ("broken", "ok")
    must_be_its_own(original)
    command = refused.value.mend.partition("`")[2].partition("`")[0]
    subprocess.run(["sh", "-c", command], check=True)
    must_be_its_own(copy)
    must_be_its_own(original)
    assert instance_of(copy) != instance_of(original)


def test_a_copy_goes_on_alone_when_its_original_was_moved_away(tmp_path: Path) -> None:
    original = a_state(tmp_path / "state")
    shutil.copytree(original, tmp_path / "copy")
    original.rename(tmp_path / "old")
    must_be_its_own(tmp_path / "copy")
    with pytest.raises(HostProblem, match="is a copy of"):
        must_be_its_own(Path(shutil.copytree(tmp_path / "copy", tmp_path / "another")))


def test_a_state_folder_that_was_renamed_linked_to_or_restored_works_on(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state")
    (tmp_path / "link").symlink_to(state)
    must_be_its_own(tmp_path / "link")
    renamed = state.rename(tmp_path / "renamed")
    a_state(state)  # another, with an id of its own, in its place
    must_be_its_own(renamed)
    backup = Path(shutil.copytree(renamed, tmp_path / "backup"))
    shutil.rmtree(renamed)
    backup.rename(renamed)
    must_be_its_own(renamed)
    assert state_of(renamed).state == "ok"
