import pytest

from understudy.platforms.discord.mentions import with_mentions

ANN, BOB, STRANGER = "100000000000000001", "100000000000000002", "100000000000000003"
PEOPLE = {ANN: "Ann", BOB: "Ann-Marie (she)"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Hello <@{ANN}> and <@!{BOB}>!", "Hello @Ann and @Ann-Marie (she)!"),
        ("Hello @Ann", "Hello @Ann"),
        (f"<@{STRANGER}> is not here", f"<@{STRANGER}> is not here"),
        (f"`<@{ANN}>` and ```\n<@{ANN}>\n```", f"`<@{ANN}>` and ```\n<@{ANN}>\n```"),
    ],
)
def test_mentions_are_shown_as_names_by_default(text: str, shown: str) -> None:
    assert with_mentions(text, PEOPLE, ()) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello @ann, hi", f"Hello <@{ANN}>, hi"),
        (f"<@{ANN}> and <@{BOB}>", f"<@{ANN}> and @Ann-Marie (she)"),
        ("@Ann-Marie (she) writes @Ann", f"@Ann-Marie (she) writes <@{ANN}>"),
        ("@Annette, me@Ann.example, `@Ann`", "@Annette, me@Ann.example, `@Ann`"),
        ("https://example.org/@Ann", "https://example.org/@Ann"),
    ],
)
def test_names_of_allowed_people_become_mentions(text: str, shown: str) -> None:
    assert with_mentions(text, PEOPLE, (ANN,)) == shown


def test_without_people_nothing_changes() -> None:
    assert with_mentions(f"<@{ANN}> @Ann", {}, (ANN,)) == f"<@{ANN}> @Ann"
