"""The same translations by the command fairseq-generate, and its own clock."""

import os
import subprocess
import sys
import tempfile

import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from omegaconf import OmegaConf

import fairseq_feedback
from common.made_up import configuration, dictionary
from common.report import row
from decoding import systems
from decoding.cases import BF16, ENGINE_INT8, FEEDBACK, INT8, TRANSFORMER, TRANSFORMERS
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import generated

PACKAGE = os.path.dirname(os.path.abspath(fairseq_feedback.__file__))
BATCHES = 4  # of the case's sentences: the first one also packs the weights
FLAGS = {BF16: ["--bf16"], INT8: ["--decode-int8"]}
FLAGS.update({TRANSFORMER: ["--no-feedback-engine"], ENGINE_INT8: ["--decode-int8"]})


def run(case, repeats, threads, say):
    """Rows of the report, from checkpoints and data on the disk."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        made = {(s, shape): write(folder, case, shape, s) for shape in case.shapes for s in case.systems}
        seconds = {key: [] for key in made}
        for repeat in range(repeats):
            for (system, shape), paths in made.items():
                taken = generate(*paths, case, system, threads)
                seconds[system, shape].append(taken)
                say(f"  {repeat + 1}/{repeats} {system} {shape.name}: {taken:.2f} s")
    for system, shape in made:
        words = BATCHES * case.sentences * case.target
        rows.append(row(case.name, system, words, seconds=seconds[system, shape], shape=shape.name, rows=None))
    return rows


def write(folder, case, shape, system):
    """A checkpoint with random weights, and a test set of random words: their paths."""
    family = TRANSFORMER if system in TRANSFORMERS else FEEDBACK
    data = os.path.join(folder, f"data-{shape.vocabulary}")
    checkpoint = os.path.join(folder, f"{family}-{shape.name}.pt")
    if not os.path.exists(checkpoint):
        _, model = systems.build(shape, family)
        cfg = configuration(systems.flags(shape, family))
        history = dict(criterion_name="", optimizer_name="", lr_scheduler_state={}, num_updates=0)
        state = dict(args=None, cfg=OmegaConf.to_container(cfg), model=model.state_dict())
        state.update(optimizer_history=[history], extra_state={}, last_optimizer_state=None)
        torch.save(state, checkpoint)
    if not os.path.isdir(data):
        os.mkdir(data)
        words = dictionary(shape.vocabulary)
        ((sample, _),) = systems.work(case, shape)
        for side in ("xx", "yy"):
            words.save(os.path.join(data, f"dict.{side}.txt"))
            prefix = os.path.join(data, f"test.xx-yy.{side}")
            builder = MMapIndexedDatasetBuilder(prefix + ".bin")
            for sentence in sample["net_input"]["src_tokens"].repeat(BATCHES, 1):
                builder.add_item(sentence)
            builder.finalize(prefix + ".idx")
    return data, checkpoint


def generate(data, checkpoint, case, system, threads):
    """Seconds that fairseq-generate says it has taken for the sentences."""
    command = [sys.executable, "-m", "fairseq_cli.generate", data, "--user-dir", PACKAGE]
    command += ["--path", checkpoint, "-s", "xx", "-t", "yy", "--batch-size", str(case.sentences)]
    command += ["--beam", str(case.beam), "--min-len", str(case.target), "--max-len-b", str(case.target), "--quiet"]
    command += ["--required-batch-size-multiple", "1", "--cpu", *FLAGS.get(system, [])]
    with open(checkpoint + ".log", "w+") as log:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env).returncode
        log.seek(0)
        last = log.read().strip().split("\n")[-1]
    if code:
        raise FeedbackError(f"fairseq-generate failed: {last}")
    seconds = generated.seconds(checkpoint + ".log")
    if seconds is None:
        raise FeedbackError("fairseq-generate did not say how long it took")
    return seconds
