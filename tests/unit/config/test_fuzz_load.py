from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.config.load import parse_config
from understudy.errors import ConfigError

_WORDS = st.sampled_from(
    [
        "model",
        "local",
        "web",
        "keys",
        "servers",
        "<<",
        "a",
        "1",
        "true",
        "&x",
        "*x",
        "!!int",
        "2026-13-01",
    ]
)
_MARKS = st.sampled_from(
    [": ", ":\n  ", "\n", "- ", "[", "]", "{", "}", ", ", '"', "|", "\t", "? "]
)


@pytest.mark.slow
@given(st.lists(_WORDS | _MARKS, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_clear_mistake(text: str) -> None:
    with suppress(ConfigError):
        parse_config(text, {})


def test_aliases_of_aliases_do_not_eat_the_memory() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]

    with suppress(ConfigError):
        parse_config("\n".join(rows), {})


@pytest.mark.slow
def test_deep_nesting_is_a_mistake_and_no_crash() -> None:
    with suppress(ConfigError):
        parse_config("[" * 1000, {})
