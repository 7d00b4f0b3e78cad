"""Addresses as people write them."""

import pytest

from understudy.llm.addresses import api_root, is_local, server_root


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
