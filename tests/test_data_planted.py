"""Planted relations: what is drawn is what is said, and a model that has to listen finds out to whom."""

import numpy as np
import pytest
import torch
from torch import nn

from mtattn import FARAMTN, DWSLoss, functional
from mtattn.ablation import measure_ablations
from mtattn.data import PlantedRelations
from mtattn.data.synthetic.planted import CYCLE, MARKS, NO, REGIONS, YES

pytest.importorskip("resvg_py", reason="the extra recipes is not installed")
pytest.importorskip("dicebear_styles", reason="the extra recipes is not installed")


def pixels(planted, index):
    return np.asarray(planted[index][0]).astype(int)


def said(picture, group):
    """What the mark in a group's region says."""
    top, left = (len(picture) // 16 * side for side in MARKS[group])
    return {YES: True, NO: False}[tuple(picture[top, left].tolist())]


class TestPictures:
    def test_marks_tell_the_listeners_labels(self):
        planted = PlantedRelations(12)
        for index in range(12):
            labels = dict(zip(planted.groups, planted[index][1].tolist(), strict=True))
            for listener, speaker in CYCLE.items():
                assert said(pixels(planted, index), speaker) == labels[listener]

    def test_nothing_of_a_covered_region_is_seen_but_its_mark(self):
        planted = PlantedRelations(6, relations={"Mouth": "Hair"})
        mouth = planted.masks[list(planted.groups).index("Mouth")].bool().numpy()
        assert all((pixels(planted, index)[mouth] == 128).all() for index in range(6))

    def test_a_share_of_regions_stays_open(self):
        planted = PlantedRelations(60, relations={"Mouth": "Hair"}, covered=0.5)
        top, left, *_ = (4 * side for side in REGIONS["Mouth"][0])
        covered = sum((pixels(planted, index)[top + 2, left + 2] == 128).all() for index in range(60))
        assert 15 < covered < 45

    def test_a_weak_mark_is_wrong_as_often_as_it_says(self):
        planted = PlantedRelations(200, relations={"Mouth": "Hair"}, strength=0.8, size=16)
        right = [said(pixels(planted, index), "Hair") == bool(planted[index][1][3]) for index in range(200)]
        assert 0.7 < sum(right) / 200 < 0.9

    def test_the_same_seed_draws_the_same_and_labels_are_those_of_the_pictures(self):
        first, again, other = PlantedRelations(4), PlantedRelations(4), PlantedRelations(4, seed=1)
        assert all((pixels(first, index) == pixels(again, index)).all() for index in range(4))
        assert any((pixels(first, index) != pixels(other, index)).any() for index in range(4))
        assert torch.equal(first.targets, torch.stack([first[index][1] for index in range(4)]))
        assert len(list(zip(first, range(9), strict=False))) == 4

    def test_labels_are_even_and_independent(self):
        targets = PlantedRelations(2000).targets
        assert ((targets.mean(0) - 0.5).abs() < 0.05).all()
        assert (torch.corrcoef(targets.T) - torch.eye(5)).abs().max() < 0.1

    def test_regions_do_not_overlap(self):
        masks = PlantedRelations(1, size=32).masks
        assert masks.shape == (5, 32, 32)
        assert (masks.sum(0) <= 1).all()
        assert (masks.sum((1, 2)) > 0).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param({"relations": {"Mouth": "Mouth"}}, "every group listens to another one", id="oneself"),
            pytest.param({"relations": {"Mouth": "Hair", "Neck": "Hair"}}, "room for one mark", id="two marks"),
            pytest.param({"relations": {"Mouht": "Hair"}}, "did you mean 'Mouth'", id="unknown"),
            pytest.param({"num_faces": 0}, "num_faces is 1 or more, got 0", id="none"),
            pytest.param({"covered": 1.5}, r"covered lies in \[0, 1\], got 1.5", id="covered"),
            pytest.param({"strength": 0.2}, "strength is a probability, from 0.5 to 1, got 0.2", id="strength"),
            pytest.param({"size": 40}, "size is a multiple of 16, got 40", id="size"),
            pytest.param({"seed": -1}, "seed is 0 or more, got -1", id="seed"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            PlantedRelations(**{"num_faces": 4} | arguments)


class InRegions(FARAMTN):
    """A FARAMTN whose groups see their own regions only."""

    def forward_features(self, images):
        """As its parent's."""
        features = self.trunk(images)
        positions = functional.mask_positions(PlantedRelations(1).masks[None], features.shape[-2:])
        return self.cgff(self._project(self.wsgsa.pooled(features, positions.expand(len(images), -1, -1, -1))))


class Uniform(nn.Module):
    """A CGFF in which every group listens to all alike."""

    def __init__(self, cgff):
        super().__init__()
        self.value, self.output = cgff.value, cgff.output

    def forward(self, x):
        """Add what the mean over the groups says."""
        return x + self.output(self.value(x)).mean(1, keepdim=True) / x.shape[2] ** 0.5


class TestWhoHasToListen:
    @pytest.fixture(scope="class")
    def faces(self):
        def drawn(count, seed):
            planted = PlantedRelations(count, size=16, seed=seed)
            images = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in planted])
            return images.float() / 255, planted.targets

        return drawn(400, 0), drawn(300, 1)

    def trained(self, faces, exchange=lambda cgff: cgff):
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32), nn.ReLU())  # no position sees another
        options = {"num_heads": 4, "reduction": None, "spatial": False, "affinity": "pairs"}
        model = InRegions(trunk, 32, PlantedRelations.groups, **options)
        model.cgff = exchange(model.cgff)
        loss, optimizer = DWSLoss(model.groups), torch.optim.AdamW(model.parameters(), lr=0.01)
        images, targets = faces[0]
        for _ in range(25):
            for part in torch.randperm(len(images)).split(50):
                loss(model(images[part]), targets[part]).backward()
                optimizer.step()
                optimizer.zero_grad()
        return model.eval()

    @torch.no_grad()
    def share_right(self, model, faces):
        images, targets = faces[1]
        return ((model(images) > 0) == (targets > 0.5)).float().mean().item()

    def test_cgff_finds_out_to_whom_and_the_links_that_matter_are_the_planted_ones(self, faces):
        model = self.trained(faces)
        assert self.share_right(model, faces) > 0.95
        links = measure_ablations(model, [faces[1]], model.groups, num_resamples=50).links
        assert {(link.listener, link.speaker) for link in links if link.mean.high < -0.1} == PlantedRelations(1).links

    @pytest.mark.parametrize("exchange", [nn.Identity, Uniform], ids=["nothing", "the same from all"])
    def test_without_exchange_or_with_the_same_for_all_it_cannot(self, faces, exchange):
        model = self.trained(faces, lambda cgff: exchange(cgff) if exchange is Uniform else exchange())
        assert self.share_right(model, faces) < 0.8
