"""The morning: what can be mended is mended, without a second effect."""

from tests.demo.scenes import changed_field, lost_answer
from tests.demo.stage import Claim, Stage

TITLE = "A replay mends what can be mended"
SENTENCE = (
    "In the morning there are letters: contacts that were made with an answer nobody dared to deliver, and two invoices."
    " To run everything again would make the contacts twice, and one invoice."
)


def play(stage: Stage) -> list[Claim]:
    stage.vendor.script("contacts.create")
    stage.vendor.script("messages.send")
    contacts, messages = stage.arrived("contacts.create"), stage.arrived("messages.send")
    answers, invoices = stage.letters("changed-"), stage.letters("invoice-")
    delivered = _kept_answers(stage, next(iter(answers.values()))["grouping"]["fingerprint"])
    again = _invoices(stage, invoices)
    ran_after = stage.sluice("preflight", "crm.contacts.create:50", "--for", "1m", most=4)
    made = stage.arrived("contacts.create") - contacts
    sent = stage.arrived("messages.send") - messages
    ran = stage.vendor.counts().effects["messages.send"]
    effects = (ran.get(lost_answer.SENT, 0), ran.get(lost_answer.NOT_SENT, 0))
    return [
        Claim(
            said="what ran is delivered from its kept answer",
            counted=f"{delivered} of {changed_field.CALLS} delivered; the vendor: {made} calls",
            kept=(delivered, made) == (changed_field.CALLS, 0),
        ),
        Claim(
            said="what nobody knows is not sent before a person has looked",
            counted=f"the vendor: {again} arrived by the first replay",
            kept=again == 0,
        ),
        Claim(
            said="each invoice was sent once",
            counted=f"the vendor: {sent} more arrived, effects {effects[0]} and {effects[1]}",
            kept=(sent, *effects) == (1, 1, 1),
        ),
        Claim(said="and the import may start", counted=f"exit code {ran_after.code}", kept=ran_after.code == 0),
    ]


def _kept_answers(stage: Stage, group: str) -> int:
    stage.say("# the contacts: the vendor did announce it, so the new answer is right")
    finding = stage.ask("/v1/contracts/crm.contacts.create")["findings"][0]["fingerprint"]
    stage.sluice("contracts", "accept", "crm.contacts.create", finding, "--reason", "it is in their changelog", most=3)
    stage.sluice("dlq", "replay", "--group", group, "--dry-run", rows=("total", "3 ×", "Nothing", "next"))
    stage.sluice("dlq", "replay", "--group", group, "--yes", rows=("Replay", "next"))
    ended = stage.results("changed-").values()
    return sum(one["state"] == "completed" and one["effect"] == "executed" for one in ended)


def _invoices(stage: Stage, letters: dict[str, dict[str, dict[str, str]]]) -> int:
    stage.say("# the invoices: somebody looks at the vendor's list of invoices, and says what is in it")
    group = letters[lost_answer.SENT]["grouping"]["fingerprint"]
    before = stage.arrived("messages.send")
    stage.sluice("dlq", "replay", "--group", group, "--yes", rows=("2 ×", "Replay"))
    again = stage.arrived("messages.send") - before
    for name, word, reason in (
        (lost_answer.SENT, "--done", "it is in their list"),
        (lost_answer.NOT_SENT, "--not-done", "it is not in their list"),
    ):
        letter = letters[name]["identity"]["dl_id"]
        stage.sluice("dlq", "resolve", letter, word, "--reason", reason, rows=("Letter",))
    stage.sluice("dlq", "replay", "--group", group, "--yes", rows=("Replay", "1 ×"))
    return again
