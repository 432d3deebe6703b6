"""Train FAR-AMTN on FairFace: the age of a face, in nine bands or as a number, and its gender.

python examples/fairface.py --root path/to/fairface
python examples/fairface.py --root path/to/fairface --age years
python examples/fairface.py --synthetic

Age and gender here are what annotators saw in a picture, not facts about a person; do not decide anything about people
with them. Race, which FairFace labels too, is left out: mtattn.data.FairFace reads it, to look at scores by it.
What is drawn with --synthetic are faces with an age, a color of hair and a tone of skin.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed

from mtattn import FARAMTN, DWSLoss
from mtattn.data import (
    FAIRFACE_GROUPS,
    FAIRFACE_GROUPS_YEARS,
    FairFace,
    SyntheticKinds,
    image_transform,
    skip_unreadable,
)
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.models import set_grad_checkpointing
from mtattn.recipes import check_output, finish_run, open_output, recipe_parser, run_recipe, size_options, taught_by
from mtattn.training import fit, processes


def parse() -> Namespace:
    parser = recipe_parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "--age",
        default="bands",
        choices=["bands", "years"],
        help="bands: one of nine; years: a number, of which the middle of the band is what is known",
    )
    parser.set_defaults(
        output=Path("runs/fairface"),
        backbone="resnet18",  # two cores train it; with a GPU take resnet50 at 224 pixels
        drop_stages=1,  # at 64 pixels layer3 still has 4 x 4 positions, layer4 only 2 x 2; and it halves the time
        image_size=[64, 64],
        epochs=5,
        batch_size=64,
        learning_rate=2e-3,  # from scratch; use 1e-3 with pretrained weights
        trunk_factor=1.0,  # from scratch everything is new; use 0.1 to 0.5 with pretrained weights
        select_by="mean_skill",  # the one score that attributes of all kinds have
    )
    return parser.parse_args()


def main(options: Namespace) -> None:
    output, missing = check_output(options), "skip" if options.skip_unreadable else "error"
    groups = FAIRFACE_GROUPS if options.age == "bands" else FAIRFACE_GROUPS_YEARS
    data = partial(FairFace, options.root)
    if options.synthetic is not None:
        root = output.parent / f"synthetic-kinds-{options.synthetic}-seed-{options.seed}"
        with processes().main_process_first():
            SyntheticKinds.write(root, options.synthetic, seed=options.seed)
        age = "age" if options.age == "bands" else "years"
        groups, data = SyntheticKinds.groups.only([age, "hair_color", "skin_tone"]), partial(SyntheticKinds, root)
    groups = groups.fitted(data("train", attributes=groups.attributes, missing=missing).targets)

    set_seed(options.seed)
    model = FARAMTN.from_timm(
        options.backbone,
        groups,
        pretrained=options.pretrained,
        backbone_weights=options.backbone_weights,
        backbone_options=size_options(options),
        drop_stages=options.drop_stages,
        reduction=options.reduction,
        spatial=options.spatial,
    ).to(memory_format=torch.channels_last)  # the faster layout for convolutions, on CPUs and GPUs
    model.config["image"]["size"] = options.image_size
    if options.crop is not None:
        model.config["image"]["crop"] = options.crop

    train, valid, test = (
        data(
            split,
            attributes=groups.attributes,
            transform=image_transform(**model.config["image"], augment=options.augment if split == "train" else "none"),
            missing=missing,
        )
        for split in ("train", "valid", "test")
    )
    if options.skip_unreadable:
        train, valid, test = map(skip_unreadable, (train, valid, test))

    set_grad_checkpointing(model.trunk, options.grad_checkpointing)
    loss = DWSLoss(groups, rule=options.rule, alpha=options.alpha)
    optimizer = torch.optim.AdamW(
        model.parameter_groups(
            options.learning_rate, trunk_factor=options.trunk_factor, weight_decay=options.weight_decay
        )
    )
    metrics = AttributeMetrics(groups, Baselines(groups, train))
    taught = taught_by(options.teachers, train)
    open_output(options)  # only now, when everything else is known to be right
    history = fit(
        model,
        loss,
        optimizer,
        metrics,
        taught,
        valid,
        output=output,
        epochs=options.epochs,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        averaging=options.averaging,
        select_by=options.select_by,
        mixed_precision=options.mixed_precision,
        compile=options.compile,
        sync_batch_norm=options.sync_batch_norm,
        workers=options.workers,
        seed=options.seed,
        resume=options.resume,
    )
    finish_run(
        output,
        model,
        metrics,
        history,
        title="FAR-AMTN on FairFace" if options.synthetic is None else f"FAR-AMTN on {options.synthetic} drawn faces",
        train_data=train,
        valid_data=valid,
        test_data=test,
        workers=options.workers,
        mirror=options.mirror,
    )


if __name__ == "__main__":
    run_recipe(main, parse())
