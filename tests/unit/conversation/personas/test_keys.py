"""Keys of personas are names of files on every system."""

import pytest

from understudy.conversation.personas.keys import is_valid_key, key_of


@pytest.mark.parametrize("name", ["CON", "nul", "Com1", "LPT9", "aux.", "ＣＯＮ"])
def test_a_name_that_windows_reserves_gets_a_longer_key(name: str) -> None:
    key = key_of(name)

    assert key.endswith("-persona")
    assert is_valid_key(key)


@pytest.mark.parametrize("key", ["con", "NUL", "com1", "a:b", "a.", "a/b", ""])
def test_a_chosen_key_that_some_system_forbids_is_refused(key: str) -> None:
    assert not is_valid_key(key)


@pytest.mark.parametrize("key", ["console", "com10", "ann"])
def test_names_that_only_begin_like_a_reserved_one_are_kept(key: str) -> None:
    assert key_of(key) == key
    assert is_valid_key(key)
