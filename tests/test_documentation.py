"""The documentation is true: its Python runs, its commands are known, its pictures are described, its links resolve.

The blocks of a page run in order and share their names, as for a reader who types them. A ``text`` block after one
that prints is what it prints, and a comment beside a bare expression that looks like a value is its value; "..." stands
for anything. Comments that no reader sees say what else there is to know:

    <!-- hidden: code -->              is run as well; what it replaces it replaces by monkeypatch, which undoes it
    <!-- needs: package, package -->   the page is skipped where one of these is missing
    <!-- not run: reason -->           the next block is compiled only
"""

import ast
import doctest
import importlib.util
import io
import re
import runpy
import shlex
import sys
import textwrap
import tokenize
import tomllib
from argparse import ArgumentParser
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from torch import distributed

pytestmark = pytest.mark.outside

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = ("_build", "_cache", "auto_gallery")
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in GENERATED),
]
TEXTS = [*PAGES, *sorted({*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), ROOT / "benchmarks/README.md"} - {*PAGES})]
PART = re.compile(
    r"^ *<!--(?P<comment>.*?)-->|^(?P<indent> *)(?P<fence>`{3,})(?P<kind>[^\n]*)\n(?P<text>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
KINDS = ("python", "bash", "text", "bibtex", "yaml")
OTHER_PROGRAMS = (
    *("accelerate", "cd", "curl", "export", "git", "hf", "lint-imports", "mypy", "pip", "pytest", "ruff", "ty"),
    *("../clean/bin/python", "cyclonedx-py", "pip-licenses", "twine"),
)
VALUE = re.compile(r"[\[({'\"\d-]|tensor\(|torch\.|True$|False$")
CHECKER, OPTIONS = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def ids(paths):
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


def parts(page):
    """Each block and each unseen comment of a page, as its kind, its text and its line."""
    text = page.read_text(encoding="utf-8")
    for found in PART.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        if found["comment"] is None:
            yield found["kind"].strip(), textwrap.dedent(found["text"]), line
        else:
            kind, _, comment = found["comment"].strip().partition(":")
            yield f"<!-- {kind}", textwrap.dedent(comment).strip("\n "), line


def prose(page):
    """The text of a page without blocks and inline code, where brackets are links."""
    return re.sub(r"`[^`\n]*`", "", PART.sub("", page.read_text(encoding="utf-8")))


def same(want, got):
    return CHECKER.check_output(f"{want.strip()}\n", f"{got.strip()}\n", OPTIONS)


def run(code, names, place):
    """Run a block; hold what stands beside its bare expressions against their values. Return what it prints."""
    said = io.StringIO()
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    tree = compile(code, place, "exec", ast.PyCF_ONLY_AST)
    with redirect_stdout(said):
        for node in tree.body:
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), place, "eval"), names)
                claimed = comments.get(node.end_lineno, "")
                assert not claimed or not VALUE.match(claimed) or same(claimed, repr(value)), (
                    f"{place}: {ast.unparse(node)} is {value!r}, and the comment beside it says {claimed}"
                )
            else:
                exec(compile(ast.Module([node], []), place, "exec"), names)
    return said.getvalue()


def run_session(code, names, place):
    """Run a block that begins with a prompt."""
    said = []
    session = doctest.DocTestParser().get_doctest(code, names, place, place, 0)
    failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(session, out=said.append, clear_globs=False)
    names |= session.globs
    assert failed == 0, "".join(said)


@pytest.fixture
def no_group_left():
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.usefixtures("no_group_left")
@pytest.mark.parametrize("page", ids(page for page in PAGES if any(kind == "python" for kind, *_ in parts(page))))
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, said, runs = {"__name__": "page", "monkeypatch": monkeypatch}, "", True
    for kind, text, line in parts(page):
        place = f"{page.relative_to(ROOT)}:{line}"
        if kind == "<!-- needs":
            for package in re.split(r",\s*", text):
                pytest.importorskip(package, reason=f"{place}: {package} is not installed")
        elif kind == "<!-- not run":
            assert len(text) > 10, f"{place}: say why the block is not run"
            runs = False
        elif kind == "<!-- hidden":
            run(text, names, place)
        elif kind == "python" and not runs:
            compile(text, place, "exec")
            runs = True
        elif kind == "python" and text.startswith(">>>"):
            run_session(text, names, place)
        elif kind == "python":
            said = run(text, names, place)
            continue
        elif kind == "text" and said:
            assert same(text, said), f"{place}: it says\n{text}\nand the block before it prints\n{said}"
        said = ""


@pytest.mark.parametrize("page", ids(TEXTS))
def test_every_block_says_what_it_is(page):
    for kind, _, line in parts(page):
        assert kind.startswith(("<!-- ", "{")) or kind in KINDS, f"line {line}: {kind!r} is none of {KINDS}"
        assert "code-block" not in kind, f"line {line}: write ```python, so that it is run"


def commands():
    """Each command of the bash blocks, as its page and its words."""
    for page in TEXTS:
        for kind, text, line in parts(page):
            if kind == "bash":
                for words in map(shlex_split, text.replace("\\\n", " ").splitlines()):
                    for command in in_parts(words):
                        yield pytest.param(command, id=f"{page.relative_to(ROOT).as_posix()}:{line} {command[0]}")


def shlex_split(line):
    return shlex.split(line, comments=True)


def in_parts(words):
    command = []
    for word in [*words, "&&"]:
        if word in {"&&", "|"}:
            if command:
                yield command
            command = []
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):  # HF_HUB_OFFLINE=1 before a program
            command.append(word)


class ParsedError(Exception):
    """Raised where a program has understood its options, before it does anything."""


def understands(program, arguments, monkeypatch, capsys):
    """Run a program of the tree up to where it has read its options."""
    file = ROOT / program
    assert file.is_file(), f"there is no {program}"
    source, parse_args = file.read_text(encoding="utf-8"), ArgumentParser.parse_args
    if "parse_args" not in source:
        assert not arguments or "sys.argv" in source, f"{program} takes no options, got {arguments}"
        return

    def parse_only(self, *given):
        parse_args(self, *given)
        raise ParsedError

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", [str(file), *arguments])
    monkeypatch.syspath_prepend(str(file.parent))
    before = {*sys.modules}
    try:
        with pytest.raises(ParsedError):
            runpy.run_path(str(file), run_name="__main__")
    except ModuleNotFoundError as error:
        pytest.skip(f"{program} needs {error.name}")
    except SystemExit:
        pytest.fail(f"{program} {shlex.join(arguments)}: {capsys.readouterr().err}")
    finally:
        for name in {*sys.modules} - before:  # programs have modules beside them, of the same names
            if (file.parent / f"{name}.py").is_file():
                del sys.modules[name]


def launched(words):
    """Split the words of a launcher from the program that it launches."""
    at = next(index for index, word in enumerate(words) if word.endswith(".py"))
    return words[:at], words[at], words[at + 1 :]


@pytest.mark.parametrize("command", [*commands()])
def test_every_command_is_known_with_its_options(command, monkeypatch, capsys):
    match command:
        case ["python", "-m", module, *_]:
            assert module in {"build", "sphinx", "http.server"} or importlib.util.find_spec(module), module
        case ["python", "-c", program]:
            compile(program, "python -c", "exec")
        case ["python", program, *arguments]:
            understands(program, arguments, monkeypatch, capsys)
        case ["mtattn", name, *arguments]:
            from mtattn.cli import COMMANDS

            assert name in COMMANDS, name
            command = importlib.import_module(f"mtattn.cli.{name}")
            try:
                command.parser(f"mtattn {name}").parse_args(arguments)
            except SystemExit:
                pytest.fail(f"mtattn {name} {shlex.join(arguments)}: {capsys.readouterr().err}")
        case ["torchrun", *words]:
            from torch.distributed.run import get_args_parser

            options, program, arguments = launched(words)
            get_args_parser().parse_args([*options, program])
            if program != "sharded.py":  # what the page has its reader save
                understands(program, arguments, monkeypatch, capsys)
        case ["accelerate", "launch", *words]:
            launch = pytest.importorskip("accelerate.commands.launch", reason="the extra recipes is not installed")
            options, program, arguments = launched(words)
            launch.launch_command_parser().parse_args([*options, program])
            understands(program, arguments, monkeypatch, capsys)
        case ["pip", "install", *words]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for asked in re.findall(r"(?:^|\s)(?:\.|mtattn)\[(.*?)\]", " ".join(words)):
                assert {*asked.split(",")} <= extras.keys()
        case [program, *_]:
            assert program in OTHER_PROGRAMS, f"{program}: add it to OTHER_PROGRAMS if a reader has it"


@pytest.mark.parametrize("page", ids(TEXTS))
def test_the_files_that_a_page_names_are_there(page):
    named = re.findall(r"`((?:\.ci|benchmarks|docs|examples|mtattn|tests)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", ids(TEXTS))
def test_every_picture_is_described(page):
    text = page.read_text(encoding="utf-8")
    descriptions = re.findall(r"!\[(.*?)\]\(", text, re.DOTALL) + re.findall(r'<img[^>]*alt="(.*?)"', text)
    assert len(descriptions) == len(re.findall(r"!\[|<img", text))
    assert all(len(description.split()) >= 3 for description in descriptions)
    for kind, body, line in parts(page):
        if kind.startswith(("{image}", "{figure}")):
            assert re.search(r"^:alt: \S+ \S+ \S+", body, re.MULTILINE), f"line {line}: say what the picture shows"


def anchors(page):
    """The names by which a link reaches the headings of a page, as MyST and GitHub make them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#{1,6} (.+?) *$", PART.sub("", text), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {*slugs, *re.findall(r"^\(([\w-]+)\)=", text, re.MULTILINE)}


@pytest.mark.parametrize("page", ids(TEXTS))
def test_every_link_within_the_project_resolves(page):
    links = re.findall(r"\]\(<?([^)>\s]+)>?\)", prose(page)) + re.findall(r'(?:href|src)="([^"]+)"', prose(page))
    for link in links:
        if re.match(rf"\w+:|(\.\./)*({'|'.join(GENERATED)})/", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


def test_every_program_that_a_page_shows_is_run_by_a_test():
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("test_*.py"))
    for page in PAGES:
        for shown in re.findall(r"^```\{literalinclude\} (\S+\.py)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert (page.parent / shown).is_file()
            assert Path(shown).stem in tests, f"{page.name} shows {shown}, which no test runs"
