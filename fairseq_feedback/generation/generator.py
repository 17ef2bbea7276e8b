"""fairseq's generator, without the work that a feedback decoder does not need."""

import math
from typing import List, NamedTuple, Optional

import torch
from fairseq import search, utils
from fairseq.sequence_generator import EnsembleModel, SequenceGenerator
from torch import Tensor

from fairseq_feedback import native
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation.shortlist import Shortlist
from fairseq_feedback.generation.top import top
from fairseq_feedback.kernels import reference
from fairseq_feedback.models.feedback_decoder import FeedbackDecoder

NOT_FINITE = (
    "no hypothesis has a finite score: the model's output is not a number. Were its weights damaged, or too large for "
    "half precision?"
)


def has_feedback(model) -> bool:
    return isinstance(getattr(model, "decoder", None), FeedbackDecoder)


class FeedbackEnsemble(EnsembleModel):
    """Leaves the encoder's output to feedback decoders as it is: they read it once, with a row for each sentence.

    The host repeats it for every beam, and reorders that at every step.
    """

    output = None  # of a part of the vocabulary, if that is all there is to choose from

    def choose(self, words: Optional[Tensor]) -> None:
        """Score these words of the vocabulary only, or all."""
        self.output = None if words is None else self.models[0].decoder.output_of(words)

    def reorder_encoder_out(self, encoder_outs, new_order):
        if not self.has_encoder():
            return []
        stateful = self.has_incremental_states()
        return [
            out if stateful and has_feedback(model) else model.encoder.reorder_encoder_out(out, new_order)
            for model, out in zip(self.models, encoder_outs)
        ]

    def forward_decoder(self, tokens, encoder_outs, incremental_states, temperature=1.0):
        """The host's; of one model of ours, without passes over the vocabulary that change nothing."""
        model = self.models[0]
        if len(self.models) > 1 or not has_feedback(model) or model.decoder.adaptive_softmax is not None:
            return super().forward_decoder(tokens, encoder_outs, incremental_states, temperature)
        source = encoder_outs[0] if self.has_encoder() else None
        scores, extra = model.decoder(
            tokens,
            encoder_out=source,
            incremental_state=incremental_states[0],
            features_only=self.output is not None,
        )
        if self.output is not None:
            scores = reference.linear(scores, self.output)
        scores, attn = scores[:, -1], extra["attn"][0]
        if temperature != 1.0:
            scores = scores / temperature
        lprobs = native.log_softmax_(scores) if native.can_normalize(scores) else utils.log_softmax(scores, dim=-1)
        return lprobs, None if attn is None else attn[:, -1]


class Beams(NamedTuple):
    """The open hypotheses of R sentences; B = R * beam rows."""

    tokens: Tensor  # (B, longest + 2), the first is the one that begins every sentence
    scores: Tensor  # (B, longest + 1) the sums up to each step
    attn: Optional[Tensor]  # (B, S, longest + 2)


class Candidates(NamedTuple):
    """The best next steps of each sentence, twice as many as beams, the best first: (R, 2 * beam)."""

    scores: Tensor
    tokens: Tensor
    rows: Tensor  # whose hypothesis it would continue


class FeedbackGenerator(SequenceGenerator):
    """The hypotheses and scores of the host's beam search. Between equal scores it may choose another one.

    What is not plain beam search runs through the host's own loop. Under --retain-dropout, the beams of a sentence
    share the first step's dropout.
    """

    def __init__(self, models, *args, **kwargs):
        super().__init__(FeedbackEnsemble(models), *args, **kwargs)
        self.shortlist: Optional[Shortlist] = None
        self.chosen: Optional[Tensor] = None  # numbers of the words that there are to choose from; None = all
        self.aligned = False  # whether a hypothesis says which token of the source each of its tokens reads most

    def _generate(self, sample, prefix_tokens=None, constraints=None, bos_token=None):
        found = self._search(sample, prefix_tokens, constraints, bos_token)
        if self.aligned:
            for source, hypotheses in zip(sample["net_input"]["src_tokens"], found):
                before = int(source.eq(self.pad).cumprod(dim=0).sum())
                for hypothesis in hypotheses:
                    hypothesis["alignment"] = hypothesis["attention"].argmax(dim=0) - before
        return found

    def _search(self, sample, prefix_tokens, constraints, bos_token):
        net_input = sample["net_input"]
        plain = type(self.search) is search.BeamSearch and constraints is None and self.lm_model is None
        if not plain or "src_tokens" not in net_input or self.vocab_size <= 2 * self.beam_size:
            return super()._generate(sample, prefix_tokens, constraints, bos_token)

        source = net_input["src_tokens"]
        lengths = net_input.get("src_lengths")
        if lengths is None:
            lengths = (source.ne(self.eos) & source.ne(self.pad)).long().sum(dim=1)
        longest = self._longest(source, lengths)
        self._choose_words(source, prefix_tokens)
        encoder_outs = self.model.forward_encoder(net_input)
        each_beam = torch.arange(len(source), device=source.device).repeat_interleave(self.beam_size)
        encoder_outs = self.model.reorder_encoder_out(encoder_outs, each_beam)
        states = [{} for _ in self.model.models]
        beams = self._begin(source, longest, bos_token)
        finalized: List[list] = [[] for _ in source]
        finished = [False for _ in source]

        for step in range(longest + 1):
            lprobs, attn = self._decode(beams.tokens[:, : step + 1], encoder_outs, states, each_beam)
            beams = _with_attention(beams, attn, step)
            lprobs, beams = self._restrict(lprobs, beams, step, longest, prefix_tokens)
            candidates = self._candidates(lprobs, beams, step)

            # A hypothesis may end only where it is among the best `beam` candidates.
            ends = candidates.tokens.eq(self.eos) & candidates.scores.ne(-math.inf)
            ending = ends[:, : self.beam_size]
            rows = candidates.rows[:, : self.beam_size][ending]
            done: List[int] = []  # sentences that have all their hypotheses
            if len(rows) > 0:
                unfinished = [i for i, over in enumerate(finished) if not over]
                scores = candidates.scores[:, : self.beam_size][ending]
                done = self.finalize_hypos(
                    step, rows, scores, beams.tokens, beams.scores, finalized, finished, self.beam_size, beams.attn,
                    lengths, longest,
                )  # fmt: skip
                for i in self._ended_by_prefix(prefix_tokens, step):
                    if i not in done and finalized[unfinished[i]]:
                        finished[unfinished[i]] = True
                        done.append(i)
            if len(done) == len(lengths):
                break
            if step == longest:
                raise FeedbackError(NOT_FINITE)

            # The best of the others go on: there are enough, for a row ends only once among the candidates.
            rank = torch.arange(ends.size(1), device=ends.device) + ends * ends.size(1)
            chosen = rank.topk(self.beam_size, dim=1, largest=False)[1]
            if done:
                kept = torch.ones(len(lengths), dtype=torch.bool, device=chosen.device)
                kept[done] = False
                chosen, lengths = chosen[kept], lengths[kept]
                candidates = Candidates(*[x[kept] for x in candidates])
                prefix_tokens = prefix_tokens[kept] if prefix_tokens is not None else None
            candidates = Candidates(*[x.gather(1, chosen) for x in candidates])
            order = candidates.rows.flatten()
            beams = Beams(
                beams.tokens.index_select(0, order),
                beams.scores.index_select(0, order),
                beams.attn.index_select(0, order) if beams.attn is not None else None,
            )
            beams.tokens[:, step + 1] = candidates.tokens.flatten()
            beams.scores[:, step] = candidates.scores.flatten()
            self.model.reorder_incremental_state(states, order)
            encoder_outs = self.model.reorder_encoder_out(encoder_outs, order)

        return [sorted(found, key=lambda h: float(h["score"]), reverse=True) for found in finalized]

    def _choose_words(self, source: Tensor, prefix_tokens: Optional[Tensor]) -> None:
        if self.shortlist is None:
            return
        if prefix_tokens is not None or self.token_indices_to_suppress is not None:
            raise FeedbackError("--shortlist does not go with words that are prescribed or forbidden: leave it out")
        words = self.shortlist.choose(source)
        self.chosen = words if len(words) > 2 * self.beam_size else None
        self.model.choose(self.chosen)

    def _decode(self, tokens, encoder_outs, states, each_beam):
        """Log-probabilities (B, V) of the next token, and attention."""
        alike = tokens.size(1) == 1 and all(has_feedback(model) for model in self.model.models)
        if not alike:
            return self.model.forward_decoder(tokens, encoder_outs, states, self.temperature)
        # Before the first step the beams of a sentence are all equal: one stands for them.
        lprobs, attn = self.model.forward_decoder(tokens[:: self.beam_size], encoder_outs, states, self.temperature)
        self.model.reorder_incremental_state(states, each_beam)
        return lprobs[each_beam], attn[each_beam] if attn is not None else None

    def _longest(self, source: Tensor, lengths: Tensor) -> int:
        longest = min(int(self.max_len_a * source.size(1) + self.max_len_b), self.max_len - 1)
        if self.match_source_len:
            longest = int(lengths.max())
        if self.min_len > longest:
            raise FeedbackError(
                f"--min-len {self.min_len} is more than the longest output allowed here, {longest}: give less, or more "
                "--max-len-a or --max-len-b"
            )
        return longest

    def _begin(self, source: Tensor, longest: int, bos_token: Optional[int]) -> Beams:
        rows = len(source) * self.beam_size
        tokens = source.new_full((rows, longest + 2), self.pad, dtype=torch.long)
        tokens[:, 0] = self.eos if bos_token is None else bos_token
        scores = torch.zeros(rows, longest + 1, device=source.device)
        return Beams(tokens, scores, None)

    def _ended_by_prefix(self, prefix_tokens: Optional[Tensor], step: int) -> List[int]:
        """Sentences that are to end here, and so have one hypothesis alone."""
        if prefix_tokens is None or step >= prefix_tokens.size(1):
            return []
        return prefix_tokens[:, step].eq(self.eos).nonzero().flatten().tolist()

    def _restrict(self, lprobs, beams, step, longest, prefix_tokens):
        """What the options forbid, get no probability."""
        beams = beams._replace(scores=beams.scores.type_as(lprobs))
        lprobs[:, self.pad] = -math.inf
        lprobs[:, self.unk] -= self.unk_penalty
        if step >= longest:
            lprobs[:, : self.eos] = -math.inf
            lprobs[:, self.eos + 1 :] = -math.inf
        if prefix_tokens is not None and step < min(prefix_tokens.size(1), longest):
            lprobs, tokens, scores = self._prefix_tokens(
                step, lprobs, beams.scores, beams.tokens, prefix_tokens, self.beam_size
            )
            beams = beams._replace(tokens=tokens, scores=scores)
        else:
            if step < self.min_len:
                lprobs[:, self.eos] = -math.inf
            if self.token_indices_to_suppress is not None:
                lprobs[:, self.token_indices_to_suppress] = -math.inf
        if self.repeat_ngram_blocker is not None:
            sentences = len(lprobs) // self.beam_size
            lprobs = self.repeat_ngram_blocker(beams.tokens, lprobs, sentences, self.beam_size, step)
        return lprobs, beams

    def _candidates(self, lprobs: Tensor, beams: Beams, step: int) -> Candidates:
        if step == 0:  # the beams of a sentence are all equal
            lprobs = lprobs[:: self.beam_size]
        scores, tokens = top(lprobs, 2 * self.beam_size)
        if self.chosen is not None:
            tokens = self.chosen[tokens]
        scores.masked_fill_(scores.isnan(), -math.inf)  # a softmax makes them of whole rows
        if step > 0:
            scores = scores + beams.scores[:, step - 1 : step]
        sentences, width = len(beams.tokens) // self.beam_size, scores.size(1)
        scores, place = scores.view(sentences, -1).topk(2 * self.beam_size, dim=1)
        rows = self.beam_size * torch.arange(sentences, device=place.device).unsqueeze(1)
        rows = rows + torch.div(place, width, rounding_mode="floor")
        return Candidates(scores, tokens.view(sentences, -1).gather(1, place), rows)


def _with_attention(beams: Beams, attn: Optional[Tensor], step: int) -> Beams:
    if attn is None:
        return beams
    if beams.attn is None:
        rows, longest = beams.tokens.shape
        beams = beams._replace(attn=beams.scores.new_empty(rows, attn.size(1), longest))
    beams.attn[:, :, step + 1] = attn
    return beams
