"""Whether every pinned package that ships has a wheel for each system.

    python tools/wheels.py     (`make wheels` gives it an environment of its own)

Downloads the wheels of `requirements.lock`, and of the extra [builtin], for Windows, macOS and
Linux with `pip download --platform`, for the oldest and the newest Python. Ends with 1 when one is
missing. Needs the network.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.14")
SYSTEMS = {
    "Windows (win_amd64)": ("win32", "Windows", "AMD64", ["win_amd64"]),
    "macOS (arm64)": ("darwin", "Darwin", "arm64", ["macosx_14_0_arm64"]),
    "Linux (manylinux, x86_64)": (
        "linux",
        "Linux",
        "x86_64",
        [f"manylinux_2_{minor}_x86_64" for minor in range(34, 4, -1)] + ["manylinux2014_x86_64"],
    ),
}


def pinned() -> list[Requirement]:
    """The lines of `requirements.lock`, and the extra [builtin] as `constraints.txt` pins it."""
    text = re.sub(r"\s*\\\n\s+--hash=\S+", "", (ROOT / "requirements.lock").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        Requirement(line).name.lower().replace("_", "-"): line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extra = [
        pins[Requirement(one).name.lower().replace("_", "-")]
        for one in project["optional-dependencies"]["builtin"]
    ]
    return [Requirement(line) for line in (*lines, *extra)]


def needed(python: str, system: str, name: str, machine: str) -> list[str]:
    """What is installed on that system, as `name==version`."""
    environment = {
        "sys_platform": system,
        "platform_system": name,
        "platform_machine": machine,
        "os_name": "nt" if system == "win32" else "posix",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }

    def applies(marker: Marker | None) -> bool:
        return marker is None or marker.evaluate(environment)

    return [f"{one.name}{one.specifier}" for one in pinned() if applies(one.marker)]


def download(folder: Path, python: str, platforms: list[str], packages: list[str]) -> str:
    """Download wheels into `folder`; returns pip's error, empty when all were there."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--implementation", "cp", "--python-version", python]
    for platform in platforms:
        command += ["--platform", platform]
    done = subprocess.run([*command, *packages], check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr


def main() -> int:
    missing = 0
    for label, (system, name, machine, platforms) in SYSTEMS.items():
        for python in PYTHONS:
            packages = needed(python, system, name, machine)
            with tempfile.TemporaryDirectory() as folder:
                absent = []
                if download(Path(folder), python, platforms, packages):
                    # One by one, to name every package that has none.
                    absent = [
                        one for one in packages if download(Path(folder), python, platforms, [one])
                    ]
                size = sum(file.stat().st_size for file in Path(folder).iterdir())
            missing += len(absent)
            verdict = f"missing: {', '.join(absent)}" if absent else "all there"
            count = f"{len(packages)} packages, {size / 1e6:.0f} MB"
            print(f"{label}, Python {python}: {count}: {verdict}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
