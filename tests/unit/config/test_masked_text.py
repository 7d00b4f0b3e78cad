"""The configuration's text with its secrets masked, and back."""

import pytest

from understudy.config.load import parse_config
from understudy.config.masked_text import MaskedText, mask_text, reveals_secret, unmask_text
from understudy.config.settings import Settings
from understudy.errors import ConfigError

TEXT = """\
# An old key: sk-or-v1-0123456789
model:
  openrouter:
    api_key: "sk-or-v1-abcdefghij"  # the new one
  local: {enabled: true, extra_headers: {X-Who: hush-hush}}
  servers:
    gpu:
      base_url: http://me:pass-word@127.0.0.1:1/v1
      extra_body: {auth_token: inner-secret}
  provider_order: [openrouter, local, gpu]
discord: {token: 'abc.def.ghi'}
web:
  token: operator-token
  # chat_token: forgotten
gateway:
  keys: [plain-client-key]
limits: {daily_usd: 1}
"""
SECRETS = (
    "sk-or-v1-0123456789", "sk-or-v1-abcdefghij", "hush-hush", "pass-word", "inner-secret",
    "abc.def.ghi", "operator-token", "forgotten", "plain-client-key",
)  # fmt: skip


def masked(text: str = TEXT) -> tuple[MaskedText, Settings]:
    settings = parse_config(text, {}).settings
    return mask_text(text, settings), settings


def test_no_secret_is_left_and_everything_else_is() -> None:
    found, _ = masked()

    assert [secret for secret in SECRETS if secret in found.text] == []
    for kept in ("# the new one", "provider_order: [openrouter, local, gpu]", "daily_usd: 1"):
        assert kept in found.text
    assert found.text.count("\n") == TEXT.count("\n")


def test_the_masked_text_becomes_the_original_again() -> None:
    found, _ = masked()

    assert unmask_text(found.text, found.secrets) == TEXT


def test_the_names_of_variables_and_numbers_of_tokens_are_no_secrets() -> None:
    text = "model: {local: {api_key_env: MY_KEY, max_tokens: 300}}\nweb: {token: null}\n"

    assert masked(text)[0].text == text


def test_a_text_that_is_no_yaml_is_masked_by_the_names_of_its_keys() -> None:
    text = "web:\n\ttoken: abcdefg\n  api_key: 'hij klm'\n"

    assert mask_text(text, Settings()).text == (
        "web:\n\ttoken: ********[1]\n  api_key: '********[2]'\n"
    )


def test_a_placeholder_of_no_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="stands for no secret"):
        unmask_text("web: {token: '********[2]'}", ("one",))


@pytest.mark.parametrize(
    ("edited", "revealed"),
    [
        ("web: {token: '********[1]'}", False),
        ("web: {chat_token: '********[1]'}", False),
        ("web: {token: other-token}", False),
        ("web: {token: '********[1]'}\npersona: {name: 'x ********[1]'}", True),
        ("model: {local: {base_url: 'http://********[1].example'}}", True),
    ],
)
def test_a_secret_may_not_move_to_where_it_is_shown(edited: str, revealed: bool) -> None:
    found, settings = masked("web: {token: operator-token}\n")

    assert reveals_secret(edited, found, settings, {}) is revealed


def test_a_weak_password_that_is_also_a_name_does_not_forbid_every_change() -> None:
    text = "web: {token: helper}\npersona: {name: helper}\n"
    found, settings = masked(text)

    assert not reveals_secret(found.text + "limits: {daily_usd: 1}\n", found, settings, {})
