"""DynamicWeighting, WSGSA and CGFF in LibMTL's Trainer: pip install --no-deps libmtl.

python examples/neighbours/with_libmtl.py
"""

import sys
from types import ModuleType

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

# LibMTL 1.1.5 is from 2022 and looks for a module that torchvision no longer has.
sys.modules["torchvision.models.utils"] = ModuleType("torchvision.models.utils")
sys.modules["torchvision.models.utils"].load_state_dict_from_url = torch.hub.load_state_dict_from_url

from LibMTL import Trainer  # noqa: E402
from LibMTL.architecture import HPS  # noqa: E402
from LibMTL.loss import AbsLoss  # noqa: E402
from LibMTL.metrics import AbsMetric  # noqa: E402
from LibMTL.weighting import AbsWeighting  # noqa: E402

from mtattn import CGFF, WSGSA, AttributeGroups, DynamicWeighting  # noqa: E402

GROUPS = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"], "mouth": ["Smiling", "Big_Lips", "Mustache"]})
DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class DWS(AbsWeighting):
    """The weighting: LibMTL calls backward with the losses of all tasks, and has no call at the end of an epoch."""

    def init_param(self) -> None:
        self.weighting = DynamicWeighting(self.task_num, device=self.device)
        self.closed = 0

    def backward(self, losses: Tensor, **_: object) -> object:
        if self.epoch > self.closed:
            self.weighting.step()
            self.closed = self.epoch
        self.weighting(losses).backward()
        return self.weighting.weights.cpu().numpy()


class Encoder(nn.Module):
    """The features of each group, as the list that LibMTL gives to the decoders."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model("resnet18", num_classes=0, global_pool="")
        self.wsgsa = WSGSA(512, len(GROUPS), spatial=True, num_heads=8)
        self.cgff = CGFF(512, key_channels=8, norm=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.cgff(2 * self.wsgsa.pooled(self.trunk(images))).unbind(1))


class BinaryLoss(AbsLoss):
    def compute_loss(self, pred: Tensor, gt: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(pred, gt)


class Accuracy(AbsMetric):
    def update_fun(self, pred: Tensor, gt: Tensor) -> None:
        self.record.append(((pred > 0) == (gt > 0.5)).float().mean().item())
        self.bs.append(len(gt))

    def score_fun(self) -> list[float]:
        return [sum(mean * size for mean, size in zip(self.record, self.bs, strict=True)) / sum(self.bs)]


class PresentTrainer(Trainer):
    """LibMTL's Trainer on the loaders of present PyTorch, and where there is no GPU."""

    def _prepare_model(self, *arguments: object) -> None:
        self.device = DEVICE
        super()._prepare_model(*arguments)

    def _process_data(self, loader: list) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            images, labels = next(loader[1])
        except StopIteration:
            loader[1] = iter(loader[0])
            images, labels = next(loader[1])
        return images.to(self.device), {task: targets.to(self.device) for task, targets in labels.items()}


class Faces(Dataset):
    """Yours: a CelebA of mtattn.data inside, its targets split by group."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images, self.targets = torch.rand(32, 3, 64, 64, generator=generator), torch.rand(32, 5).round()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.images[index], dict(zip(GROUPS, self.targets[index].split(GROUPS.sizes), strict=True))


def trainer() -> PresentTrainer:
    metrics = {"metrics": ["Acc"], "weight": [1]}
    tasks = {group: {**metrics, "metrics_fn": Accuracy(), "loss_fn": BinaryLoss()} for group in GROUPS}
    heads = nn.ModuleDict({group: nn.Linear(512, size) for group, size in zip(GROUPS, GROUPS.sizes, strict=True)})
    return PresentTrainer(
        tasks,
        DWS,
        HPS,
        Encoder,
        heads,
        rep_grad=False,
        multi_input=False,
        optim_param={"optim": "adam", "lr": 1e-3},
        scheduler_param=None,
        weight_args={},
        arch_args={},
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    training = trainer()
    training.train(DataLoader(Faces(), batch_size=8, shuffle=True), DataLoader(Faces(), batch_size=8), epochs=3)
    print("weights:", training.model.weighting.weights.tolist())
