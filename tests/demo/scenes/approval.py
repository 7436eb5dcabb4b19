"""Two refunds; a person says yes to one and no to the other."""

from tests.demo.stage import Claim, Stage

TITLE = "An approval"
SENTENCE = (
    "An agent wants to pay back 40 EUR to one customer and 40000 EUR to another. Money that is paid does not come back,"
    " and an agent that asks in a chat gets its yes for something else."
)
SMALL, LARGE = "refund-1", "refund-2"


def play(stage: Stage) -> list[Claim]:
    before = stage.arrived("orders.create")
    for name, amount in ((SMALL, 40), (LARGE, 40_000)):
        stage.publish(name, "bank.refunds.pay", {"ref": name, "amount": amount})
    stage.until(lambda: len(stage.waiting()) == 2, "both wait for a person")
    stage.sluice("approvals", "ls")
    asked = {one["arguments"]["ref"]: one for one in stage.waiting()}
    while_waiting = stage.arrived("orders.create") - before
    small, large = asked[SMALL], asked[LARGE]
    rows = ("night-shift",)
    stage.sluice(
        "approvals", "approve", small["call"], "--hash", small["hash"], "--reason", "they returned it", rows=rows
    )
    stage.sluice("approvals", "deny", large["call"], "--reason", "three zeros too many", rows=rows)
    ended = stage.until_ended("refund-", 2)
    ran = stage.vendor.counts().effects["orders.create"]
    told = ended[LARGE]["error"]["message"]
    return [
        Claim(
            said="nothing is sent before the yes",
            counted=f"the vendor: {while_waiting} arrived",
            kept=while_waiting == 0,
        ),
        Claim(
            said="the yes is for one call, and the no is told to the agent",
            counted=f"the vendor paid {ran.get(SMALL, 0)} and {ran.get(LARGE, 0)}; “{told}”",
            kept=(ran.get(SMALL, 0), ran.get(LARGE, 0)) == (1, 0) and "three zeros" in told,
        ),
    ]
