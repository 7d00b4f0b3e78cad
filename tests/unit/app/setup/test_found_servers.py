"""Servers found on this machine become lines of the configuration; nothing else changes."""

import pytest

from understudy.app.setup.found_servers import (
    OWN_MODEL,
    lines_for,
    may_offer_own_model,
    not_configured,
    place_of,
    with_server,
)
from understudy.config.load import parse_config
from understudy.config.providers import ModelSettings
from understudy.llm.local_discovery import DiscoveredServer

KOBOLD = DiscoveredServer("http://127.0.0.1:5001", "koboldcpp", model="koboldcpp/tiny")
OLLAMA = DiscoveredServer("http://127.0.0.1:11434", "openai", "ollama", model="gemma3")
FILE = """\
# My bot. Do not touch!
model:
  provider_order: ["openrouter", auto]   # cheap first
  openrouter:
    name: a/b:free   # good one
"""


def test_an_own_engine_takes_the_free_place_and_the_others_their_own() -> None:
    nothing = ModelSettings()
    busy = ModelSettings.model_validate(
        {"local": {"enabled": True}, "servers": {"ollama": {"preset": "ollama"}}}
    )

    assert [place_of(near, nothing) for near in (KOBOLD, OLLAMA)] == ["local", "ollama"]
    assert [place_of(near, busy) for near in (KOBOLD, OLLAMA)] == ["koboldcpp", "ollama-2"]


def test_the_lines_are_what_a_person_would_write() -> None:
    lines = lines_for(OLLAMA, "ollama", ("openrouter", "ollama"))

    assert lines == (
        "model:\n  servers:\n    ollama:\n      preset: ollama\n"
        "      base_url: http://127.0.0.1:11434\n      name: gemma3\n"
    )


@pytest.mark.parametrize("near", [OLLAMA, KOBOLD, OWN_MODEL])
def test_with_the_lines_alone_the_server_is_in_the_order(near: DiscoveredServer) -> None:
    nothing = ModelSettings()
    place = place_of(near, nothing)

    lines = lines_for(near, place, ("openrouter", "auto"))

    assert place in parse_config(lines, {}).settings.model.provider_order


def test_comments_stay_and_the_new_one_stands_before_what_costs_money() -> None:
    text = with_server(FILE, KOBOLD, "local", ("openrouter", "auto"))

    model = parse_config(text, {}).settings.model
    assert "# My bot. Do not touch!" in text
    assert "# cheap first" in text
    assert "# good one" in text
    assert model.provider_order == ("openrouter", "local", "auto")
    assert (model.local.enabled, model.local.engine) == (True, "koboldcpp")


@pytest.mark.parametrize(
    ("file", "order"),
    [
        ("", ("openrouter", "local", "ollama", "auto")),
        ("model:\n", ("openrouter", "local", "ollama", "auto")),
        ("model:\n  provider_order: openrouter, local\n", ("openrouter", "local", "ollama")),
        ("web: {port: 9000}\n", ("openrouter", "local", "ollama", "auto")),
    ],
)
def test_every_file_can_take_one_in(file: str, order: tuple[str, ...]) -> None:
    in_force = parse_config(file, {}).settings.model.provider_order

    text = with_server(file, OLLAMA, "ollama", in_force)

    model = parse_config(text, {}).settings.model
    assert model.provider_order == order
    assert model.servers["ollama"].name == "gemma3"


def test_a_server_that_wants_a_key_gets_the_name_of_one() -> None:
    tabby = DiscoveredServer("http://127.0.0.1:5000", "openai", "tabbyapi", needs_key=True)

    assert "api_key_env: TABBYAPI_API_KEY" in lines_for(tabby, "tabbyapi", ())


def test_what_is_in_use_is_not_offered_again() -> None:
    model = ModelSettings.model_validate(
        {"local": {"enabled": True, "base_url": "http://localhost:5001/v1"}}
    )

    assert not_configured((KOBOLD, OLLAMA), model) == (OLLAMA,)


def test_a_model_of_the_bots_own_goes_last_and_is_offered_once() -> None:
    before = parse_config("model: {provider_order: [openrouter, auto]}", {}).settings.model
    place = place_of(OWN_MODEL, before)
    text = with_server("", OWN_MODEL, place, before.provider_order)
    after = parse_config(text, {}).settings.model

    assert may_offer_own_model(before)
    assert not may_offer_own_model(after)
    assert after.provider_order == ("openrouter", "auto", "builtin")
    assert after.servers["builtin"].engine == "builtin"
