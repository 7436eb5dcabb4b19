"""The scenes of the demo, in the order of the night they tell of. Each plays on the stage and says what it claims."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.demo.scenes import (
    approval,
    changed_field,
    crash,
    expired_token,
    lost_answer,
    outage,
    pacing,
    poison,
    preflight,
    replay,
)
from tests.demo.stage import Claim, Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that happens, why it would have hurt, and how it is played."""

    title: str
    sentence: str
    play: Callable[[Stage], Sequence[Claim]]


SCENES = (
    Scene(crash.TITLE, crash.SENTENCE, crash.play),
    Scene(pacing.TITLE, pacing.SENTENCE, pacing.play),
    Scene(expired_token.TITLE, expired_token.SENTENCE, expired_token.play),
    Scene(outage.TITLE, outage.SENTENCE, outage.play),
    Scene(changed_field.TITLE, changed_field.SENTENCE, changed_field.play),
    Scene(lost_answer.TITLE, lost_answer.SENTENCE, lost_answer.play),
    Scene(poison.TITLE, poison.SENTENCE, poison.play),
    Scene(approval.TITLE, approval.SENTENCE, approval.play),
    Scene(preflight.TITLE, preflight.SENTENCE, preflight.play),
    Scene(replay.TITLE, replay.SENTENCE, replay.play),
)
