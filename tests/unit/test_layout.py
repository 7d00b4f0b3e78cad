"""Unit tests lie where the code lies that they test."""

from pathlib import Path

UNIT = Path(__file__).parent
PROGRAM = UNIT.parents[1] / "src" / "understudy"


def test_every_folder_of_unit_tests_is_a_package_of_the_program() -> None:
    folders = {test.parent.relative_to(UNIT) for test in UNIT.rglob("test_*.py")}

    assert [folder for folder in folders if not (PROGRAM / folder / "__init__.py").is_file()] == []
