"""Two runs of a script in one folder."""

import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUN = """
set -euo pipefail
source examples/common.sh
OUT=$1
begin_run "$2"
echo begun
read -r _ || true
"""

pytestmark = pytest.mark.core


def start(out, state):
    command = ["bash", "-c", RUN, "run", str(out), state]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def test_one_at_a_time(tmp_path):
    out = tmp_path / "run"
    first = start(out, "1")
    assert first.stdout.readline() == "begun\n"
    (out / "made").write_text("of the first")
    said, error = start(out, "2").communicate()
    assert said == "" and f"--out {out}: another run writes there. Wait for it, or give another folder" in error
    assert (out / "made").read_text() == "of the first"
    first.kill()
    first.communicate()
    assert start(out, "1").communicate() == ("begun\n", "") and (out / "made").exists()
    for number in (1, 2):  # of another state
        said, error = start(out, f"other {number}").communicate()
        assert said == "begun\n" and f"is in {out}.before-{number} now" in error and not (out / "made").exists()
        assert sorted(os.listdir(tmp_path)) == ["run", *(f"run.before-{n}" for n in range(1, number + 1))]
    assert (tmp_path / "run.before-1" / "made").read_text() == "of the first"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("important")
    assert "is not empty and not of an earlier run" in start(tmp_path / "mine", "1").communicate()[1]
    assert os.listdir(tmp_path / "mine") == ["thesis"]
