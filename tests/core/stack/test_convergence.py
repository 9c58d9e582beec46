"""When a stack has converged: each rule by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canonq.core.stack.convergence import (
    CRASHES,
    Convergence,
    Service,
    Task,
    deaths,
    failing_check,
    judge,
    same_spec,
    stopped_updates,
)

APP = Service("app", replicas=1, update=None)
RUNNING = Task("t1", "app", state="running", desired="running", current=True, slot=1)
OLD = replace(RUNNING, id="t0", current=False)
DEAD = replace(RUNNING, id="d", state="failed", desired="shutdown", error="task: non-zero exit (1)", exit_code=1)


def dead(count: int, **changes: Any) -> list[Task]:
    return [replace(DEAD, id=f"d{number}", created=f"2026-06-17T05:03:{number:02}Z", **changes) for number in range(count)]


def look(
    service: Service = APP, *tasks: Task, died: dict[str, int] | None = None, nodes: int = 1, **changes: Any
) -> tuple[str, str]:
    found = judge([replace(service, **changes)], tasks, died, nodes)
    assert found.service == service.name
    return found.state, found.reason


def test_all_tasks_running_the_current_spec_is_converged() -> None:
    assert look(APP, RUNNING) == ("converged", "")
    assert look(APP, RUNNING, replace(RUNNING, id="t2", slot=2), replicas=2) == ("converged", "")


@pytest.mark.parametrize("state", ["pending", "assigned", "preparing", "ready", "starting", "shutdown", "orphaned"])
def test_a_task_that_does_not_run_yet_is_waiting(state: str) -> None:
    assert look(APP, replace(RUNNING, state=state)) == ("waiting", "not-running")


def test_tasks_for_which_swarm_has_allocated_nothing_wait_for_that_also_in_an_update() -> None:
    new = replace(RUNNING, state="new")
    assert look(APP, new) == ("waiting", "not-allocated")
    assert look(APP, OLD, new, update="updating") == ("waiting", "not-allocated")
    assert look(APP, new, replace(RUNNING, id="t2", state="pending"), replicas=2) == ("waiting", "not-running")
    assert look(APP, new, replace(RUNNING, id="t2"), replicas=2) == ("waiting", "not-running")


def test_no_tasks_yet_is_waiting() -> None:
    assert look(APP) == ("waiting", "not-running")


def test_fewer_than_all_running_is_waiting() -> None:
    assert look(APP, RUNNING, replicas=2) == ("waiting", "not-running")


def test_a_task_that_is_to_be_shut_down_does_not_count_as_running() -> None:
    assert look(APP, replace(RUNNING, desired="shutdown")) == ("waiting", "not-running")


def test_all_running_on_the_old_spec_is_waiting() -> None:
    assert look(APP, OLD) == ("waiting", "not-running")
    assert look(APP, OLD, replace(OLD, id="t2"), replicas=2, update="completed") == ("waiting", "not-running")


def test_an_update_that_has_not_begun_is_waiting() -> None:
    assert look(APP, OLD, replace(RUNNING, state="pending", desired="ready"), update=None) == ("waiting", "not-running")


def test_an_old_task_still_running_beside_the_new_one_is_waiting() -> None:
    assert look(APP, OLD, RUNNING) == ("waiting", "not-running")


def test_old_tasks_that_are_over_do_not_count() -> None:
    assert look(APP, replace(OLD, state="shutdown", desired="shutdown"), RUNNING, update="completed") == ("converged", "")


@pytest.mark.parametrize("update", ["updating", "rollback_started"])
def test_an_update_under_way_is_waiting_though_all_run(update: str) -> None:
    assert look(APP, RUNNING, update=update) == ("waiting", "updating")


@pytest.mark.parametrize("update", ["rollback_completed", "rollback_paused"])
def test_rolled_back_is_failed_though_all_run(update: str) -> None:
    """Known failure: the old version ran on, N of N, and was taken for the new one."""
    assert look(APP, RUNNING, update=update) == ("failed", "rolled-back")


def test_what_swarm_says_of_a_rollback_and_the_last_error_are_told() -> None:
    service = replace(APP, update="rollback_completed", update_message="update rolled back due to failure")
    detail = judge([service], [OLD, *dead(2)]).detail
    assert "update rolled back due to failure" in detail
    assert "non-zero exit (1) (exit status 1)" in detail


def test_a_paused_update_is_failed() -> None:
    assert look(APP, OLD, update="paused") == ("failed", "update-paused")
    assert look(APP, RUNNING, OLD, update="paused") == ("failed", "update-paused")


def test_a_paused_update_with_no_old_task_left_is_waited_for() -> None:
    """Swarm starts a new task in the place of one that died, paused or not; one whose database starts beside it dies once."""
    assert look(APP, update="paused") == ("waiting", "not-running")
    assert look(APP, DEAD, replace(RUNNING, state="ready", desired="ready"), update="paused") == ("waiting", "not-running")
    assert look(APP, DEAD, RUNNING, update="paused") == ("converged", "")
    assert look(APP, *dead(8), update="paused") == ("failed", "crash-loop")
    (told,) = stopped_updates(
        [replace(APP, update="paused", update_message="a task failed early"), replace(APP, update="completed")]
    )
    assert told == "update-paused: Swarm stopped the update of 'app' (a task failed early), and started it again all the same"


def test_a_paused_update_whose_tasks_are_all_current_is_converged() -> None:
    assert look(APP, RUNNING, update="paused") == ("converged", "")


@pytest.mark.parametrize("state", ["rejected", "failed"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("No such image: nginx:none", "image-unavailable"),
        ("manifest for nginx:none not found: manifest unknown", "image-unavailable"),
        ("pull access denied for x, repository does not exist or may require 'docker login'", "image-unavailable"),
        ("toomanyrequests: You have reached your pull rate limit", "registry-rate-limit"),
        ("driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated", "port-taken"),
        ('invalid mount config for type "bind": bind source path does not exist: /no', "host-path-missing"),
        ('starting container failed: exec: "no": executable file not found in $PATH', "cannot-start"),
        (
            'OCI runtime create failed: unable to start container process: exec: "/no": stat /no: no such file or directory',
            "cannot-start",
        ),
    ],
)
def test_what_can_never_become_good_is_failed_at_once(state: str, error: str, reason: str) -> None:
    found = judge([APP], [replace(DEAD, state=state, error=error)])
    assert (found.state, found.reason, found.service) == ("failed", reason, "app")
    assert error in found.detail


TAKEN = replace(RUNNING, id="p", state="pending", error="no suitable node (host-mode port already in use on 1 node)")


@pytest.mark.parametrize("state", ["pending", "rejected"])
def test_a_host_port_that_is_taken_is_failed_at_once(state: str) -> None:
    """Swarm does not reject such a task: it stays pending for ever, with this error."""
    assert look(APP, replace(TAKEN, state=state)) == ("failed", "port-taken")


def test_a_host_port_that_the_old_task_still_has_is_waiting() -> None:
    assert look(APP, OLD, TAKEN) == ("waiting", "not-running")
    assert look(APP, TAKEN, update="updating") == ("waiting", "updating")
    assert look(APP, replace(TAKEN, desired="ready")) == ("waiting", "not-running")


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("insufficient resources on 1 node", "host-too-small"),
        ("scheduling constraints not satisfied on 1 node", "no-node-fits"),
        ("max replicas per node limit exceed", "no-node-fits"),
        ("1 node not available for new tasks", "node-unavailable"),
        ("missing plugin on 1 node", "plugin-missing"),
    ],
)
def test_a_service_that_no_node_fits_is_known_at_the_first_look(why: str, reason: str) -> None:
    assert look(APP, replace(TAKEN, error=f"no suitable node ({why})")) == ("failed", reason)
    assert look(APP, OLD, replace(TAKEN, error=f"no suitable node ({why})")) == ("waiting", "not-running")


def test_a_task_that_only_waits_for_its_turn_is_waiting() -> None:
    assert look(APP, replace(TAKEN, error="pending task scheduling")) == ("waiting", "not-running")


def test_what_docker_says_of_tasks_is_handed_on_but_not_of_those_it_stopped_itself() -> None:
    stopped = replace(DEAD, id="s", state="shutdown", desired="shutdown", error="task: non-zero exit (143)", created="1")
    odd = replace(DEAD, id="o", state="rejected", error="the moon is in the wrong phase", created="2")
    assert judge([APP], [stopped, odd]).said == ("the moon is in the wrong phase",)


def test_a_certain_failure_of_the_old_spec_is_none_of_the_new_one() -> None:
    assert look(APP, RUNNING, replace(DEAD, current=False, error="No such image: x")) == ("converged", "")


def test_eight_deaths_are_a_crash_loop_and_fewer_are_not() -> None:
    assert CRASHES == 8
    assert look(APP, *dead(8)) == ("failed", "crash-loop")
    assert look(APP, *dead(7)) == ("waiting", "not-running")
    assert look(APP, *dead(2)) == ("waiting", "not-running")


@pytest.mark.parametrize(
    ("dying", "alone", "expected"),
    [
        (None, False, "failed"),
        ({"app"}, False, "failed"),
        (set(), False, "waiting"),
        ({"db"}, False, "waiting"),
        (set(), True, "failed"),
    ],
)
def test_what_dies_no_more_once_the_time_for_a_cold_start_is_over_is_no_loop_unless_it_is_alone(
    dying: set[str] | None, alone: bool, expected: str
) -> None:
    beside = [] if alone else [replace(APP, name="db")]
    found = judge([APP, *beside], [*dead(9), replace(RUNNING, service="db")], dying=dying)
    assert (found.state, found.service) == (expected, "app")


def test_an_app_that_died_twice_and_then_ran_is_converged() -> None:
    assert look(APP, RUNNING, *dead(2)) == ("converged", "")


def test_deaths_of_the_old_spec_are_no_crash_loop() -> None:
    assert look(APP, *dead(9, current=False)) == ("waiting", "not-running")


def test_deaths_that_swarm_forgot_count() -> None:
    """Swarm keeps the last five tasks of a slot."""
    seen: set[tuple[str, str]] = set()
    for newest in range(5, 9):
        seen |= deaths([APP], dead(newest)[-5:])
    assert len(seen) == 8
    assert look(APP, *dead(8)[-5:], died={"app": len(seen)}) == ("failed", "crash-loop")
    assert look(APP, *dead(8)[-5:], died={"db": len(seen)}) == ("waiting", "not-running")


def test_deaths_are_those_of_the_current_spec() -> None:
    tasks = [RUNNING, DEAD, replace(DEAD, id="r", state="rejected"), replace(DEAD, id="old", current=False)]
    assert deaths([APP], [*tasks, replace(DEAD, id="s", state="shutdown")]) == {("app", "d"), ("app", "r")}


def test_an_end_with_0_is_a_death_of_a_service_that_is_to_stay() -> None:
    done = replace(RUNNING, id="c", state="complete", desired="shutdown")
    assert deaths([APP], [done]) == {("app", "c")}
    assert deaths([replace(APP, one_shot=True)], [done]) == set()
    assert look(APP, *(replace(done, id=f"c{number}") for number in range(8))) == ("failed", "crash-loop")


def test_a_global_service_wants_one_task_for_each_node() -> None:
    assert look(APP, RUNNING, replicas=None) == ("converged", "")
    assert look(APP, RUNNING, replicas=None, nodes=2) == ("waiting", "not-running")


def test_a_global_service_without_any_task_has_no_node_that_fits() -> None:
    """Swarm makes no task for it at all, so no task says why."""
    assert look(APP, replicas=None) == ("waiting", "no-task")
    assert look(APP, replicas=None, one_shot=True, job=True) == ("waiting", "no-task")
    assert look(APP, OLD, replicas=None) == ("waiting", "not-running")


def test_a_service_of_no_replicas_is_converged() -> None:
    assert look(APP, replicas=0) == ("converged", "")
    assert look(APP, OLD, replicas=0) == ("waiting", "not-running")


def test_a_one_shot_that_completed_is_converged() -> None:
    assert look(APP, replace(RUNNING, state="complete", desired="shutdown"), one_shot=True) == ("converged", "")


def test_a_one_shot_that_runs_again_is_judged_by_what_runs() -> None:
    done = replace(RUNNING, id="c", state="complete", desired="shutdown")
    assert look(APP, done, OLD, RUNNING, one_shot=True) == ("waiting", "not-running")
    assert look(APP, done, RUNNING, one_shot=True) == ("converged", "")


def test_what_has_to_answer_and_ended_for_good_is_failed() -> None:
    done = replace(RUNNING, state="complete", desired="shutdown")
    service = replace(APP, one_shot=True)
    assert judge([service], [done], answering="app").reason == "exited"
    assert judge([service], [done], answering="web").state == "converged"
    assert look(service, done, healthcheck=True) == ("failed", "exited")


def test_a_one_shot_that_completed_on_the_old_spec_only_is_waiting() -> None:
    task = replace(RUNNING, state="complete", desired="shutdown", current=False)
    assert look(APP, task, one_shot=True) == ("waiting", "not-running")


def test_completed_but_restarting_is_not_converged() -> None:
    tasks = replace(RUNNING, state="complete", desired="shutdown"), replace(RUNNING, id="t2", state="ready", desired="ready")
    assert look(APP, *tasks, one_shot=False) == ("waiting", "not-running")


def ends(slot: int, state: str = "complete", **changes: Any) -> Task:
    desired = "shutdown" if state in ("complete", "failed") else "running"
    return replace(RUNNING, id=f"e{slot}{state}", slot=slot, state=state, desired=desired, **changes)


@pytest.mark.parametrize(
    ("changes", "tasks", "expected"),
    [
        ({"replicas": 3}, [ends(1), ends(2), ends(3)], ("converged", "")),
        ({"replicas": 3}, [ends(1), ends(2)], ("waiting", "not-running")),
        ({"replicas": 3}, [ends(1), ends(2), ends(3, "running")], ("converged", "")),
        ({"replicas": 3}, [ends(1), ends(2), ends(3, "starting")], ("waiting", "not-running")),
        ({"replicas": 2}, [ends(1), ends(1, "failed"), ends(2)], ("converged", "")),
        ({"replicas": 2}, [ends(1), ends(2, "failed")], ("waiting", "not-running")),
        (
            {"replicas": 2, "restarts": False},
            [ends(1), ends(2, "failed", error="task: non-zero exit (3)")],
            ("failed", "not-restarted"),
        ),
        ({"replicas": 2, "restarts": False}, [ends(1), ends(2, "failed"), ends(2, "starting")], ("waiting", "not-running")),
        ({"replicas": None}, [ends(0, node="a")], ("converged", "")),
    ],
)
def test_a_one_shot_of_several_tasks_is_good_when_each_of_them_is(
    changes: dict[str, Any], tasks: list[Task], expected: tuple[str, str]
) -> None:
    assert look(APP, *tasks, one_shot=True, **changes) == expected


def of_job(slot: int, state: str, **changes: Any) -> Task:
    return replace(RUNNING, id=f"j{slot}{state}", slot=slot, state=state, desired="complete", **changes)


@pytest.mark.parametrize(
    ("changes", "tasks", "expected"),
    [
        ({}, [of_job(0, "complete")], ("converged", "")),
        ({}, [], ("waiting", "not-completed")),
        ({}, [of_job(0, "running")], ("waiting", "not-completed")),
        ({"replicas": 2}, [of_job(0, "complete"), of_job(1, "running")], ("waiting", "not-completed")),
        ({"replicas": 2}, [of_job(0, "complete"), of_job(1, "complete")], ("converged", "")),
        ({}, [of_job(0, "complete", current=False)], ("waiting", "not-completed")),
        ({}, [of_job(0, "failed"), of_job(0, "complete")], ("converged", "")),
        ({}, [of_job(0, "failed"), of_job(0, "ready")], ("waiting", "not-completed")),
        ({"restarts": False}, [of_job(0, "failed")], ("failed", "not-restarted")),
        ({}, [replace(of_job(0, "failed"), id=str(number)) for number in range(8)], ("failed", "crash-loop")),
        ({}, [of_job(0, "pending", error="no suitable node (insufficient resources on 1 node)")], ("failed", "host-too-small")),
        ({"replicas": None}, [of_job(0, "complete", node="a")], ("converged", "")),
        ({"healthcheck": True}, [of_job(0, "complete")], ("converged", "")),
    ],
)
def test_a_job_is_good_when_it_has_completed_as_often_as_it_is_to(
    changes: dict[str, Any], tasks: list[Task], expected: tuple[str, str]
) -> None:
    assert look(APP, *tasks, one_shot=True, job=True, **changes) == expected


def test_a_service_that_fails_and_is_never_started_again_is_failed_at_once() -> None:
    assert look(APP, DEAD, restarts=False) == ("failed", "not-restarted")
    assert look(APP, DEAD, replace(RUNNING, state="preparing"), restarts=False) == ("waiting", "not-running")


STATES = ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running", "complete",
          "shutdown", "failed", "rejected", "remove", "orphaned")  # fmt: skip
UPDATES = (None, "updating", "paused", "completed", "rollback_started", "rollback_paused", "rollback_completed")
MODES: tuple[dict[str, Any], ...] = (
    {"replicas": 1}, {"replicas": None}, {"replicas": 1, "one_shot": True}, {"replicas": 1, "one_shot": True, "restarts": False},
    {"replicas": 1, "one_shot": True, "job": True}, {"replicas": None, "one_shot": True, "job": True},
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("update", UPDATES)
def test_every_state_of_a_lone_task_in_every_mode_and_update_is_judged(mode: dict[str, Any], update: str | None) -> None:
    """Good is what runs (or, of what may end, has ended) on the present spec, in an update that is over and not taken back."""
    for state in STATES:
        found, _ = look(APP, replace(RUNNING, state=state), update=update, **mode)
        over = update not in ("updating", "rollback_started") and not str(update).startswith("rollback_")
        job, ends = mode.get("job"), mode.get("one_shot")
        good = (state == "running" and not job) or (state == "complete" and ends)
        assert (found == "converged") == bool(over and good), state
        assert look(APP, replace(RUNNING, state=state, current=False), update=update, **mode)[0] != "converged", state


def test_a_stack_without_services_is_failed() -> None:
    assert (judge([], []).state, judge([], [RUNNING]).reason) == ("failed", "no-services")


def test_the_worst_service_decides() -> None:
    waiting, failed = replace(APP, name="waits"), replace(APP, name="fails", update="rollback_completed")
    assert judge([APP, waiting], [RUNNING]).service == "waits"
    assert judge([APP, waiting, failed], [RUNNING]).service == "fails"
    assert judge([failed, waiting, APP], [RUNNING]).service == "fails"
    assert judge([APP], [RUNNING]) == Convergence("converged", service="app")


def test_tasks_of_another_service_do_not_count() -> None:
    assert look(APP, replace(RUNNING, service="db")) == ("waiting", "not-running")


def test_a_waiting_service_tells_its_newest_error() -> None:
    told = judge([APP], [*dead(2), replace(DEAD, error="the newest", created="2026-06-17T06:00:00Z", exit_code=0)])
    assert "last error: the newest" in told.detail
    assert "0 of 1" in told.detail


def test_a_waiting_service_without_errors_tells_what_its_tasks_do() -> None:
    assert "preparing" in judge([APP], [replace(RUNNING, state="preparing")]).detail
    assert "not there yet" in judge([APP], []).detail
    ended = replace(RUNNING, state="complete", desired="shutdown", error="", exit_code=0)
    assert "its tasks end by themselves with exit status 0" in judge([APP], [ended]).detail
    again = replace(RUNNING, id="next", state="ready", desired="running")
    assert "its tasks end by themselves with exit status 0" in judge([APP], [ended, again]).detail
    assert "its tasks are ready" in judge([replace(APP, one_shot=True)], [again]).detail


def test_the_same_spec_is_the_same_whatever_the_engine_adds() -> None:
    spec = {"ContainerSpec": {"Image": "nginx:1.25"}, "ForceUpdate": 0}
    assert same_spec(spec, {**spec, "Runtime": "container", "Networks": [], "Placement": {}, "Resources": None})
    assert same_spec({**spec, "Runtime": "container"}, spec)


@pytest.mark.parametrize(
    "change", [{"ContainerSpec": {"Image": "nginx:1.26"}}, {"ForceUpdate": 1}, {"Networks": [{"Target": "x"}]}]
)
def test_another_image_or_setting_is_another_spec(change: dict[str, Any]) -> None:
    spec = {"ContainerSpec": {"Image": "nginx:1.25"}, "ForceUpdate": 0}
    assert not same_spec(spec, {**spec, **change})


def test_what_a_health_check_said_last_is_told_when_it_failed() -> None:
    answers = [{"End": "2026", "ExitCode": code, "Output": f"wget: error {code}\n"} for code in (0, 8, 1)]
    container = {
        "Config": {"Healthcheck": {"Test": ["CMD-SHELL", "wget -q http://127.0.0.1/healthz"]}},
        "State": {"Health": {"FailingStreak": 2, "Log": answers}},
    }
    assert failing_check(container) == (
        "Its health check `wget -q http://127.0.0.1/healthz` failed 2 times in a row, last with exit status 1: wget: error 1"
    )
    container["State"] = {"Health": {"FailingStreak": 0, "Log": answers[:1]}}
    assert failing_check(container) == ""
    assert failing_check({"State": {}}) is failing_check({}) is None
