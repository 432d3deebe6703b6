"""Turn results/*.json into the documentation's page "How fast, and against what" and its figures.

python benchmarks/page.py
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "explanation" / "how-fast.md"
IMAGES = DOCS / "images"
Row = dict[str, Any]
OURS, OTHERS = "#2a78b8", "#b9bdc4"
LEAST_FLOOR = 0.005  # ms


@dataclass(frozen=True)
class Claim:
    """One section: what is claimed, which benchmark shows it, and how its rows are put into words."""

    name: str
    title: str
    text: str
    says: Callable[[Row], str]


def first(row: Row, *words: str) -> dict[str, Any]:
    """Find the contender whose name has one of the words."""
    return next(c for word in words for name, c in row["contenders"].items() if word in name)


def ours(row: Row) -> dict[str, Any]:
    """Give the contender that the others are measured by."""
    return next(iter(row["contenders"].values()))


def spread(numbers: dict[str, float], digits: int = 2) -> str:
    """Write a median with its quartiles."""
    return f"{numbers['median']:.{digits}f} ({numbers['low']:.{digits}f} to {numbers['high']:.{digits}f})"


def say_wsgsa(row: Row) -> str:
    loop = first(row, "SqueezeExcite")["ratio"]
    memory = row["facts"]["activations_mib"]
    own, theirs = (next(v for k, v in memory.items() if word in k) for word in ("WSGSA, pooled", "SqueezeExcite"))
    return (
        f"{_case(row)}: the loop takes {spread(loop, 1)} times as long as the pooled form, "
        f"and its forward pass allocates {theirs:.0f} MiB against {own:.1f} MiB, {theirs / own:.0f} times as much. "
        f"The largest difference between the two results is {row['facts']['largest_difference_from_the_loop']:.0e}."
    )


def say_systems(row: Row) -> str:
    return f"{say_plain(row)} The largest difference between the results is {row['facts']['largest_difference']:.0e}."


def say_plain(row: Row) -> str:
    parts = [f"{name}: {spread(c['ratio'])}" for name, c in list(row["contenders"].items())[1:]]
    return f"{row['what']}, {_case(row)}, times ours: {'; '.join(parts)}."


def say_loss(row: Row) -> str:
    if "added_percent_of_a_step" not in row["facts"]:
        return say_plain(row)
    facts = row["facts"]
    return (
        f"{row['what']}: DWSLoss adds {facts['added_percent_of_a_step']:.2f} % "
        f"({facts['low']:.2f} to {facts['high']:.2f} %) of a resnet18 step to the plain loss; "
        f"torchjd's DWA takes {spread(first(row, 'DWA')['ratio'])} times as long as DWSLoss, "
        f"and {spread(first(row, 'missing labels')['ratio'])} times once it can take missing labels as DWSLoss does."
    )


def say_faramtn(row: Row) -> str:
    bare = first(row, "timm's resnet50")["ratio"]
    low, median, high = sorted(1 / bare[key] for key in ("low", "median", "high"))
    text = f"{row['what']}: with 8 groups {median:.2f} ({low:.2f} to {high:.2f}) times the bare network"
    if facts := row["facts"]:
        grown = facts["growth_from_1_to_40_groups"]
        text += f"; 40 groups take {grown:.2f} ({facts['low']:.2f} to {facts['high']:.2f}) times as long as one"
    return text + f"; a last stage for each group takes {spread(first(row, 'conv5')['ratio'])} times as long as ours."


def say_kinds(row: Row) -> str:
    facts = row["facts"]
    added, low, high = facts["added_percent"], facts["low"], facts["high"]
    return f"{row['what']}: four kinds of attributes add {added:.2f} % ({low:.2f} to {high:.2f} %) to the step."


def say_libmtl(row: Row) -> str:
    facts, parameters = row["facts"], ours(row)["parameters"]
    parts = [
        f"{name} {spread(c['ratio'])} times as long, with {c['parameters'] / parameters:.1f} times the parameters"
        for name, c in row["contenders"].items()
        if "LibMTL" in name
    ]
    return (
        f"{row['what']}: FARAMTN takes {facts['times_hard_sharing']:.2f} ({facts['low']:.2f} to {facts['high']:.2f}) "
        f"times as long as hard sharing. Against FARAMTN, {'; '.join(parts)}."
    )


def say_compile(row: Row) -> str:
    graphs = row["facts"]["graphs"]
    return (
        f"{row['what']}: eager takes {spread(first(row, 'eager')['ratio'])} times as long as compiled. "
        f"Graphs: {graphs['after training']} after training with three batch sizes and stepping weights, "
        f"{graphs['after evaluation too']} after evaluation too."
    )


def say_data(row: Row) -> str:
    facts = row["facts"]
    if "images_a_second" in facts:
        return f"{row['what']}: ImageFolder takes {spread(first(row, 'ImageFolder')['ratio'])} times as long as CelebA."
    waiting = ", ".join(
        f"{value:.1f} % with {name}" for name, value in facts["percent_of_the_time_waiting_for_images"].items()
    )
    memory = first(row, "in memory")["ratio"]
    return (
        f"{row['what']}: the loop waits for images for {waiting}. Steps on a batch that is already in memory take "
        f"{spread(memory)} times as long as steps on images from disk with one worker."
    )


def say_prediction(row: Row) -> str:
    loader, memory = (first(row, word)["ratio"] for word in ("DataLoader", "in memory"))
    return (
        f"{row['what']}: Predictor reaches {spread(loader)} of the rate of the bare model on torch's DataLoader, "
        f"and {spread(memory)} of its rate on images that are in memory already."
    )


CLAIMS = (
    Claim(
        "wsgsa",
        "WSGSA's pooled form needs no map for each group",
        "A gate does not depend on the position, so the mean over positions passes through it. The loop gates the map "
        "once for each group and keeps all results; `WSGSA.pooled` reads the map once.",
        say_wsgsa,
    ),
    Claim(
        "cgff",
        "CGFF costs four small products",
        "Queries and keys look at pooled features, so on whole maps only the values are computed at every position; "
        "torch's attention over the groups is computed at every position.",
        say_plain,
    ),
    Claim(
        "heads",
        "One product makes all logits",
        "Each attribute reads the features of its own group only.",
        say_plain,
    ),
    Claim(
        "systems",
        "Parts of other systems, without their loops",
        "[MGMTN, PARFormer and SwinFace](parts.md) from our parts: a positive gate passes through a maximum, a mean "
        "under a mask is one product, and squared distances to centres are multiplied out. Against a branch for each "
        "group, a map for each mask, and a loop over labels.",
        say_systems,
    ),
    Claim(
        "dws_loss",
        "What weighting the groups costs",
        "Rules that look at losses cost some small kernels; rules that look at gradients (UPGrad, GradNorm) cost "
        "backward passes. FAMO needs a second forward pass, which is not part of its row.",
        say_loss,
    ),
    Claim(
        "faramtn",
        "FARAMTN takes about as long with 40 groups as with one",
        "All groups share the backbone's last block, so the classic network with a last stage for each group is what "
        "it spares you.",
        say_faramtn,
    ),
    Claim(
        "kinds",
        "Attributes of several kinds take about as long as binary ones",
        "Classes, levels and numbers are computed kind by kind, not attribute by attribute. Against a model and a loss "
        "with as many columns that are all binary.",
        say_kinds,
    ),
    Claim(
        "libmtl",
        "Against LibMTL's architectures on the same backbone",
        "A small network on small images is the hard case: the backbone is cheap, so what comes after it shows. "
        "HPS is LibMTL's hard sharing.",
        say_libmtl,
    ),
    Claim(
        "compile",
        "Compiled in one graph",
        "`torch.compile(fullgraph=True)` takes every module and the model with its loss. One more graph comes with the "
        "second batch size, and one with evaluation.",
        say_compile,
    ),
    Claim(
        "data",
        "Training is bound by the model, not by the loader",
        "Both loaders decode the same files with the same transform.",
        say_data,
    ),
    Claim(
        "prediction",
        "Predictor is about as fast as the bare model",
        "Predictor reads files, computes, and gives all answers by name; the bare model computes logits only. On one "
        "core, reading and computing take turns, so a small model loses more by it.",
        say_prediction,
    ),
)

INTRO = """% Written by benchmarks/page.py from benchmarks/results; do not edit.

# How fast, and against what

Everything here was measured by `benchmarks/run.py`, and you can [measure it on your machine](../how-to/benchmark.md).
Contenders run in turns within one process, so that what disturbs the machine disturbs all alike; a ratio is taken block
by block, and stands here as its median with its quartiles. Above 1 means: slower than ours. Times in milliseconds are
given for GPUs only; a CPU shared with others has none worth telling. The floor is the least time in which this machine
could move the bytes or do the arithmetic that our step cannot avoid.

On a GPU, sentences and figures are of the fastest way to run our step that all contenders ran, out of float32 and
bf16, eager and compiled, launched kernel by kernel and replayed as a CUDA graph; tables have all that were measured.
Floors under 0.005 ms are left out: a step so small takes as long as its kernels take to start.
"""

ON_A_GPU = """
## What the GPU's numbers say

- **Small modules are bound by their number of kernels, not by bytes.** Launched from Python, a kernel took 20 to 55
  microseconds in this process, whatever it computed; in a CUDA graph the small ones take 2 to 4. So a WSGSA step takes
  three to ten times as long eager as in a graph, and what saves memory traffic shows in the graph only: whole maps take
  1.0 to 1.2 times as long as the pooled form eager, 1.8 to 7.5 times in a graph.
- **No floor is reached within a factor of 1.2.** The closest is CGFF on whole maps, 2.2 times its floor in float32.
  WSGSA's step is 29 to 45 kernels and takes 4 to 9 times its floor in a graph; compiled, 25 to 29 kernels and 5 to 7
  times. Fewer kernels would close the gap. The step takes 0.16 to 0.4 ms beside the 29 ms of a resnet50's, so there is
  no Triton kernel for it.
- **On pooled features, eager CGFF takes 1.0 to 1.3 times as long as `nn.MultiheadAttention`**, since it has more
  kernels. In a graph, MultiheadAttention takes 1.1 to 1.5 times as long as CGFF in float32, 0.9 to 1.1 times in bf16.
- **The loss has a price on a fast GPU with a small network.** Eager, DWSLoss takes four to five times as long as the
  plain loss; the difference is a tenth of a resnet18's step at 64 pixels. Compiled, it has 9 kernels in place of 47 and
  takes two thirds of the time.
- A largest difference near 1e-3 between two forms of the same comes, as we take it, from convolutions in TF32.
- **A whole model is bound by its launches too.** Eager, FARAMTN's training step of a resnet50 with 64 images of 224
  pixels takes 45 ms in float32 and 52 ms in bf16: nearly 900 and 1100 kernels, launched one by one. As a CUDA graph it
  takes 29.0 and 18.9 ms, against 27.9 and 18.0 ms of timm's bare network (1.04 and 1.05 times).
- **Compiled, the step is bound by its launches still.** In bf16 it takes 43 ms with 918 kernels, against 38 ms of the
  bare network in the same run, and 52 ms eager the day before; inference takes 9.1 ms against 7.4, and 14.7 ms eager.
- **Attributes of several kinds cost launches.** Eager in bf16 they add a tenth to the step, in a graph less than 1 %.
"""


def main() -> None:
    results = {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((HERE / "results").glob("*--*.json"))
    }
    IMAGES.mkdir(exist_ok=True)
    for claim in shown(results):
        draw(claim, [row for result in results.values() if claim.name in result for row in told(result[claim.name])])
    PAGE.write_text(page(results), encoding="utf-8")


def page(results: dict[str, Any]) -> str:
    """Write the page."""
    kinds = {part["machine"]["kind"] for result in results.values() for part in result.values()}
    intro = INTRO if "cuda" in kinds else f"{INTRO.rstrip()} No GPU has been\nmeasured yet.\n"
    summary = [ON_A_GPU] if "cuda" in kinds else []
    return "\n".join([intro, *(section(claim, results) for claim in shown(results)), *summary])


def shown(results: dict[str, Any]) -> list[Claim]:
    """List the claims that somebody has measured."""
    return [claim for claim in CLAIMS if any(claim.name in result for result in results.values())]


def section(claim: Claim, results: dict[str, Any]) -> str:
    """Write a claim: its sentences and tables, machine by machine, with the figure on top."""
    lines = [f"## {claim.title}", "", claim.text, ""]
    alt = f"{claim.title}: a bar for each contender, as long as its time is a multiple of ours; numbers in the tables"
    lines += [f"![{alt}](../images/how-fast-{claim.name}.svg)", ""]
    for result in results.values():
        if claim.name not in result:
            continue
        machine, rows = result[claim.name]["machine"], result[claim.name]["rows"]
        lines += [f"**{_machine_words(machine)}, measured {result[claim.name]['measured']}:**", ""]
        lines += [f"- {claim.says(row)}{how(row)}" for row in told(result[claim.name])]
        on_gpu = machine["kind"] == "cuda"
        tables = [gpu_table(of) for of in cases(rows)] if on_gpu else [table(row) for row in rows]
        lines += ["", *_folded("The tables", [line for table in tables for line in table])]
    return "\n".join(lines)


def cases(rows: Sequence[Row]) -> list[list[Row]]:
    """Put together the rows that differ only by the way to run."""
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(f"{row['what']}: {_case(row)}", []).append(row)
    return list(by_case.values())


def told(result: dict[str, Any]) -> list[Row]:
    """List the rows for sentences and figures, with their machine: on a GPU the fastest way that all contenders ran."""
    if result["machine"]["kind"] != "cuda":
        return [{**row, "on": ""} for row in result["rows"]]
    fastest = [
        min(rows, key=lambda row: (-len(row["contenders"]), ours(row)["ms"]["median"]))
        for rows in cases(result["rows"])
    ]
    device = result["machine"]["device"].removeprefix("NVIDIA ").split()[0]
    return [{**row, "on": f"{device}, {row['variant']}"} for row in fastest]


def how(row: Row) -> str:
    """Say how a GPU's row was run."""
    return f" (Run as {row['variant']}.)" if row["on"] else ""


def gpu_table(rows: Sequence[Row]) -> Iterable[str]:
    """Write one case as a table: a line for each way to run it, a column for each contender."""
    yield f"*{rows[0]['what']}: {_case(rows[0])}*"
    yield ""
    names = list(dict.fromkeys(name for row in rows for name in row["contenders"]))[1:]
    own = next(iter(rows[0]["contenders"]))
    head = [
        "run as",
        f"{own}, ms",
        "its kernels",
        "times its floor",
        "peak memory, MiB",
        *(f"{n}, times" for n in names),
    ]
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    for row in rows:
        c = ours(row)
        floor = f"{row['floor']['distance']:.1f}" if row["floor"]["ms"] >= LEAST_FLOOR else ""
        memory = "" if "CUDA graph" in row["variant"] else f"{c['peak_bytes'] / 2**20:.1f}"  # a graph has its own
        cells = [row["variant"], f"{c['ms']['median']:.3f}", str(c["kernels"]), floor, memory]
        cells += [spread(row["contenders"][n]["ratio"]) if n in row["contenders"] else "" for n in names]
        yield f"| {' | '.join(cells)} |"
    yield ""


def table(row: Row) -> Iterable[str]:
    """Write a row of a CPU as a table of its contenders."""
    has_parameters = any("parameters" in c for c in row["contenders"].values())
    head = ["contender", "times ours", "quartiles", "peak memory, MiB"]
    head += ["parameters, M"] * has_parameters
    yield f"*{row['what']}: {_case(row)}; {row['variant']}*"
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    for name, c in row["contenders"].items():
        ratio = c["ratio"]
        cells = [name, f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}"]
        cells.append(f"{c['peak_bytes'] / 2**20:.1f}")
        cells += [f"{c['parameters'] / 1e6:.2f}" if "parameters" in c else ""] * has_parameters
        yield f"| {' | '.join(cells)} |"
    if "distance" in row["floor"]:
        yield f"| *floor* | {1 / row['floor']['distance']:.2f} |{' |' * (len(head) - 2)}"
    yield ""


def draw(claim: Claim, rows: Sequence[Row]) -> None:
    """Draw the bars of a claim: one panel a row, our bar in blue."""
    mpl.rcParams |= {
        "svg.hashsalt": "mtattn",
        "svg.fonttype": "none",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    heights = [len(row["contenders"]) for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        figsize=(5, 0.42 * sum(heights) + 0.78 * len(rows) + 0.3),  # narrow: a phone shows it readably
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for row, axis in zip(rows, axes[:, 0], strict=True):
        names = list(row["contenders"])
        ratios = [row["contenders"][name]["ratio"] for name in names]
        medians = [ratio["median"] for ratio in ratios]
        errors = [[r["median"] - r["low"] for r in ratios], [r["high"] - r["median"] for r in ratios]]
        colors = [OURS] + [OTHERS] * (len(names) - 1)
        axis.barh(names, medians, 0.42, xerr=errors, color=colors, ecolor="#555555", capsize=2)
        axis.axvline(1, color=OURS, linewidth=0.8, zorder=0)
        if max(medians) > 8:
            axis.set_xscale("log")
            axis.set_xlim(left=min(0.5, *medians))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
        for place, (name, median) in enumerate(zip(names, medians, strict=True)):  # over its bar
            above = {"xytext": (2, 9), "textcoords": "offset points", "annotation_clip": False}
            above["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # the line at 1 passes behind
            axis.annotate(f"{name}: {median:.2f}", (axis.get_xlim()[0], place), va="bottom", **above)
        axis.set(yticks=[], ylim=(len(names) - 0.6, -0.9))
        title = textwrap.fill(f"{row['what']} ({_case(row)}){': ' + row['on'] if row['on'] else ''}", 52)
        axis.set_title(title, fontsize=10, fontweight="bold", loc="left")
    axes[-1, 0].set_xlabel("time, as a multiple of ours")
    figure.savefig(IMAGES / f"how-fast-{claim.name}.svg", metadata={"Date": None})
    plt.close(figure)


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    opened = ["```{raw} html", f"<details><summary>{title}</summary>", "```", ""]
    return [*opened, *lines, "```{raw} html", "</details>", "```", ""]


def _case(row: Row) -> str:
    sizes = [f"{name} {size}" for name, size in row["sizes"].items() if name != "side"]
    if (side := row["sizes"].get("side")) is not None:
        sizes.append(f"{side} x {side} positions" if side else "pooled features")
    return ", ".join(sizes)


def _machine_words(machine: dict[str, Any]) -> str:
    device = (
        machine["device"]
        if machine["kind"] == "cuda"
        else f"CPU ({machine['processor']}, {machine['threads']} threads)"
    )
    return f"{device}, torch {machine['torch']}"


if __name__ == "__main__":
    main()
