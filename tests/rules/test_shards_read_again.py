"""What several shards say of one partition of Kafka, when some of them have lost something."""

from gateway.lanes.offsets import Kept, Loss
from gateway.lanes.spread.above import known_of

FIRST, SECOND = (Loss(name=f"{at}|x", at_ms=at, covered=False) for at in (5, 9))


def test_without_a_loss_home_speaks() -> None:
    home = Kept(in_hand=7, stored=3)
    assert known_of([home, Kept(in_hand=9, stored=1)]) == home


def test_one_that_is_behind_is_asked_and_how_far_was_read_is_known_from_the_one_before() -> None:
    """The first shard was read again already: the reader's place is back, and only that shard knows how far it had been."""
    done = Kept(in_hand=7, stored=3, loss=FIRST, below=90)
    behind = Kept(in_hand=-1, stored=2, loss=SECOND, behind=True)
    told = known_of([done, behind])
    assert (told.behind, told.loss, told.stored, told.below) == (True, SECOND, 2, 90)
    assert told.in_hand == 7


def test_all_that_was_read_before_any_loss_is_in_doubt_unless_each_is_covered() -> None:
    sure = Loss(name="9|x", at_ms=9, covered=True)
    told = known_of([Kept(loss=FIRST, below=4), Kept(loss=sure, below=6)])
    assert (told.behind, told.below) == (False, 6)
    assert told.loss is not None
    assert (told.loss.at_ms, told.loss.covered) == (9, False)
