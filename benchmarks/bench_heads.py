"""GroupHeads against 40 linear layers in a loop, and against timm's ML-Decoder."""

import torch
from common import Bench, count, training_step
from timm.layers.ml_decoder import MLDecoder
from torch import Tensor, nn

from mtattn import GroupHeads
from mtattn.data import CELEBA_GROUPS

BATCH, CHANNELS, SIDE = 64, 512, 7


class LinearLoop(nn.Module):
    """One linear layer for each attribute, on the features of its group."""

    def __init__(self) -> None:
        super().__init__()
        self.group_of = CELEBA_GROUPS.group_of
        self.heads = nn.ModuleList(nn.Linear(CHANNELS, 1) for _ in self.group_of)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x[:, group]) for head, group in zip(self.heads, self.group_of, strict=True)], 1)


class Decoder(nn.Module):
    """timm's ML-Decoder on a map; torch 2.1 and newer hand its one layer arguments that it lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = MLDecoder(len(CELEBA_GROUPS.attributes), initial_num_features=CHANNELS)
        self.decoder.decoder = self.decoder.decoder.layers[0]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(x)
        return logits


def run(bench: Bench) -> None:
    heads, loop, decoder = (bench.put(m) for m in (GroupHeads(CHANNELS, CELEBA_GROUPS), LinearLoop(), Decoder()))
    grouped = bench.tensor(BATCH, len(CELEBA_GROUPS), CHANNELS, grad=True)
    features = bench.tensor(BATCH, CHANNELS, SIDE, SIDE, grad=True)
    for variant in bench.variants:
        bench.compare(
            "Heads of 40 attributes in 8 groups, forward and backward",
            {
                "GroupHeads": training_step(heads, [grouped], list(heads.parameters()), variant=variant),
                "40 linear layers in a loop": training_step(loop, [grouped], list(loop.parameters()), variant=variant),
                f"timm's ML-Decoder on a {SIDE} x {SIDE} map": training_step(
                    decoder, [features], list(decoder.parameters()), variant=variant
                ),
            },
            sizes={"batch": BATCH, "channels": CHANNELS},
            variant=variant,
            bytes_moved=2 * grouped.nbytes,
            operations=6 * BATCH * count(heads),
            parameters={
                "GroupHeads": count(heads),
                "40 linear layers in a loop": count(loop),
                f"timm's ML-Decoder on a {SIDE} x {SIDE} map": count(decoder),
            },
        )
