"""Coverage-guided fuzzing of one target: `python fuzz/run.py TARGET [-runs=N] [atheris options]`.

Needs the dependency group `fuzz`. An input that crashes is written to a file in the current
folder. A small input with new coverage goes into `fuzz/corpus/TARGET/`, a fixed bug into a test.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["understudy"]):
    from targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: run.py TARGET [options]; targets: {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    corpus = Path(__file__).parent / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    # libFuzzer writes new inputs into the first folder: not into the corpus.
    found = Path(__file__).parent / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, str(found), str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
