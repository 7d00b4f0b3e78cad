"""Which proxy the environment names for a server, and which servers it excludes."""

import pytest

from certificates import proxies
from understudy.llm.http.proxy import Proxy, proxy_for

THE_PROXY = Proxy("proxy.test", 3128)
NAME = "models.example.test"
ADDRESS = "9.9.9.9"
SIX = "2620:fe::9"


def is_excluded(no_proxy: str, host: str, port: int = 443) -> bool:
    with proxies(https_proxy="http://proxy.test:3128", no_proxy=no_proxy):
        found = proxy_for("https", host, port)
    assert found in (None, THE_PROXY)
    return found is None


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        (NAME, NAME),
        ("MODELS.Example.test", NAME),
        ("example.test", NAME),
        (".example.test", NAME),
        ("*.example.test", NAME),
        (f"{NAME}:443", NAME),
        (".example.test:443", NAME),
        ("*", NAME),
        ("other.test, *", NAME),
        (f"other.test , {NAME} ,", NAME),
        (ADDRESS, ADDRESS),
        (f"{ADDRESS}:443", ADDRESS),
        ("9.9.9.0/24", ADDRESS),
        ("9.9.9.5/24", ADDRESS),
        ("9.0.0.0/8,other.test", ADDRESS),
        (SIX, SIX),
        ("2620:00fe:0::9", SIX),
        (f"[{SIX}]", SIX),
        (f"[{SIX}]:443", SIX),
        ("2620:fe::/32", SIX),
    ],
)
def test_a_server_that_no_proxy_lists_is_reached_directly(no_proxy: str, host: str) -> None:
    assert is_excluded(no_proxy, host)


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", NAME),
        (",. ,", NAME),
        ("other.test", NAME),
        ("els.example.test", NAME),
        (f"{NAME}:8443", NAME),
        (f"deeper.{NAME}", NAME),
        ("*example.test", "anexample.test"),
        ("9.9.9.0/32", ADDRESS),
        ("9.9.8.0/24", ADDRESS),
        ("9.9.9.9.9/24", ADDRESS),
        ("9.9.9.0/24", NAME),
        ("9.9.9.0/24", SIX),
        (f"{ADDRESS}:80", ADDRESS),
        (f"[{SIX}]:80", SIX),
        ("2620:fe::/128", SIX),
        ("9", ADDRESS),
    ],
)
def test_a_server_that_no_proxy_does_not_list_is_reached_through_it(
    no_proxy: str, host: str
) -> None:
    assert not is_excluded(no_proxy, host)


def test_a_scheme_without_a_proxy_has_none() -> None:
    with proxies(https_proxy="http://proxy.test:3128"):
        assert proxy_for("http", NAME, 80) is None
