"""torch's LSTM and GRU as a language model of fairseq: the embedding and the output are those of the other models."""

from dataclasses import dataclass, field

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import FairseqDecoder, FairseqLanguageModel, register_model
from fairseq.models.transformer import Embedding


@dataclass
class RecurrentConfig(FairseqDataclass):
    cell: ChoiceEnum(["LSTM", "GRU"]) = field(default="LSTM", metadata={"help": "kind of network"})
    decoder_embed_dim: int = field(default=128, metadata={"help": "width of the embedding and of the states"})
    decoder_layers: int = field(default=2, metadata={"help": "number of layers"})
    dropout: float = field(default=0.0, metadata={"help": "dropout probability between layers"})


class RecurrentDecoder(FairseqDecoder):
    adaptive_softmax = None

    def __init__(self, cfg, source_dictionary, target_dictionary):
        super().__init__(target_dictionary)
        width = cfg.decoder_embed_dim
        self.embed_tokens = Embedding(len(source_dictionary), width, source_dictionary.pad())
        network = getattr(torch.nn, str(cfg.cell))
        self.network = network(width, width, cfg.decoder_layers, batch_first=True, dropout=cfg.dropout)
        self.output_projection = torch.nn.Linear(width, len(target_dictionary), bias=False)
        torch.nn.init.normal_(self.output_projection.weight, mean=0, std=width**-0.5)

    def forward(self, prev_output_tokens, features_only=False, state=None, **unused):
        x, state = self.network(self.embed_tokens(prev_output_tokens), state)
        return x if features_only else self.output_projection(x), {"state": state}

    def max_positions(self):
        return int(1e8)


@register_model("recurrent_lm", dataclass=RecurrentConfig)
class RecurrentLanguageModel(FairseqLanguageModel):
    @classmethod
    def build_model(cls, cfg, task):
        return cls(RecurrentDecoder(cfg, task.source_dictionary, task.target_dictionary))

    def forward(self, src_tokens, src_lengths=None, carried=None, **kwargs):
        """carried: the states after the block before, (layers, or twice as many with an LSTM, B, C)."""
        before = None if carried is None else carried.get(self)
        if before is not None and isinstance(self.decoder.network, torch.nn.LSTM):
            before = tuple(part.contiguous() for part in before.chunk(2))
        x, extra = self.decoder(src_tokens, state=before, **kwargs)
        if carried is not None:
            after = extra["state"]
            after = (torch.cat(after) if isinstance(after, tuple) else after).detach()
            carried.put(self, after, slots=len(after))
        return x, extra

    def slots_to_carry(self):
        """To rebuild a state, all of the text before is read again."""
        return int(1e8)
