"""The journal follows the topics on Kafka: all of it, once, also after it was killed."""

import sqlite3
import time
from pathlib import Path

import pytest

from tests.kafka.stage import Stage
from tests.kafka.test_intake import sends, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def written(path: Path) -> tuple[int, int]:
    """Return how many calls have ended, and how many there are."""
    if not path.exists():
        return 0, 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        try:
            (ended,) = connection.execute("SELECT count(*) FROM calls WHERE state = 'completed'").fetchone()
            (calls,) = connection.execute("SELECT count(*) FROM calls").fetchone()
        except sqlite3.OperationalError:
            return 0, 0
    connection.close()
    return ended, calls


@pytest.mark.stand_in
def test_the_journal_reads_the_topics_on_kafka_and_goes_on_after_a_kill(stage: Stage) -> None:
    stage.create()
    stage.workers.start()
    journal = stage.workers.folder / "data" / "journal.db"
    first = stage.workers.start_role("journal")
    stage.publish(sends(0, 60))
    until(lambda: written(journal)[0] >= 10)
    first.kill()
    first.wait()
    stage.publish(sends(60, 40))
    stage.until(100)
    stage.workers.start_role("journal")
    until(lambda: written(journal)[0] == 100, within_s=60)
    time.sleep(1)
    assert written(journal) == (100, 100)
