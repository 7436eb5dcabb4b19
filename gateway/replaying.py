"""Joins what looks at dead letters and replays them."""

from dataclasses import dataclass
from functools import partial

from dlq.redaction import Sealer
from gateway.flow.dead_letters import DeadLetters, Terms
from gateway.flow.dead_letters import Parts as LetterParts
from gateway.flow.intake import Intake
from gateway.flow.letter_care import LetterCare
from gateway.flow.replay_cases import Cases
from gateway.flow.replay_cases import Parts as CaseParts
from gateway.flow.replay_control import Parts as ControlParts
from gateway.flow.replay_control import ReplayControl
from gateway.flow.replay_run import Parts as RunParts
from gateway.flow.replay_run import ReplayRunner
from gateway.guards import Common
from gateway.journal.database import Database
from gateway.journal.letter_index import JournalIndex, undecided
from gateway.journal.letters import LetterIndex
from gateway.lanes.letter_shelf import LetterShelf
from gateway.lanes.letter_shelf import Terms as ShelfTerms
from gateway.lanes.letters import LetterScan, LetterStates
from gateway.lanes.replays import Replays
from gateway.lanes.spread.letters import AllLetters, AllLetterStates, AllReplays, AllShelves
from gateway.lanes.spread.shards import Shards, Spread
from gateway.policy.replay_steps import pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying:
    """One process's."""

    letters: DeadLetters
    control: ReplayControl
    runner: ReplayRunner
    care: LetterCare


def replaying(common: Common, intake: Intake, seal: Sealer, database: Database) -> Replaying:
    """Join them; `database` is the journal's, for reading."""
    around, lanes, catalog = common.ambient, common.lanes, common.catalog
    seats = list(zip(common.shards.parts, lanes.parts, strict=True))
    states = AllLetterStates([LetterStates(seat.redis, seat.shard, part) for seat, part in seats])
    topic = letters_of(common.shards, states)
    journal = LetterIndex(database)
    index = JournalIndex(journal, topic, topic.newest)
    store = AllReplays([Replays(seat.redis, seat.shard, part) for seat, part in seats])
    cases = Cases(CaseParts(index=index, book=states, unseal=seal.unseal, catalog=catalog, ambient=around))
    settings = common.settings
    kept = ShelfTerms(keep_s=settings.keep_letters, wait_s=settings.foreign_wait)
    shelf = AllShelves([LetterShelf(seat.redis, seat.topics, part, kept) for seat, part in seats])
    terms = Terms(scope_ttl_s=settings.scope_ttl, answer_ttl_s=settings.scope_ttl)
    return Replaying(
        letters=DeadLetters(LetterParts(index=index, book=states, unseal=seal.unseal, ambient=around), terms),
        control=ReplayControl(
            ControlParts(store=store, index=index, cases=cases, seal=seal, survey=lanes.survey, ambient=around)
        ),
        runner=ReplayRunner(
            RunParts(
                store=store,
                cases=cases,
                seal=seal,
                take_in=intake.from_replay,
                pace=lambda tool, share: pace(catalog().operation(tool), share),
                ambient=around,
                lease_ms=int(settings.dead_after * 1000),
            )
        ),
        care=LetterCare(shelf, seal.blobs, partial(undecided, journal), around),
    )


def letters_of(shards: Shards, states: AllLetterStates) -> AllLetters:
    """Return the topics of letters, looked through as one."""
    topics = {seat.topics: LetterScan(seat.redis, seat.topics, states) for seat in shards.writing}
    return AllLetters(list(topics.values()), Spread([topics[seat.topics] for seat in shards.parts]))
