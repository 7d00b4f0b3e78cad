from pathlib import Path

from understudy.config.load import load_config, parse_config
from understudy.config.reference import (
    describe,
    example_text,
    json_schema,
    reference_markdown,
    write_first_files,
)
from understudy.config.schema import ANY, known_keys
from understudy.config.settings import Settings
from understudy.config.yaml_document import read_document

DOCS = Path(__file__).parents[3] / "docs"


def test_the_example_holds_every_key_and_no_other() -> None:
    settings = parse_config(example_text(), {}).settings
    fixed = {key for key in known_keys() if ANY not in key}

    assert fixed - set(read_document(example_text()).lines) == set()
    assert settings == Settings()


def test_every_key_is_explained() -> None:
    assert [".".join(key) for key in known_keys() if not describe(key)] == []


def test_the_published_reference_is_not_stale() -> None:
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")

    assert written == reference_markdown(), (
        "run: understudy config reference > docs/configuration.md"
    )


def test_the_schema_for_editors_describes_keys_and_allows_both_forms_of_lists() -> None:
    schema = json_schema()

    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    server = definitions["OpenRouterServer"]["properties"]
    assert server["timeout_seconds"]["description"].startswith("First-token budget")
    assert {"type": "string"} in server["fallbacks"]["anyOf"]


def test_the_first_files_load_as_the_defaults_and_never_overwrite(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("mine")

    written = write_first_files(tmp_path)

    assert [path.name for path in written] == ["config.yaml"]
    assert (tmp_path / ".env.example").read_text() == "mine"
    assert load_config(tmp_path / "config.yaml", {}).settings == Settings()
    assert write_first_files(tmp_path) == ()


def test_nothing_is_written_where_the_folder_does_not_exist(tmp_path: Path) -> None:
    assert write_first_files(tmp_path / "nowhere") == ()
