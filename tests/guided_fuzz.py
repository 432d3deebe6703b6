"""Damage the files of tests/readers.py, led by which lines of mtattn a damage reaches; needs ``pip install atheris``.

python tests/guided_fuzz.py --seconds 60
python tests/guided_fuzz.py table config --seconds 600
"""

import json
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

import atheris


def main():
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help="keys of readers.READERS; left out: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir(), "found"), help="where flaws are kept")
    options = parser.parse_args()
    if len(options.readers) == 1:
        fuzz(options.readers[0], options.seconds, options.found)  # ends the process
    from readers import READERS

    names, failed = options.readers or list(READERS), []
    for name in names:
        command = [sys.executable, __file__, name, f"--seconds={options.seconds}", f"--found={options.found}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        ends = [line for line in done.stderr.splitlines() if line.startswith(("Done ", "AssertionError: "))]
        print(f"{name}: {ends[-1] if ends else done.stderr[-2000:]}", flush=True)
        failed += [name] * (done.returncode != 0)
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


def fuzz(name, seconds, found):
    """Damage one file until the time is over or a damage is neither read nor refused as promised."""
    with atheris.instrument_imports(include=["mtattn"]):
        from readers import READERS, flaw, watched

    reader, place = READERS[name], Path(tempfile.mkdtemp())
    (place / "corpus").mkdir()
    (place / "sound").mkdir()
    reader.write(place / "sound")
    size = Path(shutil.copy(place / "sound" / reader.file, place / "corpus")).stat().st_size
    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in reader.words if len(word) < 64]
    (place / "words").write_text("".join(f'"{word}"\n' for word in words or ["\\x00"]))  # an empty file is refused

    def damage_and_read(data):
        reader.damage(place / "sound", data)
        with watched() as noted:
            wrong = flaw(reader, place / "sound")
        if wrong is not None or noted:
            raise AssertionError(json.dumps({"flaw": wrong, "noted": noted}))

    found.mkdir(parents=True, exist_ok=True)
    kept = f"-artifact_prefix={found}/{name.replace(' ', '-')}-"
    limits = [f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=6000", f"-max_len={2 * size + 10_000}"]
    atheris.Setup([sys.argv[0], *limits, f"-dict={place / 'words'}", kept, str(place / "corpus")], damage_and_read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
