"""A vendor that is down for a while."""

from tests.demo import ledger
from tests.demo.stage import Claim, Stage
from tests.vendor.script import Behaviour, Kind

TITLE = "An outage"
SENTENCE = (
    "The vendor answers 503 to everything. Thirty calls that each retry five times would keep it down, and then be lost"
    " for having tried too often."
)
CALLS, FIRST, PROBES = 30, 8, 6
"""Five failures open the breaker; three more may be under way by then. Then it asks with one probe at a time."""


def play(stage: Stage) -> list[Claim]:
    stage.vendor.script("contacts.create", Behaviour(do=Kind.STATUS, status=503, forever=True))
    already = stage.arrived("contacts.create")
    for number in range(CALLS):
        stage.publish(f"label-{number}", "parcels.labels.print", {"email": f"label{number}@example.com"})
    stage.until(lambda: "open" in _told(stage), "the breaker opens")
    stage.sluice("breakers", "ls", rows=("CONNECTOR", "parcels"))
    stage.until(lambda: _told(stage).count("open") > 1, "a probe has failed")
    stage.vendor.script("contacts.create")
    stage.say("# the vendor is back; nobody tells the gateway", "bold red")
    ended = stage.until_ended("label-", CALLS)
    statuses = [one.status for one in stage.vendor.arrivals("contacts.create")[already:]]
    down, done = statuses.count(503), sum(one["state"] == "completed" for one in ended.values())
    letters = len(stage.letters("label-"))
    return [
        Claim(
            said="the vendor is left in peace while it is down",
            counted=f"the vendor: {down} requests for {CALLS} calls",
            kept=0 < down <= FIRST + PROBES,
        ),
        Claim(
            said="all calls wait, and are done once when it is back",
            counted=f"{done} of {CALLS} done, {statuses.count(201)} arrived well, {letters} dead letters",
            kept=done == CALLS == statuses.count(201) and letters == 0,
        ),
    ]


def _told(stage: Stage) -> list[str]:
    events = ledger.read(stage.redis, "tool-events")
    changes = [one["data"] for one in events if one["type"] == "breaker.changed"]
    return [one["state"] for one in changes if one["connector"] == "parcels"]
