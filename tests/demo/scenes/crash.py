"""500 events, and a SIGKILL in the middle."""

from tests.demo import ledger
from tests.demo.events import EVENTS, events
from tests.demo.stage import Claim, Stage
from tests.vendor.script import Behaviour, Kind

TITLE = "A worker is killed"
SENTENCE = (
    "500 events come in by plain XADD: good, doubled, wrong, no event at all. The worker is killed with calls under way."
    " A script with a loop would lose some, send some twice, and not know which."
)
VENDOR_DELAY_S = 0.15
"""The vendor takes its time, so that calls are under way when the worker dies."""


def play(stage: Stage) -> list[Claim]:
    stage.vendor.script("*", Behaviour(do=Kind.DELAY, seconds=VENDOR_DELAY_S, forever=True))
    for body in events():
        stage.redis.xadd("tool-calls", {"data": body})
    stage.until(lambda: _midway(stage), "messages are under way")
    live = ledger.sums(stage.redis).live
    stage.ground.kill("worker-1")
    stage.say(f"# kill -9 of the worker, with {live} calls live; it is started again by itself", "bold red")
    stage.until(lambda: _over(stage), "every event has an end")
    stage.vendor.script("*")
    sums, counts = ledger.sums(stage.redis), stage.vendor.counts()
    repeated = len(counts.repeated_effects) + len(counts.repeated_refs)
    messages = stage.results("message-").values()
    unknown = [one["call"] for one in messages if one["effect"] == "unknown"]
    for call in unknown[:1]:
        stage.sluice("calls", "show", call, rows=("tool", "state", "summary"))
    return [
        Claim(
            said="every event is accounted for",
            counted=f"{sums['received']} of {EVENTS}, {sums.live} live",
            kept=sums["received"] == EVENTS and sums.received_is_explained and sums.accepted_is_explained,
        ),
        Claim(
            said="nothing runs twice",
            counted=f"the vendor: {counts.effects_total} effects, {repeated} repeated",
            kept=repeated == 0 and counts.effects_total > 0,
        ),
        Claim(
            said="what may have run and must not be repeated goes to a person",
            counted=f"{len(unknown)} messages were under way",
            kept=len(unknown) == sum(one["state"] == "escalated" for one in messages),
        ),
    ]


def _midway(stage: Stage) -> bool:
    """A fifth is done, and messages have arrived that nobody has heard the answer of."""
    open_now = any(one.done_us is None for one in stage.vendor.arrivals("messages.send"))
    return open_now and ledger.sums(stage.redis)["completed"] > EVENTS // 5


def _over(stage: Stage) -> bool:
    now = ledger.sums(stage.redis)
    return now["received"] == EVENTS and now.live == 0
