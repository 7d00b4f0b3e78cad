import re
import socket
from pathlib import Path

from command import understudy


def test_the_demo_shows_a_failover_without_keys_models_or_network(tmp_path: Path) -> None:
    done = understudy("demo", "--say", "hello", folder=tmp_path)

    reply, route = done.stdout.splitlines()
    assert done.returncode == 0
    assert reply
    assert re.fullmatch(
        r"rate-limited: rehearsal-a · broke off: rehearsal-b · "
        r"answered: rehearsal-c, \d+\.\d s, \d+→\d+ tokens",
        route,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named_as_the_option_it_came_from(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = understudy("demo", "--no-browser", "--port", port, folder=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith(f"--port: cannot listen on 127.0.0.1:{port}")
    assert "web.port" not in done.stderr
