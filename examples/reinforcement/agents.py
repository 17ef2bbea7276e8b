"""Agents: what they see and did so far -> what to do next, and how much reward to expect.

    feedback     all layers read one memory of the past steps, a mix of all layers
    own          a transformer: each layer reads what it has read before
    lstm, gru    recurrent networks of torch

An agent acts step by step, and learns from whole blocks. What it carries from block to block is the memory of past
steps (of a recurrent network, its state), and not the keys and values made of it: those are made again with the
weights of now. So what an agent does is what learning computes of the same steps.

Shapes: T steps, B environments, K slots of an observation, A actions; others in fairseq_feedback/kernels/__init__.py.
"""

from typing import NamedTuple, Sequence, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from examples.reinforcement.rows import Carried, Rows, forget
from fairseq_feedback.kernels import reference
from fairseq_feedback.kernels.decoding import cache, packing
from fairseq_feedback.kernels.training import choice
from fairseq_feedback.kernels.weights import Choices, Inputs, Settings
from fairseq_feedback.models.feedback_config import to_transformer_config
from fairseq_feedback.models.feedback_decoder import FeedbackDecoder
from fairseq_feedback.models.feedback_lm_config import FeedbackLanguageModelConfig, check
from fairseq_feedback.models.feedback_transformer_lm import complete_architecture
from fairseq_feedback.modules.feedback_memory import MemoryOptions

NAMES = ("feedback", "own", "lstm", "gru")


class Sizes(NamedTuple):
    layers: int
    width: int
    heads: int = 1  # of feedback and own, as is the span
    span: int = 1  # steps that a step sees; of own, itself among them


def build(name: str, slots: Sequence[int], actions: int, sizes: Sizes) -> "Agent":
    """slots: how many values each slot of an observation may have."""
    kind = Decoder if name in ("feedback", "own") else Recurrent
    return kind(name, slots, actions, sizes)


class Agent(nn.Module):
    def __init__(self, slots: Sequence[int], actions: int, width: int):
        super().__init__()
        values = torch.tensor([*slots, actions + 1])  # the last slot is the action before; 0 = there was none
        self.register_buffer("offsets", values.cumsum(0) - values, persistent=False)
        self.embedding = nn.Embedding(int(values.sum()), width)
        nn.init.normal_(self.embedding.weight, std=len(values) ** -0.5)
        self.policy = nn.Linear(width, actions)
        self.value = nn.Linear(width, 1)
        for head in (self.policy, self.value):  # all actions alike, and no reward expected
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, symbols: Tensor, started: Tensor, carried: Carried) -> Tuple[Tensor, Tensor]:
        """symbols (T, B, K + 1), started (T, B) -> logits (T, B, A), values (T, B): what learning sees of a block."""
        rows = Rows(started)
        features = self.run(self.embed(rows.lay_out(symbols)), rows.carried(carried))
        return self.heads(rows.take_back(features))

    def embed(self, symbols: Tensor) -> Tensor:
        """(…, K + 1) -> (…, C)."""
        return self.embedding(symbols + self.offsets).sum(dim=-2)

    def heads(self, features: Tensor) -> Tuple[Tensor, Tensor]:
        return self.policy(features), self.value(features).squeeze(-1)

    def nothing(self, rows: int) -> Carried:
        """What is carried into a first episode."""
        raise NotImplementedError

    def run(self, x: Tensor, carried: Carried) -> Tensor:
        """Steps (T, R, C) of rows -> features (T, R, C)."""
        raise NotImplementedError

    def acting(self, carried: Carried) -> "Acting":
        raise NotImplementedError


class Acting:
    """An agent that acts, step by step, until its weights change."""

    def __init__(self, agent: Agent, carried: Carried):
        self.agent, self.age = agent, carried.age

    @torch.no_grad()
    def step(self, symbols: Tensor, started: Tensor) -> Tuple[Tensor, Tensor]:
        """symbols (B, K + 1), started (B) -> logits (B, A), values (B)."""
        if bool(started.any()):
            self.age = self.age.masked_fill(started, 0)
            self.forget(started)
        features, done = self.look(self.agent.embed(symbols))
        self.keep(done)
        self.age = self.age + 1
        return self.agent.heads(features)

    @torch.no_grad()
    def value(self, symbols: Tensor) -> Tensor:
        """What a step like this would expect, which is not taken: (B)."""
        return self.agent.heads(self.look(self.agent.embed(symbols))[0])[1]

    def forget(self, rows: Tensor) -> None:
        raise NotImplementedError

    def look(self, x: Tensor):
        """One step (B, C) -> features (B, C), and what keep() wants."""
        raise NotImplementedError

    def keep(self, done) -> None:
        raise NotImplementedError

    def carried(self) -> Carried:
        """Into the next block."""
        raise NotImplementedError


# --- feedback and own


class Decoder(Agent):
    """The decoder of this package's language model, with relative positions, between other inputs and outputs."""

    def __init__(self, name: str, slots: Sequence[int], actions: int, sizes: Sizes):
        super().__init__(slots, actions, sizes.width)
        own = name == "own"
        config = FeedbackLanguageModelConfig(
            decoder_layers=sizes.layers,
            decoder_embed_dim=sizes.width,
            decoder_ffn_embed_dim=4 * sizes.width,
            decoder_attention_heads=sizes.heads,
            memory_span=sizes.span,
            memory_composition="own" if own else "weighted",
            unshared_memory_kv=own,
            attention_dropout=0.0,
            activation_dropout=0.0,
        )
        complete_architecture(config, "feedback_transformer_lm")
        check(config)
        memory = MemoryOptions(
            span=sizes.span,
            shared_kv=not own,
            head_dim=config.decoder_head_dim,
            init_slots=0,
            relative_positions=True,
            composition=config.memory_composition,
        )
        host = to_transformer_config(config, memory)
        host.decoder.normalize_before = True
        host.no_token_positional_embeddings = True
        self.decoder = FeedbackDecoder(host, None, self.embedding, no_encoder_attn=True, output_projection=self.policy)
        self.span, self.layers = sizes.span, sizes.layers

    def settings(self) -> Settings:
        """Zero vectors stand before the first step of feedback's episodes, and nothing before that of own's."""
        return self.decoder.settings(self.span, self.decoder.init_slots(self.span))

    def nothing(self, rows: int) -> Carried:
        slots = self.span - int(self.decoder.sees_itself)
        memory = self.decoder.zero_slots(rows, slots, self.policy.weight)
        return Carried(memory, torch.zeros(rows, dtype=torch.long, device=memory.device))

    def run(self, x: Tensor, carried: Carried) -> Tensor:
        settings, weights = self.settings(), self.decoder.weights(self.span)
        hidden = before_the_episode(len(carried.memory), carried.age, settings)
        choices = Choices([True] * self.layers, [])
        inputs = Inputs(x, 0, carried.memory, weights, None, hidden, choices, settings, -1)
        features, _, _ = choice.run(inputs, self.decoder.feedback_kernel, False, self.decoder.kernels_said)
        return self.decoder.layer_norm(features)

    def acting(self, carried: Carried) -> "DecoderActing":
        return DecoderActing(self, carried)


def before_the_episode(slots: int, age: Tensor, settings: Settings):
    """How many of so many slots, the oldest, hold no step of the episode: own must not see them (`left_pad`)."""
    return (slots - age).clamp(min=0) if settings.sees_itself else None


class DecoderActing(Acting):
    """Its past is a cache of keys and values, and the memory vectors they are made of."""

    @torch.no_grad()
    def __init__(self, agent: Decoder, carried: Carried):
        super().__init__(agent, carried)
        self.settings = agent.settings()
        weights = packing.pack_weights(agent.decoder.weights(agent.span), int8=False)
        self.weights, self.choices = weights, Choices([True] * agent.layers, [])
        keys, values = reference.project_memory(carried.memory, weights.memory, self.settings)
        self.cache = cache.start(keys, values, None, None)
        self.slots = len(carried.memory)
        self.cache["progress"][0] = self.slots - self.settings.init_slots  # carried slots count as steps
        self.zero = reference.project_memory(torch.zeros_like(carried.memory[:1, :1]), weights.memory, self.settings)
        self.memory = [carried.memory]

    def forget(self, rows: Tensor) -> None:
        """Zero vectors take the place of feedback's memory. Own's is hidden by its age."""
        if not self.settings.sees_itself:
            for name, zero in zip(("keys", "values"), self.zero):
                self.cache[name][:, rows] = zero

    def look(self, x: Tensor):
        self.cache["left_pad"] = before_the_episode(self.slots, self.age, self.settings)
        seen = cache.seen(self.cache, self.settings)
        done = reference.step(x, seen, self.weights, self.choices, self.settings)
        return self.agent.decoder.layer_norm(done.output), done

    def keep(self, done) -> None:
        cache.append(self.cache, done.key, done.value, self.settings)
        self.memory.append(done.memory[None])
        self.slots += 1

    def carried(self) -> Carried:
        slots = len(self.memory[0])
        memory = torch.cat(self.memory)[len(self.memory) - 1 :]
        earlier = torch.arange(slots, device=memory.device)[:, None] < slots - self.age  # than the episode
        return Carried(memory.masked_fill(earlier.view(*earlier.shape, *[1] * (memory.dim() - 2)), 0.0), self.age)


# --- recurrent networks


class Recurrent(Agent):
    def __init__(self, name: str, slots: Sequence[int], actions: int, sizes: Sizes):
        super().__init__(slots, actions, sizes.width)
        self.network = getattr(nn, name.upper())(sizes.width, sizes.width, sizes.layers)
        self.parts = 2 if name == "lstm" else 1  # of the state: hidden state and cell
        self.states = self.parts * sizes.layers

    def nothing(self, rows: int) -> Carried:
        memory = self.policy.weight.new_zeros(self.states, rows, self.network.hidden_size)
        return Carried(memory, torch.zeros(rows, dtype=torch.long, device=memory.device))

    def run(self, x: Tensor, carried: Carried) -> Tensor:
        return self.steps(x, carried.memory)[0]

    def steps(self, x: Tensor, state: Tensor) -> Tuple[Tensor, Tensor]:
        """(T, R, C), (states, R, C) -> features, the state after them."""
        features, after = self.network(x, state if self.parts == 1 else state.chunk(2))
        return features, after if self.parts == 1 else torch.cat(after)

    def acting(self, carried: Carried) -> "RecurrentActing":
        return RecurrentActing(self, carried)


class RecurrentActing(Acting):
    def __init__(self, agent: Recurrent, carried: Carried):
        super().__init__(agent, carried)
        self.state = carried.memory

    def forget(self, rows: Tensor) -> None:
        self.state = forget(Carried(self.state, self.age), rows).memory

    def look(self, x: Tensor):
        features, after = self.agent.steps(x[None], self.state)
        return features[0], after

    def keep(self, done) -> None:
        self.state = done

    def carried(self) -> Carried:
        return Carried(self.state, self.age)
