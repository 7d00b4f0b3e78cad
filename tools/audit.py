"""What the package index and the vulnerability service know of the pinned packages.

    python tools/audit.py     (`make audit` gives it an environment of its own with pip-audit in it)

The test suite holds what is installed against `constraints.txt` without any network; this asks
whether the index has withdrawn one of those versions, whether all come as wheels, so that nothing
of theirs runs at installation, and whether a vulnerability of one is known. Ends with 0 when all of
it was asked and nothing was found, 1 when something was, and 3 when something could not be asked:
silence of a service that is out of reach proves nothing.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINS = ROOT / "constraints.txt"
GROUPS = ("dev", "fuzz", "audit")
FOUND, NOT_ASKED = 1, 3


def resolved(report: Path) -> dict:
    """What pip would install from nothing, as wheels alone; raises CalledProcessError."""
    groups = [
        option for group in GROUPS for option in ("--group", f"{ROOT}/pyproject.toml:{group}")
    ]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--only-binary=:all:", "--report", str(report), "-c", str(PINS), str(ROOT), *groups]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return json.loads(report.read_text())


def index_says(folder: Path) -> int:
    try:
        installed = resolved(folder / "pip.json")["install"]
    except subprocess.CalledProcessError:
        print(
            "NOT ASKED: the index is out of reach, or has no wheel for one of the pinned versions."
        )
        return NOT_ASKED
    pins = dict(re.findall(r"^(\S+)==(\S+)$", PINS.read_text(), re.MULTILINE))
    known = {plain(name): version for name, version in pins.items()}
    found = []
    # pip comes with the environment.
    theirs = [p for p in installed if plain(p["metadata"]["name"]) not in ("understudy", "pip")]
    for package in theirs:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        if package["is_yanked"]:
            found.append(f"{name} {version} was withdrawn")
        if known.get(plain(name)) != version:
            found.append(f"{name} {version} is not pinned")
    print(
        "\n".join(found)
        or f"Index: {len(installed) - 1} packages, all pinned, all wheels, none withdrawn."
    )
    return FOUND if found else 0


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def vulnerabilities(folder: Path) -> int:
    report = folder / "audit.json"
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--format", "json", "--output", str(report)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if not report.is_file():
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        print(f"NOT ASKED: the vulnerability service is out of reach ({last[:150]}).")
        return NOT_ASKED
    packages = json.loads(report.read_text())["dependencies"]
    # A package that the service does not know is reported beside the others, and as no failure.
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    if found:
        print("\n".join(found))
    if skipped:
        print(f"NOT ASKED: {len(skipped)} of {len(packages)} packages are unknown to the service.")
    if not found and not skipped:
        print(f"Vulnerabilities: none known in {len(packages)} packages.")
    return FOUND if found else NOT_ASKED if skipped else 0


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        outcomes = {index_says(Path(name)), vulnerabilities(Path(name))}
    return FOUND if FOUND in outcomes else max(outcomes)


if __name__ == "__main__":
    sys.exit(main())
