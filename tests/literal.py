"""The Feedback Transformer decoder, written out one scalar at a time: the oracle of the tests.

A transcription of section 3.3 of Fan et al. 2020, "Addressing Some Limitations of Transformers with
Feedback Memory" (arXiv:2002.09402), for one sentence, without dropout, in plain Python: a vector is
a list of floats, a matrix is a list of its rows. It shares no code with `fairseq_feedback`, so a
mistake would have to be made twice to go unseen. It is slow, and meant to be read beside the paper.

    z_t^l = Attn(x_t^l, {m_{t-tau}, ..., m_{t-1}})         first display of section 3.3   (memory)
    m_t   = sum_{l=0..L} Softmax(w^l) x_t^l                equation (1)                   (1)
    k_t   = W_k m_t,   v_t = W_v m_t                       last display of section 3.3    (shared)

Other compositions of the memory are those of figures 5 and 8, and the standard Transformer's own (section 3.1).

What the paper leaves to "the standard Transformer" follows Vaswani et al. 2017, in fairseq's
conventions. `weights` is the decoder's state dict as nested lists, without the prefix `decoder.`.
"""

import math
from typing import NamedTuple


class Config(NamedTuple):
    layers: int  # L
    heads: int
    embed_dim: int
    padding_idx: int
    normalize_before: bool = False  # True: pre-norm; False: post-norm, as in section 3.1
    unshared_memory_kv: bool = False  # True: W_k^l, W_v^l per layer; False: (shared)
    composition: str = "weighted"  # or mean, top, layer:K, recurrent, own
    memory_span: int = 0  # tau; 0 = everything
    memory_init_slots: int = 1  # zero vectors that stand before m_0
    activation: str = "relu"
    scale_embedding: bool = True
    learned_pos: bool = False
    no_positions: bool = False
    layernorm_embedding: bool = False
    cross_attention: bool = True
    final_norm: bool = True  # a norm after the last layer (only ever with pre-norm)
    relative_positions: bool = False  # vectors added to the keys, one for each distance (section 7.6)
    span_ramp: int = 0  # R of adaptive spans; 0 = none (section 7.6)


# ---------------------------------------------------------------- vectors


def dot(a, b):
    assert len(a) == len(b)
    return math.fsum(a[i] * b[i] for i in range(len(a)))


def add(a, b):
    assert len(a) == len(b)
    return [a[i] + b[i] for i in range(len(a))]


def weighted_sum(scalars, vectors):
    """sum_i scalars_i vectors_i"""
    assert len(scalars) == len(vectors)
    return [dot(scalars, [vector[c] for vector in vectors]) for c in range(len(vectors[0]))]


def softmax(scores):
    """exp(s_i) / sum_j exp(s_j), with the largest score subtracted so that no exp overflows."""
    largest = max(scores)
    exps = [math.exp(score - largest) for score in scores]
    total = math.fsum(exps)
    return [e / total for e in exps]


# ---------------------------------------------------------------- parts of the standard Transformer


def linear(weights, name, x):
    """W x + b"""
    product = [dot(row, x) for row in weights[name + ".weight"]]
    return add(product, weights[name + ".bias"])


def layer_norm(x, gain, bias, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) * gain + bias   (Ba et al. 2016, equations 3 and 4)"""
    mean = math.fsum(x) / len(x)
    variance = math.fsum((value - mean) ** 2 for value in x) / len(x)
    std = math.sqrt(variance + eps)
    return [(x[c] - mean) / std * gain[c] + bias[c] for c in range(len(x))]


def norm(weights, name, x):
    return layer_norm(x, weights[name + ".weight"], weights[name + ".bias"])


def attention(query, keys, values, heads, positions=None, masks=None):
    """softmax(q k^T / sqrt(d)) v in each head, heads concatenated (Vaswani et al. 2017, 3.2).

    positions: one for each key, added to that part of it which a head sees. masks: factors of the weights, for each
    head one for each key.
    """
    d = len(query) // heads
    output = []
    for head, weights in enumerate(attention_weights(query, keys, heads, positions, masks)):
        output += weighted_sum(weights, [value[head * d : (head + 1) * d] for value in values])
    return output


def attention_weights(query, keys, heads, positions, masks):
    """Of each head, one for each key."""
    d = len(query) // heads
    found = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        seen = [key[part] for key in keys]
        if positions is not None:
            seen = [add(seen[j], positions[j]) for j in range(len(seen))]
        weights = softmax([dot(query[part], key) / math.sqrt(d) for key in seen])
        if masks is not None:
            masked = [weights[j] * masks[head][j] for j in range(len(weights))]
            weights = [w / math.fsum(masked) for w in masked]
        found.append(weights)
    return found


def activate(name, x):
    if name == "relu":
        return max(x, 0.0)
    if name == "gelu":  # x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016)
        return x * 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))
    if name == "tanh":
        return math.tanh(x)
    if name == "linear":
        return x
    raise ValueError(name)


def feed_forward(weights, cfg, layer, x):
    """W_2 activation(W_1 x + b_1) + b_2   (Vaswani et al. 2017, equation 2)"""
    hidden = linear(weights, layer + ".fc1", x)
    hidden = [activate(cfg.activation, h) for h in hidden]
    return linear(weights, layer + ".fc2", hidden)


def sinusoid(position, dim):
    """All the sines, then all the cosines: fairseq's order, and its `half - 1` in the exponent.

    PE(p, i) = sin(p / 10000^(i / (half - 1))) for i < half; then the same with cos; an odd dim
    ends with a zero. (Vaswani et al. 2017, 3.5, interleave the two and divide by half.)
    """
    half = dim // 2
    angles = [position * math.exp(-i * math.log(10000.0) / (half - 1)) for i in range(half)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (dim % 2)


def embed(weights, cfg, token, t):
    """x_t^0: the embedded input ("l = 0 corresponds to token embeddings", below equation (1))."""
    scale = math.sqrt(cfg.embed_dim) if cfg.scale_embedding else 1.0
    x = [scale * value for value in weights["embed_tokens.weight"][token]]
    if not cfg.no_positions:
        position = cfg.padding_idx + 1 + t  # fairseq's numbering
        if cfg.learned_pos:
            x = add(x, weights["embed_positions.weight"][position])
        else:
            x = add(x, sinusoid(position, cfg.embed_dim))
    if cfg.layernorm_embedding:
        x = norm(weights, "layernorm_embedding", x)
    return x


# ---------------------------------------------------------------- the Feedback Transformer


def mix(layer_weights, states):
    """m_t = sum_{l=0..L} Softmax(w^l) x_t^l   (1)"""
    return weighted_sum(softmax(layer_weights), states)


def memory_vector(weights, cfg, l, states):  # noqa: E741  the paper's letter
    """What layer l = 1 ... L reads of a past step whose x_t^0, ..., x_t^L these are."""
    if cfg.composition == "weighted":  # the same for every layer, as the next three
        return mix(weights["memory.layer_weights"], states)
    if cfg.composition == "mean":  # "the average of all layers is used" (figure 8)
        return [math.fsum(values) / len(states) for values in zip(*states)]
    if cfg.composition == "top":  # "can attend only to the topmost layer" (section 4.3.2)
        return states[-1]
    if cfg.composition.startswith("layer:"):  # "only a single layer is used as memory for all layers" (figure 8)
        return states[int(cfg.composition[6:])]
    if cfg.composition == "recurrent":  # "can access all previous layers plus the same layer" (section 4.3.2)
        return mix(weights["memory.layer_weights"][l - 1][: l + 1], states[: l + 1])
    if cfg.composition == "own":  # "its related input vector" of the past (section 3.1), counted from x^0 = x^{l-1}
        return states[l - 1]
    raise ValueError(cfg.composition)


def recent(cfg, memory):
    """{m_{t-tau}, ..., m_{t-1}}, where zero vectors stand for what lies before m_0.

    Nothing does before a standard Transformer's, and its step sees itself, as the last of the tau.
    """
    zeros = [[0.0] * cfg.embed_dim for _ in range(cfg.memory_init_slots)]
    slots = memory if cfg.composition == "own" else zeros + memory
    return slots[-cfg.memory_span :] if cfg.memory_span > 0 else slots


def memory_key_value(weights, cfg, layer, m):
    """k_t = W_k m_t and v_t = W_v m_t, the same in all layers   (shared)

    Pre-norm: m_t is normalised first; post-norm: its parts, layer outputs, already are.
    """
    if cfg.unshared_memory_kv:
        owner, norm_name = layer + ".self_attn", layer + ".self_attn.memory_layer_norm"
        if cfg.composition == "own":  # queries, keys and values are of the same normalised vector
            norm_name = layer + ".self_attn_layer_norm"
    else:
        owner, norm_name = "memory", "memory.layer_norm"
    if cfg.normalize_before:
        m = norm(weights, norm_name, m)
    return linear(weights, owner + ".k_proj", m), linear(weights, owner + ".v_proj", m)


def attend_to_memory(weights, cfg, layer, x, memory):
    """z_t^l = Attn(x_t^l, {m_{t-tau}, ..., m_{t-1}})   (memory)"""
    keys, values = [], []
    for m in recent(cfg, memory):
        key, value = memory_key_value(weights, cfg, layer, m)
        keys.append(key)
        values.append(value)
    query = linear(weights, layer + ".self_attn.q_proj", x)
    positions, masks = None, None
    if cfg.relative_positions:  # the last vector is that of distance 1, "shared ... at every layer" (7.6)
        positions = weights["memory.positions"][-len(keys) :]
    if cfg.span_ramp > 0:
        ratios = weights["memory.adaptive_span.ratios"][int(layer.split(".")[1])]
        masks = [span_mask(cfg, ratio * cfg.memory_span, len(keys)) for ratio in ratios]
    z = attention(query, keys, values, cfg.heads, positions, masks)
    return linear(weights, layer + ".self_attn.out_proj", z)


def span_mask(cfg, z, slots):
    """m_z(x) = min(max((R + z - x) / R, 0), 1), x = 0 for the newest slot (Sukhbaatar et al. 2019, equation 1)."""
    ramp = cfg.span_ramp
    return [min(max((ramp + z - x) / ramp, 0.0), 1.0) for x in range(slots - 1, -1, -1)]


def attend_to_encoder(weights, cfg, layer, x, encoder_out, encoder_padding):
    """Encoder-decoder attention, the standard Transformer's (Vaswani et al. 2017, 3.2.3)."""
    name = layer + ".encoder_attn"
    words = [encoder_out[s] for s in range(len(encoder_out)) if not encoder_padding[s]]
    keys = [linear(weights, name + ".k_proj", word) for word in words]
    values = [linear(weights, name + ".v_proj", word) for word in words]
    query = linear(weights, name + ".q_proj", x)
    return linear(weights, name + ".out_proj", attention(query, keys, values, cfg.heads))


def residual(weights, cfg, norm_name, x, sublayer, layer, *context):
    """The "add-norm operation" around a sublayer (section 3.1), or pre-norm (section 7.6)."""
    if cfg.normalize_before:
        return add(x, sublayer(weights, cfg, layer, norm(weights, norm_name, x), *context))
    return norm(weights, norm_name, add(x, sublayer(weights, cfg, layer, x, *context)))


def step(weights, cfg, x, past, encoder_out, encoder_padding):
    """All layers at one time step: from x_t^0 and the states of the steps before to [x_t^0, ..., x_t^L].

    Every layer reads the same memory, which does not hold the current step (but see memory_vector).
    """
    states = [x]
    for i in range(cfg.layers):  # fairseq's layers.{l - 1} is the paper's layer l
        layer = "layers.%d" % i
        memory = [memory_vector(weights, cfg, i + 1, of_step) for of_step in past]
        if cfg.composition == "own":
            memory.append(x)
        name = layer + ".self_attn_layer_norm"
        x = residual(weights, cfg, name, x, attend_to_memory, layer, memory)
        if cfg.cross_attention:
            name, words = layer + ".encoder_attn_layer_norm", (encoder_out, encoder_padding)
            x = residual(weights, cfg, name, x, attend_to_encoder, layer, *words)
        x = residual(weights, cfg, layer + ".final_layer_norm", x, feed_forward, layer)
        states.append(x)
    return states


def decode(weights, cfg, prev_output_tokens, encoder_out=None, encoder_padding=None):
    """One sentence, token by token ("not in parallel, but sequentially", section 3.3).

    encoder_out: S vectors; encoder_padding: S bools, True = ignore that one.
    Returns (features, logits, memory), three lists as long as prev_output_tokens: the output of the
    last layer (after the final norm if there is one), its scores over the vocabulary, and m_t (not
    the zero vectors before m_0), or where every layer has its own memory a list of L vectors. Padding,
    to the left or right, gives None and has no other effect.
    """
    length = len(prev_output_tokens)
    real = [i for i in range(length) if prev_output_tokens[i] != cfg.padding_idx]
    if real and real != list(range(real[0], real[-1] + 1)):
        raise ValueError("padding inside the sentence")

    past = []  # [x^0, ..., x^L] of every step before
    features, logits, memory_at = [None] * length, [None] * length, [None] * length
    for t, i in enumerate(real):
        x = embed(weights, cfg, prev_output_tokens[i], t)
        states = step(weights, cfg, x, past, encoder_out, encoder_padding)
        past.append(states)

        output = states[-1]
        if cfg.normalize_before and cfg.final_norm:
            output = norm(weights, "layer_norm", output)
        features[i] = output
        logits[i] = [dot(row, output) for row in weights["output_projection.weight"]]
        if "output_bias" in weights:
            logits[i] = add(logits[i], weights["output_bias"])
        of_layers = [memory_vector(weights, cfg, 1 + layer, states) for layer in range(cfg.layers)]
        memory_at[i] = of_layers if cfg.composition in ("own", "recurrent") else of_layers[0]
    return features, logits, memory_at
