import re
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
