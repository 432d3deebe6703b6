"""What an import brings in, and what happens when an optional package is missing or broken."""

import json
import os
import subprocess
import sys

import pytest

import mtattn
from mtattn.cli import COMMANDS

pytestmark = pytest.mark.outside

PUBLIC = [
    "AttributeGroups",
    "CGFF",
    "Categorical",
    "DWSLoss",
    "DynamicWeighting",
    "FARAMTN",
    "GroupHeads",
    "Number",
    "Ordinal",
    "Predictor",
    "WSGSA",
]
LIGHT = sorted({*COMMANDS} - {"check", "evaluate", "train"})  # those have the options of the recipes
HEAVY = (
    "('timm', 'torchvision', 'torchmetrics', 'PIL', 'matplotlib', 'accelerate', 'h5py', 'huggingface_hub', "
    "'onnx', 'onnxscript', 'onnxruntime', 'fastapi')"
)


def run(program, *, path=""):
    """Run a program in a fresh interpreter and return what it prints, its last line of error included."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Each program gets a process that has imported torch and nothing else: that import takes longer than all the rest.
SERVER = """
import importlib, json, os, sys, traceback
import torch
before = {name for name in %s if name in sys.modules}
assert not before, before
for line in sys.stdin:
    program, path, output = json.loads(line)
    child = os.fork()
    if not child:
        sys.path.insert(0, path)
        importlib.invalidate_caches()
        code = 1
        with open(output, "w") as sys.stdout:
            try:
                exec(program, {"__name__": "__main__"})
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def with_torch(tmp_path_factory):
    """Run programs that import torch anyway."""
    if not hasattr(os, "fork"):
        yield run
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SERVER % HEAVY]
    output = tmp_path_factory.mktemp("programs") / "output"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:

        def in_fork(program, *, path=""):
            server.stdin.write(json.dumps([program, str(path), str(output)]) + "\n")
            server.stdin.flush()
            code = server.stdout.readline().strip()
            assert code == "0", output.read_text()
            return output.read_text().strip()

        yield in_fork
        server.stdin.close()


@pytest.fixture
def broken(tmp_path):
    """Make packages whose import raises, to stand before the real ones."""

    def make(*names, error="RuntimeError('operator torchvision::nms does not exist')"):
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(f"raise {error}\n")
        return tmp_path

    return make


def test_importing_mtattn_brings_in_nothing_heavy():
    assert run(f"import mtattn, sys; print([m for m in ('torch', *{HEAVY}) if m in sys.modules])") == "[]"


@pytest.mark.parametrize("name", ["functional", "losses", "modules", "groups"])
def test_the_rooms_that_need_torch_alone_are_there_without_an_import_of_their_own(name, with_torch):
    assert with_torch(f"import mtattn; print(mtattn.{name}.__name__)") == f"mtattn.{name}"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in LIGHT)])
def test_the_command_explains_itself_before_anything_heavy_is_there(arguments):
    program = f"""
import sys
from mtattn.cli import main
try:
    main({arguments})
except SystemExit:
    print([m for m in ('torch', *{HEAVY}) if m in sys.modules])
"""
    assert run(program).endswith("[]")


def test_the_modules_and_losses_need_nothing_heavy(with_torch):
    program = f"""
import sys, torch
from mtattn import CGFF, WSGSA, AttributeGroups, DWSLoss, GroupHeads
groups = AttributeGroups({{"a": ["x"], "b": ["y", "z"]}})
logits = GroupHeads(16, groups)(CGFF(16)(WSGSA(16, 2).pooled(torch.rand(2, 16, 4, 4))))
DWSLoss(groups)(logits, torch.ones(2, 3)).backward()
print([m for m in {HEAVY} if m in sys.modules])
"""
    assert with_torch(program) == "[]"


def test_a_model_on_a_custom_trunk_needs_no_timm(broken, with_torch):
    program = """
import sys, torch
from mtattn import FARAMTN, AttributeGroups
print(tuple(FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, AttributeGroups({"a": ["x"]}))(torch.rand(2, 3, 8, 8)).shape))
"""
    assert with_torch(program, path=broken("timm", "torchvision", "torchmetrics", "PIL", "matplotlib")) == "(2, 1)"


@pytest.mark.parametrize(
    ("package", "use", "owner"),
    [
        pytest.param(
            "torchvision", "FARAMTN.from_timm('resnet18', groups)", "FARAMTN.from_timm", id="timm on torchvision"
        ),
        pytest.param("timm", "FARAMTN.from_timm('resnet18', groups)", "FARAMTN.from_timm", id="timm"),
        pytest.param("torchmetrics", "from mtattn.metrics import AttributeMetrics", "mtattn.metrics", id="metrics"),
        pytest.param("torchvision", "import mtattn.data; mtattn.data.image_transform", "", id="transform named only"),
    ],
)
@pytest.mark.parametrize(
    "error",
    ["RuntimeError('operator torchvision::nms does not exist')", "ModuleNotFoundError('No module named it')"],
    ids=["broken", "missing"],
)
def test_a_broken_or_missing_package_names_the_extra_where_it_is_used(error, package, use, owner, broken, with_torch):
    program = f"""
from mtattn import FARAMTN, AttributeGroups
groups = AttributeGroups({{"a": ["x"]}})
try:
    {use}
    print("no error")
except ImportError as error:
    print(error)
"""
    said = with_torch(program, path=broken(package, error=error))
    if owner:
        assert said.startswith(f"{owner}: ")
        assert said.endswith('pip install "mtattn[recipes]"')
    else:
        assert said == "no error"


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_export_names_its_extra_when_a_package_is_missing(package, broken, with_torch):
    program = """
import torch
from mtattn import FARAMTN, AttributeGroups
from mtattn.export import export_onnx
model = FARAMTN(torch.nn.Conv2d(3, 16, 4), 16, AttributeGroups({"a": ["x"]}))
model.config["image"] = {"size": [8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
try:
    export_onnx(model, "never-written.onnx")
except ImportError as error:
    print(error)
"""
    said = with_torch(program, path=broken(package, error="ModuleNotFoundError('No module named it')"))
    assert said == 'export_onnx: No module named it. Install what it needs: pip install "mtattn[export]"'


def test_torchvision_broken_or_not_metrics_work_or_name_the_extra(broken, with_torch):
    program = """
try:
    from mtattn.metrics import AttributeMetrics
    print("works")
except ImportError as error:
    print(error)
"""
    said = with_torch(program, path=broken("torchvision"))
    assert said == "works" or said.endswith('pip install "mtattn[recipes]"')


def test_all_public_names_are_there():
    assert sorted(mtattn.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(mtattn, name).__name__ == name


def test_dir_lists_all_public_names_before_any_is_used():
    said = run("import mtattn; print(sorted(set(mtattn.__all__) - set(dir(mtattn))))")
    assert said == "[]"


def test_a_star_import_brings_all_public_names(with_torch):
    assert with_torch(f"from mtattn import *; print({', '.join(PUBLIC)})").count("class") == len(PUBLIC)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mtattn' has no attribute 'WSGA'"):
        mtattn.WSGA  # noqa: B018


def test_public_classes_say_what_they_do():
    for name in PUBLIC:
        first = getattr(mtattn, name).__doc__.splitlines()[0]
        assert first.endswith((".", ":")), name
