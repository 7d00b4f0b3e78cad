from understudy.config.load import parse_config
from understudy.config.masking import scrubber

TEXT = """\
model:
  servers: {pc: {base_url: "http://pc:1", api_key: server-secret, extra_headers: {X: head-secret}}}
gateway: {keys: [gate-secret]}
"""


def test_known_secrets_keys_and_query_strings_are_taken_out() -> None:
    scrub = scrubber(parse_config(TEXT, {"DISCORD_TOKEN": "discord-secret"}).settings)

    said = scrub(
        "server-secret head-secret gate-secret discord-secret sk-or-v1-0123456789abcdef "
        "Bearer abc http://x.test/y?signature=1 stays"
    )

    assert "secret" not in said
    assert "0123456789" not in said
    assert "abc" not in said
    assert said.endswith("http://x.test/y?… stays")


def test_long_text_is_cut() -> None:
    assert len(scrubber(parse_config("", {}).settings)("x " * 5000)) == 300
