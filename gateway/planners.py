"""Joins what planners and people on duty ask: health and preflight, over one gathering of evidence."""

from dataclasses import replace

from gateway.app import Gateway
from gateway.flow.breaker_control import BreakerControl
from gateway.flow.contract_control import ContractControl
from gateway.flow.gathering import Gathering, Sources
from gateway.flow.health import Health
from gateway.flow.preflight import Preflight, Terms
from gateway.flow.probing import Prober
from gateway.lanes.spread.above import AllOverviews


def planners(
    gateway: Gateway, overview: AllOverviews, breakers: BreakerControl, contracts: ContractControl
) -> tuple[Health, Preflight]:
    """Return both use-cases of one process."""
    settings, around = gateway.settings, gateway.ambient
    sources = Sources(
        catalog=gateway.catalog,
        breakers=breakers,
        tokens=gateway.guarding.guards.tokens,
        contracts=contracts,
        queue=gateway.lanes,
        above=overview,
        memory=gateway.witness,
        doors=gateway.reach,
        workers=gateway.fleet.anybody,
        queue_limit=settings.queue_limit,
        queue_bytes=settings.queue_bytes,
    )
    gathering = Gathering(sources)
    # A probe is nobody's call: no agent's scope is asked.
    intake = gateway.intake.for_catalog(lambda: replace(gateway.catalog(), agents={}))
    prober = Prober(intake, gateway.witness, gateway.fleet.anybody, around)
    terms = Terms(concurrency=settings.concurrency, waits_s=settings.call_deadline, now=around.now)
    return Health(gathering, prober, around.now), Preflight(gathering, terms)
