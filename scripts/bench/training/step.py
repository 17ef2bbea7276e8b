"""Whole training steps, through fairseq's Trainer, on made-up sentences as long as those of IWSLT14 German-English."""

import numpy as np
import torch
from fairseq.data import LanguagePairDataset
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer

from common.made_up import configuration, dictionary, sentence_lengths
from training.cases import OWN, OWN_REFERENCE, REFERENCE, TRANSFORMER

RECIPE = """
    --task translation --source-lang de --target-lang en --share-decoder-input-output-embed
    --optimizer adam --adam-betas (0.9,0.98) --weight-decay 0.0001 --clip-norm 0
    --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000 --dropout 0.3
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1
    --no-progress-bar --disable-validation --no-save
"""


class TrainingSteps:
    """run() trains on every batch once; the batches are the same for all systems of a case."""

    note = ""

    def __init__(self, case, system, device):
        words = dictionary(case.vocabulary)
        cfg = configuration(flags(case, system, device))
        task = TranslationTask(cfg.task, words, words)
        torch.manual_seed(1)
        self.module = task.build_model(cfg.model)
        self.criterion = task.build_criterion(cfg.criterion)
        self.trainer = Trainer(cfg, task, self.module, self.criterion)
        self.batches = make_batches(case, words)
        self.words = sum(batch["ntokens"] for batch in self.batches)

    def run(self):
        for batch in self.batches:
            self.trainer.train_step([batch])

    def clear(self):
        self.trainer.zero_grad()

    def outputs_and_gradients(self):
        """Of one batch, without an update."""
        sample, _ = self.trainer._prepare_sample(self.batches[0])
        self.trainer.model.train()
        output = self.trainer.model(**sample["net_input"])
        loss, _ = self.criterion.compute_loss(self.trainer.model, output, sample)
        loss.backward()
        found = {name: p.grad for name, p in self.module.named_parameters()}
        found["outputs"] = output[0].detach()
        return found


def make(case, system, device):
    return TrainingSteps(case, system, device)


def flags(case, system, device):
    family = "transformer_" if system == TRANSFORMER else "feedback_transformer_"
    command = [*RECIPE.split(), "--arch", family + case.arch, "--max-tokens", str(case.max_tokens)]
    for name, value in case.sizes.items():
        for side in ("encoder", "decoder"):
            command += [f"--{side}-{name.replace('_', '-')}", str(value)]
    if device == "cpu":
        command.append("--cpu")
    if case.bf16:
        command.append("--bf16")
    if system != TRANSFORMER:
        command += ["--feedback-kernel", "reference" if system in (REFERENCE, OWN_REFERENCE) else "bptt"]
    if system in (OWN, OWN_REFERENCE):
        command += ["--memory-composition", "own", "--unshared-memory-kv"]
    return command


def make_batches(case, words):
    """Of the batches that fairseq makes of a corpus, some from the shortest to the longest, evenly spaced.

    Which words they are makes no difference to the work of a step: they are uniformly random.
    """
    rng = np.random.default_rng(1)
    corpus = 4 * case.max_tokens  # sentences: about a hundred batches
    longest = min(175, case.max_tokens // 2)
    target_sizes, source_sizes = sentence_lengths(rng, corpus, longest)

    def sentences(sizes):
        made = [torch.from_numpy(rng.integers(words.nspecial, len(words), n)) for n in sizes]
        for sentence in made:
            sentence[-1] = words.eos()
        return made

    data = LanguagePairDataset(
        sentences(source_sizes), source_sizes, words, sentences(target_sizes), target_sizes, words, shuffle=False
    )
    groups = data.batch_by_size(data.ordered_indices(), max_tokens=case.max_tokens, required_batch_size_multiple=8)
    spaced = [groups[int((i + 0.5) / case.batches * len(groups))] for i in range(case.batches)]
    return [data.collater([data[i] for i in group]) for group in spaced]
