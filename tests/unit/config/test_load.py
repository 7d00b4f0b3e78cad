from pathlib import Path

import pytest

from understudy.config.load import Config, ConfigMistakes, load_config, parse_config
from understudy.config.settings import Settings
from understudy.errors import ConfigError

SEED = """\
model:
  provider_order: ["openrouter", "local", "auto"]
  openrouter:
    name: meta-llama/llama-4-scout:free
    fallbacks: "meta-llama/llama-3.3-8b-instruct:free"   # comma-separated text or a list
    allow_auto_fallback: true
  local:
    enabled: false
    engine: koboldcpp   # koboldcpp | llama.cpp | textgen-webui
    base_url: http://127.0.0.1:5001
    timeout_seconds: 8
    max_tokens: 300
    temperature: 0.7
    top_p: 0.9
"""


def mistakes_of(text: str, **env: str) -> list[tuple[int | None, str]]:
    with pytest.raises(ConfigMistakes) as caught:
        parse_config(text, env)
    return [(mistake.line, str(mistake)) for mistake in caught.value.mistakes]


def test_the_seeds_example_loads_as_it_stands() -> None:
    model = parse_config(SEED, {}).settings.model

    assert model.provider_order == ("openrouter", "local", "auto")
    assert model.openrouter.fallbacks == ("meta-llama/llama-3.3-8b-instruct:free",)
    assert model.openrouter.allow_auto_fallback
    assert not model.local.enabled
    assert (model.local.engine, model.local.timeout_seconds) == ("koboldcpp", 8)


def test_the_built_in_defaults_are_the_seeds_example_without_what_costs_money() -> None:
    seed = parse_config(SEED, {}).settings.model
    cheap = seed.openrouter.model_copy(
        update={
            "allow_auto_fallback": False,
            "fallbacks": (*seed.openrouter.fallbacks, "openrouter/free"),
        }
    )

    assert seed.model_copy(update={"openrouter": cheap}) == Settings().model


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "model:\n", "{}", "model: {openrouter: }"])
def test_an_empty_file_or_section_means_the_defaults(text: str) -> None:
    assert parse_config(text, {}).settings == Settings()


def test_no_file_and_only_a_key_in_the_environment_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    config = load_config(None, {"OPENROUTER_API_KEY": "sk-or-1"})

    assert config.path is None
    assert config.settings.model.openrouter.secret == "sk-or-1"


def test_keys_come_from_the_dotenv_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHUTES_API_KEY='a$b'\nDISCORD_TOKEN=from-file\n")
    file = tmp_path / "config.yaml"
    file.write_text("")

    settings = load_config(file, {"DISCORD_TOKEN": "from-environment"}).settings

    assert settings.model.chutes.api_key is not None
    assert settings.discord.token is not None
    assert settings.model.chutes.secret == "a$b"
    assert settings.discord.token.get_secret_value() == "from-environment"


def test_a_key_in_the_file_wins_and_is_known_by_no_variable() -> None:
    text = "model: {openrouter: {api_key: in-file}}"

    server = parse_config(text, {"OPENROUTER_API_KEY": "in-env"}).settings.model.openrouter

    assert server.api_key is not None
    assert server.secret == "in-file"
    assert server.api_key_env is None


def test_a_gateway_key_may_be_plain_text_or_come_from_the_environment() -> None:
    text = "gateway: {keys: [plain, {name: tavern, env: TAVERN}]}"

    plain, tavern = parse_config(text, {"TAVERN": "s3cret"}).settings.gateway.keys

    assert plain.key is not None
    assert plain.key.get_secret_value() == "plain"
    assert tavern.key is not None
    assert tavern.key.get_secret_value() == "s3cret"


def test_ids_may_be_written_as_bare_numbers() -> None:
    text = "participation: {channels: [123, 456], channel_chance: {123: 0.5}}\ndiscord: {admins: 7}"

    settings = parse_config(text, {}).settings

    assert settings.participation.channels == ("123", "456")
    assert settings.participation.channel_chance == {"123": 0.5}
    assert settings.discord.admins == ("7",)


def test_every_mistake_is_reported_at_once_with_its_line_and_the_nearest_name() -> None:
    text = """\
model:
  provider_order: [openruter, local]
  temperature: 1
  openrouter:
    fallback: x
    timeout_seconds: 0
  local:
    engine: lama.cpp
    vision: maybe
vison: {}
"""

    assert mistakes_of(text) == [
        (2, "model.provider_order.0: did you mean 'openrouter'?"),
        (
            3,
            "model.temperature: does not belong here; it belongs under "
            "model.openrouter, model.chutes, model.nanogpt or model.local",
        ),
        (5, "model.openrouter.fallback: unknown key; did you mean 'fallbacks'?"),
        (6, "model.openrouter.timeout_seconds: should be greater than 0"),
        (
            8,
            "model.local.engine: 'lama.cpp' is not an engine; did you mean 'llama.cpp'? "
            "(koboldcpp, llama.cpp, textgen-webui, builtin)",
        ),
        (9, "model.local.vision: should be 'auto' or true or false"),
        (10, "vison: unknown key; did you mean 'vision'?"),
    ]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("timeout", "timeout_seconds"),
        ("url", "base_url"),
        ("key", "api_key"),
        ("timeout_second", "timeout_seconds"),
        ("context", "context_length"),
    ],
)
def test_a_part_of_a_key_is_taken_for_the_key(key: str, meant: str) -> None:
    ((_, said),) = mistakes_of(f"model:\n  local:\n    {key}: 8\n")

    assert said == f"model.local.{key}: unknown key; did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: [1,", 1, "expected the node content"),
        ("model:\n\tlocal: 1", 2, "a tab"),
        ("web:\n  port: 1\n  port: 2", 3, "is written twice"),
        ("model: [1]", 1, "a section with keys of its own"),
        ("- a", None, "a section with keys of its own"),
        ("web: {host: 0.0.0.0}", 1, "set web.token"),
        ("gateway: {enabled: true, host: '::'}", 1, "add gateway.keys"),
        ("model: {servers: {auto: {base_url: 'http://x'}}}", 1, "this name is reserved"),
        ("model: {servers: {own: {engine: builtin, name: x}}}", 1, "engine builtin takes `model`"),
        ("model: {servers: {a: {base_url: 'http://x', model: x}}}", 1, "other engines take `name`"),
        ("model: {servers: {gpu: {engine: llama.cpp}}}", 1, "needs a base_url"),
        ("model: {local: {base_url: 'localhost:5001'}}", 1, "should look like http://"),
        ("model: {local: {base_url: 'http://[::1'}}", 1, "should look like http://"),
        ("model: {local: {base_url: 'http://h:99999'}}", 1, "should look like http://"),
        ("model: {local: {base_url: 'http://:5001'}}", 1, "should look like http://"),
        ('model: {local: {extra_headers: {X-Who: "a\\nb"}}}', 1, "contains a line break"),
        ("model: {local: {extra_headers: {X Who: a}}}", 1, "not a valid header name"),
        ('model: {local: {api_key: "a\\nb"}}', 1, "api_key: contains a line break"),
        ("model: {deadline: {commit_seconds: 60, total_seconds: 30}}", 1, "is longer than"),
        ("model: {provider_order: []}", 1, "at least one"),
        ("model: {provider_order: [local, local]}", 1, "twice"),
        ("gateway: {keys: [{name: x}]}", 1, "exactly one of"),
        ("gateway: {keys: [{name: x, sha256: abc}]}", 1, "64 digits"),
        ("gateway: {keys: [{}]}", 1, "is missing"),
        ("gateway: {keys: ['']}", 1, "clients without any key"),
        ("gateway: {keys: [{name: x, key: ' '}]}", 1, "clients without any key"),
        ("participation: {quiet_hours: {start: banana, end: '7:00'}}", 1, "time of day"),
        ("participation: {quiet_hours: {start: '23:00'}}", 1, "end is empty"),
        ("participation: {quiet_hours: {timezone: Europe/Bananas}}", 1, "a time zone"),
        ("participation: {quiet_hours: {timezone: ../etc}}", 1, "a time zone"),
        ("discord:\n  admins: [7, me]", 2, "Copy ID"),
        ("discord: {deny: {roles: [helpers]}}", 1, "Copy ID"),
        ("logging: {level: 2026-13-45}", None, "put it in quotes"),
        ("a: &a [*a]", 1, "more keys"),
        ('persona: {name: "\\ud83d\\ude00"}', 1, "half a character"),
    ],
)
def test_a_mistake_says_where_it_is_and_what_to_do(text: str, line: int | None, said: str) -> None:
    found = mistakes_of(text)

    assert found[0][0] == line
    assert said in found[0][1]


def test_wrong_switches_in_the_environment_are_mistakes_too() -> None:
    texts = [text for _, text in mistakes_of("", LOG_LEVEL="loud", LOG_PROMPTS="perhaps")]

    assert texts == [
        "LOG_LEVEL in the environment should be debug, info, warning or error",
        "LOG_PROMPTS in the environment should be 1 or 0",
    ]


def test_switches_in_the_environment_win_over_the_file() -> None:
    logging = parse_config(
        "logging: {level: error, prompts: true}",
        {
            "LOG_LEVEL": "DEBUG",
            "LOG_PROMPTS": "0",
        },
    ).settings.logging

    assert (logging.level, logging.prompts) == ("debug", False)


def test_a_timeout_that_can_never_be_used_up_is_a_warning() -> None:
    text = "model:\n  deadline: {commit_seconds: 10}\n  local:\n    timeout_seconds: 60\n"

    assert parse_config(text, {}).warnings == (
        "config.yaml:4: model.local.timeout_seconds: 60 s can never be used up: "
        "model.deadline.commit_seconds ends the wait after 10 s",
    )


def test_an_order_whose_servers_are_all_disabled_is_a_warning() -> None:
    text = "model:\n  provider_order: [local]\ngateway:\n  orders: {cheap: [auto, local/x]}\n"

    assert parse_config(text, {}).warnings == (
        "config.yaml:2: model.provider_order: can never answer: each of its servers is disabled",
        "config.yaml:4: gateway.orders.cheap: can never answer: each of its servers is disabled",
    )


def test_a_server_that_no_order_names_is_a_warning() -> None:
    entry = "{base_url: 'http://127.0.0.1:1'}"
    text = f"model:\n  servers:\n    spare: {entry}\n    used: {entry}\n  provider_order: [used]\n"

    assert parse_config(text, {}).warnings == (
        "config.yaml:3: model.servers.spare: is never asked: model.provider_order does not list it",
    )


def test_a_server_that_answers_in_one_piece_is_warned_of_until_its_whole_answer_has_a_limit() -> (
    None
):
    entry = "{engine: nanogpt, name: m, mode: plain_generate%s}"
    text = f"model:\n  servers:\n    tiny: {entry}\n  provider_order: [tiny]"

    assert parse_config(text % ", total_timeout_seconds: 60", {}).warnings == ()
    assert parse_config(text % "", {}).warnings == (
        "config.yaml:3: model.servers.tiny.mode: answers in one piece, so timeout_seconds bounds "
        "the whole answer; total_timeout_seconds would do so alone",
    )


CANARY = "sk-canary-7351"


@pytest.mark.parametrize(
    "text",
    [
        f"model: {{openrouter: {{api_key: {{key: {CANARY}}}}}}}",
        f"model: {{local: {{enabled: {CANARY}}}}}",
        f"model: {{openrouter: {{api_key: *{CANARY}}}}}",
        f"discord: {{token: !{CANARY} x}}",
        f'discord: {{token: "{CANARY}}}',
        f"web: {{port: {CANARY}}}",
    ],
)
def test_no_mistake_quotes_what_may_be_a_secret(text: str) -> None:
    assert all(CANARY not in said for _, said in mistakes_of(text))


def test_a_missing_or_unreadable_file_says_what_to_do(tmp_path: Path) -> None:
    binary = tmp_path / "config.yaml"
    binary.write_bytes(b"model:\n  \xff\xfe")

    with pytest.raises(ConfigError, match="understudy config example"):
        load_config(tmp_path / "nowhere.yaml", {})
    with pytest.raises(ConfigError, match=r"config\.yaml:2: not UTF-8"):
        load_config(binary, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})


@pytest.mark.parametrize("name", ["", "/", "a" * 300])
def test_a_name_that_is_no_files_is_told_in_words(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Path(name), {})


def test_a_default_file_that_leads_nowhere_is_told_instead_of_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").symlink_to("gone.yaml")

    with pytest.raises(ConfigError, match="There is no config"):
        load_config(None, {})


def test_a_file_saved_with_a_byte_order_mark_loads(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xef\xbb\xbfweb: {port: 1}")

    config: Config = load_config(file, {})

    assert config.settings.web.port == 1


def test_a_key_over_two_lines_is_told_by_the_name_of_its_variable_and_never_shown() -> None:
    [(_, said)] = mistakes_of("", OPENROUTER_API_KEY="sk-one\nDISCORD_TOKEN=two")

    assert "OPENROUTER_API_KEY contains a line break" in said
    assert "sk-one" not in said


def test_lines_of_the_env_file_that_set_nothing_are_told_by_number_and_never_shown(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / ".env").write_text('# keys\n\nsk-hush\nDISCORD_TOKEN="to\nCHUTES_API_KEY=k\n')

    config = load_config(tmp_path / "config.yaml", {})

    file = tmp_path / ".env"
    assert config.warnings == (
        f"{file}:3: is not NAME=value; ignored",
        f"{file}:4: is not NAME=value; ignored",
    )
    assert config.settings.model.chutes.api_key is not None


def test_a_virtual_environment_named_like_the_env_file_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / ".env").mkdir()

    assert load_config(tmp_path / "config.yaml", {}).warnings == ()


def test_mistakes_name_lists_and_text_instead_of_tuples() -> None:
    texts = [text for _, text in mistakes_of("gateway: {keys: {}}\npersona: {name: [a]}")]

    assert texts == [
        "gateway.keys: should be a list, such as [a, b]",
        "persona.name: should be text",
    ]


@pytest.mark.parametrize(
    ("text", "line", "wording"),
    [
        ("web:\n  allowed_hosts: [a, b\ndiscord:\n  enabled: true", 2, "opened with `[`"),
        ("model: {local: {enabled: true\nweb: {}", 1, "opened with `{`"),
        ('persona:\n  name: "Ann\nweb: {}\n', 2, "the quote opened"),
    ],
)
def test_an_unclosed_bracket_or_quote_is_named_with_the_line_it_was_opened_on(
    text: str, line: int, wording: str
) -> None:
    [(_, problem)] = mistakes_of(text)

    assert wording in problem
    assert f"on line {line} is not closed" in problem


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("web: {port: eight}", "should be a whole number, such as 8"),
        ("web: {port: 8.5}", "should be a whole number, such as 8"),
        ("model: {local: {timeout_seconds: soon}}", "should be a number, such as 8"),
        ("web: {enabled: perhaps}", "should be true or false"),
        ("model: {local: {engine: [a]}}", "should be 'koboldcpp', 'llama.cpp', "),
        ("model: {local: {engine: sk-abcdefghijklmnopqrstuvwxyz}}", "should be 'koboldcpp'"),
        ("web: 5", "should be a section"),
    ],
)
def test_a_value_of_the_wrong_type_is_answered_with_what_to_write(text: str, wording: str) -> None:
    [(_, problem)] = mistakes_of(text)

    assert wording in problem
    assert "sk-abc" not in problem
