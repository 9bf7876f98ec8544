"""Python environments of a test's own, made once and kept in `target` while what they hold stays the same."""

import subprocess
import sys
from pathlib import Path

_FOLDER = Path(__file__).parents[3] / "target" / "test-venvs"

INSTALL_SECONDS = 600


def python_with(name: str, *packages: str) -> Path:
    """The interpreter of an environment with these packages from the package index."""
    folder = _FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join(packages)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    stamp.write_text(wanted)  # last: an installation that broke off is made again
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-1000:]} {done.stderr[-2000:]}"
