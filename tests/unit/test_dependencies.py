"""What is installed is what is pinned, and may be used: no network is asked.

What the index and a vulnerability service know besides is `make audit`'s to find out.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageMetadata, distribution, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([^\s=]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}
WANTED = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
FOR_WORK = [Requirement(text) for text in PROJECT["dependency-groups"]["dev"]]
FREE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public License|CNRI|Zlib|CC0",
    re.IGNORECASE,
)
BINDING = re.compile(r"\b(A?GPL|LGPL|SSPL|BUSL|Commons Clause|Non-?Commercial)", re.IGNORECASE)


def needed(wanted: Iterable[Requirement]) -> Iterator[NormalizedName]:
    """The names of everything that comes with these requirements, they themselves included."""
    seen: set[tuple[NormalizedName, frozenset[str]]] = set()
    open_ends = list(wanted)
    while open_ends:
        requirement = open_ends.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        yield name
        for text in distribution(name).requires or ():
            further = Requirement(text)
            extras = requirement.extras or {""}
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                open_ends.append(further)


def licence(of: PackageMetadata) -> str:
    classifiers = [c for c in of.get_all("Classifier") or () if c.startswith("License")]
    told = (of.get_all("License-Expression"), classifiers, of.get_all("License"))
    return next(("; ".join(texts) for texts in told if texts), "")


@pytest.mark.slow
def test_every_package_that_is_used_has_the_version_that_is_pinned() -> None:
    names = set(needed(WANTED + FOR_WORK))
    wrong = {
        name: (distribution(name).version, PINS.get(name))
        for name in names
        if distribution(name).version != PINS.get(name)
    }

    assert len(names) > 60
    assert wrong == {}, "installed and pinned; mend constraints.txt, or run: make clean test"


def test_every_line_of_the_constraints_pins_one_version_and_names_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)
    ] == []
    assert len(PINS) == len(lines)


def test_every_package_that_ships_with_the_bot_is_free_to_be_used_so() -> None:
    licences = {name: licence(metadata(name)) for name in set(needed(WANTED))}

    assert {n: text for n, text in licences.items() if not FREE.search(text)} == {}
    assert {n: text for n, text in licences.items() if BINDING.search(text)} == {}


def test_nothing_of_a_package_runs_when_it_is_installed() -> None:
    for file in ("Makefile", "deploy/Containerfile"):
        text = (ROOT / file).read_text().replace("\\\n", " ")
        installs = [
            line
            for line in text.splitlines()
            if "pip install" in line and ("constraints" in line or "requirements" in line)
        ]

        assert installs
        assert [line for line in installs if "--only-binary=:all:" not in line] == []


def test_the_lock_has_everything_the_bot_needs_with_hashes_and_the_pinned_versions() -> None:
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    locked = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("==")
            locked[canonicalize_name(name)] = rest.split()[0]
            assert "--hash=sha256:" in rest, name
            assert "://" not in line

    backend = {Requirement(text).name for text in PROJECT["build-system"]["requires"]}
    driver = [Requirement(text) for text in PROJECT["project"]["optional-dependencies"]["postgres"]]
    assert set(needed(WANTED + driver)) | backend <= locked.keys()
    assert {name: PINS[name] for name in locked if name in PINS} == {
        name: version for name, version in locked.items() if name in PINS
    }
