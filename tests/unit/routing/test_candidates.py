import pytest

from understudy.config.load import parse_config
from understudy.config.providers import Server
from understudy.errors import ConfigError, HoldScope
from understudy.llm.client import LLMClient
from understudy.llm.testing import ScriptedClient
from understudy.routing.candidates import Candidate, build_candidates, waiting_split
from understudy.routing.records import SkipReason

KEY = {"OPENROUTER_API_KEY": "k"}


def lineup(text: str, env: dict[str, str] | None = None) -> tuple[Candidate, ...]:
    def build(_name: str, _server: Server) -> LLMClient:
        return ScriptedClient([])

    return build_candidates(parse_config(text, env or {}).settings.model, build)


def test_a_providers_models_are_tried_one_after_the_other() -> None:
    assert [(c.provider, c.model, c.off) for c in lineup("", KEY)] == [
        ("openrouter", "meta-llama/llama-4-scout:free", None),
        ("openrouter", "meta-llama/llama-3.3-8b-instruct:free", None),
        ("openrouter", "openrouter/free", None),
        ("local", "", SkipReason.DISABLED),
        ("openrouter", "openrouter/auto", SkipReason.DISABLED),
    ]


def test_auto_is_tried_only_when_it_is_allowed() -> None:
    text = "model: {openrouter: {allow_auto_fallback: true}}"

    auto = lineup(text, KEY)[-1]

    assert (auto.provider, auto.model, auto.label, auto.off) == (
        "openrouter",
        "openrouter/auto",
        "auto",
        None,
    )


def test_models_of_one_provider_share_its_client() -> None:
    first, second, *_ = lineup("", KEY)

    assert first.client is second.client


def test_servers_that_only_an_order_names_are_asked_by_that_order_alone() -> None:
    text = (
        "model: {provider_order: [a], orders: {other: [b/m, a]}, servers: {"
        "a: {engine: openai, base_url: 'http://a'},"
        " b: {engine: openai, base_url: 'http://b', name: m}}}"
    )
    settings = parse_config(text, {}).settings
    made = build_candidates(
        settings.model, lambda _name, _server: ScriptedClient([]), settings.orders.values()
    )

    assert [(c.name, c.only_by_name) for c in made] == [("a/", False), ("b/m", True)]


def test_each_key_of_a_provider_is_a_candidate_with_a_cooldown_of_its_own() -> None:
    text = (
        "model: {provider_order: [s], servers: {s: {engine: openai, base_url: 'http://x',"
        " name: m, fallbacks: [n], api_key_env: [FIRST, UNSET, SECOND]}}}"
    )
    tried = lineup(text, {"FIRST": "k1", "SECOND": "k2"})

    assert [(c.model, c.label, c.key_ref) for c in tried] == [
        ("m", "s (key 1)", "FIRST"),
        ("m", "s (key 2)", "SECOND"),
        ("n", "s (key 1)", "FIRST"),
        ("n", "s (key 2)", "SECOND"),
    ]
    assert tried[0].client is tried[2].client is not tried[1].client
    assert tried[0].scope_key(HoldScope.KEY) != tried[1].scope_key(HoldScope.KEY)
    assert tried[0].scope_key(HoldScope.ENDPOINT) == tried[1].scope_key(HoldScope.ENDPOINT)


def test_one_key_of_a_list_is_named_like_a_single_one() -> None:
    text = (
        "model: {provider_order: [s], servers: {s: {engine: openai, base_url: 'http://x',"
        " api_key_env: [UNSET, SECOND]}}}"
    )

    (tried,) = lineup(text, {"SECOND": "k2"})
    (off,) = lineup(text)

    assert (tried.label, tried.key_ref, tried.off) == ("s", "SECOND", None)
    assert (off.key_ref, off.off) == ("UNSET or SECOND", SkipReason.NO_KEY)


def test_keys_in_the_file_are_named_by_their_number() -> None:
    text = (
        "model: {provider_order: [s], servers: {s: {engine: openai, base_url: 'http://x',"
        " api_key: [one, two]}}}"
    )

    assert [c.key_ref for c in lineup(text)] == ["api_key", "api_key 2"]


@pytest.mark.parametrize(
    ("server", "off"),
    [
        ("{engine: openrouter, name: m}", SkipReason.NO_KEY),
        ("{engine: nanogpt, name: m, auth: none}", None),
        ("{engine: openai, base_url: 'http://x'}", None),
        ("{engine: openai, base_url: 'http://x', api_key_env: UNSET}", SkipReason.NO_KEY),
        ("{engine: openai, base_url: 'http://x', enabled: false}", SkipReason.DISABLED),
    ],
)
def test_a_provider_without_its_key_is_left_out(server: str, off: SkipReason | None) -> None:
    (candidate,) = lineup(f"model: {{provider_order: [s], servers: {{s: {server}}}}}")

    assert candidate.off is off


def test_local_servers_get_less_patience_for_the_first_token_and_more_for_the_rest() -> None:
    text = """\
model:
  provider_order: [here, away, thinker]
  servers:
    here: {engine: llama.cpp, base_url: "http://127.0.0.1:8080"}
    away: {engine: openai, base_url: "https://models.example.com"}
    thinker: {engine: openai, base_url: "https://models.example.com", reasoning: true}
"""
    here, away, thinker = lineup(text)

    assert (here.limits.first_token_s, here.limits.idle_s, here.limits.total_s) == (8, 30, 180)
    assert (away.limits.first_token_s, away.limits.idle_s, away.limits.total_s) == (20, 20, 120)
    assert thinker.limits.first_token_s == 45
    assert (here.local, away.local) == (True, False)


@pytest.mark.parametrize(
    ("limits", "first_token_s"),
    [
        ("", 8),
        (", timeout_seconds: 12", 12),
        (", timeout_seconds: 12, total_timeout_seconds: 60", 60),
    ],
)
def test_a_server_that_answers_in_one_piece_may_take_its_total_time_where_that_is_written(
    limits: str, first_token_s: float
) -> None:
    server = '{engine: nanogpt, mode: plain_generate, auth: none, base_url: "http://127.0.0.1:1"%s}'
    streams = '{engine: openai, base_url: "http://127.0.0.1:1", total_timeout_seconds: 60}'
    servers = f"{{plain: {server % limits}, streams: {streams}}}"

    plain, other = lineup(f"model: {{provider_order: [plain, streams], servers: {servers}}}")

    assert plain.limits.first_token_s == first_token_s
    assert other.limits.first_token_s == 8


def test_what_people_read_names_the_engine_of_local() -> None:
    text = "model: {provider_order: [local], local: {enabled: true, engine: llama.cpp}}"

    (local,) = lineup(text)

    assert local.label == "local/llama.cpp"
    assert local.endpoint_host == "127.0.0.1"


def test_a_key_is_known_by_its_variable_or_as_written_in_the_file() -> None:
    by_variable = lineup("", KEY)[0]
    in_file = lineup("model: {openrouter: {api_key: k}}")[0]

    assert (by_variable.key_ref, in_file.key_ref) == ("OPENROUTER_API_KEY", "api_key")


def test_the_split_of_waiting_leaves_later_candidates_their_share() -> None:
    text = "model: {local: {enabled: true}, deadline: {commit_seconds: 45}}"

    assert waiting_split(parse_config(text, KEY).settings.model) == (
        " 20.0 s  openrouter meta-llama/llama-4-scout:free",
        " 19.0 s  openrouter meta-llama/llama-3.3-8b-instruct:free",
        "  3.0 s  openrouter openrouter/free",
        "  3.0 s  local/koboldcpp",
    )


def test_without_a_usable_provider_the_split_says_so() -> None:
    assert "no provider is usable" in waiting_split(parse_config("", {}).settings.model)[0]


def test_what_building_a_client_refuses_comes_through() -> None:
    def build(name: str, _server: Server) -> LLMClient:
        raise ConfigError(f"{name}: no such preset")

    with pytest.raises(ConfigError, match="no such preset"):
        build_candidates(parse_config("", KEY).settings.model, build)
