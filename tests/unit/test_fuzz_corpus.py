"""Every input that the fuzzer has taught us keeps being handled as promised."""

from pathlib import Path

import pytest
from targets import TARGETS

FUZZ = Path(__file__).parents[2] / "fuzz"
CORPUS = sorted(path for path in (FUZZ / "corpus").glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus_is_handled_as_promised(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in CORPUS} == set(TARGETS)
