"""Whether a model fits into memory, and what would."""

from pathlib import Path

import pytest

from understudy.errors import ModelFileError
from understudy.model_files.gguf import GgufFacts
from understudy.model_files.memory import Plan, available_bytes, check_memory

GB = 1_000_000_000


def facts(size: int = GB, cache: int | None = 100_000) -> GgufFacts:
    return GgufFacts(
        size_bytes=size,
        architecture="llama",
        kind="model",
        name=None,
        parameters=1,
        context_length=8192,
        chat_template=None,
        layers=1,
        vocabulary=32_000,
        cache_bytes_per_token=cache,
    )


def test_each_conversation_takes_its_own_context() -> None:
    one, four = Plan(facts(), 4096, 1), Plan(facts(), 4096, 4)

    assert four.needed_bytes - one.needed_bytes == 3 * 4096 * 100_000
    assert one.needed_bytes > GB + 4096 * 100_000


def test_a_file_that_does_not_tell_is_taken_for_a_large_model() -> None:
    assert Plan(facts(cache=None), 4096).needed_bytes > Plan(facts(), 4096).needed_bytes


def test_a_shorter_context_that_fits_is_named() -> None:
    plan = Plan(facts(), 8192, 2)
    with pytest.raises(ModelFileError, match=r"context_length: (\d+) would fit") as refused:
        check_memory(plan, Path("big.gguf"), 2 * GB)

    context = plan.fitting_context(2 * GB)
    assert context is not None
    assert f"context_length: {context} would fit" in str(refused.value)
    assert Plan(plan.facts, context, 2).needed_bytes <= 2 * GB
    assert Plan(plan.facts, context + 256, 2).needed_bytes > 2 * GB


def test_a_smaller_model_is_named_where_no_context_fits() -> None:
    with pytest.raises(ModelFileError, match=r"qwen2\.5-1\.5b would fit"):
        check_memory(Plan(facts(8 * GB), 4096), Path("big.gguf"), 2 * GB)
    with pytest.raises(ModelFileError, match="no model of the catalogue would fit"):
        check_memory(Plan(facts(8 * GB), 4096), Path("big.gguf"), GB // 20)


def test_what_fits_passes() -> None:
    check_memory(Plan(facts(), 4096), Path("m.gguf"), 8 * GB)


def test_this_machine_has_memory() -> None:
    assert available_bytes() > 10_000_000
