"""A checkpoint of transformer-sequential, and the checkpoint of ours that computes the same."""

import os
import pickle
import re

import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

import fairseq_feedback.plugin  # noqa: F401
from fairseq_feedback.checkpoints import saving
from fairseq_feedback.checkpoints.verify import damage
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tasks.feedback_lm import FeedbackLMTask
from fairseq_feedback.tools.files import whole

NO_PROBABILITY = -1e4  # an output bias: float16 holds it, and a loss with it stays finite
MIX, POSITIONS, RATIO = "single_memory_attn_params", "attn.attn.key_pe", "attn.attn.adaptive_span.mask.size_ratio"
BUFFERS = {"single_memory_attn_buf", "layers.0.attn.attn.adaptive_span.mask.mask_template"}
# Names of weights: ours and theirs.
SYMBOLS = {"embed_tokens.weight": "in_emb.weight", "output_projection.weight": "out.out_emb.weight"}
SYMBOLS["output_bias"] = "out.out_emb.bias"
LAYER = {"self_attn.q_proj": "attn.proj_query", "self_attn.out_proj": "attn.proj_out", "self_attn_layer_norm": "norm1"}
LAYER.update({"fc1": "ff.fc1", "fc2": "ff.fc2", "final_layer_norm": "norm2"})
SHARED = {"memory.k_proj": "attn.proj_key", "memory.v_proj": "attn.proj_val"}
UNSHARED = {"self_attn.k_proj": "attn.proj_key", "self_attn.v_proj": "attn.proj_val"}
# Of pre-norm models: the norms of the memory.
SHARED_NORM, UNSHARED_NORM = {"memory.layer_norm": "norm1"}, {"self_attn.memory_layer_norm": "norm1"}


def bring_over(args):
    """Write --dict and --output -> the options that train such a model."""
    theirs = Theirs(args.checkpoint)
    dictionary, rows = read_vocabulary(args.vocabulary, theirs.symbols, args.eos)
    flags = [str(flag) for flag in model_flags(theirs, args)]
    words = [os.path.dirname(os.path.abspath(args.dict)), *flags]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))
    model = FeedbackLMTask(cfg.task, dictionary).build_model(cfg.model)
    fill(model.state_dict(), theirs, rows)
    if theirs.pre_norm:
        print(
            "their code norms the memory of the block before twice, which is not in the paper's equations: from the "
            "second block on its scores differ a little from those of the imported model"
        )
    save(model, cfg, dictionary, args)
    return flags


class Theirs:
    """A checkpoint of theirs: weights by name, sizes, and the options that may be saved with them."""

    def __init__(self, path):
        self.path = path
        state = load(path)
        weights = state.get("model") if isinstance(state, dict) else None
        if not isinstance(weights, dict) or not all(torch.is_tensor(w) for w in weights.values()):
            raise FeedbackError(f"--checkpoint {path} is not a checkpoint of transformer-sequential")
        self.weights = {name[7:] if name.startswith("module.") else name: w for name, w in weights.items()}
        if MIX not in self.weights:
            raise FeedbackError(f"--checkpoint {path} is not of a feedback model (no {MIX})")
        self.pre_norm = "out_norm.weight" in self.weights
        args = state.get("args") or {}
        self.args = args if isinstance(args, dict) else vars(args)
        self.measure()

    def measure(self):
        self.symbols, self.width = self.get("in_emb.weight", None, None).shape
        self.layers = self.get(MIX, 1, None).size(1) - 1
        _, self.head_dim, self.span = self.get("layers.0." + POSITIONS, 1, None, None).shape
        self.heads = self.get("layers.0.attn.proj_query.weight", None, self.width).size(0) // self.head_dim
        self.ffn = self.get("layers.0.ff.fc1.weight", None, self.width).size(0)
        self.adaptive = any(name.endswith(RATIO) for name in self.weights)
        names = ["attn.proj_key.weight", "attn.proj_val.weight"]
        names += ["norm1.weight", "norm1.bias"] if self.pre_norm else []
        self.shared = all(self.same_in_all_layers(name) for name in names)
        if not self.same_in_all_layers(POSITIONS):
            raise self.unexpected("layers.*." + POSITIONS)
        found = dict(feedback=True, pre_norm=self.pre_norm, vocab_sz=self.symbols, hid_sz=self.width)
        found.update(nlayers=self.layers, nheads=self.heads, inner_hid_sz=self.ffn)
        found.update(attn_lim=self.span, adapt_span=self.adaptive)
        if self.args.get("head_dim"):  # 0: follows from the others
            found["head_dim"] = self.head_dim
        if self.args.get("share_proj_kv"):  # without it, layers may still be the same
            found["share_proj_kv"] = self.shared
        for name, value in found.items():
            if self.args.get(name, value) != value:
                raise FeedbackError(
                    f"--checkpoint {self.path} contradicts itself: --{name.replace('_', '-')} is {self.args[name]} in "
                    f"its args, {value} in its weights"
                )

    def get(self, name, *shape):
        """A weight of that shape; None is any size."""
        weight = self.weights.get(name)
        if weight is not None and weight.dim() == len(shape) and 0 not in weight.shape:
            if all(size in (None, found) for size, found in zip(shape, weight.shape)):
                return weight
        raise self.unexpected(name)

    def same_in_all_layers(self, name):
        weights = [self.weights.get(f"layers.{i}.{name}") for i in range(self.layers)]
        return all(w is not None and torch.equal(w, weights[0]) for w in weights)

    def unexpected(self, name):
        found = tuple(self.weights[name].shape) if name in self.weights else "missing or not the same in all layers"
        return FeedbackError(f"--checkpoint {self.path} is damaged or of another model: {name} is {found}")


def load(path):
    if not os.path.isfile(path):
        raise FeedbackError(f"--checkpoint {path} is not a file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise  # not the content's fault
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds something that is not weights or plain settings"
        raise FeedbackError(f"--checkpoint {path} was not loaded, and nothing in it was run: {reason}") from error
    except Exception as error:  # torch meets damage with nearly every kind there is
        raise FeedbackError(f"--checkpoint {path} is damaged or incomplete: copy it again") from error


def read_vocabulary(path, size, eos):
    """Our dictionary, and for each of their symbols its number there."""
    try:
        with open(path, encoding="utf-8") as f:
            symbols = f.read().rstrip("\n").split("\n")
    except (OSError, UnicodeError) as error:
        raise FeedbackError(f"--vocabulary {path} cannot be read: {error}") from error
    if len(symbols) != size:
        raise FeedbackError(f"--vocabulary {path} has {len(symbols)} symbols, the checkpoint has {size}")
    if eos is not None and eos not in symbols:
        raise FeedbackError(f"--eos {eos}: --vocabulary {path} has no such symbol")
    dictionary, lines = Dictionary(), {}
    for line, symbol in enumerate(symbols, start=1):
        row = dictionary.add_symbol(dictionary.eos_word if symbol == (eos or "<eos>") else symbol)
        problem = f"is the same as that of line {lines[row]}" if row in lines else None
        problem = "would be padding for fairseq: give it another name" if row == dictionary.pad() else problem
        problem = "is empty or has white space in it (see --help)" if symbol.split() != [symbol] else problem
        if problem:
            raise FeedbackError(f"--vocabulary {path}, line {line}: the symbol {symbol!r} {problem}")
        lines[row] = line
    if dictionary.eos() not in lines:
        print("no symbol ends a line (see --eos): every </s> of a text will cost 14427 bits")
    return dictionary, torch.tensor(list(lines))


def model_flags(theirs, args):
    """The options that train such a model."""
    dropout = theirs.args.get("dropout", 0.2) if args.dropout is None else args.dropout
    if not 0 <= dropout < 1:
        raise FeedbackError(f"--dropout {dropout}: give a probability, at least 0 and below 1")
    flags = ["--task", "feedback_lm", "--criterion", "feedback_lm_loss", "--arch", "feedback_transformer_lm"]
    flags += ["--decoder-layers", theirs.layers, "--decoder-embed-dim", theirs.width]
    flags += ["--decoder-attention-heads", theirs.heads, "--decoder-head-dim", theirs.head_dim]
    flags += ["--decoder-ffn-embed-dim", theirs.ffn, "--memory-span", theirs.span]
    flags += ["--attention-dropout", dropout, "--activation-dropout", dropout]
    flags += ["--no-scale-embedding", "--output-bias"] + ([] if theirs.shared else ["--unshared-memory-kv"])
    flags += [] if theirs.pre_norm else ["--decoder-post-norm"]
    if theirs.adaptive:
        return flags + ["--adaptive-span", "--adaptive-span-ramp", ramp(theirs, args.adaptive_span_ramp)]
    if args.adaptive_span_ramp is not None:
        raise FeedbackError("--adaptive-span-ramp: the checkpoint has no adaptive spans, leave it out")
    return flags


def ramp(theirs, given):
    saved = theirs.args.get("adapt_span_len", given)
    if saved is None:
        print("--adaptive-span-ramp 32 is a guess: the checkpoint does not say what --adapt-span-len was")
        return 32
    if given not in (None, saved):
        raise FeedbackError(f"--adaptive-span-ramp {given}: the checkpoint says {saved:g}, leave it out")
    if saved < 1 or saved != int(saved):
        raise FeedbackError(f"--adaptive-span-ramp {saved:g}: ramps here are whole numbers of steps, at least 1")
    return int(saved)


def fill(ours, theirs, rows):
    """Write their weights into ours. Biases that they do not have are zeros."""
    sources, memory = dict(SYMBOLS), dict(SHARED if theirs.shared else UNSHARED)
    if theirs.pre_norm:
        sources.update({"layer_norm.weight": "out_norm.weight", "layer_norm.bias": "out_norm.bias"})
        memory.update(SHARED_NORM if theirs.shared else UNSHARED_NORM)
    for i in reversed(range(theirs.layers)):  # what is shared: from the first
        for new, old in {**LAYER, **memory}.items():
            new = new if new.startswith("memory.") else f"layers.{i}.{new}"
            for part in ("weight",) if new.endswith("_proj") else ("weight", "bias"):
                sources[f"{new}.{part}"] = f"layers.{i}.{old}.{part}"
    used = {MIX, "layers.0." + POSITIONS, "layers.0." + RATIO, *BUFFERS, *sources.values()}
    for name in theirs.weights:
        first = re.sub(r"^layers\.(\d+)\.", lambda m: "layers.0." if int(m[1]) < theirs.layers else m[0], name)
        if first not in used:
            raise FeedbackError(f"--checkpoint {theirs.path} is of another model: there is no place for {name}")
    for name in ours:
        if name.endswith("_proj.bias"):
            ours[name].zero_()
    for name, source in sources.items():
        weight = ours["decoder." + name]
        if name in SYMBOLS:
            weight.fill_(NO_PROBABILITY if weight.dim() == 1 else 0.0)
            weight.index_copy_(0, rows, theirs.get(source, len(rows), *weight.shape[1:]).float())
        else:
            weight.copy_(theirs.get(source, *weight.shape))
    ours["decoder.memory.layer_weights"].copy_(theirs.weights[MIX][0])
    ours["decoder.memory.positions"].copy_(theirs.weights["layers.0." + POSITIONS][0].t())
    for i in range(theirs.layers if theirs.adaptive else 0):
        ratios = theirs.weights.get(f"layers.{i}.{RATIO}")
        if ratios is None or ratios.numel() not in (1, theirs.heads):  # 1: --adapt-span-layer
            raise theirs.unexpected(f"layers.{i}.{RATIO}")
        ours["decoder.memory.adaptive_span.ratios"][i] = ratios.view(-1)


def save(model, cfg, dictionary, args):
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    state = {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": model.state_dict(),
        "optimizer_history": [history],
        "last_optimizer_state": None,
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "task_state": {},
    }
    with saving.said_by_the_disk(args.output), whole(args.output, "wb", damage) as weights, whole(args.dict) as words:
        dictionary.save(words)
        torch.save(state, weights)
