"""fairseq's commands with what this folder adds to it, and what they print."""

import os
import subprocess
import sys

from fairseq_feedback.errors import FeedbackError

USER_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "user_dir")


def command(name, *flags):
    start = [sys.executable, "-m", f"fairseq_cli.{name}", "--user-dir", USER_DIR]
    return [*start, *map(str, flags), "--num-workers", "0"]


def as_typed(command):
    """For a result's file: without Python's path and that of this folder."""
    return " ".join(command[2:]).replace(os.getcwd() + os.sep, "")


def lines(command, log, mode):
    """What a command prints, line by line, which goes into the log, too."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd() + os.pathsep + os.environ.get("PYTHONPATH", "")}
    with open(log, mode, encoding="utf-8") as f:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        )
        try:
            for line in process.stdout:
                f.write(line)
                f.flush()
                yield line
        finally:
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.terminate()
            process.wait()
    if process.returncode:
        with open(log, encoding="utf-8", errors="replace") as f:
            sys.stderr.writelines(f.readlines()[-20:])
        raise FeedbackError(f"this failed: {command[2]}. The whole output is in {log}")
