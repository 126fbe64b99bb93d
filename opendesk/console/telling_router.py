"""A router, told to somebody who asks why. Pure."""

from opendesk.console.telling import job_title, job_tree
from opendesk.console.texts import number
from opendesk.console.told import Told, Tone, when
from opendesk.network.story import GRANTS_AT_MOST, LAST, RouterNow, RouterStory


def router_told(story: RouterStory) -> Told:
    router = story.router
    state, tone = _state(router)
    tree = Told(f"router {router.id}: {state}", tone)
    place = f"{router.host}:{router.port}" if router.host and router.port else router.host or router.target
    name = "" if router.identity is None else f", says it is {router.identity} with RouterOS {router.version or '-'}"
    tree.add(f"at {place or '-'}{name}")
    tree.add(f"last heard of {when(router.last_contact_at)}")
    if router.last_error is not None:
        tree.add(f"last error {when(router.last_error_at)}: {router.last_error}", "warn" if router.failures else "")
    tree.add(f"grants live: {number(router.grants, most=GRANTS_AT_MOST)}")
    _tell_jobs(tree, story)
    _tell_events(tree, story)
    return tree


def _state(router: RouterNow) -> tuple[str, Tone]:
    if router.open_until is not None:
        return f"its circuit is open, {router.failures} failures, next probe {when(router.open_until)}", "bad"
    if router.refused:
        return "it refuses our log-in", "warn"
    if not router.is_driven:
        return "no daemon drives it now", "warn"
    return (
        (f"its circuit is closed, {router.failures} failures", "warn")
        if router.failures
        else ("its circuit is closed", "good")
    )


def _tell_jobs(tree: Told, story: RouterStory) -> None:
    jobs = tree.add("last jobs" if story.jobs else "jobs: none")
    for job in story.jobs:
        job_tree(jobs.add(job_title(job), "bad" if job.state == "dead" else ""), job, story.chain)
    if len(story.jobs) == LAST:
        jobs.add("… these are the last of them")


def _tell_events(tree: Told, story: RouterStory) -> None:
    events = tree.add("last events" if story.events else "events: none")
    for event in story.events:
        name = event.name or event.id_hash
        text = f"event {name}: {event.state}, {event.type}, received {when(event.received_at)}"
        events.add(text, "bad" if event.state == "failed" else "", ids=(event.event_id,))
    if len(story.events) == LAST:
        events.add("… these are the last of them")
