"""Who is in a picture, for the systems that recognise people: identities as labels, a margin, and LFW's pairs.

A person is a class while the system trains; afterwards the embeddings of two pictures are compared. Nobody in a pair
that is measured was trained on: only pairs whose people are all in LFWA's test half are taken, 2,554 of LFW's 6,000.
From scratch on a few thousand pictures this compares heads; it makes no recogniser.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mtattn import AttributeGroups, Categorical, DWSLoss
from mtattn.data import LFWA, AttributeImages, LFWPairs
from mtattn.verification import VerificationMetrics

SCALE, MARGIN = 64, 0.4  # of CosFace, as in the public code of SwinFace


def person_of(file: str) -> str:
    return file.partition("/")[0]


def people_of(files: Sequence[str], pictures: int = 3) -> Categorical:
    """Everybody with so many pictures or more; the others have no identity to learn."""
    counts = Counter(map(person_of, files))
    people = sorted(person for person, count in counts.items() if count >= pictures)
    if len(people) < 2:
        raise SystemExit(f"Nobody can be told apart: {len(people)} people have {pictures} pictures or more, need two.")
    return Categorical("identity", people)


def with_identity(faces: LFWA, root: Path, identity: Categorical) -> AttributeImages:
    """LFWA with one more label: the person, unknown where he is not among the classes."""
    place = {person: float(index) for index, person in enumerate(identity.classes)}
    people = torch.tensor([place.get(person_of(file), torch.nan) for file in faces.files])
    labels = torch.cat([faces.targets, people[:, None]], 1).numpy()
    columns = [*faces.attributes, identity]
    return AttributeImages(root / "lfw", faces.files, labels, columns, transform=faces.transform, zero="no")


class CosFace(DWSLoss):
    """Equal weights for all groups, and a margin by which the true person's cosine has to win."""

    def __init__(self, groups: AttributeGroups) -> None:
        super().__init__(groups, rule="equal")

    def forward(self, outputs: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
        if self.training:
            people = targets[:, self.groups.attributes.index("identity"), None]
            columns = self.groups.columns_of("identity")
            one_hot = people == torch.arange(columns.stop - columns.start, device=people.device)  # NaN is nobody
            margin = F.pad(SCALE * MARGIN * one_hot, (columns.start, outputs.shape[1] - columns.stop))
            outputs = outputs - margin.to(outputs.dtype)
        return super().forward(outputs, targets, counts)


def without_identity(groups: AttributeGroups) -> AttributeGroups:
    return groups.only([name for name in groups.attributes if name != "identity"])


def cosines(embeddings: Tensor, people: Tensor) -> Tensor:
    """The columns of "identity": how near each image is to the direction of each person."""
    return SCALE * F.linear(F.normalize(embeddings), F.normalize(people))


@torch.no_grad()
def verify(
    embed: Callable[[Tensor], Tensor], model: nn.Module, options: Namespace, transform: Callable[[Any], Any]
) -> dict[str, float]:
    """Measure on the pairs of people whom nobody was trained on: the mean of a picture and its mirror image."""
    device = next(model.parameters()).device
    pairs = LFWPairs(options.root, transform=transform, missing="skip")
    unseen = set(map(person_of, LFWA(options.root, "test").files))
    new = torch.tensor([person_of(file) in unseen for file in pairs.files])
    kept = new[pairs.first] & new[pairs.second]
    batches = DataLoader(pairs, 256, num_workers=options.workers)
    model.eval()
    embeddings = torch.cat([(embed(x.to(device)) + embed(x.flip(-1).to(device))).cpu() for x in batches])
    metrics = VerificationMetrics()
    similarity = F.cosine_similarity(embeddings[pairs.first[kept]], embeddings[pairs.second[kept]])
    metrics.update(similarity, pairs.same[kept], pairs.fold[kept])
    found = metrics.compute()
    return {f"verification_{name}": found[name] for name in ("accuracy", "standard_error", "eer", "pairs")}
