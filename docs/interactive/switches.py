"""FAR-AMTN with switches for each group's gate, where it looks and what it hears, and its export for the browser."""

import copy
import logging
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn import FARAMTN, functional


class SwitchableFARAMTN(nn.Module):
    """Compute a model's logits and maps with parts of it switched off, group by group.

    A switch is 1 (on) or 0 (off). A group whose gate is off gets the average of all groups' gates; one whose place is
    off looks everywhere alike; one that does not listen keeps its own features, without what CGFF adds to them.
    """

    def __init__(self, model: FARAMTN) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        images: Float[Tensor, "batch color height width"],
        gates_on: Float[Tensor, " group"],
        places_on: Float[Tensor, " group"],
        listening: Float[Tensor, " group"],
    ) -> tuple[
        Float[Tensor, "batch attribute"], Float[Tensor, "batch attribute h w"], Float[Tensor, "batch group group"]
    ]:
        """Compute logits, the maps that average to them, and how much each group listens to each group."""
        wsgsa, cgff = self.model.wsgsa, self.model.cgff
        features = self.model.trunk(images)
        gates = wsgsa.gates(features)
        average = gates.mean(1, keepdim=True)
        gates = average + gates_on[:, None] * (gates - average)
        shared = wsgsa.shared(features)
        positions = wsgsa._positions(shared)
        if positions is not None:  # a group has several rows, one for each of its queries
            positions = 1 + places_on.repeat_interleave(wsgsa.num_heads)[:, None, None] * (positions - 1)
        grouped = self.model._project(functional.gate(shared, gates, positions))
        heard = cgff(grouped) - grouped
        maps = self.model.heads(grouped + listening[:, None, None, None] * heard)
        return maps.mean((-2, -1)), maps, cgff.affinity(grouped)


def export_switchable(model: FARAMTN) -> bytes:
    """Trace a model with its switches as ONNX, for one image at a time."""
    switchable = SwitchableFARAMTN(copy.deepcopy(model).cpu().float()).eval()
    images = torch.zeros(1, 3, *model.config["image"]["size"])
    switches = torch.ones(3, len(model.groups)).unbind()  # one tensor for all would become one input
    for chatty in ("onnx_ir", "onnxscript"):  # a docs build would print all that they tell
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about its own insides
        program = torch.onnx.export(
            switchable,
            (images, *switches),
            input_names=["images", "gates_on", "places_on", "listening"],
            output_names=["logits", "maps", "affinity"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
