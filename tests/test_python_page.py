"""The blocks of examples/PYTHON.md, in order."""

import os
import re
import subprocess
import sys

import cli
from helpers import needs_current_fairseq

pytestmark = needs_current_fairseq
PAGE = os.path.join(cli.ROOT, "examples", "PYTHON.md")


def test_the_page(tmp_path):
    data, text = cli.make_data(tmp_path), cli.make_text(tmp_path)
    cli.run("train", *cli.train_flags(data, tmp_path / "checkpoints", updates=20), log=tmp_path / "log")
    cli.run("train", *cli.train_lm_flags(text, tmp_path / "lm-checkpoints", updates=6), log=tmp_path / "log")
    os.rename(data, tmp_path / "data-bin")
    os.rename(text, tmp_path / "lm-data-bin")
    with open(PAGE, encoding="utf-8") as f:
        blocks = re.findall(r"^```python\n(.*?)^```", f.read(), re.M | re.S)
    assert len(blocks) >= 6
    env = {**os.environ, "PYTHONPATH": cli.ROOT}
    command = [sys.executable, "-c", "\n".join(blocks)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
