"""AttributeLosses: the losses of attributes of every kind, all in one unit."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn import functional
from mtattn._state import Float32State, StateOfGroups
from mtattn.groups import AttributeGroups, check_fitted, check_groups
from mtattn.losses.layout import loss_layout
from mtattn.losses.weights import ClassWeight, PosWeight, class_weight_tensor, pos_weight_tensor


class LossSums(NamedTuple):
    """What a batch adds to the losses of attributes; those of several batches or ranks may be added up.

    An attribute's mean loss is ``sums / terms``, and its share in the mean over attributes are its ``labels``.

    Attributes:
        sums: Of each attribute's losses, in nats.
        terms: How many losses these are: the labels, but for an ordinal attribute one each threshold that is asked.
        labels: How many labels each attribute has.
    """

    sums: Float[Tensor, " attribute"]
    terms: Float[Tensor, " attribute"]
    labels: Float[Tensor, " attribute"]


class AttributeLosses(StateOfGroups, Float32State):
    """The losses of attributes of every kind, in nats; to know nothing of an attribute costs log 2.

    All attributes of a kind are computed together; kinds that the groups lack cost nothing.

    Args:
        groups: The attributes of each group.
        pos_weight: What a positive label of a binary attribute weighs against a negative one; see
            :class:`~mtattn.DWSLoss`.
        class_weight: What labels of the classes of categorical attributes weigh; see :class:`~mtattn.DWSLoss`.
        device: Device of the state.

    Raises:
        ValueError: A weight does not fit, or a number has no mean and standard deviation yet.

    Example:
        >>> groups = AttributeGroups({"face": ["Smiling", Categorical("hair", ("short", "long", "none"))]})
        >>> AttributeLosses(groups).attribute_sums(torch.zeros(2, 4), torch.tensor([[1.0, 2.0], [0.0, torch.nan]])).sums
        tensor([1.3863, 0.6931])
    """

    pos_weight: Tensor | None
    class_weight: Tensor | None

    def __init__(
        self,
        groups: AttributeGroups,
        *,
        pos_weight: PosWeight = None,
        class_weight: ClassWeight = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_groups(owner, groups)
        check_fitted(owner, groups)
        self.groups = groups
        self.register_buffer("pos_weight", pos_weight_tensor(owner, pos_weight, groups, device))
        self.register_buffer("class_weight", class_weight_tensor(owner, class_weight, groups, device))
        self._all_binary = groups.columns is groups
        self._layout = {} if self._all_binary else loss_layout(groups)
        for name, (values, dtype) in self._layout.items():
            self.register_constant(f"_{name}", values, dtype=dtype, device=device)

    def attribute_sums(
        self, outputs: Float[Tensor, "batch column"], targets: Float[Tensor, "batch attribute"]
    ) -> LossSums:
        """Add up the losses of each attribute.

        Args:
            outputs: Any real numbers, in the columns of ``groups.columns``.
            targets: A binary attribute in [0, 1], soft labels included; the index of a class or level; a number. NaN
                where the label is missing. Nothing looks at them, because that would wait for the device: a class or
                level that does not exist makes the loss infinite or NaN, CelebA's -1 a wrong one; see
                :func:`mtattn.groups.check_targets`.
        """
        self._check_shapes(outputs, targets)
        if self._all_binary:
            losses = functional.binary_losses(outputs, targets, self.pos_weight)
            labels = (~targets.isnan()).sum(0).to(losses.dtype)
            return LossSums(losses.sum(0), labels, labels)
        compute = {"threshold": self._threshold_sums, "choice": self._choice_sums, "number": self._number_sums}
        kinds = [sums(outputs, targets) for kind, sums in compute.items() if f"{kind}_columns" in self._layout]
        sums, terms = (torch.cat(parts)[self.get_buffer("_places")] for parts in zip(*kinds, strict=True))
        return LossSums(sums, terms, (~targets.isnan()).sum(0).to(sums.dtype))

    def label_counts(self, targets: Float[Tensor, "batch attribute"]) -> Float[Tensor, "2 attribute"]:
        """Count each attribute's losses and labels: the ``terms`` and ``labels`` of :class:`LossSums`."""
        no_outputs = targets.new_zeros(len(targets), len(self.groups.columns.attributes))
        return torch.stack(self.attribute_sums(no_outputs, targets)[1:])

    def _threshold_sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        columns, attributes, owner = self._derived_buffers("threshold", "columns", "attributes", "owner")
        asked = functional.threshold_targets(targets[:, attributes], *self.get_buffer("_threshold_levels"))
        pos_weight = None if self.pos_weight is None else self.pos_weight[attributes]
        losses = functional.binary_losses(outputs.index_select(1, columns), asked, pos_weight)
        terms = (~asked.isnan()).sum(0).to(losses.dtype)
        return functional.sums_of(losses.sum(0), owner), functional.sums_of(terms, owner)

    def _choice_sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        columns, attributes, exists = self._derived_buffers("choice", "columns", "attributes", "exists")
        labels = targets[:, attributes]
        scores = outputs.index_select(1, columns.flatten()).view(-1, *columns.shape)  # its backward is fast
        losses = functional.categorical_losses(scores, labels, exists, self.class_weight)
        return losses.sum(0), (~labels.isnan()).sum(0).to(losses.dtype)

    def _number_sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        columns, attributes, moments = self._derived_buffers("number", "columns", "attributes", "moments")
        labels = targets[:, attributes]
        losses = functional.number_losses(outputs.index_select(1, columns), labels, *moments)
        return losses.sum(0), (~labels.isnan()).sum(0).to(losses.dtype)

    def _derived_buffers(self, kind: str, *names: str) -> list[Tensor]:
        return [self.get_buffer(f"_{kind}_{name}") for name in names]

    def _check_shapes(self, outputs: Tensor, targets: Tensor) -> None:
        num_columns, num_attributes = len(self.groups.columns.attributes), len(self.groups.attributes)
        if (
            outputs.ndim == targets.ndim == 2
            and outputs.shape[1] == num_columns
            and targets.shape[1] == num_attributes
            and len(outputs) == len(targets)
        ):
            return
        rule = f"logits and targets are (batch, {num_columns}), one column an attribute"
        if not self._all_binary:
            rule = (
                f"outputs are (batch, {num_columns}), the columns of groups.columns, "
                f"and targets (batch, {num_attributes}), one column an attribute"
            )
        raise ValueError(f"{type(self).__name__}: {rule}, got {tuple(outputs.shape)} and {tuple(targets.shape)}.")
