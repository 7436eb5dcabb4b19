"""What every simulated worker is made of and none changes: the manifest, the keys, the settings."""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from connectors import catalog as manifests
from connectors.catalog import Catalog
from dlq.blobs import BlobStore
from dlq.keys import KeyRing
from dlq.redaction import Sealer
from gateway.policy.plans import plans
from gateway.ports import Plan
from gateway.settings import Settings
from tests.faults.matrix.recording import Limit
from tests.vendor.client import manifest

ORIGIN: Final = "http://127.0.0.1:80"
SETTLE_S: Final = 6
"""How long the vendor's lists may lag behind what it did."""

LIMITS: Final = "{core: {rate: 3/s, per: connector}, inflight: {concurrency: 2, per: connector}}"
SEEN: Final = (Limit(most=3, window_s=1.0), Limit(most=2, window_s=0.0))
"""The same, as the vendor counts them."""


@cache
def settings() -> Settings:
    """Return the settings of every worker: those that are shipped."""
    return Settings(data=Path("/nonexistent"))


@cache
def catalog(*, limited: bool) -> Catalog:
    """Return the scripted vendor's connector, with limits or without."""
    text = manifest(ORIGIN).replace("settle: 30s", f"settle: {SETTLE_S}s").replace("max_attempts: 5", "max_attempts: 4")
    if limited:
        text = text.replace("defaults: {", f"limits: {LIMITS}\ndefaults: {{limits: {{core: 1, inflight: 1}}, ")
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        path = Path(folder) / "crm.yaml"
        path.write_text(text, encoding="utf-8")
        loaded = manifests.load([path], {})
    assert not loaded.problems, loaded.problems
    return loaded.catalog


@cache
def planned(*, limited: bool) -> dict[str, Plan]:
    """Return what calls take of which limits."""
    return plans(catalog(limited=limited).operations.values(), grace_us=grace_us())


def grace_us() -> int:
    """Return what a lease has beyond the call's timeout."""
    return int((settings().start_within + settings().lease_guard) * 1_000_000)


@cache
def sealer() -> Sealer:
    """Return what seals letters; nothing in them is large enough for a file."""
    return Sealer(KeyRing({"k1": bytes(range(32))}), BlobStore(Path("/nonexistent"), 1 << 20))


def limits(*, limited: bool) -> Sequence[Limit]:
    """Return what the vendor may see at most."""
    return SEEN if limited else ()
