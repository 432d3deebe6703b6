"""measure_ablations: what each part of a trained model does on a data set."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn._modes import evaluating
from mtattn.ablation.changes import Change, Scorer
from mtattn.ablation.replace import ablated_each, heard_from
from mtattn.ablation.reuse import trunk_run_once
from mtattn.groups import AttributeGroups, check_fitted, check_groups
from mtattn.modules import CGFF

Batches = Iterable[tuple[Tensor, Tensor]]


class Effect(NamedTuple):
    """What changed when ``part`` was replaced ``by`` something: the score of each attribute, and their mean."""

    part: str
    by: str
    mean: Change
    attributes: dict[str, Change]


class Link(NamedTuple):
    """What changed for a group's attributes when it heard the same from another for all images.

    That is the mean of what it hears from it. ``weight`` is the affinity, averaged over images and heads.
    """

    listener: str
    speaker: str
    weight: float
    mean: Change
    attributes: dict[str, Change]


class Ablations(NamedTuple):
    """What each part of a model does on a data set.

    ``score`` is the mean score of the model as it is. ``differing`` is the share of what CGFF adds, by its squares,
    that differs between groups; NaN where it adds nothing.
    """

    score: float
    effects: list[Effect]
    links: list[Link]
    differing: float


class _Replacement(NamedTuple):
    part: str
    by: str
    replace: Callable[[Tensor, Tensor], Tensor]  # from the values of a batch and their mean over all images


@torch.no_grad()
def measure_ablations(
    model: nn.Module, batches: Batches, groups: AttributeGroups, *, num_resamples: int = 500, seed: int = 0
) -> Ablations:
    """Replace each part of a trained model by simpler things, and what a group hears from each other by its mean.

    Gates, positions and affinity are replaced by their mean over the images, by their mean over groups, by constants
    and by another image's; what CGFF adds, by its means and by zero. A constant may also shift all outputs, which a
    mean over images does not. The score of an attribute is its balanced accuracy; of a number, the share of the
    median's absolute error that is avoided. The intervals are those of a paired bootstrap over the images.

    Args:
        model: Any model that contains :class:`~mtattn.WSGSA` or :class:`~mtattn.CGFF` and returns the groups' columns.
        batches: Images and targets, gone through twice: a data loader that does not shuffle, or a list.
        groups: The attributes in the order of the columns. A group of CGFF has the name of its index.
        num_resamples: How often the bootstrap draws the images.
        seed: Which draws.

    Raises:
        ValueError: There are no images, the batches cannot be gone through twice, or a number has no mean and standard
            deviation yet.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling"]})
        >>> model = FARAMTN(nn.Conv2d(3, 32, 8, stride=8), 32, groups)
        >>> batches = [(torch.rand(8, 3, 32, 32), torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 1))]
        >>> found = measure_ablations(model, batches, groups)
        >>> [effect.by for effect in found.effects if effect.part == "positions"]
        ['their mean over images', "another image's", 'uniform ones']
        >>> [(link.listener, link.speaker) for link in found.links]
        [('eyes', 'mouth'), ('mouth', 'eyes')]
    """
    check_groups("measure_ablations", groups)
    check_fitted("measure_ablations", groups)
    with evaluating(model):
        seen = _observe(model, batches)
        replacements, links = _simpler(seen), _links(seen, len(groups))
        contexts: list[Callable[[], AbstractContextManager[None]]]
        contexts = [partial(_replaced, model, seen, replacement) for replacement in replacements]
        contexts += [partial(_cut, model, seen, link) for link in links]
        outputs = _outputs_in(contexts, model, batches)
    if contexts and len(outputs[0]) != len(seen.outputs):
        raise ValueError(
            f"measure_ablations: goes through the batches twice, got {len(seen.outputs)} images the first time and "
            f"{len(outputs[0])} the second; pass a data loader or a list, not an iterator."
        )
    score = Scorer(seen.targets, groups, num_resamples=num_resamples, seed=seed)
    before = score(seen.outputs)
    changes = [score(each) - before for each in outputs]
    of_parts, of_links = changes[: len(replacements)], changes[len(replacements) :]
    effects = [
        Effect(each.part, each.by, Change.of(change.nanmean(1)), _by_name(change, groups.attributes, groups))
        for each, change in zip(replacements, of_parts, strict=True)
    ]
    cut = [_link(link, change, seen.affinity, groups) for link, change in zip(links, of_links, strict=True)]
    return Ablations(before[0].nanmean().item(), effects, cut, seen.differing)


def _by_name(
    changes: Float[Tensor, "resample attribute"], names: Iterable[str], groups: AttributeGroups
) -> dict[str, Change]:
    return {name: Change.of(changes[:, groups.attributes.index(name)]) for name in names}


def _link(
    link: tuple[int, int], changes: Float[Tensor, "resample attribute"], affinity: Tensor, groups: AttributeGroups
) -> Link:
    listener, speaker = (list(groups)[index] for index in link)
    heard_by = [index for index, group in enumerate(groups.group_of) if group == link[0]]
    mean = Change.of(changes[:, heard_by].nanmean(1))
    return Link(listener, speaker, affinity[link].item(), mean, _by_name(changes, groups[listener], groups))


class _Seen(NamedTuple):
    """What a model computes on a data set as it is: outputs, and what its parts compute, averaged over the images."""

    outputs: Tensor
    targets: Tensor
    means: dict[tuple[str, nn.Module], Tensor]
    differing: float

    @property
    def affinity(self) -> Float[Tensor, "group group"]:
        """The affinity averaged over images, heads and modules; empty where there is none."""
        found = [mean.mean(0) for (part, _), mean in self.means.items() if part == "affinity"]
        return torch.stack(found).mean(0) if found else torch.empty(0, 0)


def _observe(model: nn.Module, batches: Batches) -> _Seen:
    sums: dict[tuple[str, nn.Module], Tensor] = {}
    squares = torch.zeros(2)

    def add(part: str, module: nn.Module, values: Tensor) -> None:
        sums[part, module] = sums.get((part, module), 0) + values.sum(0)

    def record(part: str, module: nn.Module, values: Tensor, *inputs: Any) -> Tensor:
        add(part, module, values)
        if isinstance(module, CGFF) and part == "exchange":
            for speaker in range(values.shape[1]):
                add(f"from {speaker}", module, heard_from(module, inputs[0], speaker))
            of_groups = values - values.mean(1, keepdim=True)
            squares.add_(torch.stack([of_groups.square().sum(), values.square().sum()]).cpu())
        return values

    outputs, targets = [], []
    with ExitStack() as stack:
        for part in ("gates", "positions", "affinity", "exchange"):
            stack.enter_context(ablated_each(model, part, partial(record, part)))
        for images, truth in batches:
            outputs.append(model(images.to(_device(model))).float().cpu())
            targets.append(truth)
    if not outputs:
        raise ValueError("measure_ablations: needs images, got none; were the batches used up before?")
    count = sum(map(len, outputs))
    differing = float(squares[0] / squares[1]) if squares[1] > 0 else float("nan")
    return _Seen(torch.cat(outputs), torch.cat(targets), {key: total / count for key, total in sums.items()}, differing)


def _simpler(seen: _Seen) -> list[_Replacement]:
    def image_mean(_: Tensor, mean: Tensor) -> Tensor:
        return mean

    def group_mean(values: Tensor, _: Tensor) -> Tensor:
        return values.mean(1, keepdim=True)

    def other_image(values: Tensor, _: Tensor) -> Tensor:
        return values.roll(1, 0)

    def constant(value: float) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda values, _: torch.full_like(values, value)

    def uniform(values: Tensor, _: Tensor) -> Tensor:
        return torch.full_like(values, 1 / values.shape[-1])

    def itself(values: Tensor, _: Tensor) -> Tensor:
        return torch.eye(values.shape[-1], dtype=values.dtype, device=values.device)

    def listener_mean(values: Tensor, _: Tensor) -> Tensor:
        return values.mean(-2, keepdim=True)

    candidates = [
        _Replacement("gates", "their mean over images", image_mean),
        _Replacement("gates", "another image's", other_image),
        _Replacement("gates", "their mean over groups", group_mean),
        _Replacement("gates", "one half", constant(0.5)),
        _Replacement("positions", "their mean over images", image_mean),
        _Replacement("positions", "another image's", other_image),
        _Replacement("positions", "uniform ones", constant(1.0)),
        _Replacement("affinity", "its mean over images", image_mean),
        _Replacement("affinity", "its mean over listeners", listener_mean),
        _Replacement("affinity", "uniform weights", uniform),
        _Replacement("affinity", "oneself only", itself),
        _Replacement("exchange", "its mean over groups", group_mean),
        _Replacement("exchange", "its mean over images", image_mean),
        _Replacement("exchange", "nothing", constant(0.0)),
    ]
    return [candidate for candidate in candidates if any(part == candidate.part for part, _ in seen.means)]


def _links(seen: _Seen, num_groups: int) -> list[tuple[int, int]]:
    if len(seen.affinity) != num_groups:  # other groups than those of the attributes
        return []
    return list(permutations(range(num_groups), 2))


def _replaced(model: nn.Module, seen: _Seen, replacement: _Replacement) -> AbstractContextManager[None]:
    def replace(module: nn.Module, values: Tensor, *_: Any) -> Tensor:
        return replacement.replace(values, seen.means[replacement.part, module]).expand_as(values)

    return ablated_each(model, replacement.part, replace)


def _cut(model: nn.Module, seen: _Seen, link: tuple[int, int]) -> AbstractContextManager[None]:
    listener, speaker = link

    def replace(module: CGFF, values: Tensor, x: Tensor) -> Tensor:
        heard, mean = heard_from(module, x, speaker)[:, listener], seen.means[f"from {speaker}", module][listener]
        return values.index_add(1, torch.tensor([listener], device=values.device), (mean - heard).unsqueeze(1))

    return ablated_each(model, "exchange", replace)


def _outputs_in(
    contexts: list[Callable[[], AbstractContextManager[None]]], model: nn.Module, batches: Batches
) -> list[Tensor]:
    outputs: list[list[Tensor]] = [[] for _ in contexts]
    for images, _ in batches:
        with trunk_run_once(model):
            on_device = images.to(_device(model))
            for found, context in zip(outputs, contexts, strict=True):
                with context():
                    found.append(model(on_device).float().cpu())
    return [torch.cat(found) if found else torch.empty(0) for found in outputs]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
