"""Who does the harm, and keeps count of it: each fault by kind and time, and how it is healed."""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from tests.faults.matrix.ground import GROUND, Heal, nothing
from tests.faults.matrix.proxy import Proxy, Toxic
from tests.faults.matrix.schedule import Fault
from tests.faults.matrix.stage import PATIENCE_S, Stage, patience


class Nemesis:
    """Strikes on one stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.struck: list[tuple[float, str]] = []
        """When, since it was made, and what."""
        self._began = time.monotonic()
        self._verbs: dict[str, Callable[[Fault], Heal]] = {
            "kill_worker": lambda _: self._kill(1),
            "kill_workers": lambda _: self._kill(len(stage.alive)),
            "stop_worker": lambda _: self._stop(stage.alive[:1]),
            "stop_workers": lambda _: self._stop(stage.alive),
            "die": self._die,
            "vendor_stop": lambda _: self._vendor_stop(),
            "clock": self._clock,
            "broker_kill": lambda _: self._broker_kill(),
            **{verb: partial(strike, stage) for verb, strike in GROUND.items()},
        }

    @property
    def counts(self) -> Counter[str]:
        """How often each kind has struck; a toxic as often as it did something."""
        counts = Counter(kind for _, kind in self.struck if "." not in kind)
        for name, proxy in (("redis", self.stage.redis_proxy), ("vendor", self.stage.vendor_proxy)):
            counts.update({f"{name}.{kind}": times for kind, times in proxy.struck.items()})
        return counts

    def note(self, kind: str, times: int = 1) -> None:
        """Count what a row did by its own hands: a behaviour of the vendor, a poisonous event."""
        self.struck += [(time.monotonic() - self._began, kind)] * times

    def strike(self, fault: Fault) -> Heal:
        """Do it, and return what undoes it."""
        place, _, toxic = fault.kind.partition(".")
        self.note(fault.kind)
        if toxic:
            proxy = self.stage.redis_proxy if place == "redis" else self.stage.vendor_proxy
            return _poison(proxy, toxic, fault)
        return self._verbs[fault.kind](fault)

    def _kill(self, count: int) -> Heal:
        alive = self.stage.alive
        for victim in self.stage.dice.sample(alive, min(count, len(alive))):
            victim.kill()
            victim.wait()
        return self._replenish

    def _replenish(self) -> None:
        for _ in range(self.stage.setting.workers - len(self.stage.alive)):
            self.stage.start_worker()

    def _die(self, fault: Fault) -> Heal:
        """Send a worker in that kills itself at a step; others come after its death."""
        deadly = self.stage.workers.start(fault.point, str(max(1, fault.amount)))
        give_up = time.monotonic() + PATIENCE_S * patience()
        while deadly.poll() is None and time.monotonic() < give_up:
            time.sleep(0.02)
        self.stage.demand(deadly.poll() == -signal.SIGKILL, f"the worker does not die {fault.point}")
        return nothing

    def _stop(self, victims: list["subprocess.Popen[bytes]"]) -> Heal:
        for victim in victims:
            victim.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            for victim in victims:
                victim.send_signal(signal.SIGCONT)

        return go_on

    def _vendor_stop(self) -> Heal:
        self.stage.vendor.freeze()
        return self.stage.vendor.thaw

    def _clock(self, fault: Fault) -> Heal:
        self.set_clock(fault.amount)
        return lambda: self.set_clock(0)

    def set_clock(self, seconds: int) -> None:
        """Set the wall clock of workers that run as `tests.faults.shifted`, in one step."""
        ahead = self.stage.clock.with_suffix(".next")
        ahead.write_text(str(seconds))
        ahead.replace(self.stage.clock)

    def _broker_kill(self) -> Heal:
        raise NotImplementedError("a row on Kafka brings its own broker")


def _poison(proxy: Proxy, toxic: str, fault: Fault) -> Heal:
    kinds = ("latency", "down", "timeout", "reset_peer", "slicer", "limit_data", "bandwidth", "drop_reply")
    kind = kinds[kinds.index(toxic)]
    poison = Toxic(
        kind=kind,  # type: ignore[arg-type]
        way=fault.way,
        seconds=fault.delay_s,
        jitter_s=fault.jitter_s,
        amount=fault.amount,
        share=fault.share,
    )
    proxy.add(poison)
    return lambda: proxy.remove(poison)
