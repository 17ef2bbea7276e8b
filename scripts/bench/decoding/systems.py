"""What is timed: run() decodes once, and says how many words that gave."""

import importlib.util
import tempfile
from argparse import Namespace

import numpy as np
import torch
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks.language_modeling import LanguageModelingTask
from fairseq.tasks.translation import TranslationTask

import fairseq_feedback.plugin  # noqa: F401  registers our models
from common.made_up import configuration, dictionary, disturb, sentence_lengths
from decoding.cases import (
    BF16,
    CT2_INT8,
    CTRANSLATE2,
    ENGINE_INT8,
    HOST_SEARCH,
    INT8,
    TRANSFORMER,
    TRANSFORMERS,
    Generation,
)


def missing():
    """Systems that are not installed, and what is the matter."""
    if importlib.util.find_spec("ctranslate2"):
        return {}
    return {system: "is not installed (pip install '.[bench]')" for system in CTRANSLATE2}


def make(case, shape, system, threads, rows=None):
    """`rows`: of a language model; a translation's are the case's."""
    if system in CTRANSLATE2:
        return CTranslate2(case, shape, system, threads)
    return Fairseq(case, shape, system, rows)


def build(shape, system):
    """A task and a model with random weights; the encoders of all systems are the same."""
    words = dictionary(shape.vocabulary)
    cfg = configuration(flags(shape, system))
    if shape.encoder_layers:
        task = TranslationTask(cfg.task, words, words)
    else:
        task = LanguageModelingTask(cfg.task, words)
    torch.manual_seed(1)
    model = task.build_model(cfg.model)
    disturb(model, 0.1)
    if system == BF16:
        model.bfloat16()
    model.eval()
    model.prepare_for_inference_(cfg)
    return task, model


def flags(shape, system):
    feedback = system not in TRANSFORMERS
    arch = "feedback_transformer" if feedback else "transformer"
    sizes = {"embed-dim": shape.width, "ffn-embed-dim": shape.ffn, "attention-heads": shape.heads}
    command = []
    if shape.encoder_layers:
        command += ["--arch", arch, "--source-lang", "xx", "--target-lang", "yy", "--share-all-embeddings"]
        sides = {"encoder": shape.encoder_layers, "decoder": shape.decoder_layers}
    else:
        command += ["--task", "language_modeling", "--arch", arch + "_lm", "--share-decoder-input-output-embed"]
        command += ["--tokens-per-sample", "2048"]
        command += ["--memory-span", str(shape.span)] if feedback else ["--decoder-normalize-before"]
        sides = {"decoder": shape.decoder_layers}
    for side, layers in sides.items():
        command += [f"--{side}-layers", str(layers)]
        for name, size in sizes.items():
            command += [f"--{side}-{name}", str(size)]
    return command


class Fairseq:
    """Through the task, as fairseq-generate does it."""

    def __init__(self, case, shape, system, rows=None):
        self.task, self.model = build(shape, system)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        host = SequenceGenerator if system == HOST_SEARCH else None
        options = dict(no_feedback_engine=system == TRANSFORMER, decode_int8=system in (INT8, ENGINE_INT8))
        self.work = [
            (self.task.build_generator([self.model], generation(case.beam, length, **options), host), sample, length)
            for sample, length in work(case, shape, rows)
        ]

    def run(self):
        self.hypotheses = [
            hypotheses
            for generator, sample, _ in self.work
            for hypotheses in self.task.inference_step(generator, [self.model], sample)
        ]
        self.words = sum(len(best["tokens"]) - 1 for best, *_ in self.hypotheses)

    def clear(self):
        self.hypotheses = None


def generation(beam, length, **options):
    return Namespace(beam=beam, min_len=length, max_len_a=0, max_len_b=length, **options)


class CTranslate2:
    """The transformer of the same shape, converted. It takes words, so run() includes looking them up."""

    def __init__(self, case, shape, system, threads):
        import ctranslate2  # not everybody has it

        task, model = build(shape, TRANSFORMER)
        self.parameters = sum(p.numel() for p in model.parameters())
        with tempfile.TemporaryDirectory() as folder:
            converter = _converter(shape, model, task)
            converter.convert(folder, quantization="int8" if system == CT2_INT8 else None, force=True)
            self.translator = ctranslate2.Translator(
                folder, device="cpu", compute_type="int8" if system == CT2_INT8 else "float32", intra_threads=threads
            )
        words = task.source_dictionary
        self.work = [
            ([[words[i] for i in row if i > words.eos()] for row in sample["net_input"]["src_tokens"]], length)
            for sample, length in work(case, shape)
        ]
        self.beam = case.beam

    def run(self):
        self.words = 0
        for sentences, length in self.work:
            found = self.translator.translate_batch(
                sentences, beam_size=self.beam, min_decoding_length=length, max_decoding_length=length
            )
            self.words += sum(len(f.hypotheses[0]) for f in found)

    def clear(self):
        pass


def _converter(shape, model, task):
    from ctranslate2.converters import fairseq as theirs
    from ctranslate2.converters.converter import Converter
    from ctranslate2.specs import transformer_spec

    class Built(Converter):
        """Their converter of fairseq's models, for one that is in memory."""

        def _load(self):
            model.requires_grad_(False)  # not in build(): for the others, this makes torch multiply in a slow way
            layers = (shape.encoder_layers, shape.decoder_layers)
            spec = transformer_spec.TransformerSpec.from_config(layers, shape.heads, pre_norm=False)
            theirs.set_transformer_encoder(spec.encoder, model.encoder)
            theirs.set_transformer_decoder(spec.decoder, model.decoder)
            spec.register_source_vocabulary(theirs._get_vocab(task.source_dictionary))
            spec.register_target_vocabulary(theirs._get_vocab(task.target_dictionary))
            spec.config.decoder_start_token = spec.config.eos_token
            spec.config.add_source_eos = True
            return spec

    return Built()


def work(case, shape, rows=None):
    """Batches of random words, and how long their translations are to be. `rows`: of a language model."""
    words = dictionary(shape.vocabulary)
    rng = np.random.default_rng(1)
    if isinstance(case, Generation):
        return [(batch(torch.full((rows, 1), words.eos()), words), case.tokens)]
    if not case.batches:
        return [(batch(random_words((case.sentences, case.source), rng, words), words), case.target)]
    sizes, _ = sentence_lengths(rng, 100 * case.sentences, 175)
    groups = np.sort(sizes).reshape(-1, case.sentences)
    groups = groups[[int((i + 0.5) / case.batches * len(groups)) for i in range(case.batches)]]
    made = []
    for sizes in groups:
        source = random_words((case.sentences, sizes.max()), rng, words)
        source[np.arange(sizes.max()) < (sizes.max() - sizes)[:, None]] = words.pad()
        made.append((batch(source, words), int(sizes.max())))
    return made


def random_words(shape, rng, words):
    tokens = torch.from_numpy(rng.integers(words.nspecial, len(words), shape))
    tokens[:, -1] = words.eos()
    return tokens


def batch(tokens, words):
    lengths = tokens.ne(words.pad()).sum(dim=1)
    return {"id": torch.arange(len(tokens)), "net_input": {"src_tokens": tokens, "src_lengths": lengths}}
