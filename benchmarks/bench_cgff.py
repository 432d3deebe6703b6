"""CGFF against torch's own attention over the groups, on pooled features and on whole maps."""

from common import Bench, count, inference, training_step
from torch import Tensor, nn

from mtattn import CGFF

CASES = [
    # batch, groups, channels, side of the map (0: pooled features)
    (32, 8, 512, 0),
    (32, 40, 512, 0),
    (32, 8, 512, 7),
]
NUM_HEADS = 8


class TorchAttention(nn.Module):
    """nn.MultiheadAttention with the groups as tokens, added to its input; a map has it at every position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, NUM_HEADS, bias=False, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        batch, num_groups, channels, *space = x.shape
        tokens = x.flatten(3).permute(0, 3, 1, 2).reshape(-1, num_groups, channels) if space else x
        normed = self.norm(tokens)
        heard = self.attention(normed, normed, tokens, need_weights=False)[0]
        if space:
            heard = heard.reshape(batch, -1, num_groups, channels).permute(0, 2, 3, 1).reshape(x.shape)
        return x + heard


def run(bench: Bench) -> None:
    for batch, num_groups, channels, side in CASES:
        space = [side, side] if side else []
        x = bench.tensor(batch, num_groups, channels, *space, grad=True)
        modules = {
            "CGFF as in FARAMTN: keys 64 wide in all, no norm": bench.put(
                CGFF(channels, num_heads=NUM_HEADS, key_channels=8, norm=False)
            ),
            "CGFF as it comes: keys as wide as the channels, a norm": bench.put(CGFF(channels, num_heads=NUM_HEADS)),
            "nn.MultiheadAttention over the groups": bench.put(TorchAttention(channels)),
        }
        parameters = {name: count(module) for name, module in modules.items()}
        ours = next(iter(modules.values()))
        rows = batch * num_groups
        positions = max(1, side * side)
        key_width = ours.query.out_features
        products = 2 * rows * channels * (2 * channels * positions + 2 * key_width)  # V and O everywhere, Q and K once
        for variant in bench.variants if (batch, num_groups, channels, side) == CASES[0] else bench.few_variants:
            shared = {
                "sizes": {"batch": batch, "groups": num_groups, "channels": channels, "side": side},
                "variant": variant,
                "parameters": parameters,
            }
            bench.compare(
                "CGFF, forward and backward",
                {
                    name: training_step(module, [x], list(module.parameters()), variant=variant)
                    for name, module in modules.items()
                },
                bytes_moved=4 * x.nbytes,  # read x, write y; read y's gradient, write x's
                operations=3 * products,
                **shared,
            )
            bench.compare(
                "CGFF, inference",
                {name: inference(module, [x], variant=variant) for name, module in modules.items()},
                bytes_moved=2 * x.nbytes,
                operations=products,
                **shared,
            )
