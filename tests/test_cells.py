"""Where the cells of maps look, and that they are drawn there: a bright spot on every backbone lands where it is."""

import copy
import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mtattn import FARAMTN, AttributeGroups
from mtattn.functional import Centres, draw_maps, square_centres
from mtattn.models import map_centres

GROUPS = AttributeGroups({f"group {g}": [f"attribute {g}.{a}" for a in range(8)] for g in range(2)})
ONE = AttributeGroups({"mouth": ["Smiling"]})
BEFORE = {  # name: (size, how far from the squares its cells look, in cells, as the padding of its strides tells)
    "resnet18": (160, -0.484),
    "resnet50": (160, -0.484),
    "convnext_atto": (160, 0.0),
    "mobilenetv3_small_100": (256, -0.484),
    "tf_efficientnet_lite0": (256, 0.484),
    "vit_tiny_patch16_224": (64, 0.0),
}


def on_timm(name, groups=GROUPS, **options):
    torch.manual_seed(0)
    options |= {"backbone_options": {"img_size": 64}} if name.startswith("vit") else {}
    return FARAMTN.from_timm(name, groups, **options).eval()


@torch.no_grad()
def evened(model):
    """Where norms are batch norms, let each convolution average and each norm do nothing: fields of view are smooth."""
    if any(isinstance(module, nn.BatchNorm2d) for module in model.trunk.modules()):
        for module in (*model.trunk.modules(), *model.wsgsa.shared.modules()):
            if isinstance(module, nn.Conv2d):
                module.weight.abs_().div_(module.weight.sum((1, 2, 3), keepdim=True))
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.weight.fill_(1)
    return model


@torch.no_grad()
def landing(model, size, centres, num_spots=4):
    """By how many cells the drawn change lies beside a spot, on average over spots that cross one cell."""
    base = 1e-3 * torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    cells = model.attribute_maps(base).shape[-1]
    cell, side = size // cells, size // cells // 4
    changes = []
    for index in range(num_spots):
        start = size // 2 - cell // 2 + cell * index // num_spots - side // 2
        image = base.clone()
        image[..., start : start + side, start : start + side] += 2e-3  # on the diagonal
        drawn = draw_maps(model.attribute_maps(image) - model.attribute_maps(base), (size, size), centres)
        changes.append((start + side / 2, drawn.double().square().sum((0, 1))))
    return [_balance([(at, change.sum(1 - axis)) for at, change in changes], size) / cell for axis in (0, 1)]


def _balance(profiles, size):
    """The point, from the spot, about which the change balances within what is seen on both of its sides."""
    pixels, found = torch.arange(size) + 0.5, 0.0
    reach = min(min(at, size - at) for at, _ in profiles)
    for _ in range(500):
        weights = [(reach - abs(found) + 0.5 - (pixels - at - found).abs()).clamp(0, 1) * p for at, p in profiles]
        moments = sum(float((w * (pixels - at)).sum()) for w, (at, _) in zip(weights, profiles, strict=True))
        found = moments / sum(float(w.sum()) for w in weights)
    return found


@pytest.mark.parametrize("name", BEFORE)
def test_a_bright_spot_lands_where_it_is(name):
    size, beside = BEFORE[name]
    model = evened(on_timm(name, spatial=False))
    before, after = landing(model, size, None), landing(model, size, map_centres(model, (size, size)))
    assert max(map(abs, after)) < 0.1
    assert before == pytest.approx([-beside, -beside], abs=0.1)


@pytest.mark.parametrize("name", BEFORE)
def test_cells_look_where_the_padding_of_the_strides_puts_them(name):
    _, beside = BEFORE[name]
    rows, columns = map_centres(on_timm(name, ONE), (64, 64))
    found = torch.tensor([rows, columns]) * len(rows) - torch.arange(len(rows)) - 0.5
    torch.testing.assert_close(found, torch.full_like(found, beside), atol=0.001, rtol=0)


def test_cells_of_a_picture_of_uneven_size_keep_their_step():
    rows, columns = map_centres(on_timm("resnet18", ONE), (218, 178))
    assert len(rows) == 7
    assert torch.tensor(columns).mul(178).tolist() == pytest.approx([32 * j + 0.5 for j in range(6)], abs=1e-3)


class Padded(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.sides = (before, after)

    def forward(self, x):
        return F.pad(x, (*self.sides, *reversed(self.sides)))


LAYERS = st.sampled_from(
    [
        lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1),
        lambda: nn.Conv2d(4, 4, (3, 5), stride=(1, 2), padding=(0, 2)),
        lambda: nn.Conv2d(4, 4, 3, dilation=2, padding="same"),
        lambda: nn.Conv2d(4, 4, 3, padding="valid"),
        lambda: nn.Conv2d(4, 4, 1, stride=2),
        lambda: nn.Conv2d(4, 4, 2, stride=2, groups=2),
        lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        lambda: nn.MaxPool2d(3, stride=2, padding=1),
        lambda: nn.MaxPool2d(2),
        lambda: nn.AvgPool2d(3, 2, 1),
        lambda: nn.Sequential(Padded(0, 1), nn.Conv2d(4, 4, 3, stride=2)),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.BatchNorm2d(4),
    ]
)


@settings(max_examples=25)
@given(st.lists(LAYERS, max_size=4))
def test_a_cell_looks_at_the_middle_of_the_pixels_that_it_depends_on(parts):
    layers = [part() for part in parts]
    trunk = nn.Sequential(nn.Conv2d(3, 4, 1), *layers).eval().requires_grad_(False)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.MaxPool2d):  # its gradient has one pixel: let an average stand for it below
            module.stands_for = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
        if isinstance(module, nn.ReLU):  # in place, two after each other have no gradient
            module.stands_for = nn.Identity()
    averaging = nn.Sequential(*(getattr(module, "stands_for", module) for module in trunk))
    images = torch.ones(1, 3, 96, 120, requires_grad=True)
    features = averaging(images)
    model = FARAMTN(trunk, 4, ONE, reduction=1, num_heads=1)
    centres = map_centres(model, (96, 120))
    assert (len(centres.rows), len(centres.columns)) == features.shape[-2:]
    row, column = features.shape[-2] // 2, features.shape[-1] // 2  # far from the border
    (gradient,) = torch.autograd.grad(features[..., row, column].sum(), images)
    for axis, found in enumerate((centres.rows[row] * 96, centres.columns[column] * 120)):
        seen = gradient[0, 0].sum(1 - axis).nonzero().flatten()
        assume(seen.min() > 0 and seen.max() < (96, 120)[axis] - 1)
        assert float(seen.min() + seen.max() + 1) / 2 == pytest.approx(found, abs=1e-3)


class TestTheModel:
    def test_is_left_as_it_was(self):
        model = FARAMTN.from_timm("resnet18", ONE).freeze()
        model.wsgsa.eval()
        before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
        random = torch.get_rng_state()
        map_centres(model, (64, 64))
        assert torch.equal(torch.get_rng_state(), random)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_keeps_what_was_found_and_takes_it_along_when_saved(self, tmp_path, monkeypatch):
        model = FARAMTN.from_timm("resnet18", ONE)
        model.config["image"]["size"] = [64, 96]
        found = map_centres(model)
        assert (len(found.rows), len(found.columns)) == (2, 3)
        model.save_pretrained(tmp_path)
        loaded = FARAMTN.from_pretrained(tmp_path)
        monkeypatch.setattr(loaded, "attribute_maps", None)  # not needed any more
        assert map_centres(loaded) == found

    def test_of_another_size_is_measured_and_not_kept(self):
        model = FARAMTN.from_timm("resnet18", ONE)
        assert len(map_centres(model, (96, 64)).rows) == 3
        assert "map_centres" not in model.config

    @pytest.mark.parametrize(
        "damaged",
        [
            None,
            [],
            {"size": [64, 64]},
            {"size": [64, 64], "rows": [], "columns": [0.2]},
            {"size": [64, 64], "rows": [0.5, 0.2], "columns": [0.2, 0.5]},
            {"size": [64, 64], "rows": [0.2, float("nan")], "columns": [0.2, 0.5]},
            {"size": [64, 64], "rows": ["a", "b"], "columns": [0.2, 0.5]},
        ],
        ids=json.dumps,
    )
    def test_with_a_damaged_entry_is_measured_once_more(self, damaged):
        model = FARAMTN.from_timm("resnet18", ONE)
        model.config["image"]["size"] = [64, 64]
        found = map_centres(model)
        model.config["map_centres"] = damaged
        assert map_centres(model) == found

    def test_without_a_size_is_refused(self):
        with pytest.raises(ValueError, match=r"map_centres: size is that of the images, got None .*; pass size=\."):
            map_centres(FARAMTN(nn.Conv2d(3, 8, 8, 8), 8, ONE, reduction=1))

    @pytest.mark.compile
    def test_may_be_compiled(self):
        trunk = torch.compile(nn.Conv2d(3, 8, 3, stride=2, padding=1))
        assert map_centres(FARAMTN(trunk, 8, ONE, reduction=1), (4, 4)) == ([0.125, 0.625],) * 2

    def test_with_a_trunk_that_cannot_be_followed_looks_at_its_squares(self):
        trunk = torch.jit.trace(nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.rand(1, 3, 4, 4))
        assert map_centres(FARAMTN(trunk, 8, ONE, reduction=1), (4, 4)) == square_centres(2, 2)


def slowly_drawn(values, centres, length):
    drawn = []
    for pixel in range(length):
        at = (pixel + 0.5) / length
        if at <= centres[0] or len(centres) == 1:
            drawn.append(values[0])
        elif at >= centres[-1]:
            drawn.append(values[-1])
        else:
            index = max(i for i, centre in enumerate(centres) if centre <= at)
            share = (at - centres[index]) / (centres[index + 1] - centres[index])
            drawn.append((1 - share) * values[index] + share * values[index + 1])
    return drawn


increasing = st.lists(st.integers(-20, 120), min_size=1, max_size=6, unique=True).map(
    lambda xs: [x / 100 for x in sorted(xs)]
)


class TestDrawing:
    @given(increasing, increasing, st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
    def test_is_that_of_the_slow_loops_row_by_row_and_column_by_column(self, rows, columns, height, width, seed):
        maps = torch.randn(len(rows), len(columns), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        half = [slowly_drawn(column, rows, height) for column in maps.T.tolist()]
        whole = [slowly_drawn(row, columns, width) for row in torch.tensor(half, dtype=torch.float64).T.tolist()]
        drawn = draw_maps(maps, (height, width), Centres(rows, columns))
        torch.testing.assert_close(drawn, torch.tensor(whole, dtype=torch.float64))
        assert drawn.min() >= maps.min() - 1e-9
        assert drawn.max() <= maps.max() + 1e-9

    def test_without_centres_takes_those_of_the_squares(self):
        maps = torch.randn(2, 3, 4, 5)
        assert torch.equal(draw_maps(maps, (40, 60)), draw_maps(maps, (40, 60), square_centres(4, 5)))

    def test_of_too_few_centres_is_refused(self):
        with pytest.raises(
            ValueError, match=r"draw_maps: needs a centre for each of 4 rows and 5 columns .*got 4 and 4\."
        ):
            draw_maps(torch.zeros(4, 5), (8, 8), square_centres(4, 4))
