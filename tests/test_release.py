"""What would be uploaded: the same bytes twice, a README whose links lead somewhere, one version, and the API told."""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import mtattn

for package in ("griffe", "hatchling", "twine"):
    pytest.importorskip(package, reason="the extra dev is not installed")

import api  # noqa: E402
from hatchling.builders.sdist import SdistBuilder  # noqa: E402

pytestmark = pytest.mark.outside
ROOT = Path(__file__).parents[1]
HOSTS = re.compile(r"registry\.npmjs\.org|registry\.yarnpkg\.com|pypi\.org|pythonhosted\.org", re.IGNORECASE)
FOLDERS = ("mtattn", "docs", "examples", "benchmarks", "tests", ".github", ".ci")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_public_api_is_the_one_that_was_agreed_on():
    wanted, found = api.FILE.read_text(encoding="utf-8").splitlines(), api.public_lines()
    changes = [line for line in difflib.unified_diff(wanted, found, lineterm="", n=0) if line[0] in "+-"]
    assert not changes, "\n".join(["is it meant? then: python tests/api.py, and a line in CHANGELOG.md", *changes])


def untold(before, now, changelog):
    """Which names were added, changed or taken away that "Unreleased" does not name."""
    unreleased = changelog.partition("## Unreleased")[2].partition("\n## ")[0]
    changed = set(before.splitlines()) ^ set(now.splitlines())
    names = {line.partition("(")[0].rpartition(".")[2] for line in changed}
    return sorted(name for name in names if not re.search(rf"\b{re.escape(name)}\b", unreleased))


@pytest.mark.parametrize(
    ("now", "unreleased", "expected"),
    [
        ("m.a(x)\nm.B.c", "", []),
        ("m.a(x, y)\nm.B.c", "", ["a"]),
        ("m.a(x, y)\nm.B.c", "`a(y=)` takes y.", []),
        ("m.a(x)", "`abc` went away.", ["c"]),
        ("m.a(x)\nm.B.c\nm.d", "\n## 0.1.0\n`d` is new.", ["d"]),
    ],
)
def test_a_change_of_the_api_is_told_by_name(now, unreleased, expected):
    assert untold("m.a(x)\nm.B.c", now, f"# Changelog\n## Unreleased\n{unreleased}") == expected


def test_every_change_of_the_api_since_the_last_release_stands_in_the_changelog():
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        base = git("describe", "--tags", "--abbrev=0", "HEAD") if git("tag", "--merged", "HEAD") else "HEAD"
        before = git("show", f"{base}:tests/api.txt")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no history of git here, as in a copy of the files or an sdist")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert untold(before, api.FILE.read_text(encoding="utf-8"), changelog) == []


def test_every_name_that_a_user_imports_is_in_the_api():
    lines = set(api.FILE.read_text(encoding="utf-8").splitlines())
    assert {f"mtattn.{name}" for name in mtattn.__all__} <= {line.partition("(")[0] for line in lines}
    assert "mtattn.functional.draw_maps" in {line.partition("(")[0] for line in lines}


def test_the_platforms_workflow_tests_what_the_project_promises():
    workflow = yaml.safe_load((ROOT / ".github/workflows/platforms.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    promised = [found[1] for line in PROJECT["classifiers"] if (found := re.search(r"Python :: (3\.\d+)$", line))]
    assert matrix["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    systems = {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert set(matrix["os"]) == systems
    oldest = {(each["os"], each["python"]) for each in matrix["include"] if each["versions"] == "oldest"}
    assert oldest == {(system, promised[0]) for system in systems}


def test_there_is_one_version():
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == PROJECT["version"]
    assert mtattn.__version__ in (PROJECT["version"], "unknown")  # unknown: a copy that is not installed


def test_no_file_names_the_host_of_a_registry():
    places = [ROOT / "README.md", *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.py")]
    for folder in FOLDERS:
        places += (path for path in (ROOT / folder).rglob("*") if path.suffix in TEXT or path.name == "run")
    own = [path for path in places if not {"_cache", "_build", "auto_gallery"} & set(path.parts)]
    assert len(own) > 200
    assert [str(path) for path in own if HOSTS.search(path.read_text(encoding="utf-8"))] == []


TEXT = {".py", ".md", ".js", ".html", ".css", ".toml", ".yml", ".json", ".rst", ".svg", ".cff", ".txt"}


def build(kind, folder, *, root=ROOT):
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=root, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, check=True)
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_built_twice_has_the_same_bytes_and_passes_twine(kind, tmp_path):
    first, second = build(kind, tmp_path / "first"), build(kind, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(first)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_the_sdist_holds_every_folder_and_what_the_pages_name():
    files = {Path(each.relative_path).as_posix() for each in SdistBuilder(str(ROOT)).recurse_included_files()}
    assert {name.partition("/")[0] for name in files if "/" in name} == set(FOLDERS)
    assert {".ci/run", ".ci/smoke.py", "CITATION.cff", "hatch_build.py", "mtattn/py.typed", "tests/api.txt"} <= files
    assert {path.name for path in ROOT.glob("*.md")} <= files


def metadata(folder, line=""):
    """What hatchling would write of a copy of the project, with one more line under its addresses."""
    for name in ("README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "mtattn").mkdir()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert project.count("[project.urls]\n") == 1
    (folder / "pyproject.toml").write_text(project.replace("[project.urls]\n", f"[project.urls]\n{line}\n"), "utf-8")
    command = [sys.executable, "-m", "hatchling", "metadata"]
    return json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)


LINK = re.compile(r"\]\(([^)]+)\)")


def test_one_line_with_the_address_of_the_repository_makes_every_link_absolute(tmp_path):
    text = metadata(tmp_path, 'Repository = "https://example.org/mtattn/"')["readme"]["text"]
    assert "![Drawn faces" in text
    assert "](https://example.org/mtattn/raw/v0.1.0/docs/images/attribute-maps.png)" in text
    assert "[MIT" not in text or "](https://example.org/mtattn/blob/v0.1.0/LICENSE)" in text
    relative = [target for target in LINK.findall(text) if not target.startswith(("https://", "#"))]
    assert relative == []
    for target in LINK.findall(text):
        if found := re.match(r"https://example\.org/mtattn/(?:raw|blob)/v0\.1\.0/([^#]+)", target):
            assert (ROOT / found[1]).exists(), target


def test_without_that_line_the_readme_stays_as_it_is(tmp_path):
    project = metadata(tmp_path)
    if "Repository" not in PROJECT["urls"]:
        assert project["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("[a](b.md)", "[a](R/blob/v1/b.md)"),
        ("![a](b.png)", "![a](R/raw/v1/b.png)"),
        ("[![a](b.png)](c.md)", "[![a](R/raw/v1/b.png)](R/blob/v1/c.md)"),
        ("[a](b.md#part) and [c](#part)", "[a](R/blob/v1/b.md#part) and [c](#part)"),
        ("[a](https://x.y/z) <b@c.de> [m](mailto:b@c.de)", "[a](https://x.y/z) <b@c.de> [m](mailto:b@c.de)"),
        ("model(images)[0] and [x] (y)", "model(images)[0] and [x] (y)"),
    ],
)
def test_a_relative_link_leads_into_the_repository(given, wanted, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from hatch_build import with_absolute_links

    assert with_absolute_links(given, "R", "v1") == wanted
