"""Ablation at inference: what is replaced, what is measured, and that nothing stays replaced."""

import pytest
import torch
from torch import nn

from mtattn import CGFF, FARAMTN, WSGSA, AttributeGroups, Categorical, DWSLoss, GroupHeads, Number, Ordinal
from mtattn.ablation import ablated, measure_ablations
from mtattn.ablation.changes import Scorer

GROUPS = AttributeGroups({"eyes": ["glasses"], "mouth": ["smile", "lips"], "hair": ["bald"]})


@pytest.fixture
def model():
    model = FARAMTN(nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16)), 16, GROUPS, num_heads=2).eval()
    for parameter in [*model.wsgsa.parameters(), model.cgff.output.weight]:
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def batches():
    return [(torch.randn(10, 3, 16, 16), torch.randint(2, (10, 4)).float()) for _ in range(3)]


class TestAblated:
    def test_gates_are_replaced_in_features_outputs_and_maps_and_come_back(self, model, batches):
        images, before = batches[0][0], model(batches[0][0])
        with ablated(model, "gates", lambda gates: gates.mean(1, keepdim=True).expand_as(gates)):
            inside = model(images)
            torch.testing.assert_close(model.attribute_maps(images).mean((-2, -1)), inside)
            gates = model.wsgsa.gates(model.trunk(images))
        assert torch.equal(gates[:, 0], gates[:, 2])
        assert not torch.allclose(inside, before)
        assert torch.equal(model(images), before)

    def test_uniform_positions_are_those_of_a_module_that_weighs_none(self, model, batches):
        with ablated(model, "positions", torch.ones_like):
            positions = model.wsgsa.positions(model.trunk(batches[0][0]))
        assert torch.equal(positions, torch.ones_like(positions))

    def test_without_exchange_the_model_is_the_one_without_cgff(self, model, batches):
        with ablated(model, "exchange", torch.zeros_like):
            without = model(batches[0][0])
        model.cgff = nn.Identity()
        torch.testing.assert_close(without, model(batches[0][0]))

    def test_ablations_nest_and_end_in_any_order(self, model, batches):
        images, before = batches[0][0], model(batches[0][0])
        outer = ablated(model, "gates", lambda gates: 2 * gates)
        inner = ablated(model, "gates", lambda gates: gates / 2)
        with outer, inner:
            torch.testing.assert_close(model(images), before)
        assert torch.equal(model(images), before)

    def test_an_error_inside_leaves_nothing_replaced(self, model, batches):
        before = model(batches[0][0])
        with pytest.raises(RuntimeError, match="stop"), ablated(model, "gates", torch.zeros_like):
            raise RuntimeError("stop")
        assert torch.equal(model(batches[0][0]), before)

    def test_a_part_that_the_model_lacks_or_nobody_knows_is_refused(self, model):
        with pytest.raises(ValueError, match="ablated: CGFF computes affinity, and WSGSA contains none"):  # noqa: SIM117
            with ablated(WSGSA(16, 2), "affinity", torch.zeros_like):
                pass
        with pytest.raises(ValueError, match="no part 'heads'; there are gates, positions, affinity, exchange"):  # noqa: SIM117
            with ablated(model, "heads", torch.zeros_like):
                pass


def slow_balanced(outputs, targets, rows):
    """Balanced accuracy of each attribute on the given images, counted one by one."""
    scores = []
    for attribute in range(targets.shape[1]):
        shares = []
        for truth in (0, 1):
            of_class = [row for row in rows if targets[row, attribute] == truth]
            if of_class:
                shares.append(sum((outputs[row, attribute] > 0).item() == truth for row in of_class) / len(of_class))
        scores.append(sum(shares) / len(shares))
    return scores


class TestMeasure:
    def test_changes_are_those_of_the_model_with_the_part_replaced(self, model, batches):
        images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        targets[0, 1] = torch.nan
        batches = list(zip(images.split(10), targets.split(10), strict=True))
        found = measure_ablations(model, batches, GROUPS, num_resamples=20)
        rows = range(30)
        before = slow_balanced(model(images), targets, rows)
        assert found.score == pytest.approx(sum(before) / 4)
        with torch.no_grad():
            mean = model.wsgsa.gates(model.trunk(images)).mean(0, keepdim=True)
        replacements = {
            ("gates", "their mean over images"): mean.expand_as,
            ("gates", "one half"): lambda gates: torch.full_like(gates, 0.5),
            ("positions", "uniform ones"): torch.ones_like,
            ("affinity", "uniform weights"): lambda weights: torch.full_like(weights, 1 / 3),
            ("exchange", "nothing"): torch.zeros_like,
        }
        effects = {(effect.part, effect.by): effect for effect in found.effects}
        assert set(replacements) < set(effects)
        for (part, by), replace in replacements.items():
            with ablated(model, part, replace):
                after = slow_balanced(model(images), targets, rows)
            changes = [new - old for new, old in zip(after, before, strict=True)]
            effect = effects[part, by]
            assert [change.value for change in effect.attributes.values()] == pytest.approx(changes, abs=1e-6)
            assert list(effect.attributes) == list(GROUPS.attributes)
            assert effect.mean.value == pytest.approx(sum(changes) / 4, abs=1e-6)
            assert all(change.low <= change.value <= change.high for change in [effect.mean])

    def test_cutting_a_link_puts_the_mean_of_what_is_heard_in_its_place(self, model, batches):
        images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        found = measure_ablations(model, batches, GROUPS, num_resamples=5)
        assert len(found.links) == 6
        link = next(link for link in found.links if (link.listener, link.speaker) == ("mouth", "hair"))
        with torch.no_grad():
            assert link.weight == pytest.approx(model.affinity(images).mean(0)[1, 2].item(), abs=1e-6)
            grouped = 2 * model.wsgsa.pooled(model.trunk(images))
            heads = [weights[:, 1, 2, None] for weights in model.cgff._affinity(grouped).unbind(1)]
            values = model.cgff.value(grouped[:, 2]).chunk(2, 1)
            mixed = torch.cat([weight * value for weight, value in zip(heads, values, strict=True)], 1)
            heard = model.cgff.output(mixed) / 4  # the root of the channels
            fused = model.cgff(grouped)
            fused[:, 1] += heard.mean(0) - heard
            after = slow_balanced(model.heads(fused), targets, range(30))
            before = slow_balanced(model(images), targets, range(30))
        changes = {name: after[index] - before[index] for index, name in ((1, "smile"), (2, "lips"))}
        assert {name: change.value for name, change in link.attributes.items()} == pytest.approx(changes, abs=1e-6)

    def test_the_trunk_runs_twice_an_image_whatever_is_replaced(self, model, batches):
        seen = []
        model.trunk[0].register_forward_hook(lambda *_: seen.append(1))
        measure_ablations(model, batches, GROUPS, num_resamples=2)
        assert len(seen) == 2 * len(batches)

    def test_what_works_in_place_on_the_trunks_features_is_computed_again(self, batches):
        torch.manual_seed(0)
        model = FARAMTN(nn.Conv2d(3, 16, 4, stride=4), 16, GROUPS, shared=nn.ReLU(inplace=True), num_heads=2).eval()
        nn.init.normal_(model.wsgsa.down_weight)
        found = measure_ablations(model, batches, GROUPS, num_resamples=2)
        model.wsgsa.shared = nn.ReLU()
        assert measure_ablations(model, batches, GROUPS, num_resamples=2)[:3] == found[:3]

    def test_the_model_keeps_its_modes_and_its_numbers(self, model, batches):
        model.train()
        model.trunk.eval()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        measure_ablations(model, batches, GROUPS, num_resamples=2)
        assert model.training
        assert not model.trunk.training
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())

    def test_exchange_that_says_the_same_to_all_groups_differs_by_nothing(self, model, batches):
        nn.init.zeros_(model.cgff.query.weight)  # all listen alike
        assert measure_ablations(model, batches, GROUPS, num_resamples=2).differing == pytest.approx(0, abs=1e-6)

    def test_a_new_model_exchanges_nothing(self, batches):
        found = measure_ablations(FARAMTN(nn.Conv2d(3, 16, 4, stride=4), 16, GROUPS), batches, GROUPS, num_resamples=2)
        assert torch.tensor(found.differing).isnan()
        assert all(link.mean.value == 0 for link in found.links)

    def test_attributes_of_every_kind_are_scored(self):
        face = ["smile", Categorical("hair", ("a", "b", "c"))]
        age = [Ordinal("stage", ("x", "y", "z")), Number("age", mean=2, std=2)]
        groups = AttributeGroups({"face": face, "age": age})
        outputs = torch.tensor([[1, 5, 0, 0, -1, 9, 0.5], [1, 5, 0, 0, 1, -1, 1], [-1, 0, 0, 5, 1, 1, 2]])
        targets = torch.tensor([[0, 0, 0, 3.0], [1, 1, 1, 2], [0, 2, torch.nan, 6]])
        scores = Scorer(targets, groups, num_resamples=1, seed=0)(outputs)[0]
        # smile: no, yes, no of which 1/2 and 1/1 are right; hair: a, b, c of which b is not; stage: x, y, both right;
        # age: said 3, 4, 6, so the errors are 0, 2, 0 where the median, 3, is wrong by 0, 1, 3
        assert scores.tolist() == pytest.approx([3 / 4, 2 / 3, 1, 1 - (2 / 3) / (4 / 3)])

    def test_no_images_and_used_up_batches_are_refused(self, model, batches):
        with pytest.raises(ValueError, match="measure_ablations: needs images, got none"):
            measure_ablations(model, [], GROUPS)
        with pytest.raises(ValueError, match="goes through the batches twice"):
            measure_ablations(model, iter(batches), GROUPS)

    def test_groups_that_are_no_groups_of_the_exchange_have_no_links(self, batches):
        model = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4), Pooled(WSGSA(16, 5)), CGFF(16), nn.Flatten(), nn.Linear(80, 4)
        )
        assert measure_ablations(model, batches, GROUPS, num_resamples=2).links == []


class TestPlantedRelations:
    """Each group has a label that stands in its own features and one that stands in another group's only."""

    names = ("eyes", "nose", "mouth", "hair", "ears")
    groups = AttributeGroups({name: [f"{name} own", f"{name} told"] for name in names})

    def planted(self, seed, count=2000):
        fixed, drawn = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
        said, names = torch.randn(2, 32, generator=fixed), torch.randn(5, 32, generator=fixed)
        labels = torch.randint(2, (count, 5, 2), generator=drawn).float()
        features = (2 * labels - 1) @ said + names + 0.5 * torch.randn(count, 5, 32, generator=drawn)
        return features, torch.stack([labels[..., 0], labels[..., 1].roll(1, 1)], -1).flatten(1)

    def trained(self, part, replace):
        torch.manual_seed(0)
        model = nn.Sequential(CGFF(32, num_heads=4, key_channels=8, norm=False), GroupHeads(32, self.groups))
        loss, optimizer = DWSLoss(self.groups, rule="equal"), torch.optim.AdamW(model.parameters(), 1e-2)
        features, targets = self.planted(seed=1)
        with ablated(model, part, replace):
            for _ in range(12):
                for batch, truth in zip(features.split(100), targets.split(100), strict=True):
                    loss(model(batch), truth).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            features, targets = self.planted(seed=2)
            with torch.no_grad():
                right = ((model(features) > 0) == (targets > 0.5)).float().mean(0)
        return model, right[1::2].mean().item()

    def test_cgff_finds_them_where_uniform_mixing_and_no_exchange_do_not(self):
        model, told = self.trained("affinity", lambda affinity: affinity)
        assert told > 0.97
        assert self.trained("affinity", lambda affinity: torch.full_like(affinity, 1 / 5))[1] < told - 0.2
        assert self.trained("exchange", torch.zeros_like)[1] < 0.6

        found = measure_ablations(model, [self.planted(seed=3)], self.groups, num_resamples=50)
        costly = {(link.listener, link.speaker) for link in found.links if link.mean.value < -0.02}
        assert costly == {(name, self.names[index - 1]) for index, name in enumerate(self.names)}
        assert found.differing > 0.3


class Pooled(nn.Module):
    def __init__(self, wsgsa):
        super().__init__()
        self.wsgsa = wsgsa

    def forward(self, features):
        return self.wsgsa.pooled(features)


def test_a_number_that_is_always_the_same_has_no_score():
    groups = AttributeGroups({"age": ["smile", Number("age", mean=2, std=2)]})
    scores = Scorer(torch.tensor([[1.0, 3.0], [0.0, 3.0]]), groups, num_resamples=1, seed=0)(torch.ones(2, 2))[0]
    assert scores.tolist() == pytest.approx([0.5, torch.nan], nan_ok=True)


def test_a_number_without_its_mean_is_refused():
    with pytest.raises(ValueError, match=r"measure_ablations: the number 'age' has no mean and std yet"):
        measure_ablations(nn.Linear(1, 1), [], AttributeGroups({"age": [Number("age")]}))


def test_an_output_that_is_nan_leaves_its_attribute_without_a_score():
    targets = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    outputs = torch.tensor([[2.0, torch.nan], [-2.0, -1.0], [2.0, 3.0]])
    groups = AttributeGroups({"eyes": ["glasses", "squint"]})
    scores = Scorer(targets, groups, num_resamples=1, seed=0)(outputs)[0]
    assert scores[0] == 1
    assert scores[1].isnan()
    targets[0, 1] = torch.nan  # nobody looks at an output without a label
    assert Scorer(targets, groups, num_resamples=1, seed=0)(outputs)[0, 1] == 1


def test_targets_without_any_label_are_refused():
    groups = AttributeGroups({"eyes": ["glasses"]})
    with pytest.raises(ValueError, match=r"measure_ablations: .* labels, got 3 images without one; pass batches"):
        Scorer(torch.full((3, 1), torch.nan), groups, num_resamples=1, seed=0)
