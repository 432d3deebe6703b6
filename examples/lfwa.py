"""Train FAR-AMTN on LFWA, or on drawn faces in its place, and write a report.

python examples/lfwa.py --root path/to/lfwa
python examples/lfwa.py --root path/to/lfwa --start-from runs/celeba/model
"""

from argparse import Namespace
from pathlib import Path

import torch
from accelerate.utils import set_seed

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import (
    CELEBA_GROUPS,
    LFWA,
    LFWA_CROP,
    AttributeImages,
    CelebA,
    SyntheticFaces,
    image_transform,
    read_image,
    skip_unreadable,
)
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.models import set_grad_checkpointing
from mtattn.recipes import check_output, finish_run, open_output, recipe_parser, run_recipe, size_options, taught_by
from mtattn.training import fit, processes


def parse() -> Namespace:
    parser = recipe_parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="a saved model, say one trained on CelebA, in place of a new one; options of the model are then its own",
    )
    parser.set_defaults(
        output=Path("runs/lfwa"),
        backbone="resnet18",  # two cores train it; with a GPU take resnet50 at 224 pixels
        drop_stages=1,  # at 64 pixels layer3 still has 4 x 4 positions, layer4 only 2 x 2; and it halves the time
        image_size=[64, 64],
        epochs=10,
        batch_size=64,
        learning_rate=2e-3,  # from scratch; use 1e-3 with pretrained weights, 5e-4 from a CelebA model
        trunk_factor=1.0,  # from scratch everything is new; use 0.1 to 0.5 with pretrained weights
    )
    return parser.parse_args()


def new_model(options: Namespace, groups: AttributeGroups) -> FARAMTN:
    model = FARAMTN.from_timm(
        options.backbone,
        groups,
        pretrained=options.pretrained,
        backbone_weights=options.backbone_weights,
        backbone_options=size_options(options),
        drop_stages=options.drop_stages,
        reduction=options.reduction,
        spatial=options.spatial,
    )
    model.config["image"]["size"] = options.image_size
    return model


def share_to_keep(train: AttributeImages) -> float:
    """Keep the face and its hair; LFW's own pictures are 250 pixels wide, others are taken for their middle 180."""
    return LFWA_CROP if read_image(train.path(0)).width == 250 else LFWA_CROP * 250 / 180


def main(options: Namespace) -> None:
    groups = CELEBA_GROUPS if options.synthetic is None else CELEBA_GROUPS.only(SyntheticFaces.attributes)
    model = None
    if options.start_from is not None:
        set_seed(options.seed)  # what is new to the model starts by chance
        model = FARAMTN.from_pretrained(options.start_from, groups=groups)  # what it knows of these is kept by name
        config = model.config  # the record has to say what the model is, not what a new one would have been
        options.backbone, options.drop_stages = config["backbone"]["name"], config["backbone"]["drop_stages"]
        options.image_size = config["image"]["size"]
        options.reduction, options.spatial = config["reduction"], config["spatial"]
    output = check_output(options)
    data, root = LFWA, options.root
    if options.synthetic is not None:  # drawn faces lie in CelebA's layout
        data, root = CelebA, output.parent / f"synthetic-{options.synthetic}-seed-{options.seed}"
        with processes().main_process_first():
            SyntheticFaces(options.synthetic, seed=options.seed).write(root)

    set_seed(options.seed)
    model = new_model(options, groups) if model is None else model
    model.to(memory_format=torch.channels_last)  # the faster layout for convolutions
    missing = "skip" if options.skip_unreadable else "error"
    train, valid, test = (
        data(root, split, attributes=groups.attributes, missing=missing) for split in ("train", "valid", "test")
    )
    if options.skip_unreadable:
        train, valid, test = map(skip_unreadable, (train, valid, test))
    image = model.config["image"]
    if options.crop is not None:
        image["crop"] = options.crop
    elif data is LFWA and options.start_from is None:
        image["crop"] = share_to_keep(train)
    train.transform = image_transform(**image, augment=options.augment)
    valid.transform = test.transform = image_transform(**image)

    set_grad_checkpointing(model.trunk, options.grad_checkpointing)
    loss = DWSLoss(groups, rule=options.rule, alpha=options.alpha)
    optimizer = torch.optim.AdamW(
        model.parameter_groups(
            options.learning_rate, trunk_factor=options.trunk_factor, weight_decay=options.weight_decay
        )
    )
    metrics = AttributeMetrics(groups, train_rates(train.targets))
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
    title = "FAR-AMTN on LFWA" if options.synthetic is None else f"FAR-AMTN on {options.synthetic} drawn faces"
    finish_run(
        output,
        model,
        metrics,
        history,
        title=title,
        train_data=train,
        valid_data=valid,
        test_data=test,
        workers=options.workers,
        mirror=options.mirror,
    )


if __name__ == "__main__":
    run_recipe(main, parse())
