"""Addresses as people write them."""

import pytest

from understudy.llm.addresses import api_root, is_local, server_root, unversioned_root


@pytest.mark.parametrize(
    ("written", "root"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001/v1"),
        ("http://127.0.0.1:5001/", "http://127.0.0.1:5001/v1"),
        ("http://127.0.0.1:5001/v1/", "http://127.0.0.1:5001/v1"),
        ("https://openrouter.ai/api", "https://openrouter.ai/api/v1"),
        ("https://nano-gpt.com/api/v1thinking", "https://nano-gpt.com/api/v1thinking"),
        ("https://nano-gpt.com/api/subscription/v1", "https://nano-gpt.com/api/subscription/v1"),
        ("https://x.test/v1beta/openai/", "https://x.test/v1beta/openai"),
        ("https://x.test/v1/chat/completions", "https://x.test/v1"),
        ("http://box:5001/api/v1/generate", "http://box:5001/v1"),
    ],
)
def test_with_and_without_version_both_work(written: str, root: str) -> None:
    assert api_root(written) == root


def test_native_endpoints_hang_on_the_server_itself() -> None:
    assert server_root("http://box:5001/v1") == server_root("http://box:5001") == "http://box:5001"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://192.168.1.4:1", True),
        ("http://localhost", True),
        ("http://gpu-box:8080", True),
        ("http://gpu.local", True),
        ("https://api.groq.com", False),
        ("https://8.8.8.8", False),
    ],
)
def test_home_is_told_from_the_world(url: str, local: bool) -> None:
    assert is_local(url) is local


@pytest.mark.parametrize("pasted", ["/v1/chat/completions", "/chat/completions", "/v1/models"])
def test_a_pasted_page_is_no_part_of_the_server(pasted: str) -> None:
    assert server_root(f"http://box:5001{pasted}") == "http://box:5001"
    assert api_root(f"http://box:5001{pasted}/") == "http://box:5001/v1"


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("https://models.github.ai/inference", "https://models.github.ai/inference"),
        ("https://x.test/inference/chat/completions", "https://x.test/inference"),
        ("https://x.test", None),
        ("https://x.test/v1", None),
        ("https://x.test/openai/v1/", None),
    ],
)
def test_an_address_with_a_path_may_be_right_as_it_is(written: str, plain: str | None) -> None:
    assert unversioned_root(written) == plain
