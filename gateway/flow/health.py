"""Health: how every vendor is, from what calls have shown; only where they have shown nothing lately, somebody is asked."""

from collections.abc import Callable, Sequence
from datetime import datetime

from gateway.flow.gathering import Gathering, pairs_of
from gateway.flow.probing import Prober, declared
from gateway.flow.refusals import Nowhere
from gateway.policy import wellness
from gateway.policy.evidence import FRESH_S
from gateway.policy.facts import LaneFacts
from schemas.health import HealthReport
from schemas.moment import stamp


class Health:
    """The use-case; one instance a process."""

    def __init__(self, gathering: Gathering, prober: Prober, now: Callable[[], datetime]) -> None:
        """`gathering` is shared with preflight."""
        self._gathering = gathering
        self._prober = prober
        self._now = now

    async def look(
        self, sees: Callable[[str], bool], connector: str | None = None, *, whole: bool = True
    ) -> HealthReport:
        """Return how the connectors of the tools that the caller sees are, `whole` with sums; raises `Nowhere`."""
        gathering = self._gathering
        catalog = gathering.sources.catalog()
        pairs = pairs_of(catalog, sees, connector)
        if connector is not None and not pairs:
            raise Nowhere("?connector", f"there is no connector {connector[:256]!r}")
        facts = await gathering.look(pairs, whole=whole)
        if await self._prober.probe(facts, catalog):
            facts = await gathering.look(pairs, whole=whole)
        facts = await gathering.with_tokens(facts, None)
        silent = [one for one in facts if declared(one, catalog) is None and _silent(one, facts)]
        reached = {id(one): other for one, other in zip(silent, await gathering.with_reach(silent), strict=True)}
        return wellness.report([reached.get(id(one), one) for one in facts], stamp(self._now()))


def _silent(one: LaneFacts, facts: Sequence[LaneFacts]) -> bool:
    """Tell whether no call of the whole connection has shown anything lately."""
    ages = [other.seen.age_s for other in facts if other.named == one.named]
    return min((age for age in ages if age is not None), default=float("inf")) > FRESH_S
