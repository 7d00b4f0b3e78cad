from understudy.config.load import parse_config
from understudy.config.masking import as_yaml, masked

CANARY = "canary-9113"


def test_every_secret_is_masked_and_the_rest_is_shown() -> None:
    text = f"""\
model:
  local: {{api_key: {CANARY}, base_url: "http://me:{CANARY}@127.0.0.1:5001"}}
  servers:
    pc:
      base_url: http://10.0.0.2:8080
      extra_headers: {{X-Api-Key: {CANARY}}}
      extra_body: {{api_key: {CANARY}, nested: {{token: {CANARY}}}, max_tokens_hint: 5}}
discord: {{token: {CANARY}}}
web: {{token: {CANARY}, chat_token: {CANARY}}}
gateway: {{keys: [{CANARY}]}}
storage: {{url: "postgresql://me:{CANARY}@db/x?password={CANARY}"}}
"""

    shown = as_yaml(masked(parse_config(text, {"OPENROUTER_API_KEY": CANARY}).settings))

    assert CANARY not in shown
    assert "http://10.0.0.2:8080" in shown
    assert "max_tokens_hint: 5" in shown


def test_the_effective_configuration_keeps_the_order_of_the_schema() -> None:
    shown = as_yaml(masked(parse_config("", {}).settings))

    assert shown.startswith("model:\n  provider_order:\n  - openrouter\n  - local\n  - auto\n")


def test_a_loaded_configuration_never_prints_its_secrets() -> None:
    config = parse_config(
        f"model: {{local: {{extra_headers: {{K: {CANARY}}}}}}}", {"DISCORD_TOKEN": CANARY}
    )

    assert CANARY not in repr(config)


def test_everything_below_a_secret_name_of_extra_fields_is_masked() -> None:
    secret = "{auth: {value: hidden-1, list: [hidden-2]}, temperature: 1}"
    text = f"model: {{servers: {{a: {{base_url: 'http://h', extra_body: {secret}}}}}}}"

    shown = as_yaml(masked(parse_config(text, {}).settings))

    assert "hidden" not in shown
    assert "temperature: 1" in shown
