"""A training on a CPU keeps the memory that it frees."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from fairseq_feedback.checkpoints import begin
if {keeps}:
    begin.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.zeros(16_000_000)
before = faults()
for _ in range(10):
    torch.zeros(16_000_000)
print((faults() - before) // 10)
"""


@pytest.mark.parametrize(
    "keeps, environment, few",
    [(False, {}, False), (True, {}, True), (True, {"MALLOC_ARENA_MAX": "2"}, False)],
    ids=["glibc's own way", "kept", "decided by the user"],
)
def test_freed_memory(keeps, environment, few):
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}, **environment}
    code = CODE.format(keeps=keeps)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (int(done.stdout.split()[-1]) < 100) == few, done.stdout
