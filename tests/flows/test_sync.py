"""sync: clone, mirror and pull requests in line with upstream, on real git and a stand-in forge."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.git.clones import GitRepos
from canonq.adapters.git.history import History
from canonq.core.errors import HostProblem, SyncFailed, TagMoved, WrongConfiguration, WrongUse
from canonq.core.outcomes import Outcome
from canonq.core.upstream.pulls import Landing
from canonq.flows.decide import decide_recipe
from canonq.flows.sync import accept_moved, sync
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.upstream.discovery import discover
from tests.flows.conftest import FIRST, Place, Whoever
from tests.forge import TOKEN, Forge, serving, status
from tests.support import release

NAME = "mirror/site"
NEXT = "1.1.0+1.1"


@pytest.fixture
def forge(place: Place) -> Iterator[Forge]:
    """A forge with a mirror of the recipe `site`, and canonq knows its token."""
    with serving(place.folder / "forge") as forge:
        forge.repo(NAME)
        (place.folder / "token").write_text(TOKEN)
        place.settings["forge"] = {"url": forge.url, "token_file": place.folder / "token", "timeout": 300}
        yield forge


@pytest.fixture
def upstream(place: Place, forge: Forge) -> Repo:
    return place.recipe(toml=f'mirror = "{forge.address(NAME)}"\n')


def commit(repo: Repo, name: str, text: str) -> str:
    """One more commit with a file."""
    (Path(repo.working_dir) / name).write_text(text)
    repo.git.add("--all")
    repo.git.commit("-qm", f"{name}: {text}")
    return str(repo.head.commit.hexsha)


def proposal(place: Place, forge: Forge, *changes: tuple[str, str], base: str = "main") -> tuple[int, Repo]:
    """A pull request on the mirror, with a commit for each (file, text); its number, and the clone it was made in."""
    forge.open_to_all = True
    clone = Repo.clone_from(forge.address(NAME), place.folder / f"work-{len(list(place.folder.glob('work-*')))}")
    clone.git.checkout("-q", "-b", "proposal")
    head = clone.head.commit.hexsha
    for name, text in changes:
        head = commit(clone, name, text)
    clone.git.push("-q", "-f", "origin", "proposal")
    forge.open_to_all = False
    return forge.open_pull(NAME, head, base=base), clone


def land(upstream: Repo, work: Repo) -> None:
    """Take a proposal into upstream as it is."""
    upstream.git.fetch(str(work.working_dir), "proposal")
    upstream.git.merge("-q", "--ff-only", "FETCH_HEAD")


def state(forge: Forge, number: int) -> str:
    return str(forge.pulls[NAME][number]["state"])


# -- what sync says and does ----------------------------------------------------------------------------------


def test_the_mirror_follows_upstream_and_the_second_sync_pushes_nothing(place: Place, forge: Forge, upstream: Repo) -> None:
    first = sync(place.world, "site")
    assert (first.branch, first.latest, first.changed, first.pushed) == ("main", FIRST, True, 2)
    assert forge.repo(NAME).commit("main") == upstream.commit("main")
    forge.asked.clear()
    second = sync(place.world, "site")
    assert (second.changed, second.pushed, second.notes) == (False, 0, ())
    assert not any("git-receive-pack" in question for question in forge.asked), "nothing was even begun to be pushed"


def test_a_clones_own_origin_is_never_asked(place: Place, upstream: Repo, bare: Callable[[str], Repo]) -> None:
    sync(place.world, "site")
    clone = Repo(place.folder / "state" / "repos" / "site" / "repo.git")
    clone.create_remote("origin", str(bare("elsewhere").git_dir))
    release(upstream, NEXT, {})
    assert sync(place.world, "site").latest == NEXT


@pytest.mark.long
def test_a_default_branch_that_is_renamed_is_followed(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    upstream.git.branch("-m", "trunk")
    assert sync(place.world, "site").branch == "trunk"
    assert forge.repo(NAME).commit("trunk") == upstream.commit("trunk")
    assert forge.repo(NAME).commit("main"), "the old branch may be somebody's by now"


def test_a_moved_tag_stops_the_recipe_and_reaches_no_mirror(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    was = forge.repo(NAME).commit(FIRST)
    commit(upstream, "more", "x")
    upstream.git.tag("-f", FIRST)
    for _ in range(2):
        with pytest.raises(TagMoved, match="not followed") as caught:
            sync(place.world, "site")
    assert "--accept-moved" in caught.value.mend
    assert forge.repo(NAME).commit(FIRST) == was


def test_a_recipe_that_was_never_synced_is_not_told_as_one_without_releases(place: Place, upstream: Repo) -> None:
    place.promote("site", "0.9.0+1", "a" * 40)
    for alone in (decide_recipe, lambda world, name: prove_tag(world, name, FIRST)):
        with pytest.raises(HostProblem, match="canonq sync site") as told:
            alone(place.world, "site")
        assert told.value.code == "clone-missing"
    sync(place.world, "site")
    assert decide_recipe(place.world, "site").version == FIRST


def test_a_moved_tag_is_taken_on_a_persons_word_and_only_then(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    moved = commit(upstream, "more", "x")
    upstream.git.tag("-f", FIRST)
    with pytest.raises(WrongUse, match="never fetched"):
        accept_moved(place.world, "site", "9.9.9")
    accept_moved(place.world, "site", FIRST)
    assert sync(place.world, "site").latest == FIRST
    assert place.world.repos.tags("site")[FIRST] == forge.repo(NAME).commit(FIRST).hexsha == moved


@pytest.mark.long
def test_a_move_of_the_canonicals_tag_is_seen_though_the_clone_and_what_was_seen_are_lost(place: Place, upstream: Repo) -> None:
    sync(place.world, "site")
    was = place.world.repos.tags("site")[FIRST]
    place.promote("site", FIRST, was)
    record = place.world.registry.read("site")
    assert record is not None
    place.world.registry.write(record.model_copy(update={"run": "20260617T050314Z-site-aaaaaa"}), Whoever())
    shutil.rmtree(place.folder / "state" / "repos" / "site")
    moved = commit(upstream, "more", "x")
    upstream.git.tag("-f", FIRST)
    for _ in range(2):
        with pytest.raises(TagMoved, match=was[:12]):
            sync(place.world, "site")
    accept_moved(place.world, "site", FIRST)
    assert sync(place.world, "site").latest == FIRST
    assert place.world.repos.tags("site")[FIRST] == moved
    assert sync(place.world, "site").latest == FIRST, "it is accepted for good"


@pytest.mark.long
def test_deleted_tags_and_tags_on_trees_are_told_as_long_as_they_are_so(place: Place, upstream: Repo) -> None:
    upstream.git.tag("2.0.0+2", "HEAD^{tree}")
    release(upstream, NEXT, {})
    sync(place.world, "site")
    upstream.git.tag("-d", FIRST)
    for _ in range(2):
        told = sync(place.world, "site")
        assert told.latest == NEXT
        assert any(f"the tag {FIRST} was deleted upstream" in note for note in told.notes)
        assert any("2.0.0+2" in note and "tree" in note for note in told.notes)


@pytest.mark.long
def test_the_canonicals_own_tag_that_is_deleted_is_told_as_yanked(place: Place, upstream: Repo) -> None:
    sync(place.world, "site")
    place.promote("site", FIRST, upstream.head.commit.hexsha)
    release(upstream, NEXT, {})
    upstream.git.tag("-d", FIRST)
    assert sync(place.world, "site").notes[0].startswith(f"yanked: the tag {FIRST}")
    clone = Repo(place.folder / "state" / "repos" / "site" / "repo.git")
    assert clone.commit(f"refs/canonq/deleted/{FIRST}"), "the next upgrade begins there"


def test_a_mirror_that_cannot_be_reached_is_sync_failed(place: Place, forge: Forge) -> None:
    place.recipe("other", toml=f'mirror = "{place.folder}/nowhere.git"\n')
    with pytest.raises(SyncFailed) as caught:
        sync(place.world, "other")
    assert (caught.value.code, caught.value.cause) == ("sync-failed", "mirror-gone")


@pytest.mark.parametrize("key", ["upstream", "mirror"])
@pytest.mark.parametrize("address", ["ext::sh -c id", "https://user:pw@127.0.0.1/x.git", "https://t0ken@127.0.0.1/x", "-x"])
def test_an_address_that_runs_something_or_shows_a_password_is_refused(place: Place, key: str, address: str) -> None:
    place.recipe("other")
    place.enrol(
        "other", address if key == "upstream" else str(place.folder), f'mirror = "{address}"\n' if key == "mirror" else ""
    )
    with pytest.raises(WrongConfiguration, match=key) as caught:
        sync(place.world, "other")
    assert caught.value.code in (f"bad-{key}", "credential-in-address")
    assert "pw" not in caught.value.what.replace("***", "")


# -- pull requests --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_merged_pull_request_is_closed_and_the_commit_is_named(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"), ("b", "2"))
    commit(upstream, "c", "meanwhile")
    upstream.git.fetch(str(work.working_dir), "proposal")
    upstream.git.merge("-q", "--no-ff", "-m", "Merge the proposal", "FETCH_HEAD")
    merge = upstream.head.commit.hexsha
    commit(upstream, "d", "later")
    told = sync(place.world, "site")
    assert state(forge, number) == "closed"
    assert merge in forge.comments[NAME, number][0]
    assert any(f"merged upstream as {merge[:12]}" in note for note in told.notes)


@pytest.mark.long
def test_a_fast_forwarded_pull_request_is_closed_and_its_own_commit_is_named(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    commit(upstream, "d", "later")
    sync(place.world, "site")
    assert state(forge, number) == "closed"
    assert work.head.commit.hexsha in forge.comments[NAME, number][0]


@pytest.mark.long
def test_a_rebased_pull_request_is_closed_and_its_last_commit_is_named(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"), ("b", "2"))
    commit(upstream, "c", "meanwhile")
    upstream.git.fetch(str(work.working_dir), "proposal")
    upstream.git.cherry_pick("main..FETCH_HEAD")
    last = upstream.head.commit.hexsha
    commit(upstream, "d", "later")
    sync(place.world, "site")
    assert state(forge, number) == "closed"
    assert last in forge.comments[NAME, number][0]


@pytest.mark.long
def test_a_squashed_pull_request_is_closed_and_the_squash_is_named(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, _ = proposal(place, forge, ("a", "1"), ("a", "2"), ("b", "2"))
    commit(upstream, "c", "meanwhile")
    (Path(upstream.working_dir) / "b").write_text("2")
    squash = commit(upstream, "a", "2")
    commit(upstream, "d", "later")
    sync(place.world, "site")
    assert state(forge, number) == "closed"
    assert squash in forge.comments[NAME, number][0]


@pytest.mark.long
def test_a_squashed_pull_request_that_had_merged_the_branch_meanwhile_is_closed(
    place: Place, forge: Forge, upstream: Repo
) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    commit(upstream, "c", "meanwhile")
    work.git.fetch(str(upstream.working_dir), "main")
    work.git.merge("-q", "-m", "up to date", "FETCH_HEAD")
    forge.repo(NAME).git.fetch(str(work.working_dir), "proposal")
    forge.repo(NAME).git.update_ref(f"refs/pull/{number}/head", work.head.commit.hexsha)
    forge.pulls[NAME][number]["head"]["sha"] = work.head.commit.hexsha
    squash = commit(upstream, "a", "1")
    sync(place.world, "site")
    assert state(forge, number) == "closed"
    assert squash in forge.comments[NAME, number][0]


@pytest.mark.long
def test_pull_requests_that_have_not_landed_whole_are_left_alone(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    unrelated, _ = proposal(place, forge, ("x", "1"))
    partly, _ = proposal(place, forge, ("a", "1"), ("b", "2"))
    elsewhere, _ = proposal(place, forge, ("a", "1"), base="stable")
    differs, _ = proposal(place, forge, ("a", "one"))
    empty, work = proposal(place, forge)
    work.git.commit("--allow-empty", "-qm", "start the tests")
    forge.repo(NAME).git.fetch(str(work.working_dir), "proposal")
    forge.repo(NAME).git.update_ref(f"refs/pull/{empty}/head", work.head.commit.hexsha)
    forge.pulls[NAME][empty]["head"]["sha"] = work.head.commit.hexsha
    upstream.git.commit("--allow-empty", "-qm", "nothing either")
    commit(upstream, "a", "1")
    assert sync(place.world, "site").notes == ()
    assert {state(forge, number) for number in (unrelated, partly, elsewhere, differs, empty)} == {"open"}
    assert forge.comments == {}


@pytest.mark.long
def test_a_proposal_to_do_again_what_was_reverted_is_left_alone(place: Place, forge: Forge, upstream: Repo) -> None:
    commit(upstream, "a", "1")
    upstream.git.revert("--no-edit", "HEAD")
    sync(place.world, "site")
    again, _ = proposal(place, forge, ("a", "1"))
    commit(upstream, "d", "later")
    sync(place.world, "site")
    assert state(forge, again) == "open"


def test_a_pull_request_that_git_cannot_compare_stops_no_release_and_no_other_pull_request(
    place: Place, forge: Forge, upstream: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(place.world, "site")
    huge, work = proposal(place, forge, ("a", "1"))
    number, other = proposal(place, forge, ("b", "2"))
    land(upstream, other)
    head, real = work.head.commit.hexsha, History.landing

    def landing(history: History, main: str, commit: str) -> Landing:
        if commit == head:
            raise HostProblem("git did not end within 120 s.", code="git-failed")
        return real(history, main, commit)

    monkeypatch.setattr(History, "landing", landing)
    told = sync(place.world, "site")
    assert any("could not be compared with upstream, so it is left alone: git did not end" in note for note in told.notes)
    assert (state(forge, huge), state(forge, number)) == ("open", "closed")


def test_a_look_at_pull_requests_that_failed_is_made_again_by_the_next_sweep(
    place: Place, forge: Forge, upstream: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    with monkeypatch.context() as patched:
        patched.setattr(GitRepos, "fetch_pulls", never_answers)
        told = sync(place.world, "site")
    assert any("could not be looked at: it hangs" in note for note in told.notes)
    assert place.world.repos.remembered("site")["forge"] is None, "so that the next sweep does not take it for idle"
    sync(place.world, "site")
    assert state(forge, number) == "closed"
    clone = Repo(place.folder / "state" / "repos" / "site" / "repo.git")
    assert clone.git.for_each_ref("refs/canonq/pull")
    sync(place.world, "site")
    assert not clone.git.for_each_ref("refs/canonq/pull"), "nobody needs it any more"


def never_answers(*_: object) -> None:
    raise SyncFailed("it hangs", cause="mirror-timeout")


@pytest.mark.long
def test_a_head_that_moved_since_the_forge_was_asked_waits_for_the_next_time(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    forge.pulls[NAME][number]["head"]["sha"] = "b" * 40
    sync(place.world, "site")
    assert state(forge, number) == "open"


@pytest.mark.long
@pytest.mark.parametrize("how", ["call", "setting"])
def test_a_dry_run_tells_and_does_nothing(place: Place, forge: Forge, upstream: Repo, how: str) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    if how == "setting":
        place.settings["forge"]["dry_run"] = True
    told = sync(place.world, "site", dry_run=how == "call")
    assert any("would be closed" in note for note in told.notes)
    assert state(forge, number) == "open"
    assert forge.comments == {}
    assert (forge.repo(NAME).commit("main") == upstream.commit("main")) == (how == "setting")


@pytest.mark.long
def test_a_forge_that_fails_is_told_and_asked_again_and_stops_no_release(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    release(upstream, NEXT, {})
    forge.order("api/v1", status(403))
    told = sync(place.world, "site")
    assert told.latest == NEXT
    assert any("forge-denied" in note for note in told.notes)
    assert place.world.repos.remembered("site")["forge"] is None, "so that the next sweep does not take it for idle"
    sync(place.world, "site")
    assert state(forge, number) == "closed"


@pytest.mark.long
def test_a_pull_request_is_commented_on_once_also_when_closing_it_failed(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    forge.order("PATCH", status(403))
    sync(place.world, "site")
    assert state(forge, number) == "open"
    sync(place.world, "site")
    assert state(forge, number) == "closed"
    assert len(forge.comments[NAME, number]) == 1


@pytest.mark.long
def test_a_pull_request_that_somebody_opens_again_is_left_to_them(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    land(upstream, work)
    sync(place.world, "site")
    forge.pulls[NAME][number]["state"] = "open"
    commit(upstream, "d", "later")
    told = sync(place.world, "site")
    assert state(forge, number) == "open"
    assert any("opened again" in note for note in told.notes)


@pytest.mark.long
def test_a_mirror_whose_own_default_branch_is_another_is_compared_by_upstreams(
    place: Place, forge: Forge, upstream: Repo
) -> None:
    forge.repo(NAME).git.symbolic_ref("HEAD", "refs/heads/develop")
    sync(place.world, "site")
    assert sync(place.world, "site").pushed == 0
    forge.repo(NAME).git.update_ref("refs/heads/main", forge.repo(NAME).git.commit_tree("main^{tree}", "-m", "stray"))
    assert sync(place.world, "site").pushed == 1


def test_an_upstream_that_lost_its_default_branch_is_not_fetched_every_night(place: Place) -> None:
    repo = place.recipe("other")
    sync(place.world, "other")
    repo.git.checkout("-q", "--detach")
    repo.git.branch("-D", "main")
    for name in ("one", "two"):
        repo.git.branch(name)
    repo.git.symbolic_ref("HEAD", "refs/heads/nothing")
    assert not sync(place.world, "other").changed


def test_a_test_that_cannot_begin_shows_as_an_error_at_the_commit(
    place: Place, forge: Forge, upstream: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))

    def broken(*_: object, **__: object) -> None:
        raise WrongUse("as ordered")

    monkeypatch.setattr("canonq.flows.test.prove", broken)
    with pytest.raises(WrongUse):
        prove_ref(place.world, "site", f"pull/{number}/head")
    head = work.head.commit.hexsha
    assert [(found, told["state"]) for _, found, told in forge.statuses] == [(head, "pending"), (head, "error")]


# -- what a forge says of the mirror itself --------------------------------------------------------------------


def test_the_first_sync_into_an_empty_mirror_has_nothing_to_tell(place: Place, forge: Forge, upstream: Repo) -> None:
    forge.unnoticed = 3
    assert sync(place.world, "site").notes == ()
    assert place.world.repos.remembered("site")["forge"] == NAME, "the next night may be idle"


def test_pull_requests_that_are_switched_off_on_the_mirror_are_none(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    forge.no_pulls.add(NAME)
    assert sync(place.world, "site").notes == ()


@pytest.mark.long
def test_an_archived_mirror_is_called_archived(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    forge.archived.add(NAME)
    assert [note for note in sync(place.world, "site").notes if "archived" in note]
    release(upstream, NEXT, {})
    with pytest.raises(SyncFailed, match="archived") as caught:
        sync(place.world, "site")
    assert caught.value.cause == "mirror-archived"
    assert "archive" in caught.value.mend
    assert "credential" not in caught.value.mend


def test_a_mirror_that_the_forge_itself_copies_is_told(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    forge.copied.add(NAME)
    (note,) = sync(place.world, "site").notes
    assert "copies it from elsewhere" in note


def test_a_mirror_that_the_tokens_user_cannot_see_is_told_to_be_corrected(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    forge.order(f"GET /api/v1/repos/{NAME}$", status(404))
    (note,) = sync(place.world, "site").notes
    assert "forge-not-found" in note
    assert "correct the mirror's address" in note


@pytest.mark.long
def test_a_mirror_that_was_renamed_is_followed_and_its_new_name_told_every_night(
    place: Place, forge: Forge, upstream: Repo
) -> None:
    sync(place.world, "site")
    (forge.folder / f"{NAME}.git").rename(forge.folder / "mirror" / "place.git")
    forge.renamed[NAME] = "mirror/place"
    for told in (sync(place.world, "site").notes, sync(place.world, "site", dry_run=True).notes):
        assert [note for note in told if f"mirror has moved to {forge.address('mirror/place')!r}" in note]
    place.promote("site", FIRST, upstream.head.commit.hexsha)
    ((_, idle),) = discover(place.world, [place.world.checkout.enrolment("site")])
    assert isinstance(idle, Outcome)
    assert [note for note in idle.notes if "mirror has moved" in note]


@pytest.mark.long
def test_a_title_is_told_as_it_is_written(place: Place, forge: Forge, upstream: Repo) -> None:
    sync(place.world, "site")
    number, work = proposal(place, forge, ("a", "1"))
    forge.pulls[NAME][number]["title"] = "sp\u00e4ter \U0001f418\x1b[2J"
    land(upstream, work)
    (note,) = sync(place.world, "site").notes
    assert "'sp\u00e4ter \U0001f418\\x1b[2J'" in note


def fetches(forge: Forge) -> int:
    """How often git turned to the mirror since the last count, besides the listing that every sync makes."""
    count = sum("service=git-upload-pack" in question for question in forge.asked) - 1
    forge.asked.clear()
    return count


@pytest.mark.long
def test_many_open_pull_requests_come_in_one_fetch_and_are_looked_at_once(
    place: Place, forge: Forge, upstream: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(place.world, "site")
    looked: list[str] = []
    real = History.landing

    def look(self: History, main: str, head: str) -> Landing:
        looked.append(head)
        return real(self, main, head)

    monkeypatch.setattr(History, "landing", look)
    first, _ = proposal(place, forge, ("a", "0"))
    other, _ = proposal(place, forge, ("b", "0"))
    tree = forge.repo(NAME).git.rev_parse(f"refs/pull/{other}/head^{{tree}}")
    for number in range(2, 20):
        forge.open_pull(NAME, forge.repo(NAME).git.commit_tree(tree, "-p", "main", "-m", str(number)))
    gone = forge.open_pull(NAME, forge.repo(NAME).git.commit_tree(tree, "-p", "main", "-m", "gone"))
    forge.repo(NAME).git.update_ref("-d", f"refs/pull/{gone}/head")
    forge.asked.clear()
    assert sync(place.world, "site").notes == ()
    assert (fetches(forge), len(looked)) == (2, 20), "one listing, one fetch"
    forge.pulls[NAME][gone]["state"] = "closed"
    sync(place.world, "site")
    assert (fetches(forge), len(looked)) == (0, 20), "nothing has changed"
    work = Repo(place.folder / "work-0")
    commit(work, "a", "new")
    forge.repo(NAME).git.fetch(str(work.working_dir), f"proposal:refs/pull/{first}/head")
    forge.pulls[NAME][first]["head"]["sha"] = work.head.commit.hexsha
    sync(place.world, "site")
    assert (fetches(forge), len(looked)) == (2, 21), "one was pushed to"
    land(upstream, work)
    sync(place.world, "site")
    assert (fetches(forge), state(forge, first)) == (1, "closed"), "what was pushed is looked at; all heads are here"
    assert state(forge, 2) == "open"
