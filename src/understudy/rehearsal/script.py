"""Which behaviour meets which call."""

import re
from collections.abc import Callable, Sequence
from random import Random

from understudy.errors import ConfigError
from understudy.rehearsal.faults import FAULTS, Behaviour, behaviour

Script = Callable[[int], Behaviour]
"""The behaviour for the call of this number; calls count from 1."""

Part = str | Behaviour | Script


def in_turn(*parts: str | Behaviour) -> Script:
    """One behaviour per call; the last one stays."""
    steps = [behaviour(part) if isinstance(part, str) else part for part in parts]
    return lambda call: steps[min(call, len(steps)) - 1]


def at_random(seed: int, *, share: float = 0.25, among: Sequence[str] = FAULTS) -> Script:
    """A fault in this share of the calls. A call's fate hangs on seed and number alone, so a run
    can be repeated however its calls overlap."""
    faults = [behaviour(name) for name in among]
    healthy = behaviour("ok")

    def play(call: int) -> Behaviour:
        dice = Random(f"{seed}/{call}")  # noqa: S311 - faults are no secret
        return dice.choice(faults) if dice.random() < share else healthy

    return play


def script(part: Part) -> Script:
    """Read a script: `"e429 x2, cut, ok"` is twice 429, then a cut, then always ok. `say:` takes
    the rest of the line. Raises `ConfigError` for a name that does not exist, and for none."""
    if isinstance(part, Behaviour):
        return in_turn(part)
    if not isinstance(part, str):
        return part
    plain, say, text = part.partition("say:")
    steps: list[str] = []
    for step in filter(None, (step.strip() for step in plain.split(","))):
        found = re.fullmatch(r"(\S+)\s+x(\d{1,4})", step)
        steps += [found[1]] * int(found[2]) if found else [step]
    if not steps and not say:
        raise ConfigError(f"{part!r} plays nothing; it needs a behaviour, such as ok")
    return in_turn(*steps, *([say + text] if say else []))
