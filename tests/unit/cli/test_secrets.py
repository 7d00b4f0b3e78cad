"""No secret is ever on a command line, where every user of the machine can read it."""

from collections.abc import Iterator

from typer.main import get_command

from understudy.cli.main import build

SECRETS = ("token", "secret", "password", "api-key", "apikey")


def parameters(command: object, name: str = "understudy") -> Iterator[str]:
    """Every word that can be said to the program, with the commands before it."""
    for parameter in getattr(command, "params", ()):
        yield from (f"{name} {word}" for word in (*parameter.opts, parameter.name))
    for word, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{name} {word}")


def test_no_command_takes_a_secret_as_a_word() -> None:
    words = list(parameters(get_command(build([]))))

    assert "understudy db backup to" in words
    named = [word for word in words if any(secret in word.lower() for secret in SECRETS)]
    # The name of a file with a secret tells nothing.
    assert [word for word in named if not word.endswith(("-file", "_file"))] == []
