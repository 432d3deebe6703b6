"""FARAMTN and DWSLoss in a Lightning Trainer: pip install "pytorch-lightning!=2.6.2,!=2.6.3" (these two had malware).

python examples/neighbours/with_lightning.py
"""

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.metrics import AttributeMetrics, train_rates

GROUPS = AttributeGroups({"eyes": ["Eyeglasses", "Narrow_Eyes"], "mouth": ["Smiling", "Big_Lips", "Mustache"]})


class AttributeModule(lightning.LightningModule):
    def __init__(self, rates: Tensor) -> None:
        super().__init__()
        self.model = FARAMTN.from_timm("resnet18", GROUPS, drop_stages=2)
        self.loss = DWSLoss(GROUPS)  # a part of the module: checkpoints hold its weights and its history
        self.metrics = AttributeMetrics(GROUPS, rates)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, targets = batch
        return self.loss(self.model(images), targets)

    def on_train_epoch_end(self) -> None:
        self.loss.step()  # once an epoch: sets the weights of the next one
        self.log_dict(dict(zip(GROUPS, self.loss.weights, strict=True)))

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        images, targets = batch
        self.metrics.update(self.model(images), targets)

    def on_validation_epoch_end(self) -> None:
        scores = self.metrics.compute()
        self.metrics.reset()
        self.log_dict({name: scores[name] for name in ("mean_accuracy", "majority_accuracy")}, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameter_groups(1e-3, trunk_factor=1.0, weight_decay=0.05))


def loaders() -> tuple[DataLoader, DataLoader]:
    """Yours: CelebA(root, "train", attributes=GROUPS.attributes, transform=...) and its "valid"."""
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.rand(32, 3, 64, 64, generator=generator), torch.randint(2, (32, 5), generator=generator)
    data = TensorDataset(images, targets.float())
    return DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=16)


if __name__ == "__main__":
    lightning.seed_everything(0)
    train, valid = loaders()
    module = AttributeModule(train_rates(train.dataset.tensors[1]))
    folder = {"default_root_dir": "runs/lightning", "logger": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=2, **folder)
    trainer.fit(module, train, valid)
    print("weights:", module.loss.weights.tolist())
    last = trainer.checkpoint_callback.best_model_path
    lightning.Trainer(max_epochs=3, **folder).fit(module, train, valid, ckpt_path=last)  # goes on where that ended
    print("weights:", module.loss.weights.tolist())
