"""Two answers are lost; one of the calls ran, the other did not, and nobody on this side can tell."""

from tests.demo.stage import Claim, Stage
from tests.vendor.script import Behaviour, Kind

TITLE = "A lost answer"
SENTENCE = (
    "Two invoices go out, and both connections break before the answer. One was sent and the other was not: repeat them,"
    " and one customer is asked to pay twice; give up, and one is never asked."
)
SENT, NOT_SENT = "invoice-1", "invoice-2"


def play(stage: Stage) -> list[Claim]:
    stage.vendor.script(
        "messages.send",
        Behaviour(do=Kind.RESET, executes=True, match=SENT),
        Behaviour(do=Kind.RESET, executes=False, match=NOT_SENT),
    )
    before = stage.arrived("messages.send")
    for name in (SENT, NOT_SENT):
        stage.publish(name, "bank.invoices.send", {"ref": name, "text": "Please pay 40 EUR."})
    ended = stage.until_ended("invoice-", 2)
    call = ended[SENT]["call"]
    stage.sluice("calls", "show", call, rows=("tool", "state", "effect", "summary", "action"))
    arrived = stage.arrived("messages.send") - before
    ran = sum(stage.vendor.counts().effects["messages.send"].get(name, 0) for name in (SENT, NOT_SENT))
    left = sum(one["state"] == "escalated" and one["effect"] == "unknown" for one in ended.values())
    return [
        Claim(
            said="what may have run is not repeated by the machine",
            counted=f"the vendor: {arrived} arrived, {ran} ran",
            kept=(arrived, ran) == (2, 1),
        ),
        Claim(
            said="it goes to a person, with all that is known",
            counted=f"{left} escalated, effect unknown",
            kept=left == 2,
        ),
    ]
