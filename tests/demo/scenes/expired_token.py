"""A token that ends while calls are under way."""

from collections import Counter

from tests.demo.stage import Claim, Stage
from tests.vendor.script import Behaviour, Kind
from tests.vendor.tokens import DeskRequest

TITLE = "A token ends under way"
SENTENCE = (
    "24 calls run when the vendor ends their token. Its refresh token is good once: two workers that renew at the same time"
    " look like theft, and the vendor would end the grant."
)
CALLS, BEFORE = 24, 8


def play(stage: Stage) -> list[Claim]:
    stage.vendor.desk(DeskRequest(rotation="strict"))
    stage.vendor.auth("oauth2")
    stage.vendor.script("contacts.create", Behaviour(do=Kind.DELAY, seconds=0.1, forever=True))
    already = stage.arrived("contacts.create")
    for number in range(CALLS):
        stage.publish(f"entry-{number}", "ledger.entries.add", {"email": f"entry{number}@example.com"})
    stage.until(lambda: stage.arrived("contacts.create") - already >= BEFORE, "the first calls arrive")
    stage.vendor.expire()
    stage.say("# the vendor ends the token", "bold red")
    ended = stage.until_ended("entry-", CALLS)
    stage.sluice("connections", "ls")
    stage.vendor.auth("none")
    stage.vendor.script("contacts.create")
    desk = stage.vendor.desk_counts()
    arrivals = stage.vendor.arrivals("contacts.create")[already:]
    answers = Counter(one.status for one in arrivals)
    done = sum(one["state"] == "completed" for one in ended.values())
    return [
        Claim(
            said="one renewal for all calls",
            counted=f"the vendor: {desk.rotations} tokens in all, {desk.reuses} used twice",
            kept=desk.rotations == 2 and desk.reuses == 0 and desk.alive,
        ),
        Claim(
            said="a refused token costs no attempt (each call has only one)",
            counted=f"the vendor: {answers[401]} refused, {answers[201]} done; we: {done} of {CALLS} done",
            kept=done == CALLS == answers[201] and answers[401] >= 1,
        ),
    ]
