"""What a checkpoint of fairseq says about its model, without building it."""

import argparse
import re

PARTS = {  # the first that matches
    "embeddings": r"(encoder|decoder)\.(embed_|layernorm_embedding|project_in_dim)",
    "encoder": r"encoder\.",
    "memory": r"decoder\.memory\.",
    "cross-attention": r"decoder\.layers\.\d+\.encoder_attn",
    "decoder layers": r"decoder\.layers\.",
    "output": r"decoder\.(output_|adaptive_softmax|project_out_dim|layer_norm)",
    "other": "",
}
UNSHARED_MEMORY = re.compile(r"decoder\.layers\.\d+\.self_attn\.(k_proj|v_proj|memory_layer_norm)\.")
# The second pattern: copies that fairseq 0.12.2 makes of the encoder's weights when it loads a checkpoint.
NO_PARAMETER = re.compile(
    r"(version|_float_tensor|num_batches_tracked|running_(mean|var))$"
    r"|^encoder\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$"
)
MIX = "decoder.memory.layer_weights"


def is_parameter(name):
    return not NO_PARAMETER.search(name)


def parts(weights):
    """Parameters of each part, and {name: the name of the one that it is} of those that are shared."""
    counts, shared = {}, shared_with(weights)
    for name, weight in weights.items():
        if name in shared or not is_parameter(name):
            continue
        part = next(part for part, pattern in PARTS.items() if re.match(pattern, name))
        if MIX in weights and UNSHARED_MEMORY.match(name):
            part = "memory"
        counts[part] = counts.get(part, 0) + weight.numel()
    return {part: counts[part] for part in PARTS if part in counts}, shared


def shared_with(weights):
    """Copies count as shared, too: averaged checkpoints, and those of a GPU, hold embeddings and output apart."""
    import torch

    shared, first = {}, {}
    for name, weight in weights.items():
        if weight.dim() != 2 or not re.search("embed|output|adaptive", name):
            continue
        alike = first.setdefault((weight.shape, weight.dtype), [])
        same = next((other for other in alike if torch.equal(weights[other], weight)), None)
        if same is None:
            alike.append(name)
        else:
            shared[name] = same
    return shared


def mix(weights):
    """The learned shares of the embedding and of each layer in a memory vector that all read; None without those."""
    return weights[MIX].float().softmax(dim=0).tolist() if MIX in weights and weights[MIX].dim() == 1 else None


def has_memory(weights, model):
    return MIX in weights or "memory_composition" in model


def spans(weights):
    """The learned span of each layer's heads, in steps; None for a model whose spans are fixed."""
    ratios = weights.get("decoder.memory.adaptive_span.ratios")
    if ratios is None:
        return None
    return (ratios.float().clamp(0, 1) * len(weights["decoder.memory.positions"])).tolist()


def plain(options):
    """A part of the settings as a dictionary: fairseq has them of omegaconf, or as a namespace."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(options):
        return OmegaConf.to_container(options, resolve=True, enum_to_str=True)
    return dict(options if isinstance(options, dict) else vars(options or argparse.Namespace()))


def changed_options(options):
    """[(option, value, default)] of a model that are not as its architecture has them; None: that is not known here.

    An option that follows another one, as the decoder's width follows the encoder's, counts only if it does not.
    """
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY

    architecture = options.get("_name") or options.get("arch")
    if architecture not in ARCH_MODEL_REGISTRY:
        return None
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS, allow_abbrev=False, add_help=False)
    ARCH_MODEL_REGISTRY[architecture].add_args(parser)
    names = {action.dest for action in parser._actions}
    kind = MODEL_DATACLASS_REGISTRY.get(ARCH_MODEL_NAME_REGISTRY[architecture])
    defaults = {**(vars(kind()) if kind else {}), **vars(parser.parse_args([]))}
    changed = []
    for name, value in options.items():
        if name not in names or value is None:
            continue
        others = {n: v for n, v in options.items() if n != name and v is not None}
        completed = {**defaults, **_completed(architecture, others)}
        default = completed.get(name, value)
        if value != default and str(value) != str(default) and (value or default):
            changed.append((name, value, default))
    return changed


def _completed(architecture, options):
    """Options with what the architecture adds to them."""
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    from fairseq_feedback.models import feedback_transformer, feedback_transformer_lm

    args = argparse.Namespace(**options)
    for ours in (feedback_transformer, feedback_transformer_lm):
        if ARCH_MODEL_REGISTRY[architecture].__module__ == ours.__name__:
            ours.complete_architecture(args, architecture)
            return vars(args)
    ARCH_CONFIG_REGISTRY[architecture](args)
    return vars(args)
