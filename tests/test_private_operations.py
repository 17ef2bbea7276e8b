"""A torch without the operations that it does not promise to keep."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.core

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

HIDE = """
import torch, fairseq
HIDDEN = {"_embedding_bag_forward_only", "_softmax_backward_data", "_linear_pointwise", "_reorder_linear_weight",
          "_is_mkldnn_bf16_supported", "linear_prepack", "qlinear_prepack"}
for library in (torch.ops.aten, torch.ops.mkldnn, torch.ops.quantized, torch.ops.onednn):
    for name in HIDDEN & set(vars(library)):
        delattr(library, name)
find = torch._ops._OpNamespace.__getattr__

def hidden(self, name):
    if name in HIDDEN:
        raise AttributeError(name)
    return find(self, name)

torch._ops._OpNamespace.__getattr__ = hidden
"""

WORK = """
import sys
sys.path.insert(0, "tests")
from helpers import make_batch, make_dictionary, make_model
words = make_dictionary()
src, lengths, prev = make_batch(words, ragged=False)
sums = []
for dtype in ("float", "bfloat16"):
    model = getattr(make_model(dictionary=words, dropout=0.0), dtype)()
    output, _ = model.train()(src, lengths, prev)
    output.float().square().sum().backward()
    gradient = sum(float(p.grad.float().norm()) for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        model.eval()
        whole, state = model.encoder(src, lengths), {}
        for t in range(1, 5):
            step, _ = model.decoder(prev[:, :t], encoder_out=whole, incremental_state=state)
    sums += [gradient, float(step.float().norm())]
print(*sums)
"""

INT8 = """
try:
    model.decode_in_int8()
except ValueError as error:
    print(error)
"""


def run(*parts, **environment):
    command = [sys.executable, "-c", "\n".join(parts)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_training_and_decoding_fall_back():
    hidden = run(HIDE, WORK, INT8, FEEDBACK_NATIVE="0")
    usual = run("import torch", WORK)
    for got, want, tolerance in zip(hidden[0].split(), usual[0].split(), (1e-4, 1e-4, 0.05, 0.05)):
        assert float(got) == pytest.approx(float(want), rel=tolerance)
    assert hidden[1].startswith("--decode-int8: torch ") and hidden[1].endswith("no products of 8 bits: leave it out")
