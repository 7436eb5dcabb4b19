"""A vendor that changes a field without a word."""

from tests.demo.stage import Claim, Stage
from tests.vendor.script import Behaviour, Kind

TITLE = "A changed field"
SENTENCE = (
    'Since tonight the vendor answers `"id": 4711` where it always said `"id": "c-4711"`. An agent would go on with it,'
    " and look for customers that do not exist."
)
CALLS = 3


def play(stage: Stage) -> list[Claim]:
    answer = {"id": 4711, "email": "ada@example.com"}
    changed = Behaviour(do=Kind.STATUS, status=201, body=answer, executes=True, forever=True)
    stage.vendor.script("contacts.create", changed)
    before = stage.vendor.counts(names=False)
    for number in range(CALLS):
        stage.publish(f"changed-{number}", "crm.contacts.create", {"email": f"changed{number}@example.com"})
    ended = stage.until_ended("changed-", CALLS).values()
    stage.sluice("contracts", "show", "crm.contacts.create", most=12)
    after = stage.vendor.counts(names=False)
    ran, arrived = after.effects_total - before.effects_total, after.arrivals - before.arrivals
    held = sum(one["state"] == "failed" and one["result"] is None for one in ended)
    executed = sum(one["effect"] == "executed" for one in ended)
    return [
        Claim(
            said="no agent gets a broken answer",
            counted=f"{held} of {CALLS} held back, kept in letters",
            kept=held == CALLS,
        ),
        Claim(
            said="we know that they ran, so nobody repeats them",
            counted=f"we: {executed} executed; the vendor: {ran} ran, {arrived} arrived",
            kept=executed == ran == arrived == CALLS,
        ),
    ]
