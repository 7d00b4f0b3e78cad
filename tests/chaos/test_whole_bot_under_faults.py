"""The short form of the chaos run; `make chaos` and `make chaos-long` play the long ones."""

from pathlib import Path

import pytest

from chaos.invariants import Verdict
from chaos.run_size import Size
from chaos.scenario import play


@pytest.mark.slow
async def test_every_message_has_one_whole_answer_whatever_fails(tmp_path: Path) -> None:
    size = Size(messages=30, kills=1, seed=1)
    outcome = await play(size, tmp_path)

    assert outcome.verdict == Verdict((), (), ()), f"{size.replay}\n{outcome.summary}"
