"""Run the benchmarks and write results/<device>--<torch version>.json.

python benchmarks/run.py
python benchmarks/run.py wsgsa cgff --blocks 9
"""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from common import Bench

BENCHES = (
    "wsgsa",
    "cgff",
    "heads",
    "systems",
    "dws_loss",
    "compile",
    "libmtl",
    "faramtn",
    "kinds",
    "data",
    "prediction",
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benches", nargs="*", help=f"which to run, out of {', '.join(BENCHES)}; all if left out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2, help="threads of the CPU, the same for all contenders")
    parser.add_argument("--blocks", type=int, default=21, help="how many times each contender is timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--celeba", type=Path, metavar="ROOT", help="CelebA's folder; faces are drawn if left out")
    parser.add_argument("--output", type=Path, help="a file; rows of other benches that it holds are kept")
    options = parser.parse_args()
    if unknown := sorted(set(options.benches) - set(BENCHES)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    for name in options.benches or BENCHES:  # a fresh bench each: the machine's best is measured where it is used
        settings = {name: getattr(options, name) for name in ("threads", "blocks", "seed", "celeba")}
        bench = Bench(options.device, **settings)
        machine = bench.machine()
        file = options.output or RESULTS / f"{machine['device'].replace(' ', '-')}--{torch.__version__}.json"
        bench.after_row = partial(write, file, name, machine, bench)  # who stops it keeps the rows until then
        import_module(f"bench_{name}").run(bench)
        print(f"{name}: {len(bench.rows)} rows in {file}", flush=True)


def write(file: Path, name: str, machine: dict, bench: Bench) -> None:
    """Put the rows of one benchmark into the file, in place of those that it holds of the same."""
    results = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    results[name] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "rows": [asdict(row) for row in bench.rows],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
