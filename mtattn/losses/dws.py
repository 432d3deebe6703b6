"""DWSLoss: the losses of attributes in groups, weighted so that the groups converge together."""

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn import functional
from mtattn.functional import LossHistory
from mtattn.groups import AttributeGroups
from mtattn.losses.attributes import AttributeLosses
from mtattn.losses.dynamic import DynamicWeighting, Rule, RuleName
from mtattn.losses.weights import ClassWeight, PosWeight


class DWSLoss(AttributeLosses):
    """The loss of attributes in groups, the groups weighted so that they converge together.

    Each kind of attribute has its own loss, all in one unit: to know nothing of an attribute costs log 2.

    - binary: binary cross-entropy;
    - categorical: cross-entropy times log 2 / log (number of classes);
    - ordinal: binary cross-entropy of "above level k" over the thresholds k that its level reaches (CORN);
    - number: smooth L1 of standard deviations times 1.632, which makes it log 2 for the mean of normal labels.

    The total is the sum over groups of (labels in the group / labels) * weight * the group's mean loss. With equal
    weights this is the plain mean over labels. A group counts its attributes, not their columns. NaN targets are
    missing labels and count nowhere.

    While training it remembers losses in buffers, which ``torch.func`` cannot change: for gradients of each image call
    ``loss.eval()`` first.

    Args:
        groups: The attributes of each group; outputs have the columns ``groups.columns``, targets those of
            ``groups.attributes``.
        rule: How weights follow the losses, see :class:`DynamicWeighting`.
        alpha: For "dws": how strongly.
        pos_weight: What a positive label of a binary attribute weighs against a negative one: one number an attribute
            in attribute order, or a mapping from attribute names, where those not named weigh 1. It is part of the
            groups' losses.
        class_weight: What labels of the classes of categorical attributes weigh: a mapping from attribute names to
            one number a class, or to a mapping from class names, where those not named weigh 1. It is part of the
            groups' losses.
        seed: For "random": which random weights.
        device: Device of the state.

    Raises:
        ValueError: A weight has another number of attributes or classes, names an unknown one or is not positive, a
            number has no mean and standard deviation yet, or a rule option is wrong.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
        >>> loss = DWSLoss(groups)
        >>> loss(torch.zeros(4, 3), torch.ones(4, 3))  # log 2: nothing learnt
        tensor(0.6931)
        >>> loss.step()  # once an epoch
        >>> loss.weights
        tensor([1., 1.])

    Source:
        dynamic weighting strategy in FAR-AMTN (arXiv 2601.01537); the rule "dws" is mtattn's reading of it.
    """

    def __init__(
        self,
        groups: AttributeGroups,
        *,
        rule: RuleName | Rule = "dws",
        alpha: float = 1.0,
        pos_weight: PosWeight = None,
        class_weight: ClassWeight = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(groups, pos_weight=pos_weight, class_weight=class_weight, device=device)
        self.weighting = DynamicWeighting(len(groups), rule=rule, alpha=alpha, seed=seed, device=device)
        membership = [[index == group for group in range(len(groups))] for index in groups.group_of]
        self.register_constant("_membership", membership, dtype=torch.bool, device=device)

    @property
    def weights(self) -> Float[Tensor, " group"]:
        """The weight of each group; they average to 1. A copy, which later steps do not change."""
        return self.weighting.weights.clone()

    @property
    def history(self) -> LossHistory:
        """Each group's unweighted mean loss in nats over closed periods."""
        return self.weighting.history

    @property
    def loss_left(self) -> Float[Tensor, " group"]:
        """The fraction of each group's first loss that was left in the last closed period."""
        return self.weighting.loss_left

    def group_losses(
        self, outputs: Float[Tensor, "batch column"], targets: Float[Tensor, "batch attribute"]
    ) -> Float[Tensor, " group"]:
        """Compute each group's unweighted mean loss in nats; NaN for a group without a label in the batch."""
        sums, labels = self._group_sums(outputs, targets)
        return (sums / labels.clamp_min(1)).where(labels > 0, torch.nan)

    def forward(
        self,
        outputs: Float[Tensor, "batch column"],
        targets: Float[Tensor, "batch attribute"],
        counts: Float[Tensor, "2 attribute"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the weighted mean loss in nats and, while training, remember the groups' losses.

        Args:
            outputs: Any real numbers.
            targets: As :meth:`~mtattn.losses.AttributeLosses.attribute_sums` takes them.
            counts: What :meth:`~mtattn.losses.AttributeLosses.label_counts` gives for the whole step, where this batch
                is a part of it and the others are on other ranks, or accumulated. Only ordinal attributes need it,
                whose loss is the mean over as many thresholds as their labels ask. None takes the batch for the step.
        """
        return self.weighting.weighted_mean(*self._group_sums(outputs, targets, counts))

    def step(self) -> None:
        """Close the period and set the next weights; call it once an epoch, or every so many steps."""
        self.weighting.step()

    def _group_sums(
        self,
        outputs: Float[Tensor, "batch column"],
        targets: Float[Tensor, "batch attribute"],
        counts: Float[Tensor, "2 attribute"] | None = None,
    ) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
        sums, terms, labels = self.attribute_sums(outputs, targets)
        if not self._all_binary:
            all_terms, all_labels = (terms, labels) if counts is None else counts
            sums = sums * (all_labels / all_terms.clamp_min(1))  # an ordinal label counts once, whatever it asks
        membership = self.get_buffer("_membership")
        return functional.sums_of(sums, membership), functional.sums_of(labels, membership)
