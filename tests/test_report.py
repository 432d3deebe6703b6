import copy
import csv
import itertools
import json
import math
import re
import tempfile
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from strategies import labelled

from mtattn import AttributeGroups, Categorical, Number, Ordinal
from mtattn.ablation import Ablations, Change, Effect, Link
from mtattn.functional import Centres
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.report import (
    FaceExample,
    plot_attribute_bars,
    plot_attribute_maps,
    plot_links,
    plot_loss_left,
    plot_weights,
    write_metrics,
    write_report,
)
from mtattn.report.ablation import ablation_sentences
from mtattn.report.faces import overlay
from mtattn.report.files import ATTRIBUTE_SCORES
from mtattn.report.kinds import plot_confusion, verdict_of
from mtattn.report.numbers import percent
from mtattn.report.sentences import headline

NAN = math.nan
FACES = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"], "mouth": ["Smiling"]})
HOSTILE = AttributeGroups({"<b>eyes</b> & $x^2$": ["<script>alert(1)</script>"], "_'mouth\"": ["a\n$b_{", "名前"]})
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


def make_split(groups, seed=0, size=60):
    generator = torch.Generator().manual_seed(seed)
    num_attributes = len(groups.attributes)
    targets = (torch.rand(size, num_attributes, generator=generator) < 0.3).float()
    metrics = AttributeMetrics(groups, torch.full((num_attributes,), 0.3))
    metrics.update(3 * targets - 1.5 + torch.randn(size, num_attributes, generator=generator), targets)
    return metrics.compute()


def make_ablations(groups, *, cost=0.03):
    """Make up what parts do: one link costs its listener's attributes, all others nothing."""

    def changes(names, value):
        return {name: Change(value, value - 0.01, value + 0.01) for name in names}

    parts = [
        ("gates", "one half"),
        ("positions", "uniform ones"),
        ("affinity", "uniform weights"),
        ("exchange", "its mean over images"),
    ]
    effects = [
        Effect(*part, Change(-cost, -cost - 0.01, -cost + 0.01), changes(groups.attributes, -cost)) for part in parts
    ]
    links = []
    for listener, speaker in itertools.permutations(groups, 2):
        value = -cost if not links else 0.0
        links.append(
            Link(listener, speaker, 0.5, Change(value, value - 0.01, value + 0.01), changes(groups[listener], value))
        )
    return Ablations(0.8, effects, links, 0.5)


def make_run(groups, *, num_epochs=3, num_faces=2):
    num_attributes = len(groups.attributes)
    generator = torch.Generator().manual_seed(1)
    epoch = {
        "learning_rate": 1e-3,
        "train_loss": 0.4321,
        "group_losses": dict.fromkeys(groups, 0.4),
        "loss_left": dict.fromkeys(groups, 0.75),
        "weights": dict.fromkeys(groups, 1.0),
        "valid": {"mean_accuracy": 0.8, "mean_balanced_accuracy": 0.7, "mean_average_precision": 0.6, "loss": 0.4},
        "images_per_second": 220.0,
        "seconds": 14.8,
    }
    maps = torch.randn(num_attributes, 3, 2, generator=generator)
    logits = maps.mean((1, 2))
    face = FaceExample(torch.rand(3, 24, 20, generator=generator), logits.sigmoid(), torch.ones(num_attributes), maps)
    return {
        "title": "a run",
        "metrics": {
            "test": make_split(groups),
            "valid": make_split(groups, seed=1),
            "settings": {"backbone": "resnet18", "root": Path("faces"), "groups": dict(groups)},
            "versions": {"torch": "2.15"},
        },
        "history": [{"epoch": number + 1, **copy.deepcopy(epoch)} for number in range(num_epochs)],
        "groups": groups,
        "ablations": make_ablations(groups),
        "faces": [face] * num_faces,
    }


def written(folder, run):
    write_report(folder / "report.html", **run)
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="class")
def written_once(tmp_path_factory, groups):
    return written(tmp_path_factory.mktemp("report"), make_run(groups))


class Page(HTMLParser):
    """Collects the elements of a page and complains when they are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "groups",
    [
        FACES,
        HOSTILE,
        AttributeGroups({"face": ["Smiling"]}),
        AttributeGroups({f"group {index}": [f"attribute {index} with quite a long name to it"] for index in range(40)}),
    ],
    ids=["usual", "hostile names", "one attribute", "forty groups"],
    scope="class",
)
class TestAnyGroups:
    def test_the_page_is_closed_properly_and_fetches_nothing(self, written_once):
        page = Page(written_once)
        for tag, attributes in page.elements:
            for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert re.match(r"(data:|#)", attributes.get(name, "#")), (tag, name)
            assert not re.search(r"url\((?!#)|@import", attributes.get("style") or "")
        assert "url(" not in page.text
        assert "@import" not in page.text

    def test_every_picture_says_what_it_shows(self, written_once, groups):
        page = Page(written_once)
        pictures = [attributes for tag, attributes in page.elements if tag == "img"]
        drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
        assert len(pictures) == 2 * (1 + min(8, len(groups)))
        assert all(picture["alt"] for picture in pictures)
        assert len(drawings) == 3 + (len(groups) > 1)  # one group has nobody to hear
        assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)

    def test_every_table_has_a_caption_and_headers_with_a_scope(self, written_once, groups):
        page = Page(written_once)
        tags = [tag for tag, _ in page.elements]
        alone = all(size == 1 for size in groups.sizes)  # then a table of groups would say nothing new
        assert tags.count("table") == tags.count("caption") == 7 - alone
        assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in page.elements if tag == "th")

    def test_no_id_stands_twice(self, written_once):
        ids = [attributes["id"] for _, attributes in Page(written_once).elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_names_arrive_as_text(self, written_once, groups):
        text = written_once
        shown = Page(text).text
        assert all(name in shown for name in (*groups.attributes, *groups))
        assert text.count("<script") == 1
        assert "<b>eyes" not in text

    def test_nothing_warns_on_one_epoch_and_no_numbers(self, tmp_path, groups, recwarn):
        run = make_run(groups, num_epochs=1)
        nothing = json.loads(re.sub(r"0\.\d+|1\.0", "null", json.dumps(run["metrics"]["test"])))
        run["metrics"] = {"test": nothing}
        run["history"][0].update(loss_left=dict.fromkeys(groups), valid=None, train_loss=NAN, images_per_second=None)
        assert "has no labels" in Page(written(tmp_path, run)).text
        assert not recwarn.list


class TestPage:
    def test_scores_stand_in_the_table(self, tmp_path):
        run = make_run(FACES)
        text = written(tmp_path, run)
        for row in run["metrics"]["test"]["attributes"].values():
            for value in row.values():
                assert f">{100 * value:.1f}\xa0%<" in text

    def test_settings_and_versions_are_told(self, tmp_path):
        shown = Page(written(tmp_path, make_run(FACES))).text
        assert "eyes: Eyeglasses, Narrow_Eyes; mouth: Smiling" in shown
        assert all(word in shown for word in ("resnet18", "faces", "2.15"))

    def test_faces_show_probability_and_truth(self, tmp_path):
        run = make_run(FACES)
        face = run["faces"][0]
        targets = torch.tensor([0.0, NAN, 1.0])
        probabilities = torch.tensor([0.93, 0.2, 0.7])
        run["faces"] = [FaceExample(face.image, probabilities, targets, face.maps)]
        run["metrics"]["test"]["attributes"]["Narrow_Eyes"]["accuracy"] = 0
        shown = Page(written(tmp_path, run)).text
        assert "Eyeglasses93 %, truth: no ✗ wrong" in shown
        assert "Smiling70 %, truth: yes" in shown
        assert shown.count("✗ wrong") == 1

    def test_figures_follow_light_and_dark(self, tmp_path):
        text = written(tmp_path, make_run(FACES))
        assert "prefers-color-scheme: dark" in text
        svg = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
        assert "currentColor" in svg
        assert "#1f2328" not in svg
        assert "#ffffff" not in svg

    def test_what_is_not_given_is_left_out(self, tmp_path):
        run = make_run(FACES)
        shown = Page(written(tmp_path, {**run, "history": [], "ablations": None, "faces": ()})).text
        assert not re.search("Training|each part does|evidence", shown.split("</style>")[-1])

    def test_the_same_run_gives_the_same_page(self, tmp_path):
        assert written(tmp_path, make_run(FACES)) == written(tmp_path, make_run(FACES))

    def test_inputs_are_left_as_they_are(self, tmp_path):
        run = make_run(FACES)
        before = copy.deepcopy(run["metrics"]), copy.deepcopy(run["history"])
        written(tmp_path, run)
        assert (run["metrics"], run["history"]) == before

    def test_a_failed_report_leaves_the_old_one(self, tmp_path):
        before = written(tmp_path, make_run(FACES))
        with pytest.raises(KeyError, match="attributes"):
            write_report(tmp_path / "report.html", **{**make_run(FACES), "metrics": {"test": {}}})
        assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
        assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def scores_of(pairs):
    """Make a split's scores from accuracy and baseline of each attribute."""
    rows = {
        name: {
            "accuracy": accuracy,
            "balanced_accuracy": accuracy,
            "f1": accuracy,
            "average_precision": accuracy,
            "majority_accuracy": majority,
        }
        for name, (accuracy, majority) in pairs.items()
    }
    known = [pair for pair in pairs.values() if pair[0] is not None]
    accuracy, majority = (sum(values) / len(known) for values in zip(*known, strict=True)) if known else (None, None)
    means = dict.fromkeys(("mean_accuracy", "mean_balanced_accuracy", "mean_f1", "mean_average_precision"), accuracy)
    return {**means, "majority_accuracy": majority, "attributes": rows}


class TestHeadline:
    @pytest.mark.parametrize(
        ("accuracy", "majority", "said"),
        [
            (0.9, 0.8, "is 90.00 %, 10.00 points above the majority baseline"),
            (0.75, 0.8, "is 75.00 %, 5.00 points below the majority baseline"),
            (0.8, 0.8, "is 80.00 %, level with the majority baseline"),
        ],
        ids=["better", "worse", "level"],
    )
    def test_the_first_sentence_compares_with_the_baseline(self, accuracy, majority, said):
        assert said in headline(scores_of({"Smiling": (accuracy, majority)}))[0].replace("\xa0", " ")

    def test_best_and_worst_attributes_are_named(self):
        text = " ".join(
            headline(scores_of({"Young": (0.7, 0.6), "Bald": (0.9, 0.8), "Male": (0.95, 0.6), "Blurry": (0.5, 0.4)}))
        )
        assert re.search(r"Best by balanced accuracy: Male .*95.0.* and Bald .*Worst: Blurry .*50.0.* and Young", text)

    def test_attributes_at_or_below_their_baseline_are_counted_and_named(self):
        text = headline(scores_of({"Young": (0.6, 0.6), "Bald": (0.7, 0.8), "Male": (0.95, 0.6)}))[-1]
        assert text.startswith("2 of 3 attributes are not more accurate than the majority baseline: Bald (")
        assert "Young (+0.0 points)" in text

    def test_a_model_that_beats_every_baseline_is_told_so(self):
        assert headline(scores_of({"Young": (0.7, 0.6), "Bald": (0.9, 0.8)}))[-1] == (
            "Each of the 2 attributes has a higher accuracy than its majority baseline."
        )

    def test_unlabelled_attributes_are_named_and_not_counted(self):
        sentences = headline(scores_of({"Young": (0.7, 0.6), "Bald": (None, None)}))
        assert "of the one attribute" in sentences[0]
        assert sentences[-1] == "Without labels in the test split, and so counted nowhere: Bald."

    @given(
        st.dictionaries(
            st.sampled_from("abcdefghijklmnopqrst"), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1
        )
    )
    def test_the_count_is_right_whatever_the_scores(self, pairs):
        num_behind = sum(accuracy <= majority for accuracy, majority in pairs.values())
        text = headline(scores_of(pairs))[-1]
        assert text.startswith(f"{num_behind} of {len(pairs)} " if num_behind else ("Each of the", "The one"))


class TestAblations:
    def said(self, **changes):
        said = " ".join(ablation_sentences(make_ablations(FACES)._replace(**changes)))
        return said.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")

    def test_each_part_is_told_with_its_interval_and_the_attribute_that_loses_most(self):
        assert (
            "Without positions (every group sees the whole picture alike), the mean score changes by -3.0 points "
            "(-4.0 to -2.0), most of all Eyeglasses: -3.0."
        ) in self.said()

    def test_what_the_interval_does_not_tell_from_zero_is_called_noise(self):
        found = make_ablations(FACES, cost=0.004)
        said = ablation_sentences(found)
        assert all(sentence.endswith("which is within the noise.") for sentence in said[:4])
        assert said[-1] == "No single link between two groups changes the score of an attribute beyond the noise."
        assert "What each group gains" not in page_of(found)

    def test_the_link_that_matters_is_named_and_the_others_are_bounded(self):
        said = self.said()
        assert "Averaging over images what eyes hears from mouth costs Eyeglasses 3.0 points (2.0 to 4.0)." in said
        assert "No other link between two groups changes the score of an attribute beyond the noise." in said
        assert "What each group gains by hearing each other" in page_of(make_ablations(FACES))

    def test_an_interval_that_crosses_zero_has_a_real_minus_and_zero_has_none(self):
        costs = Change(-0.03, -0.06, -0.0001), Change(-0.02, -0.05, -0.0004)
        links = [Link("eyes", name, 0.2, cost, {"x": cost}) for name, cost in zip("ab", costs, strict=True)]
        said = " ".join(ablation_sentences(make_ablations(FACES)._replace(links=links)))
        assert "costs x 3.0 points (0.0 to 6.0)" in said
        gained = [Link("eyes", "mouth", 0.3, Change(value, value, value), {}) for value in (0.0001, 0.02)]
        texts = [text.get_text() for text in plot_links(gained, FACES).axes[0].texts]
        assert texts[::2] == ["+0.0", "\N{MINUS SIGN}2.0"]

    def test_the_figure_warns_where_all_rows_are_alike(self):
        links = make_ablations(FACES).links
        assert plot_links(links, FACES).get_supxlabel() == plot_links(links, FACES, differing=0.4).get_supxlabel() == ""
        assert "0.2 % of what groups hear differs" in plot_links(links, FACES, differing=0.002).get_supxlabel()
        alike, apart = (page_of(make_ablations(FACES)._replace(differing=share)) for share in (0.002, 0.5))
        assert "the percentages tell nothing" in alike
        assert "the percentages tell nothing" not in apart

    def test_three_links_are_named_and_the_fourth_bounds_the_rest(self):
        costs = {name: Change(-0.01 * cost, -0.09, -0.001) for cost, name in enumerate("abcde", 1)}
        links = [Link("eyes", name, 0.2, cost, {"x": cost}) for name, cost in costs.items()]
        said = ablation_sentences(make_ablations(FACES)._replace(links=links))
        assert [sentence.partition(" costs ")[0][-1] for sentence in said[-4:-1]] == ["e", "d", "c"]
        assert said[-1] == "No other link costs an attribute more than 2.0 points."

    def test_groups_that_hear_the_same_are_told(self):
        assert "0.1 % differs from group to group: all groups hear about the same" in self.said(differing=0.001)
        assert "50.0 % differs from group to group." in self.said(differing=0.5)
        assert "differs from group" not in self.said(differing=NAN)

    def test_undefined_changes_are_no_cost(self):
        found = make_ablations(FACES)
        nothing = Change(NAN, NAN, NAN)
        effects = [effect._replace(attributes=dict.fromkeys(FACES.attributes, nothing)) for effect in found.effects]
        assert "nan" not in " ".join(ablation_sentences(found._replace(effects=effects)))
        assert not re.search(">[^<]*nan", page_of(found._replace(effects=effects)).split("</style>")[-1])


def page_of(ablations):
    with tempfile.TemporaryDirectory() as folder:
        return written(Path(folder), {**make_run(FACES), "ablations": ablations})


MIXED = AttributeGroups(
    {
        "face": ["Smiling", Categorical("hair", ("none", "<b>short</b>", "$long$"))],
        "age": [Number("years", unit="years", mean=33, std=20), Ordinal("stage", ("child", "young", "old"))],
    }
)


@pytest.fixture(scope="module")
def mixed():
    outputs, targets = labelled(MIXED, 0, size=60, missing=0.1, dtype=torch.float32)
    metrics = AttributeMetrics(MIXED, Baselines(MIXED, targets), within={"years": 5})
    metrics.update(outputs, targets)
    run = make_run(AttributeGroups(dict(MIXED)))
    maps = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(1))
    face = FaceExample(
        torch.rand(3, 24, 20), maps.mean((1, 2)).sigmoid(), torch.tensor([1.0, 2, 41, NAN]), maps, name="a_b/1.jpg"
    )
    counts = {
        "Smiling": {"labels": 54, "positives": 30},
        "hair": {"labels": 50},
        "years": {"labels": 5},
        "stage": {"labels": 60},
    }
    test = {**metrics.compute(), "labels": counts, "intervals": metrics.intervals(num_resamples=20)}
    for name in ("years", "Smiling"):  # those that the page then shows of their groups
        test["attributes"][name]["skill"] = 0.9
    run["metrics"] = {"test": test, "valid": test}
    return {**run, "groups": MIXED, "faces": [face], "predictions": metrics.predictions()}


class TestEveryKind:
    def test_the_page_is_whole_and_no_age_is_a_yes(self, mixed, tmp_path):
        page = Page(written(tmp_path, mixed))
        assert [tag for tag, _ in page.elements].count("svg") == 1 + 3 + 3  # skill; pairs; training and links
        shown = " ".join(page.text.split())
        for said in (
            "Attributes that are one of several classes",
            "Attributes with levels",
            "Attributes that are numbers",
        ):
            assert said in shown
        assert re.search(r"years-?[\d.]+ years, truth: 41\.0 years", shown)
        assert re.search(r"Smiling\d+ %, truth: yes", shown)
        assert "a_b/1.jpg" in shown
        assert not re.search(r"years\d+ %", shown)

    def test_each_table_shows_the_scores_of_its_kind(self, mixed, tmp_path):
        shown = " ".join(re.sub("<[^>]*>", " ", written(tmp_path, mixed)).split()).replace("\xa0", " ")
        rows = mixed["metrics"]["test"]["attributes"]
        error, skill = rows["years"]["mean_absolute_error"], rows["years"]["skill"]
        assert re.search(rf"years age 5 {error:.2f} [\d.]+ [\d.]+ % .*?{abs(100 * skill):.1f} %", shown)
        assert f"Smiling face 54 30 {100 * rows['Smiling']['accuracy']:.1f} %" in shown
        assert f"stage age 60 {100 * rows['stage']['accuracy']:.1f} %" in shown

    def test_intervals_stand_in_a_table(self, mixed, tmp_path):
        shown = " ".join(re.sub("<[^>]*>", " ", written(tmp_path, mixed)).split()).replace("\xa0", " ")
        low, high = mixed["metrics"]["test"]["intervals"]["mean_accuracy"]
        assert f"accuracy {100 * low:.2f} % {100 * high:.2f} %" in shown

    def test_csv_has_the_scores_of_every_kind(self, mixed, tmp_path):
        write_metrics(tmp_path, mixed["metrics"], MIXED)
        with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["attribute"]: row for row in csv.DictReader(file)}
        assert [row["kind"] for row in rows.values()] == ["binary", "categorical", "number", "ordinal"]
        scores = mixed["metrics"]["test"]["attributes"]["years"]
        assert float(rows["years"]["mean_absolute_error"]) == scores["mean_absolute_error"]
        assert rows["years"]["accuracy"] == ""

    def test_the_headline_tells_the_skill_and_who_has_none(self):
        rows = {"Smiling": {"skill": 0.5}, "years": {"skill": -0.25}, "hair": {"skill": NAN}}
        said = headline({"mean_skill": 0.125, "attributes": rows})
        assert (
            said[0]
            .replace("\xa0", " ")
            .startswith("The mean skill on the test split over 2 attributes is 12.50 %: 0 %")
        )
        assert said[2] == "No better than that answer: years."
        assert said[3].endswith("missing or alike: hair.")

    def test_a_confusion_counts_each_image_once(self):
        stage = MIXED.kinds[3]
        figure = plot_confusion(torch.tensor([0.0, 1, 1, 2]), torch.tensor([0.0, 0, 1, 1]), stage)
        assert [text.get_text() for text in figure.axes[0].texts] == ["50", "50", "0", "0", "50", "50"]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["child (2)", "young (2)", "old (0)"]
        assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())

    @pytest.mark.parametrize(
        ("target", "words", "is_wrong"),
        [(2.0, "old (", False), (0.0, "truth: child", True), (NAN, "no label", False)],
    )
    def test_a_level_is_wrong_where_it_is_another(self, target, words, is_wrong):
        maps = torch.zeros(7, 2, 2)
        maps[5:] = torch.tensor([4.0, 3.0])[:, None, None]  # surely above child, less surely above young
        face = FaceExample(torch.zeros(3, 4, 4), torch.ones(7), torch.tensor([1.0, 0, 33, target]), maps)
        said, wrong, column = verdict_of(face, MIXED, "stage")
        assert (words in said, wrong, column) == (True, is_wrong, 6)


class TestHostileValues:
    def test_nan_predictions_are_not_missing_labels(self):
        scores = scores_of({"Young": (0.7, 0.6), "Bald": (None, 0.8), "Male": (None, None)})
        last = headline(scores)[-1]
        assert "Without labels in the test split, and so counted nowhere: Male." in last
        assert "With predictions that are not numbers (NaN), and so counted nowhere: Bald." in last

    @pytest.mark.parametrize("name", ["font: 12px evil", "#1f2328", "x id='y' font: 9px a; b"])
    def test_a_name_that_looks_like_a_style_stays_as_it_is(self, tmp_path, name):
        text = written(tmp_path, make_run(AttributeGroups({"mouth": [name]})))
        svg = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
        assert escape(name, quote=False) in svg or escape(name) in svg

    def test_a_picture_of_five_colours_is_refused(self):
        face = FaceExample(torch.rand(5, 8, 8), torch.ones(3), torch.ones(3), torch.zeros(3, 2, 2))
        with pytest.raises(ValueError, match="FaceExample: a picture has 1 or 3 colours, got 5"):
            plot_attribute_maps([face], FACES, ["Smiling"])

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\tx"])
    def test_a_name_is_no_formula_in_a_spreadsheet(self, tmp_path, name):
        groups = AttributeGroups({name: [f"{name} too"]})
        write_metrics(tmp_path, {"test": {"attributes": {f"{name} too": dict.fromkeys(ATTRIBUTE_SCORES, 0.5)}}}, groups)
        with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
            row = list(csv.reader(file))[1]
        assert row[:2] == [f"'{name}", f"'{name} too"]


class TestFigures:
    def test_every_figure_is_a_figure_without_pyplot(self):
        run = make_run(FACES)
        figures = [
            plot_attribute_bars(run["metrics"]["test"], FACES),
            plot_loss_left(run["history"]),
            plot_weights(run["history"]),
            plot_links(run["ablations"].links, FACES),
            plot_attribute_maps(run["faces"], FACES, ["Smiling", "Eyeglasses"]),
        ]
        assert all(type(figure) is Figure for figure in figures)

    def test_bars_are_sorted_by_gain_within_their_group(self):
        scores = scores_of({"Eyeglasses": (0.9, 0.89), "Narrow_Eyes": (0.8, 0.5), "Smiling": (0.9, 0.5)})
        labels = plot_attribute_bars(scores, FACES).axes[0].get_yticklabels()
        assert [label.get_text() for label in labels] == ["eyes", "Narrow_Eyes", "Eyeglasses", "mouth", "Smiling"]

    def test_lines_follow_the_history(self):
        history = make_run(FACES)["history"]
        history[1]["loss_left"]["eyes"] = None
        eyes, mouth = plot_loss_left(history).axes[0].get_lines()[:2]
        assert [str(value) for value in eyes.get_ydata()] == ["0.75", "nan", "0.75"]
        assert list(mouth.get_xdata()) == [1, 2, 3]

    def test_a_name_with_an_underscore_in_front_stays_in_the_legend(self):
        legend = plot_weights(make_run(HOSTILE)["history"]).legends[0]
        assert [text.get_text() for text in legend.get_texts()] == list(HOSTILE)

    def test_maps_are_drawn_for_the_named_attributes(self):
        run = make_run(FACES)
        figure = plot_attribute_maps(run["faces"], FACES, ["Smiling"])
        assert len(figure.axes) == 2 * 2 + 1
        assert figure.axes[1].get_title() == "Smiling"

    def test_maps_of_an_unknown_attribute_are_refused(self):
        with pytest.raises(ValueError, match="plot_attribute_maps: no attribute 'Smilling'; did you mean 'Smiling'"):
            plot_attribute_maps(make_run(FACES)["faces"], FACES, ["Smilling"])

    def test_maps_of_no_face_are_refused(self):
        with pytest.raises(ValueError, match="needs at least one face, got none"):
            plot_attribute_maps([], FACES, ["Smiling"])

    @pytest.mark.parametrize("color", [1, 3], ids=["grey", "colour"])
    @pytest.mark.parametrize("size", [(7, 5), (300, 200)], ids=["small", "large"])
    def test_pictures_of_any_size_are_drawn(self, tmp_path, color, size):
        run = make_run(FACES)
        face = FaceExample(torch.rand(color, *size), torch.ones(3), torch.ones(3), torch.zeros(3, 2, 2))
        assert 'width="' in written(tmp_path, {**run, "faces": [face]})

    def test_an_overlay_colours_each_place_by_the_cell_that_looks_there(self):
        maps = torch.tensor([[[4.0, -4.0], [-4.0, -4.0]]])
        face = FaceExample(
            torch.full((3, 50, 50), 0.5), torch.ones(1), torch.ones(1), maps, Centres([0.1, 0.6], [0.1, 0.6])
        )
        drawn = overlay(face, 0, limit=4.0)
        orange = drawn[..., 0] > drawn[..., 2]
        share = orange.float().mean()  # up to the middle between the centres, and inside the corner's curve
        assert orange[:30, :30].any()
        assert not orange[60:].any()
        assert not orange[:, 60:].any()
        squares = overlay(replace(face, centres=None), 0, limit=4.0)
        assert (squares[..., 0] > squares[..., 2]).float().mean() > share


class TestFiles:
    def test_json_holds_what_was_measured_and_null_where_it_is_undefined(self, tmp_path):
        metrics = make_run(FACES)["metrics"]
        metrics["test"]["attributes"]["Smiling"]["f1"] = NAN
        write_metrics(tmp_path / "new" / "run", metrics, FACES)
        text = (tmp_path / "new" / "run" / "metrics.json").read_text(encoding="utf-8")
        loaded = json.loads(text, parse_constant=pytest.fail)
        assert list(loaded) == ["test", "valid", "settings", "versions"]
        assert loaded["test"]["attributes"]["Smiling"]["f1"] is None
        assert loaded["test"]["mean_accuracy"] == metrics["test"]["mean_accuracy"]
        assert loaded["settings"] == {
            "backbone": "resnet18",
            "root": "faces",
            "groups": {k: list(v) for k, v in FACES.items()},
        }

    def test_csv_has_one_row_an_attribute(self, tmp_path):
        metrics = make_run(HOSTILE)["metrics"]
        metrics["test"]["attributes"]["名前"]["f1"] = NAN
        write_metrics(tmp_path, metrics, HOSTILE)
        with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["attribute"] for row in rows] == list(HOSTILE.attributes)
        assert [row["group"] for row in rows] == [list(HOSTILE)[index] for index in HOSTILE.group_of]
        for row in rows:
            for score, value in metrics["test"]["attributes"][row["attribute"]].items():
                assert row[score] == ("" if math.isnan(value) else str(value))

    def test_files_replace_older_ones_and_leave_no_others(self, tmp_path):
        for _ in range(2):
            write_metrics(tmp_path, make_run(FACES)["metrics"], FACES)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]

    def test_what_was_loaded_from_json_gives_the_same_page(self, tmp_path):
        run = make_run(FACES)
        run["metrics"]["test"]["attributes"]["Smiling"]["f1"] = NAN
        write_metrics(tmp_path, run["metrics"], FACES)
        before = written(tmp_path, run)
        loaded = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
        assert written(tmp_path, {**run, "metrics": loaded}) == before


@pytest.mark.parametrize(("num_classes", "alone"), [(3, False), (11, True)])
def test_a_matrix_that_is_too_wide_for_half_a_page_has_a_row_of_its_own(num_classes, alone):
    from mtattn.report.page import _predictions

    groups = AttributeGroups({"coat": [Categorical("color", tuple(f"color {place}" for place in range(num_classes)))]})
    labels = torch.arange(num_classes).float()
    assert ('<figure class="wide">' in _predictions({"color": (labels, labels)}, groups)) == alone


@pytest.mark.parametrize(
    ("share", "text"),
    [(-1e-6, "0.0 %"), (0.0, "0.0 %"), (-0.012, "\N{MINUS SIGN}1.2 %"), (None, "\N{EN DASH}")],
    ids=["rounds to zero", "zero", "negative", "undefined"],
)
def test_a_share_that_rounds_to_zero_is_not_negative(share, text):
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text
