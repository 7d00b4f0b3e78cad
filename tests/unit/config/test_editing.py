"""Keys of a configuration are changed in place; comments and layout stay."""

import io
from importlib import resources

import pytest
from dotenv.parser import parse_stream
from hypothesis import given
from hypothesis import strategies as st

from understudy.config.editing import edited_env, edited_yaml
from understudy.config.load import parse_config
from understudy.config.yaml_document import read_document
from understudy.errors import ConfigError

STARTER = resources.files("understudy.config").joinpath("starter.yaml").read_text("utf-8")


def comments(text: str) -> list[str]:
    return sorted(line[line.index("#") :] for line in text.splitlines() if "#" in line)


def test_a_changed_value_leaves_every_other_line_as_it_is() -> None:
    text = edited_yaml(STARTER, {("web", "port"): 8010})

    assert text == STARTER.replace("port: 8005", "port: 8010")


def test_a_new_section_inside_another_goes_before_comments_that_follow_that() -> None:
    text = edited_yaml(STARTER, {("model", "servers", "ollama", "preset"): "ollama"})

    assert comments(text) == comments(STARTER)
    assert text.index("preset: ollama") < text.index("# discord:") < text.index("web:")
    assert parse_config(text, {}).settings.model.servers["ollama"].preset == "ollama"


def test_a_replaced_list_keeps_its_style_and_its_comment_in_its_column() -> None:
    file = "model:\n  provider_order: [openrouter, auto]   # cheap first\n"

    text = edited_yaml(file, {("model", "provider_order"): ["local", "auto"]})

    assert text == "model:\n  provider_order: [local, auto]        # cheap first\n"


def test_a_removed_key_takes_nothing_else_with_it() -> None:
    text = edited_yaml("web:\n  port: 1\n  host: a   # here\n", {}, [("web", "port"), ("x", "y")])

    assert text == "web:\n  host: a   # here\n"


@pytest.mark.parametrize("file", ["", "# mine\n\n# more\n", "model:\n", "model: {}\n"])
def test_any_empty_place_can_be_filled(file: str) -> None:
    text = edited_yaml(file, {("model", "local", "enabled"): True, ("persona", "name"): "Zoë: x"})

    settings = parse_config(text, {}).settings
    assert (settings.model.local.enabled, settings.persona.name) == (True, "Zoë: x")
    assert comments(text) == comments(file)


@pytest.mark.parametrize("file", ["- a\n", "a: [", "just text"])
def test_what_is_no_configuration_is_refused(file: str) -> None:
    with pytest.raises(ConfigError):
        edited_yaml(file, {("a",): 1})


def test_a_variable_is_set_where_it_is_and_added_where_it_is_not() -> None:
    file = "# keys\nA=\n\n# B is old\nexport B='1' # one\nA=2"

    text = edited_env(file, {"A": "sk-1", "C": "x"})

    assert text == "# keys\nA=\n\n# B is old\nexport B='1' # one\nA=sk-1\nC=x\n"


def test_a_value_with_a_line_break_is_refused() -> None:
    with pytest.raises(ConfigError, match="TOKEN contains a line break"):
        edited_env("", {"TOKEN": "a\nb"})


@given(st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8")))
def test_any_value_is_read_back_as_it_was_set(value: str) -> None:
    text = edited_env("A=old # note\nB=2\n", {"A": value})

    read = {one.key: one.value for one in parse_stream(io.StringIO(text))}
    assert (read["A"], read["B"]) == (value, "2")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_any_name_survives_in_the_configuration(name: str) -> None:
    text = edited_yaml(STARTER, {("persona", "name"): name})

    data = read_document(text).data
    assert isinstance(data, dict)
    assert data["persona"]["name"] == name
