"""Run the test suite on every PostgreSQL and every Python that this machine has, and say what was skipped.

Arguments go to pytest.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
UV = os.environ.get("PROCRASTINATE_UV", "uv")
DEFAULT_POSTGRES = "18"
# Those that come with the `embedded` extra; others are looked for where Debian installs them.
EMBEDDED = {"18", "16"}
POSTGRES_VERSIONS = (DEFAULT_POSTGRES, "16", "15")
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")


def main(pytest_args: list[str]) -> int:
    """Run all combinations, print one line for each, and return 1 if one of them failed."""
    report: list[tuple[str, str]] = []

    def run(label: str, environment: pathlib.Path, postgres: str) -> None:
        sys.stdout.write(f"\n=== {label} ===\n")
        sys.stdout.flush()
        command = [environment / "bin" / "pytest", "-n", "3", *pytest_args]
        env = {**os.environ, "PROCRASTINATE_TEST_PG": postgres}
        if postgres == DEFAULT_POSTGRES:
            del env["PROCRASTINATE_TEST_PG"]
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        report.append((label, "passed" if code == 0 else f"FAILED (exit code {code})"))

    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for postgres in POSTGRES_VERSIONS:
        label = f"Python {here}, PostgreSQL {postgres}"
        if postgres in EMBEDDED or pathlib.Path(f"/usr/lib/postgresql/{postgres}/bin/postgres").exists():
            run(label, ROOT / ".venv", postgres)
        else:
            report.append((label, f"skipped: no /usr/lib/postgresql/{postgres}"))

    for version in PYTHON_VERSIONS:
        if version == here:
            continue
        label = f"Python {version}, PostgreSQL {DEFAULT_POSTGRES}"
        interpreter = find_python(version)
        if interpreter is None:
            report.append((label, f"skipped: no python{version}"))
        elif not sync(environment := ROOT / f".venv-{version}", interpreter):
            report.append((label, "FAILED (could not be installed)"))
        else:
            run(label, environment, DEFAULT_POSTGRES)

    sys.stdout.write("\n" + "".join(f"{label}: {outcome}\n" for label, outcome in report))
    return int(any(outcome.startswith("FAILED") for _, outcome in report))


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of this version: on the PATH, or installed by pyenv."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    for candidate in (f"python{version}", *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python3")))):
        try:
            # A shim of pyenv is there also for versions that it refuses to run: only running it tells.
            answer = subprocess.run(
                [candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return answer.stdout.strip()
    return None


def sync(environment: pathlib.Path, interpreter: str) -> bool:
    """Install the locked dependencies for this interpreter into `environment`."""
    command = [UV, "sync", "--locked", "--all-extras", "--all-groups", "--python", interpreter]
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment)}
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
