"""The documented words of a route are those that are printed."""

from pathlib import Path

from understudy.errors import ErrorClass
from understudy.routing.records import words_of

PAGE = Path(__file__).parents[3] / "docs/engines/README.md"


def test_the_table_of_failures_names_words_that_a_route_has() -> None:
    rows = PAGE.read_text().partition("What you see in the route")[2].splitlines()[2:]
    documented = [row.split("|")[2] for row in rows if row.startswith("|")]

    words = {word.strip() for cell in documented for word in cell.split(",")}

    assert words == {words_of(error_class) for error_class in ErrorClass} & words
    assert len(documented) > 15
