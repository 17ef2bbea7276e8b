"""A slow search that keeps no state between steps, and what the tests of generators share."""

import torch
from helpers import VARIANTS, make_batch, make_model

from fairseq_feedback.generation.generator import FeedbackGenerator

# fairseq takes the softmax in float32, and sums of its scores lose some more.
ATOL = 1e-4

# Weights with which sentences end at different times; random ones seldom do that.
SEEDS = dict(
    plain=2,
    pre_norm=3,
    span_3=2,
    unshared=2,
    unshared_pre_norm=2,
    no_cross_attention=5,
    learned_positions=5,
    one_layer=5,
    adaptive_softmax=5,
    recurrent=2,
    own_pre_norm=2,
)


def make_ending_model(dictionary, variant="plain", make=make_model, seed=None, **options):
    """A float64 model that does end sentences: with random weights <eos> is too unlikely."""
    seed = SEEDS[variant] if seed is None else seed
    model = make(dictionary=dictionary, seed=seed, **VARIANTS[variant], **options).double()
    if model.decoder.adaptive_softmax is None:
        with torch.no_grad():
            model.decoder.output_projection.weight[dictionary.eos()] *= 5
    return model


def make_sample(dictionary, rows=4, source=8, ragged=True, seed=1):
    src, lengths, _ = make_batch(dictionary, rows, source, ragged=ragged, seed=seed)
    net_input = {"src_tokens": src, "src_lengths": lengths}
    return {"id": torch.arange(rows), "net_input": net_input}


def sentences(sample):
    """The source sentences without padding, (1, S) each."""
    net_input = sample["net_input"]
    rows = zip(net_input["src_tokens"], net_input["src_lengths"])
    return [src[None, :length] for src, length in rows]


def generate(models, dictionary, sample, generator=FeedbackGenerator, inputs=None, **options):
    models = models if isinstance(models, list) else [models]
    made = generator(models, dictionary, **{"beam_size": 3, "max_len_b": 12, **options})
    return made.generate(models, sample, **(inputs or {}))


def log_probs(models, src, prev, temperature=1.0):
    """log p (B, T, V) under the mean of the models' probabilities: teacher forcing, no state."""
    models = models if isinstance(models, list) else [models]
    src = src.expand(len(prev), -1)
    lengths = torch.full((len(prev),), src.size(1))
    probs = []
    with torch.no_grad():
        for model in models:
            logits, extra = model(src, lengths, prev)
            probs.append(model.get_normalized_probs((logits / temperature, extra), log_probs=False))
    return torch.stack(probs).mean(dim=0).log()


def forced_scores(models, src, tokens, start, temperature=1.0):
    """log p of every one of these tokens."""
    prev = torch.cat([tokens.new_tensor([start]), tokens[:-1]])
    lprobs = log_probs(models, src, prev[None], temperature)[0]
    return lprobs.gather(1, tokens[:, None])[:, 0]


def assert_scores_are_forced(models, dictionary, sample, hypos, temperature=1.0, atol=ATOL):
    """A hypothesis that was given another one's past, or source, would not have these scores."""
    assert len(hypos) == len(sentences(sample))
    for src, nbest in zip(sentences(sample), hypos):
        assert len(nbest) > 0
        for hypo in nbest:
            want = forced_scores(models, src, hypo["tokens"], dictionary.eos(), temperature)
            torch.testing.assert_close(hypo["positional_scores"], want, rtol=0, atol=atol)


def search_slowly(
    models,
    dictionary,
    src,
    beam,
    max_len,
    min_len=1,
    len_penalty=1.0,
    unk_penalty=0.0,
    temperature=1.0,
    normalize_scores=True,
    start=None,
    prefix=(),
):
    """Beam search of one sentence -> (score, tokens, positional scores) of each, best first."""
    eos = dictionary.eos()
    alive = [([eos if start is None else start], [])]  # tokens, and the score of each but the first
    ended = []
    for step in range(max_len + 1):
        prev = torch.tensor([tokens for tokens, _ in alive])
        lprobs = log_probs(models, src, prev, temperature)[:, -1]
        lprobs[:, dictionary.unk()] -= unk_penalty
        candidates = []
        for (tokens, scores), row in zip(alive, lprobs.tolist()):
            for word, lprob in enumerate(row):
                if step < len(prefix):  # where it is padding, every word may follow, even the end
                    allowed = prefix[step] in (word, dictionary.pad())
                else:
                    allowed = word == eos if step == max_len else word != eos or step >= min_len
                if allowed and word != dictionary.pad():
                    candidates.append((tokens + [word], scores + [lprob]))
        candidates.sort(key=lambda c: sum(c[1]), reverse=True)
        # An end counts among the best `beam`; of what does not end, the best `beam` go on.
        ended += [c for c in candidates[:beam] if c[0][-1] == eos]
        if len(ended) >= beam or step == max_len:
            break
        alive = [c for c in candidates[: 2 * beam] if c[0][-1] != eos][:beam]
    hypos = []
    for tokens, scores in ended[:beam]:
        length = len(scores) ** len_penalty if normalize_scores else 1
        hypos.append((sum(scores) / length, tokens[1:], scores))
    return sorted(hypos, reverse=True)


def assert_found(hypos, wanted, atol=ATOL):
    assert [h["tokens"].tolist() for h in hypos] == [tokens for _, tokens, _ in wanted]
    for hypo, (score, _, scores) in zip(hypos, wanted):
        assert abs(hypo["score"].item() - score) < atol
        want = torch.tensor(scores, dtype=hypo["positional_scores"].dtype)
        torch.testing.assert_close(hypo["positional_scores"], want, rtol=0, atol=atol)


def assert_same_hypos(got, want, atol=ATOL):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert [h["tokens"].tolist() for h in a] == [h["tokens"].tolist() for h in b]
        for x, y in zip(a, b):
            for name in ("score", "positional_scores"):
                torch.testing.assert_close(x[name], y[name], rtol=0, atol=atol)


def longest(hypos):
    """The step after which each sentence left the batch."""
    return [max(len(h["tokens"]) for h in nbest) for nbest in hypos]
