"""Recognition and age beside attributes, as heads on the map of one frozen trunk, each with the same search.

LFWA knows attributes and, by LFW's folders, people; FairFace knows ages and nothing else. Nobody in a pair that is
measured was trained on.

python benchmarks/study/recognition.py --root path/to/lfwa --fairface path/to/fairface --weights ...
"""

import sys
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cost import multiply_adds
from features import Features, Source, load, study_options
from finished import Runs
from grouping import default_groups
from heads import WIDTH, convolution
from rows import BATCH
from run import HERE, Job
from torch import Tensor, nn
from training import Settings, parameter_groups

from mtattn import CGFF, WSGSA, AttributeGroups, Categorical, DWSLoss, GroupHeads, Number
from mtattn.data import LFWA, LFWPairs
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.modules import AttentionalFusion, EmbeddingHead
from mtattn.training.epochs import warmup_then_cosine
from mtattn.verification import VerificationMetrics

sys.path.append(str(HERE.parent.parent / "examples" / "systems"))
from identities import CosFace, cosines, people_of, person_of

RESULTS = HERE / "results" / "recognition.jsonl"
RATES, EPOCHS, DECAY, SIZE, EMBEDDING = (0.004, 0.012, 0.036), (3, 9), 0.01, 96, 128
SEARCH_SEED, SEEDS, FOLDS = 1000, 5, 10
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Row:
    """What a model is trained for, and how identity takes in the attributes."""

    title: str
    tasks: tuple[str, ...]
    fusion: str = ""


ROWS: Mapping[str, Row] = {
    "attributes": Row("attributes alone; faces compared by the cosine of their logits", ("attributes",)),
    "identity": Row("identity alone", ("identity",)),
    "age": Row("age alone", ("age",)),
    "joined": Row("SwinFace's joined training: one convolution for all", ("attributes", "identity", "age"), "one"),
    "mix": Row("AAFACE's fusion: AttentionalFusion", ("attributes", "identity"), "mix"),
    "listen": Row("CGFF, in which identity is a group that listens", ("attributes", "identity"), "listen"),
}


@dataclass(frozen=True)
class Part:
    """Maps with what is known of each; NaN is unknown."""

    maps: Tensor
    targets: Mapping[str, Tensor]  # (image, label) for each task

    def join(self, other: "Part") -> "Part":
        targets = {task: torch.cat([own, other.targets[task]]) for task, own in self.targets.items()}
        return Part(torch.cat([self.maps, other.maps]), targets)


@dataclass(frozen=True)
class Pairs:
    """Which pictures of a part are compared."""

    first: Tensor
    second: Tensor
    same: Tensor
    fold: Tensor


@dataclass(frozen=True)
class Data:
    """Two data sets in three splits, the pairs of the two that are measured, and what the labels mean."""

    groups: AttributeGroups
    people: AttributeGroups
    ages: AttributeGroups
    faces: Mapping[str, Part]
    aged: Mapping[str, Part]
    pairs: Mapping[str, Pairs]

    def part(self, row: Row, split: str) -> Part:
        """Give the pictures that know something of what a row is trained for."""
        if row.tasks == ("age",):
            return self.aged[split]
        return self.faces[split].join(self.aged[split]) if "age" in row.tasks else self.faces[split]


class Head(nn.Module):
    """A gate for each group of attributes and for the age, and an embedding of the mean over positions."""

    def __init__(self, channels: int, groups: AttributeGroups, ages: AttributeGroups, row: Row) -> None:
        super().__init__()
        heads = {"attributes": groups, "age": ages}
        self.sizes = {task: len(heads[task]) for task in row.tasks if task in heads}
        number, compares = sum(self.sizes.values()), "identity" in row.tasks
        self.soft = convolution(channels) if number else None
        own = compares and row.fusion != "one"
        self.face = convolution(channels) if own else None
        self.wsgsa = WSGSA(WIDTH, number) if number else None
        self.heads = nn.ModuleDict({task: GroupHeads(WIDTH, heads[task]) for task in self.sizes})
        self.mix = AttentionalFusion(WIDTH) if row.fusion == "mix" else None
        listens = [[i in (j, number) for j in range(number + 1)] for i in range(number + 1)]  # identity is the last
        self.cgff = CGFF(WIDTH, allowed=listens) if row.fusion == "listen" else None
        self.embedding = EmbeddingHead(WIDTH, EMBEDDING) if compares else None

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        soft = None if self.soft is None else self.soft(maps)
        grouped = None if soft is None else 2 * self.wsgsa.pooled(soft)  # gates start near one half
        found = {}
        if self.embedding is not None:
            face = soft if self.face is None else self.face(maps)
            who = (face if self.mix is None else self.mix(face, soft)).mean((2, 3))
            if self.cgff is not None:
                fused = self.cgff(torch.cat([grouped, who[:, None]], 1))
                grouped, who = fused[:, :-1], fused[:, -1]
            found["identity"] = self.embedding(who)
        if grouped is not None:
            parts = grouped.split(list(self.sizes.values()), 1)
            found |= {task: self.heads[task](own) for task, own in zip(self.sizes, parts, strict=True)}
        return found


class Loss(nn.Module):
    """The sum of the losses of the tasks: each is what a model for it alone is trained by."""

    def __init__(self, data: Data, row: Row) -> None:
        super().__init__()
        losses = {
            "attributes": DWSLoss(data.groups, rule="equal"),
            "identity": CosFace(data.people),
            "age": DWSLoss(data.ages, rule="equal"),
        }
        self.losses = nn.ModuleDict({task: losses[task] for task in row.tasks})
        number = len(data.people.kinds[0].classes)
        self.people = nn.Parameter(torch.randn(number, EMBEDDING)) if "identity" in row.tasks else None

    def forward(self, found: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros(())
        for task, loss in self.losses.items():
            outputs = cosines(found[task], self.people) if task == "identity" else found[task]
            total = total + loss(outputs, targets[task])
        return total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="the folder of LFWA, with LFW's pairs.txt")
    parser.add_argument("--fairface", type=Path, required=True, help="the folder of FairFace, for the ages")
    study_options(parser, RESULTS)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data, runs = data_of(options), Runs(options.results)
    for name in options.rows:
        for rate in RATES:
            do(data, runs, name, SEARCH_SEED, Settings(rate, DECAY, EPOCHS[0]), "valid")
        rate = best(runs, name, EPOCHS[0]).learning_rate
        do(data, runs, name, SEARCH_SEED, Settings(rate, DECAY, EPOCHS[1]), "valid")
    for seed in range(options.seeds):  # seed by seed: a cut leaves all rows
        for name in options.rows:
            do(data, runs, name, seed, best(runs, name), "test")


def best(runs: Runs, name: str, epochs: int | None = None) -> Settings:
    """Give the settings of a row that were best in its search, by the mean over its tasks."""
    tried = [r for r in runs.done if r["row"] == name and r["split"] == "valid" and epochs in {None, r["epochs"]}]
    found = max(tried, key=lambda record: record["chosen_by"])
    return Settings(found["learning_rate"], found["weight_decay"], found["epochs"])


def do(data: Data, runs: Runs, name: str, seed: int, settings: Settings, split: str) -> None:
    """Do a run, if it is still to do."""
    if runs.lacks(Job(None, name, seed, settings, split)):
        record = measure(data, name, seed, settings, split)
        runs.add(record)
        print(
            *(f"{key} {value:.4g}" if isinstance(value, float) else value for key, value in record.items()), flush=True
        )


def measure(data: Data, name: str, seed: int, settings: Settings, split: str) -> dict[str, Any]:
    """Train a row once and score it on a split."""
    torch.manual_seed(seed)
    start, row = time.perf_counter(), ROWS[name]
    train = data.part(row, "train")
    head, loss = Head(train.maps.shape[1], data.groups, data.ages, row), Loss(data, row)
    fit(head, loss, train, settings)
    return {
        "row": name,
        "seed": seed,
        **{key: value for key, value in asdict(settings).items() if key != "trunk_factor"},
        "split": split,
        **score(head.eval(), data, row, split),
        "parameters": sum(parameter.numel() for parameter in head.parameters()),
        "multiply_adds": multiply_adds(head, train.maps[:1].float()),
        "seconds": round(time.perf_counter() - start, 1),
    }


def fit(head: Head, loss: Loss, part: Part, settings: Settings) -> None:
    """Train; the last batch of an epoch is left out where it is small."""
    optimizer = torch.optim.AdamW(parameter_groups(head, loss, settings))
    steps = len(part.maps) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(0.1, settings.epochs * steps))
    for _ in range(settings.epochs):
        for images in torch.randperm(len(part.maps)).split(BATCH)[:steps]:
            optimizer.zero_grad()
            loss(head(part.maps[images].float()), {t: own[images] for t, own in part.targets.items()}).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def score(head: Head, data: Data, row: Row, split: str) -> dict[str, Any]:
    """Score a model in all that it is trained for, and say how good that is as a whole, from 0 to 1."""
    scores: dict[str, Any] = {}
    whole = []
    faces, pairs = data.faces[split], data.pairs
    if row.tasks != ("age",):
        found = outputs_of(head, faces.maps)
    if "attributes" in row.tasks:
        metrics = AttributeMetrics(data.groups, train_rates(data.faces["train"].targets["attributes"]))
        metrics.update(found["attributes"], faces.targets["attributes"])
        measured = metrics.compute()
        names = ("accuracy", "balanced_accuracy", "average_precision")
        scores |= {name: measured[f"mean_{name}"] for name in names}
        whole.append((scores["accuracy"] + scores["balanced_accuracy"]) / 2)
    if row.tasks != ("age",):
        embeddings = found["identity"] if "identity" in row.tasks else found["attributes"]
        scores |= verify(embeddings, pairs[split])
    if "identity" in row.tasks:
        whole.append(scores["verification"])
    if "age" in row.tasks:
        truth = data.aged[split].targets["age"][:, 0]
        told = data.ages.decode(outputs_of(head, data.aged[split].maps)["age"])["years"]
        middle = data.aged["train"].targets["age"].median()
        scores["years_off"] = float((told - truth).abs().mean())
        scores["years_off_always_the_median"] = float((middle - truth).abs().mean())
        whole.append(1 - scores["years_off"] / scores["years_off_always_the_median"])
    return {**scores, "chosen_by": sum(whole) / len(whole)}


def outputs_of(head: Head, maps: Tensor) -> dict[str, Tensor]:
    parts = [head(part.float()) for part in maps.split(512)]
    return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}


def verify(embeddings: Tensor, pairs: Pairs) -> dict[str, float]:
    """Compare the faces of pairs by the cosine: the LFW protocol on those whose people nobody was trained on."""
    metrics = VerificationMetrics()
    similarity = F.cosine_similarity(embeddings[pairs.first], embeddings[pairs.second])
    metrics.update(similarity, pairs.same, pairs.fold)
    found = metrics.compute()
    return {
        "verification": found["accuracy"],
        "eer": found["eer"],
        "pairs": found["pairs"],
        "same": int(pairs.same.sum()),
    }


def data_of(options: Any) -> Data:
    """Read the maps, and compute them first where they are not there yet."""
    own: dict[str, Any] = {"weights": options.weights, "size": SIZE, "drop_stages": 2, "mixed": True, "views": 1}
    faces = load(Source("lfwa", options.root, options.cache, crop=0.6, **own))
    aged = load(Source("fairface", options.fairface, options.cache, **own))
    files = {split: LFWA(options.root, split).files for split in SPLITS}
    return joined(faces, aged, files, lfw_pairs(options.root, files["test"]))


def joined(faces: Features, aged: Features, files: Mapping[str, Sequence[str]], pairs: Pairs) -> Data:
    """Put labels beside the maps: who is in a picture is the folder of its file, an index among those trained on."""
    groups, who = default_groups(faces.attributes), people_of(files["train"])
    place = {person: float(index) for index, person in enumerate(who.classes)}

    def part(features: Features, split: str) -> Part:
        count, attributes = len(features.labels[split]), torch.tensor(torch.nan)
        people, years = attributes.expand(count, 1), attributes.expand(count, 1)
        if features is faces:
            attributes = features.targets(split, groups.attributes)
            people = torch.tensor([[place.get(person_of(file), torch.nan)] for file in files[split]])
        else:
            years = features.targets(split, ["years"])
        attributes = attributes.expand(count, len(groups.attributes))
        maps = torch.from_numpy(features.inputs[split][:, 0].copy())
        return Part(maps, {"attributes": attributes, "identity": people, "age": years})

    parts = [{split: part(features, split) for split in SPLITS} for features in (faces, aged)]
    ages = AttributeGroups({"age": [Number("years", unit="years")]}).fitted(parts[1]["train"].targets["age"])
    people = AttributeGroups({"who": [Categorical("identity", who.classes)]})
    return Data(groups, people, ages, *parts, {"valid": made_pairs(files["valid"]), "test": pairs})


def lfw_pairs(root: Path, files: Sequence[str]) -> Pairs:
    """Take those of LFW's pairs whose pictures are both in LFWA's test half, in which nobody was trained on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some pictures may be missing; the record says how many pairs are left
        pairs = LFWPairs(root, missing="skip")
    place = {file: index for index, file in enumerate(files)}
    where = torch.tensor([place.get(file, -1) for file in pairs.files])
    kept = (where[pairs.first] >= 0) & (where[pairs.second] >= 0)
    return Pairs(where[pairs.first[kept]], where[pairs.second[kept]], pairs.same[kept], pairs.fold[kept])


def made_pairs(files: Sequence[str]) -> Pairs:
    """For the search: all pairs of one person, and as many of two, drawn the same way every time."""
    both = list(combinations(range(len(files)), 2))
    same = [pair for pair in both if person_of(files[pair[0]]) == person_of(files[pair[1]])]
    other = [pair for pair in both if person_of(files[pair[0]]) != person_of(files[pair[1]])]
    order = torch.randperm(len(other), generator=torch.Generator().manual_seed(0))[: len(same)]
    first, second = torch.tensor([*same, *(other[index] for index in order.tolist())]).T
    place = torch.arange(len(first))
    return Pairs(first, second, place < len(same), place % FOLDS)


if __name__ == "__main__":
    main()
