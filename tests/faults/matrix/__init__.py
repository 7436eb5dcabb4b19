"""The fault matrix: real workers, a real Redis and a vendor that counts, and everything that can go wrong with them.

A **row** is a frozen `Scenario` in a module `rows_….py`, whose `ROWS` stand in `table.py`. In about thirty lines:

    def plan(dice: Random, seed: int) -> Schedule:              # everything random comes from these dice
        faults = tuple(Fault(at_s=dice.uniform(0, 3), kind="kill_worker", seconds=0.5) for _ in range(4))
        return Schedule(seed=seed, calls=120, seconds=4.0, faults=faults)

    def run(scene: Scene) -> None:                              # leave it out: the default is scenario.storm
        scene.stage.vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
        scene.nemesis.note("vendor_slow")                       # harm by the row's own hands is counted by hand
        storm(scene)                                            # team up, calls published, faults strike and are healed
        scene.stage.demand(scene.stage.sums()["escalated"] < 9, "few are escalated")

    Scenario(number=6, title="…", invariants="LDRT", bound_s=30, plan=plan, run=run, smoke=True,
             setting=Setting(workers=3, limits=(Limit(most=20),), journal=True))

- `schedule.Fault`: `kind` is a verb of `nemesis.Nemesis` (kill_worker, kill_workers, stop_worker, stop_workers, die, redis_kill,
  redis_stop, vendor_stop, vendor_does, clock, or what a row adds to `nemesis.verbs`), or `redis.<toxic>` / `vendor.<toxic>` with
  a toxic of `proxy.Toxic` (latency, down, timeout, reset_peer, slicer, limit_data, bandwidth, drop_reply); it is healed `seconds`
  later. Add verbs where they are missing.
  `die` is a worker of `tests.faults.deadly` that kills itself at `point`. Schedules are data, so a failure is shrunk by itself:
  put what varies into the schedule, nowhere else.
- `stage.Setting`: workers, operation classes of the load, limits (declared in the manifest *and* checked at the vendor),
  connector defaults, operations, environment, journal, more manifests, auth, another worker module.
- `stage.Stage`: `vendor` (script it, see tests/vendor), `workers` (`start_role`, `start_api`), `books` (the Redis, from outside
  and past the proxy), `publish`, `publish_raw`, `until`, `demand`, `quiet`, `sums`, `healed`, `measure`, `journal_rows`. Tell the
  checker what a row changes: `counted=False`, `may_be_lost`, `approved[ref] += 1`, `bystanders[agent] = p95_ms`, `sizes`.
- `desk.Desk` is an API, and the agents and operators who ask it; it publishes over HTTP and runs replays. `Scenario.stage` is another
  kind of stage: `on_kafka.KafkaStage` has a real broker for its bus.
- `load.call` and `load.mix` make the calls: each has a `ref` of its own, by which the vendor's books know its effect.
- After `run` the recording is taken and **all** invariants are held against it (`checker.INVARIANTS`), whatever the row names;
  `demand` adds the row's own. A schedule with faults of which none struck fails too. An exception is a violation `X`.
- A row that cannot be played is a `NotRun` with its reason.

Try one: `python -m tests.faults.matrix --rows 6 --seeds 1`. A failure prints seed, violations, and the shortest schedule found.
With `smoke=True` (at most 20 s) it is also part of `./dev test`.
"""
