"""A message that is no event, between two that are."""

from tests.demo import ledger
from tests.demo.stage import Claim, Stage

TITLE = "A poison message"
SENTENCE = (
    "Between two good events lies one that nobody can read. A consumer that fails on it is given it again, for ever,"
    " and everything behind it waits."
)
POISON = b'{"specversion":"1.0","id":"broken","data":{"tool":"crm.contacts.get","arguments":'


def play(stage: Stage) -> list[Claim]:
    before = len(_unreadable(stage))
    stage.publish("beside-1", "crm.contacts.get", {"id": "c1"})
    stage.redis.xadd("tool-calls", {"data": POISON})
    stage.publish("beside-2", "crm.contacts.get", {"id": "c2"})
    ended = stage.until_ended("beside-", 2)
    stage.until(lambda: len(_unreadable(stage)) > before, "a letter of it")
    letter = _unreadable(stage)[-1]["identity"]["dl_id"]
    stage.until(lambda: stage.ask(f"/v1/dead-letters/{letter}") is not None, "the letter is found")
    stage.sluice("dlq", "show", letter, rows=("letter", "status", "error", "message", "effect"))
    done = sum(one["state"] == "completed" for one in ended.values())
    kept = len(_unreadable(stage)) - before
    return [
        Claim(said="what is beside it goes on", counted=f"{done} of 2 done", kept=done == 2),
        Claim(said="it is kept once, with its bytes and the reason", counted=f"{kept} letter", kept=kept == 1),
    ]


def _unreadable(stage: Stage) -> list[dict[str, dict[str, str]]]:
    found = [one["data"] for one in ledger.letters(stage.redis)]
    return [one for one in found if one["identity"]["call"] is None]
