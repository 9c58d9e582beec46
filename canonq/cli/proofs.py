"""Commands about one proof or promotion: test, promote."""

from __future__ import annotations

from dataclasses import asdict

import click
from celery import chain

from canonq.cli.asjson import print_json
from canonq.cli.options import caller, json_option, reason_option, recipe_argument
from canonq.cli.output import print_table, say
from canonq.cli.view import View
from canonq.cli.waiting import await_result, enqueue, host_for, require_workers, workers_for
from canonq.core.amounts import seconds_in
from canonq.core.enrolment import LONGEST_RUN
from canonq.core.errors import ExitStatus, WrongUse
from canonq.core.gate import Again
from canonq.core.names import ref_name
from canonq.core.outcomes import status_of_step
from canonq.core.records import Promotion, Verdict
from canonq.flows.keeping.kept import LONGEST
from canonq.flows.keeping.leftovers import must_not_be_lost
from canonq.flows.promote import answer_at_once
from canonq.flows.upstream.asked import check_asked
from canonq.settings import load_settings
from canonq.wiring import live
from workers.factory import LIGHT, declare, make_app, queue_on


@click.command()
@recipe_argument
@click.option("--tag", help="The release to prove; when not given, the newest, or with --quick the canonical's own.")
@click.option("--ref", help="A branch, commit or pull request (pull/7/head) to test instead; it can never be promoted.")
@click.option("--quick", is_flag=True, help="On a copy of the canonical's data, few tiers; it can never be promoted.")
@click.option("--keep-on-red", metavar="TIME", help="Leave what a red run has deployed up for so long (30m, 4h, 2d), to look at.")
@json_option
def test(recipe: str, tag: str | None, ref: str | None, quick: bool, keep_on_red: str | None, as_json: bool) -> ExitStatus:
    """Test one release now, from a cold start; or a branch or pull request, or the canonical's data."""
    settings = load_settings()
    world = live(settings)
    enrolment = world.checkout.enrolment(recipe)
    if tag is not None and ref is not None:
        raise WrongUse("--tag and --ref exclude each other.", mend="give one of them.")
    for name in (name for name in (tag, ref) if name is not None):
        ref_name(name)
    wanted: dict[str, object] = {"tag": tag, "ref": ref, "quick": quick}
    if keep_on_red is not None:
        wanted["keep_on_red"] = seconds_in(keep_on_red, most=LONGEST)
    if (host := host_for(world, enrolment)) == world.hosts.own:  # another one's clone is not here to be looked at
        if quick:
            must_not_be_lost(world, enrolment.recipe)
        check_asked(world, enrolment, tag=tag, ref=ref, quick=quick)
    with workers_for(settings, quiet=as_json) as tree:
        app = make_app(load_settings())
        host = host or world.hosts.own
        light, own = queue_on(LIGHT, host), queue_on(enrolment.queue, host)
        if tree is None:
            world.hosts.must_be_known()
            require_workers(app, {light, own})
        declare(app, light, own)
        links = chain(
            app.signature("canonq.sync", args=[recipe], options={"queue": light, "argsrepr": recipe}),
            app.signature("canonq.test", kwargs=wanted, options={"queue": own, "argsrepr": recipe}),
            app=app,
        )
        verdict = await_result(enqueue(app, links), tree, LONGEST_RUN * 2, View(quiet=as_json), recipe)
    if as_json:
        print_json(verdict)
    else:
        rungs = [[name, rung["status"], rung["reason"]] for name, rung in verdict["rungs"].items()]
        title = f"{recipe} {verdict['version']}: {verdict['verdict']}, level {verdict['level']}"
        print_table(title, ("rung", "status", "reason"), rungs, sentence="reason")
        say(f"[{verdict['reason']}] {verdict['detail']}")
        if verdict["fault"]:
            say(f"Fault: {verdict['fault']}.")
        for line in verdict["log_tail"]:
            say(f"{verdict['service']}: {line}", by=2)
        for line in [*verdict["notes"], *verdict["gaps"], *verdict["stale"]]:
            say(f"note: {line}")
        say(f"Everything about this run is in {verdict['directory']}.")
    return status_of_step(Verdict.model_validate(verdict))


@click.command()
@recipe_argument
@click.option("--again", is_flag=True, help="Make the canonical again at its own version, from a new green run of it.")
@reason_option("Why; with --again. It is kept with the record.", required=False, default="")
@json_option
def promote(recipe: str, again: bool, reason: str, as_json: bool) -> ExitStatus:
    """Put a recipe's newest verdict through the gate, and promote it if it passes."""
    if again != bool(reason.strip()):
        raise WrongUse("--again and --reason belong together.", mend="give both, or neither.")
    settings = load_settings()
    world = live(settings)
    enrolment = world.checkout.enrolment(recipe)
    host = host_for(world, enrolment)
    wanted = Again(caller(), reason) if again else None
    is_here = host in (None, world.hosts.own)  # else what it depends on is on record there
    done = answer_at_once(world, enrolment.recipe, wanted) if is_here else None
    if done is None:
        with workers_for(settings, quiet=as_json) as tree:
            app = make_app(load_settings())
            queue = queue_on(enrolment.queue, host or world.hosts.own)
            if tree is None:
                world.hosts.must_be_known()
                require_workers(app, {queue})
            declare(app, queue)
            given = {"again": asdict(wanted)} if wanted else {}
            task = app.signature("canonq.promote", args=[recipe], kwargs=given, options={"queue": queue})
            done = Promotion.model_validate(await_result(enqueue(app, task), tree, LONGEST_RUN * 2, View(quiet=as_json), recipe))
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        say(f"{recipe}{f' {done.version}' if done.version else ''}: {done.outcome} ({done.reason}). {done.detail}".rstrip())
        for reason in done.reasons if len(done.reasons) > 1 else ():
            say(reason, by=2)
    return status_of_step(done)
