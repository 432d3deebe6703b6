"""AttributeMetrics: how good the predictions are, attribute by attribute, beside what knowing nothing would reach."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mtattn._baselines import Baselines, baselines_from, checked_within
from mtattn._extras import needed_by
from mtattn._scores import Scores, attribute_scores, average_precision, joined, predicted, shares
from mtattn.groups import AttributeGroups, Categorical, Number, check_fitted, check_groups, check_targets
from mtattn.intervals import bootstrap_intervals, resampled

with needed_by("mtattn.metrics", extra="recipes"):
    from torchmetrics import Metric
    from torchmetrics.functional.classification import binary_average_precision
    from torchmetrics.utilities import dim_zero_cat


class AttributeMetrics(Metric):
    r"""The scores of each attribute, each group, and in the mean, beside what knowing nothing would reach.

    **Binary**: an attribute is predicted when its logit is above zero. With :math:`P` positives and :math:`N` negatives
    among the labels, of which :math:`p` and :math:`n` are predicted rightly:

    .. math::
        \text{accuracy} &= \frac{p + n}{P + N} \\
        \text{balanced accuracy} &= \frac{1}{2}\left(\frac{p}{P} + \frac{n}{N}\right) \\
        \text{F1} &= \frac{2 p}{p + P + (N - n)}

    Average precision is exact, without bins, and equal logits share one threshold. The majority baseline predicts an
    attribute for every image if more than half of its training labels are positive, else for none. The mean balanced
    accuracy is what work on pedestrians calls mA.

    **Categorical**: accuracy, balanced accuracy (the mean recall of the classes that occur), ``macro_f1`` (the mean F1
    of the classes that occur or are predicted), and the accuracy of the most frequent class of the training labels.
    **Ordinal**: accuracy, ``within_one`` (the share at most one level off), ``mean_absolute_error`` in levels, and, of
    the baselines, the accuracy of the most frequent level and ``median_error``, the mean absolute error of the median.
    **Number**: ``mean_absolute_error`` and ``median_error`` in its unit, ``r_squared``, and ``within``, the share at
    most as far off as ``within=`` says (CS@5 of age estimation is ``within={"age": 5}``).

    **Skill** puts all kinds on one scale, where there is more than one: 1 - error / error of an answer that never
    changes; 1 is perfect, 0 is what knowing nothing reaches. The error is the mean absolute one for ordinal attributes
    and numbers, beside that of the training median. For binary and categorical ones it is 1 - balanced accuracy, which
    is the same for every constant answer; with accuracy in its place, rare attributes, whose majority baseline is
    almost never wrong, would decide the mean alone.

    What the labels leave undefined is NaN: the scores of an attribute without labels, F1 and average precision
    without positives, balanced accuracy with one class only. Means skip NaN. A NaN output makes its attribute's scores
    NaN, except the baselines'.

    Args:
        groups: The attributes; outputs have the columns ``groups.columns``, targets those of ``groups.attributes``.
        train_rates: What the training labels say: :class:`Baselines`. Where all attributes are binary, their rates
            from :func:`train_rates` do as well, by name or in the order of the attributes. NaN, for an attribute that
            was never labelled, counts as zero.
        within: For numbers, by name: which error is small, in the number's unit.

    Raises:
        ValueError: There is not one rate an attribute, a rate lies outside [0, 1], a name or kind is not that of the
            groups, or rates are given for other kinds than binary.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling"]})
        >>> metrics = AttributeMetrics(groups, train_rates=torch.tensor([0.1, 0.6]))
        >>> metrics.update(torch.tensor([[3.0, 1.0], [-2.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> scores = metrics.compute()
        >>> scores["mean_accuracy"], scores["majority_accuracy"], scores["attributes"]["Smiling"]["accuracy"]
        (0.75, 0.5, 0.5)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(
        self,
        groups: AttributeGroups,
        train_rates: Baselines | Mapping[str, float] | Float[Tensor, " attribute"] | Sequence[float],
        *,
        within: Mapping[str, float | int] | None = None,
    ) -> None:
        super().__init__()
        check_groups("AttributeMetrics", groups)
        check_fitted("AttributeMetrics", groups)
        self.groups = groups
        self.baselines = baselines_from("AttributeMetrics", groups, train_rates)
        self.within = checked_within("AttributeMetrics", groups, within)
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    @property
    def majority(self) -> Bool[Tensor, " attribute"]:
        """What the majority baseline answers for each binary attribute; False for other kinds."""
        kinds = zip(self.groups.attributes, self.groups.kinds, strict=True)
        return torch.tensor([isinstance(kind, str) and self.baselines.majority[name] > 0 for name, kind in kinds])

    @property
    def mean_scores(self) -> tuple[str, ...]:
        """The mean scores that :meth:`compute` gives for these attributes, first the one that sums them all up."""
        kinds = set(map(type, self.groups.kinds))
        means = ["mean_skill"] if kinds != {str} else []
        means += ["mean_accuracy"] if kinds - {Number} else []
        means += ["mean_balanced_accuracy"] if kinds & {str, Categorical} else []
        return (*means, "mean_f1", "mean_average_precision") if str in kinds else tuple(means)

    def update(self, logits: Float[Tensor, "batch column"], targets: Float[Tensor, "batch attribute"]) -> None:
        """Remember a batch; nothing waits for the device.

        Args:
            logits: The outputs of the model.
            targets: The truth: for a binary attribute in [0, 1], positive from 0.5; a class, a level or a number. NaN
                where an attribute is unlabelled, which counts nowhere. :meth:`compute` refuses others.
        """
        num_columns, num_attributes = len(self.groups.columns.attributes), len(self.groups.attributes)
        sizes = (logits.shape[1:], targets.shape[1:], len(logits))
        if sizes != ((num_columns,), (num_attributes,), len(targets)):
            rule = "logits and targets have one column an attribute"
            if num_columns != num_attributes:
                rule = f"logits have the {num_columns} columns of groups.columns, targets one column an attribute"
            raise ValueError(
                f"AttributeMetrics: {rule}, got logits {tuple(logits.shape)} "
                f"and targets {tuple(targets.shape)} for {num_attributes} attributes; "
                f"ask the data set for attributes=groups.attributes."
            )
        # Flat and in torchmetrics' own dtype, because that is what it sends for a rank that has seen no data.
        dtype = torch.promote_types(logits.dtype, self.dtype)
        self.logits.append(logits.detach().to(dtype, copy=True).flatten())
        self.targets.append(targets.detach().to(self.dtype, copy=True).flatten())

    def compute(self) -> dict[str, Any]:
        """Score everything since the last ``reset``.

        Returns:
            Plain floats or NaN. There are ``mean_accuracy``, ``mean_balanced_accuracy``, ``mean_f1``,
            ``mean_average_precision`` and ``majority_accuracy``, as far as there are attributes that have such a
            score, ``mean_skill`` where not all are binary, and under ``attributes`` and ``groups``, by name, the
            scores of each; a group's are the means over its attributes, of what has no unit.

        Raises:
            ValueError: A target cannot be: a class or level that does not exist, a binary one outside [0, 1].
        """
        outputs, targets = self._seen()
        rows = self._rows(torch.ones(1, len(targets), dtype=torch.float64), outputs, targets, _exact_precision)
        scores = {score: joined(rows, score)[0] for score in shares(rows)}
        group_of = torch.tensor(self.groups.group_of)
        means = {f"mean_{score}": values.nanmean(0).item() for score, values in scores.items()}
        if "mean_majority_accuracy" in means:
            means["majority_accuracy"] = means.pop("mean_majority_accuracy")
        of_groups = {
            name: {score: values[group_of == index].nanmean().item() for score, values in scores.items()}
            for index, name in enumerate(self.groups)
        }
        attributes = {name: {score: value.item() for score, value in row.items()} for name, row in rows.items()}
        return {**means, "attributes": attributes, "groups": of_groups}

    def intervals(self, **options: Any) -> dict[str, tuple[float, float]]:
        """Tell the 95 % intervals of the mean scores of everything since the last ``reset``, had the images differed.

        Several processes all call it, as they do ``compute``.

        Args:
            **options: Those of :func:`mtattn.intervals.bootstrap_intervals`.

        Returns:
            The lower and the upper end of each mean score, of ``majority_accuracy``, and of ``gain``, the accuracy
            minus that of the baseline.
        """
        with self.sync_context():
            outputs, targets = self._seen()
        if self.groups.columns is self.groups:
            return bootstrap_intervals(outputs, targets, self.majority, **options)
        return resampled(lambda times: self._means(times, outputs, targets), len(targets), **options)

    def attribute_intervals(self, **options: Any) -> dict[str, dict[str, tuple[float, float]]]:
        """Tell the 95 % intervals of the scores of each attribute, by name; see :meth:`intervals`."""
        with self.sync_context():
            outputs, targets = self._seen()

        def named(times: Tensor) -> dict[str, Tensor]:
            rows = self._rows(times, outputs, targets, average_precision)
            return {f"{name}\n{score}": values for name, row in rows.items() for score, values in row.items()}

        ends: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in self.groups.attributes}
        for key, end in resampled(named, len(targets), **options).items():
            name, _, score = key.rpartition("\n")
            ends[name][score] = end
        return ends

    def seen(self) -> tuple[Float[Tensor, "image column"], Float[Tensor, "image attribute"]]:
        """Return the outputs and the targets of everything since the last ``reset``, of all processes."""
        with self.sync_context():
            return self._seen()

    def predictions(self) -> dict[str, tuple[Float[Tensor, " image"], Float[Tensor, " image"]]]:
        """List what was predicted and what is true, by name, of the images that have a label.

        Several processes all call it, as they do ``compute``.

        Returns:
            Two tensors an attribute, of 0 or 1, classes, levels or numbers; NaN where an output is.
        """
        with self.sync_context():
            outputs, targets = self._seen()
        pairs = {}
        for index, (name, kind) in enumerate(zip(self.groups.attributes, self.groups.kinds, strict=True)):
            columns, known = outputs[:, self.groups.columns_of(name)], ~targets[:, index].isnan()
            is_binary = isinstance(kind, str)
            said = _yes_or_no(columns[:, 0]) if isinstance(kind, str) else predicted(kind, columns)
            truth = (targets[:, index] >= 0.5).to(targets.dtype) if is_binary else targets[:, index]
            pairs[name] = (said[known], truth[known])
        return pairs

    def instance_scores(self) -> dict[str, float]:
        """Score image by image, as work on pedestrians does, over the binary attributes.

        For each image with labels, of the attributes that are predicted and those that are true: ``accuracy`` is the
        share of both in either, ``precision`` in the predicted, ``recall`` in the true ones, ``f1`` twice the shared
        over the sum of both; 0 where there is nothing to divide by. Each is averaged over the images; NaN if an output
        of a label is.

        Other programs (RAP's among them) leave out images without a true attribute, and take F1 of the mean precision
        and the mean recall; compare with numbers of the same convention only. Several processes all call it.
        """
        with self.sync_context():
            outputs, targets = self._seen()
        names = [kind for kind in self.groups.kinds if isinstance(kind, str)]
        truth = targets[:, [self.groups.attributes.index(name) for name in names]]
        known = ~truth.isnan()
        logits = outputs[:, [self.groups.columns_of(name).start for name in names]]
        spoilt = torch.nan if (logits.isnan() & known).any() else 0.0
        said = (logits > 0) & known
        labelled = known.any(1)
        is_true = ((truth >= 0.5) & known)[labelled]
        said = said[labelled]
        both, num_said, num_true = ((x.sum(1).double()) for x in (said & is_true, said, is_true))
        shares_of = {
            "instance_accuracy": both / (num_said + num_true - both),
            "instance_precision": both / num_said,
            "instance_recall": both / num_true,
            "instance_f1": 2 * both / (num_said + num_true),
        }
        return {name: share.nan_to_num(0).mean().item() + spoilt for name, share in shares_of.items()}

    def _rows(
        self, times: Tensor, outputs: Tensor, targets: Tensor, precision: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> dict[str, Scores]:
        return attribute_scores(
            times, outputs, targets, self.groups, self.baselines, within=self.within, precision=precision
        )

    def _means(self, times: Tensor, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        rows = self._rows(times, outputs, targets, average_precision)
        scores = {score: joined(rows, score) for score in shares(rows)}
        means = {f"mean_{score}": values.nanmean(1) for score, values in scores.items()}
        if "majority_accuracy" in scores:
            means["majority_accuracy"] = means.pop("mean_majority_accuracy")
            means["gain"] = (scores["accuracy"] - scores["majority_accuracy"]).nanmean(1)
        return means

    def _seen(self) -> tuple[Float[Tensor, "batch column"], Float[Tensor, "batch attribute"]]:
        outputs, targets = (
            rearrange(
                dim_zero_cat(state).cpu() if len(state) else torch.empty(0),
                "(batch column) -> batch column",
                column=len(groups.attributes),
            )
            for state, groups in ((self.logits, self.groups.columns), (self.targets, self.groups))
        )
        check_targets("AttributeMetrics", self.groups, targets)
        return outputs, targets


def _yes_or_no(logits: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return (logits > 0).to(logits.dtype).masked_fill(logits.isnan(), torch.nan)


def _exact_precision(times: Tensor, logits: Float[Tensor, " batch"], targets: Float[Tensor, " batch"]) -> Tensor:
    """Rank first: torchmetrics takes values outside [0, 1] for logits, and a sigmoid would tie the confident ones."""
    labelled = ~targets.isnan()
    logits, positive = logits[labelled], targets[labelled] >= 0.5
    if not positive.any() or logits.isnan().any():
        return torch.full((len(times),), torch.nan, dtype=torch.float64)
    ranks = torch.unique(logits, return_inverse=True)[1].double() / len(logits)
    return binary_average_precision(ranks, positive.long(), validate_args=False).double()[None]
