"""What tests/typing promises to type checkers also runs."""

import pathlib
import subprocess
import sys

SAMPLES = pathlib.Path(__file__).parents[1] / "typing"


def test_right_uses_run():
    command = [sys.executable, "-W", "error", str(SAMPLES / "right_uses.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert result.returncode == 0, result.stderr


def test_every_wrong_use_is_expected_of_both_checkers():
    text = (SAMPLES / "wrong_uses.py").read_text()
    assert text.count("# type: ignore[") == text.count("# pyright: ignore[") > 30
