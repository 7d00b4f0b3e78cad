"""What the operator reads about a server that could not be probed."""

import pytest

from understudy.errors import ErrorClass, Unreachable
from understudy.llm.model_list import report_failure


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("http://127.0.0.1:5001/v1", "start the server or correct base_url"),
        ("http://koboldcpp.lan:5001/v1", "start the server or correct base_url"),
        ("https://openrouter.ai/api/v1", "check the network or HTTPS_PROXY"),
        ("https://llm.chutes.ai/v1", "check the network or HTTPS_PROXY"),
    ],
)
def test_only_the_operator_of_a_local_server_is_advised_to_start_it(url: str, advice: str) -> None:
    report = report_failure(Unreachable(ErrorClass.CONNECT_REFUSED), url)

    assert url in report.advice
    assert report.advice.endswith(advice)
