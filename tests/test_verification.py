"""The LFW protocol against plain loops, the reader of pairs, and what both refuse."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

pytest.importorskip("PIL", reason="the extra recipes is not installed")
from PIL import Image

from mtattn.data import LFWPairs
from mtattn.verification import VerificationMetrics


def drawn(seed, pairs, folds, steps):
    """Similarities on a grid of so many steps, so that some are equal, higher for the same person."""
    torch.manual_seed(seed)
    fold = torch.arange(pairs * folds) % folds
    same = torch.arange(pairs * folds) // folds % 2 == 0
    similarity = (torch.rand(len(fold)) + 0.5 * same).mul(steps).round().div(steps) - 0.7
    order = torch.randperm(len(fold))
    return similarity[order], same[order], fold[order]


def slow_accuracies(similarity, same, fold):
    """For each fold: of all thresholds between similarities of the others, lowest first, the best; how right it is."""
    rows = list(zip(similarity.double().tolist(), same.tolist(), fold.tolist(), strict=True))
    result = []
    for number in sorted({row[2] for row in rows}):
        others, here = [r for r in rows if r[2] != number], [r for r in rows if r[2] == number]
        values = sorted({score for score, _, _ in others})
        edges = [values[0] - 1, *((a + b) / 2 for a, b in pairwise(values)), values[-1] + 1]
        best = max(edges, key=lambda edge: (sum((s >= edge) == truth for s, truth, _ in others), -edge))
        result.append(sum((s >= best) == truth for s, truth, _ in here) / len(here))
    return result


class TestVerificationMetrics:
    @given(st.integers(0, 2**31 - 1), st.sampled_from([2, 6]), st.sampled_from([2, 3, 10]), st.sampled_from([5, 1000]))
    def test_it_is_what_the_loops_find(self, seed, pairs, folds, steps):
        similarity, same, fold = drawn(seed, pairs, folds, steps)
        metrics = VerificationMetrics()
        half = len(same) // 2
        metrics.update(similarity[:half], same[:half], fold[:half])
        metrics.update(similarity[half:], same[half:], fold[half:])
        scores, slow = metrics.compute(), slow_accuracies(similarity, same, fold)
        mean = sum(slow) / folds
        spread = math.sqrt(sum((value - mean) ** 2 for value in slow) / (folds - 1))
        assert scores["accuracy"] == pytest.approx(mean)
        assert scores["standard_error"] == pytest.approx(spread / math.sqrt(folds), abs=1e-12)
        assert scores["pairs"] == len(same)
        for rate, found in scores["tar"].items():
            edges = [*similarity.unique().tolist(), math.inf]
            accepted = [(similarity >= edge) for edge in edges]
            allowed = [a[same].double().mean() for a in accepted if a[~same].double().mean() <= rate]
            assert found == pytest.approx(float(max(allowed)))

    def test_what_the_caller_does_to_its_tensors_afterwards_changes_nothing(self):
        given, metrics, expected = drawn(0, 6, 4, 1000), VerificationMetrics(), VerificationMetrics()
        given = given[0].double(), *given[1:]
        expected.update(*(tensor.clone() for tensor in given))
        metrics.update(*given)
        for tensor in given:
            tensor.zero_()
        assert metrics.compute() == expected.compute()

    @given(st.integers(0, 2**31 - 1), st.sampled_from([0.01, 1.0, 300.0]))
    def test_the_scale_of_the_similarities_does_not_matter(self, seed, scale):
        similarity, same, fold = drawn(seed, 6, 4, 1000)
        scores = []
        for factor in (1, scale):
            metrics = VerificationMetrics([0.1])
            metrics.update(factor * similarity.double(), same, fold)
            scores.append(metrics.compute())
        for name in ("accuracy", "eer", "tar"):
            assert scores[0][name] == scores[1][name], name

    def test_the_equal_error_rate_is_where_both_errors_are_equal(self):
        metrics = VerificationMetrics()
        similarity = torch.tensor([4.0, 3.0, 2.0, -1.0, 2.5, 0.0, -2.0, -3.0])
        metrics.update(similarity, torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]).bool(), torch.tensor([0, 1] * 4))
        assert metrics.compute()["eer"] == pytest.approx(0.25)

    @pytest.mark.parametrize(
        ("similarity", "same", "fold", "message"),
        [
            ([0.1, 0.2], [1, 0], [0, 0], "two or more, got 1"),
            ([0.1, math.nan], [1, 0], [0, 1], "got NaN for 1 of 2 pairs"),
            ([0.1, 0.2], [1, 1], [0, 1], "pairs of both kinds, got one kind only"),
        ],
        ids=["one fold", "NaN", "one kind"],
    )
    def test_what_cannot_be_measured_is_refused(self, similarity, same, fold, message):
        metrics = VerificationMetrics()
        metrics.update(torch.tensor(similarity), torch.tensor(same).bool(), torch.tensor(fold))
        with pytest.raises(ValueError, match=f"VerificationMetrics: .*{message}"):
            metrics.compute()

    def test_other_shapes_are_refused(self):
        with pytest.raises(
            (ValueError, TypeCheckError), match=r"one number a pair, got \(2,\), \(3,\), \(2,\)|^Type-check error"
        ):
            VerificationMetrics().update(torch.zeros(2), torch.zeros(3).bool(), torch.zeros(2).long())

    def test_a_rate_that_is_none_is_refused(self):
        with pytest.raises(ValueError, match=r"a rate of false accepts lies in \(0, 1\), got 1"):
            VerificationMetrics([0.1, 1.0])


LINES = ["2\t1", "Ann\t1\t2", "Ann\t1\tBob\t1", "Bob\t1\t3", "Bob\t3\tAnn\t2"]


@pytest.fixture
def root(tmp_path):
    for person, number, grey in (("Ann", 1, 10), ("Ann", 2, 20), ("Bob", 1, 30), ("Bob", 3, 40)):
        (tmp_path / "lfw" / person).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / f"lfw/{person}/{person}_{number:04d}.jpg")
    (tmp_path / "pairs.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path


class TestLFWPairs:
    def test_it_gives_each_picture_once_and_the_pairs_by_index(self, root):
        pairs = LFWPairs(root, transform=lambda image: image.getpixel((4, 4))[0])
        assert pairs.files == ("Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg", "Bob/Bob_0003.jpg")
        greys = torch.tensor([pairs[i] for i in range(len(pairs))])
        assert (greys - torch.tensor([10, 20, 30, 40])).abs().max() <= 2
        both = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        assert both == [(0, 1), (0, 2), (2, 3), (3, 1)]
        assert pairs.same.tolist() == [True, False, True, False]
        assert pairs.fold.tolist() == [0, 0, 1, 1]
        assert (pairs.missing, pairs.left_out) == ((), 0)

    def test_pairs_without_a_picture_are_counted_and_named(self, root):
        (root / "lfw/Bob/Bob_0003.jpg").unlink()
        with pytest.raises(
            FileNotFoundError, match=r'1 pictures of 2 among 4 pairs .* Bob/Bob_0003\.jpg; missing="skip"'
        ):
            LFWPairs(root)
        with pytest.warns(UserWarning, match=r"Bob/Bob_0003\.jpg; 2 pairs are used"):
            pairs = LFWPairs(root, missing="skip")
        assert (pairs.missing, pairs.left_out, len(pairs.same)) == (("Bob/Bob_0003.jpg",), 2, 2)
        assert pairs.files == ("Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg")

    @pytest.mark.parametrize(
        ("line", "text", "message"),
        [
            (0, "2", "begins with the numbers of folds and of pairs"),
            (0, "3\t1", "3 folds of 1 same and 1 different pairs, 6 lines, got 4"),
            (1, "Ann\t1\tBob\t1", "line 2 of .* is a name and two numbers, got 'Ann 1 Bob 1'"),
            (2, "Ann\t1\t2", "line 3 of .* is a name and a number, twice"),
            (3, "Bob\tone\t3", "line 4 of .* is a name and two numbers, got 'Bob one 3'"),
        ],
        ids=["header", "length", "same", "different", "number"],
    )
    def test_a_line_of_another_form_is_named(self, root, line, text, message):
        lines = [*LINES]
        lines[line] = text
        (root / "pairs.txt").write_text("\n".join(lines))
        with pytest.raises(ValueError, match=f"LFWPairs: .*{message}"):
            LFWPairs(root)

    def test_a_root_without_the_list_is_told_what_is_missing(self, root):
        (root / "pairs.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"LFWPairs: needs pairs\.txt"):
            LFWPairs(root)
