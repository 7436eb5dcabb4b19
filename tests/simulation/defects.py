"""Scripts with one step left out, each a bug that somebody could write: the simulation is worth what it finds of them."""

from dataclasses import dataclass
from typing import Final

from gateway.lanes import scripts


@dataclass(frozen=True, slots=True)
class Defect:
    """In a script one text stands for another; `breaks` names the promises of which it breaks at least one."""

    script: str
    text: str
    instead: str
    breaks: str

    def altered(self) -> dict[str, str]:
        """Return the script's text by the one it should have."""
        source = scripts.load(self.script).source
        assert source.count(self.text) == 1, f"{self.script}.lua no longer says {self.text!r} once"
        return {source: source.replace(self.text, self.instead)}


DEFECTS: Final = {
    "a mark that is not written": Defect("mark", "run.marked = item.fence\n", "\n", "DU"),
    "a fence that nobody checks": Defect(
        "settle", "run.fence ~= item.fence or run.state ~= 'processing'", "false", "LDURAX"
    ),
    "an event stored as often as it comes": Defect("enqueue", "  if claim then\n", "  if false then\n", "DLU"),
    "a doubt that is forgotten when a call waits": Defect(
        "settle", "run.effect, run.first_us = item.effect, item.first_us", "run.first_us = item.first_us", "DU"
    ),
    "a slot that is never taken": Defect(
        "claim",
        "run.permit, run.permits = run.fence, charged(run, found)",
        "run.permit, run.permits = run.fence, {}",
        "R",
    ),
    "a lease that is not kept": Defect(
        "claim", "leased[#leased + 1] = run.lease_us\n  leased[#leased + 1] = id\n", "", "LTX"
    ),
    "a clock that is set forward, and limits that stay": Defect(
        "claim", "  if stepped and limit.stepped < stepped and not doubtful then follow(limit, need) end\n", "", "R"
    ),
    "a clock that is ahead, and calls that are given all the same": Defect(
        "claim", "if doubtful then return {'claimed', now, now, {}, stepped} end\n", "doubtful = false\n", "R"
    ),
    "an end without its letter": Defect("settle", "  if item.letter then\n", "  if false then\n", "L"),
    "a duplicate that is not acknowledged": Defect(
        "enqueue",
        "  if not acknowledged(item.entry) then return {'seen', item.entry} end\n  duplicates",
        "  duplicates",
        "LT",
    ),
}
