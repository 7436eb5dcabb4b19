"""What the calls of each tool take, in the words of the queue."""

from connectors.declared import Limit, Use
from gateway.policy.plans import plans
from tests.examples import operation

SECOND = 1_000_000
APP = Limit(name="app", per="connector", kind="strict", most=2, window_us=60 * SECOND, text="2/min")
OWN = Limit(name="own", per="operation", kind="strict", most=2, window_us=60 * SECOND, text="2/min")


def test_a_limit_knows_the_slowest_operation_that_takes_of_it() -> None:
    uses = (Use(limit=APP), Use(limit=OWN))
    quick, slow = (
        operation(tool=f"crm.{name}", name=name, timeout_s=timeout_s, uses=uses)
        for name, timeout_s in (("quick", 2.0), ("slow", 30.0))
    )
    elsewhere = operation(tool="erp.read", connector="erp", name="read", timeout_s=90.0, uses=uses)
    found = plans([quick, slow, elsewhere], grace_us=SECOND)
    holds = {name: {need.name: need.hold_us // SECOND for need in plan.needs} for name, plan in found.items()}
    assert holds == {
        "crm|quick": {"app": 31, "own": 3},
        "crm|slow": {"app": 31, "own": 31},
        "erp|read": {"app": 91, "own": 91},
    }
    assert [plan.hold_us // SECOND for plan in found.values()] == [3, 31, 91]
