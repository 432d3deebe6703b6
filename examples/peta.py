"""Train FAR-AMTN on PETA's pedestrians: yes-or-no attributes, an age band, colours and the side they show.

python examples/peta.py --root path/to/peta
python examples/peta.py --root path/to/peta --split-by person
python examples/peta.py --synthetic

PETA's official splits leak: in the first one 57.7 % of the test images show a person who was seen in training, with the
same labels. Its scores flatter; those of --split-by person, where nobody is in two parts, do not. Report both. All
labels are annotators' impressions of pictures, not facts about people. PETA is for research only.
What is drawn with --synthetic are faces with labels of every kind, not pedestrians.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed

from mtattn import FARAMTN, DWSLoss
from mtattn.data import PETA, PETA_GROUPS, SyntheticKinds, image_transform, skip_unreadable
from mtattn.metrics import AttributeMetrics, Baselines
from mtattn.models import set_grad_checkpointing
from mtattn.recipes import check_output, finish_run, open_output, recipe_parser, run_recipe, size_options, taught_by
from mtattn.training import fit, processes


def parse() -> Namespace:
    parser = recipe_parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "--split-by",
        default="image",
        choices=["image", "person"],
        help="image: the official split, which leaks; person: nobody is in two parts",
    )
    parser.set_defaults(
        output=Path("runs/peta"),
        backbone="resnet18",  # two cores train it; with a GPU take resnet50 at 256 x 128
        drop_stages=1,  # at 96 x 48 pixels layer3 still has 6 x 3 positions, layer4 only 3 x 2; and it halves the time
        image_size=[96, 48],  # people are twice as high as wide; the pictures have 128 x 64
        epochs=6,
        batch_size=64,
        learning_rate=2e-3,  # from scratch; use 1e-3 with pretrained weights
        trunk_factor=1.0,  # from scratch everything is new; use 0.1 to 0.5 with pretrained weights
        select_by="mean_skill",  # the one score that attributes of all kinds have
    )
    return parser.parse_args()


def main(options: Namespace) -> None:
    if options.synthetic is not None and options.split_by == "person":
        raise ValueError("No person is drawn twice, so there is nothing to split by person; leave --split-by out.")
    output = check_output(options)
    groups, data = PETA_GROUPS, partial(PETA, options.root, by_person=options.split_by == "person")
    if options.synthetic is not None:
        root = output.parent / f"synthetic-kinds-{options.synthetic}-seed-{options.seed}"
        with processes().main_process_first():
            SyntheticKinds.write(root, options.synthetic, seed=options.seed)
        groups, data = SyntheticKinds.groups, partial(SyntheticKinds, root)
        groups = groups.fitted(data("train").targets)  # mean and standard deviation of the years

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
            missing="skip" if options.skip_unreadable else "error",
        )
        for split in ("train", "valid", "test")
    )
    if options.skip_unreadable:
        train, valid, test = map(skip_unreadable, (train, valid, test))
    if options.root is not None and options.split_by == "image":
        print("The official split leaks: most test images show a person seen in training. See --split-by person.")

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
    split = "split by person" if options.split_by == "person" else "official split, which leaks"
    title = f"FAR-AMTN, {split}, on PETA"
    if options.synthetic is not None:
        title = f"FAR-AMTN on {options.synthetic} drawn faces"
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
    scores = metrics.instance_scores()  # of the test part, which it saw last
    if processes().is_main_process:
        print("test, by image: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))


if __name__ == "__main__":
    run_recipe(main, parse())
