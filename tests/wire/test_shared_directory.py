"""One data directory, several real processes: they agree on the key and share one cap."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from dlq.blobs import BlobStore, BlobStoreFull
from dlq.keys import KeyRing

pytestmark = pytest.mark.wire


def _seal_at_once(data: Path, barrier: Barrier, results: "multiprocessing.SimpleQueue[tuple[str, bytes]]") -> None:
    barrier.wait()
    results.put(KeyRing.load(None, data).seal(b"agreed", b"a"))


def test_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for turn in range(3):
        data, barrier, results = tmp_path / str(turn), context.Barrier(4), context.SimpleQueue()
        processes = [context.Process(target=_seal_at_once, args=(data, barrier, results)) for _ in range(4)]
        for process in processes:
            process.start()
        sealed = [results.get() for _ in processes]
        for process in processes:
            process.join()
        ring = KeyRing.load(None, data)
        assert {ring.open(key_id, blob, b"a") for key_id, blob in sealed} == {b"agreed"}


def _fill(directory: Path, name: str) -> None:
    store = BlobStore(directory, 1000)
    for number in range(40):
        try:
            store.write(f"{name}{number}", "raw.bytes", b"x" * 10)
        except BlobStoreFull:
            return


def test_processes_share_one_cap_exactly(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(tmp_path, name)) for name in "abcd"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert BlobStore(tmp_path, 1000).total() == 1000
    assert len(list(tmp_path.glob("*.sealed"))) == 100
