"""More calls than the vendor takes."""

from tests.demo.stage import Claim, Stage
from tests.vendor.limiter import LimitRequest

TITLE = "Pacing"
SENTENCE = (
    "Three agents send 60 orders at once to an API that takes 20 a second. Sent as they come, 40 would be refused,"
    " and some vendors lock an account for that."
)
ORDERS, MOST, WINDOW_S = 60, 20, 1.0


def play(stage: Stage) -> list[Claim]:
    stage.vendor.limit(LimitRequest(operation="orders.create", most=MOST, window=WINDOW_S))
    for number in range(ORDERS):
        stage.publish(
            f"order-{number}", "shop.orders.create", {"ref": f"o{number}", "item": "book"}, session=f"s{number % 3}"
        )
    stage.until(lambda: stage.arrived("orders.create") >= MOST, "the first orders arrive")
    stage.sluice("lanes", "ls", most=3)
    ended = stage.until_ended("order-", ORDERS)
    most, refused = stage.vendor.window(WINDOW_S, "orders.create"), stage.vendor.counts(names=False).refused
    first = sum(one["state"] == "completed" and one["attempts"] == 1 for one in ended.values())
    return [
        Claim(
            said=f"never more than {MOST} in any second",
            counted=f"the vendor: at most {most}, {refused} refused",
            kept=most <= MOST and refused == 0,
        ),
        Claim(said="all done, each on the first attempt", counted=f"{first} of {ORDERS}", kept=first == ORDERS),
    ]
