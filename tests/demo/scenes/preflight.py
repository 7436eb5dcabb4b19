"""May the next task start?"""

from tests.demo.stage import Claim, Stage

TITLE = "A preflight says no, and why"
SENTENCE = (
    "An agent wants to import 50 contacts and 2000 orders within a minute. It would stop half-way, and leave a mess that"
    " somebody has to find out about."
)
NO_GO = 5


def play(stage: Stage) -> list[Claim]:
    before = stage.vendor.counts(names=False).arrivals
    ran = stage.sluice("preflight", "crm.contacts.create:50", "shop.orders.create:2000", "--for", "1m", most=20)
    calls = stage.vendor.counts(names=False).arrivals - before
    text = " ".join(ran.text.split())
    named = [name for name in ("contract", "limits") if f" {name} fail " in text]
    return [
        Claim(
            said="it says no to scripts as well",
            counted=f"exit code {ran.code}",
            kept=ran.code == NO_GO and "No go." in text,
        ),
        Claim(said="it names both obstacles", counted=" and ".join(named), kept=len(named) == 2),
        Claim(said="to ask costs nothing", counted=f"the vendor: {calls} calls", kept=calls == 0),
    ]
