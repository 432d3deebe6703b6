"""The interactive page: its model with switches is the model, and a headless Chromium shows it, from files alone."""

import hashlib
import io
import os
import shutil
import sys
import tarfile
from base64 import b64encode
from pathlib import Path

import pytest
import torch

for package in ("onnx", "onnxscript", "onnxruntime", "sphinx", "furo", "myst_parser", "accelerate", "torchvision"):
    pytest.importorskip(package, reason="the extras recipes, export and docs are not installed")

import onnxruntime  # noqa: E402
from browsing import drop, seen  # noqa: E402
from PIL import Image  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402
from serving import encoded, png_of_size, red_above_blue  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from torch import nn  # noqa: E402

from mtattn import FARAMTN, AttributeGroups, functional  # noqa: E402
from mtattn.data import image_transform  # noqa: E402
from mtattn.models import map_centres  # noqa: E402

pytestmark = pytest.mark.compile
DOCS = Path(__file__).parents[1] / "docs"
GROUPS = AttributeGroups({"<eyes>": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"], "hair": ["Bangs", "Bald"]})
IMAGE = {"size": [64, 48], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
PIXELS = """
const canvas = document.querySelector("#demo-map");
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""


@pytest.fixture(scope="module", autouse=True)
def docs_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield


@pytest.fixture(scope="module")
def model():
    """Not trained, but far from its start: gates differ, and groups listen to each other."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 32, 8, stride=8), nn.ReLU())
    model = FARAMTN(trunk, 32, GROUPS, reduction=4, fused_channels=16, num_heads=4, spatial=True)
    for parameter in (*model.wsgsa.parameters(), *model.cgff.parameters(), *model.heads.parameters()):
        nn.init.normal_(parameter, std=0.5)
    model.config["image"] = IMAGE
    return model.eval()


def pictures():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (9, 7, 3), generator=generator, dtype=torch.uint8).numpy()
    return [Image.fromarray(noise).resize((120, 150)), red_above_blue(size=(120, 150))]


def switches(*off):
    return torch.tensor([float(index not in off) for index in range(len(GROUPS))])


@pytest.fixture(scope="module")
def computed(model):
    """How the exported file, and how torch computes."""
    from interactive.switches import SwitchableFARAMTN, export_switchable

    session, switchable = onnxruntime.InferenceSession(export_switchable(model)), SwitchableFARAMTN(model).eval()

    def compute(images, gates_on, places_on, listening):
        feeds = {"images": images, "gates_on": gates_on, "places_on": places_on, "listening": listening}
        there = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})
        with torch.no_grad():
            return [torch.from_numpy(output) for output in there], list(switchable(**feeds))

    return compute


@torch.no_grad()
def test_with_all_switches_on_the_numbers_are_the_models(computed, model):
    images = torch.randn(1, 3, *IMAGE["size"])
    wanted = [model(images), model.attribute_maps(images), model.affinity(images)]
    for outputs in computed(images, switches(), switches(), switches()):
        torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("gate", "place", "deaf"),
    [((0,), (), ()), ((), (1,), ()), ((), (), (1,)), ((0, 2), (0,), (1, 2)), ((0, 1, 2), (0, 1, 2), (0, 1, 2))],
)
def test_the_exported_file_and_torch_agree_whatever_is_off(gate, place, deaf, computed):
    there, here = computed(torch.randn(1, 3, *IMAGE["size"]), switches(*gate), switches(*place), switches(*deaf))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-4)
    torch.testing.assert_close(here[1].mean((-2, -1)), here[0], rtol=0, atol=1e-5)  # maps stay exact


@torch.no_grad()
def test_a_gate_that_is_off_is_the_average_gate_and_a_deaf_group_hears_nothing(computed, model):
    images = torch.randn(1, 3, *IMAGE["size"])
    features = model.trunk(images)
    gates = model.wsgsa.gates(features)
    gates[:, 0] = gates.mean(1)
    grouped = functional.gate_mean(
        model.wsgsa.shared(features), gates, model.wsgsa._positions(model.wsgsa.shared(features))
    )
    grouped = functional.channel_linear(2 * grouped, model.projection.weight)
    fused = model.cgff(grouped)
    fused[:, 1] = grouped[:, 1]
    _, (logits, _, affinity) = computed(images, switches(0), switches(), switches(1))
    torch.testing.assert_close(logits, model.heads(fused), rtol=0, atol=1e-5)
    torch.testing.assert_close(affinity, model.cgff.affinity(grouped), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_group_whose_place_is_off_looks_everywhere_alike(computed, model):
    images = torch.randn(1, 3, *IMAGE["size"])
    features = model.trunk(images)
    shared, gates = model.wsgsa.shared(features), model.wsgsa.gates(features)
    positions = model.wsgsa._positions(shared).clone()
    heads = model.wsgsa.num_heads
    positions[:, 2 * heads : 3 * heads] = 1
    grouped = functional.channel_linear(2 * functional.gate_mean(shared, gates, positions), model.projection.weight)
    _, (logits, *_) = computed(images, switches(), switches(2), switches())
    torch.testing.assert_close(logits, model.heads(model.cgff(grouped)), rtol=0, atol=1e-5)
    assert not torch.allclose(logits, model(images), atol=1e-3)


def build(folder, model, monkeypatch):
    """Build a site of this one page, as the documentation has it, around a model and two pictures."""
    from interactive import demo, extension

    faces = [demo.Face(picture, ["Smiling"]) for picture in pictures()]
    monkeypatch.setattr(demo, "demo", lambda: demo.Demo(model, faces, "Not trained."))
    forget(extension)
    source = folder / "docs"
    source.mkdir()
    shutil.copy(DOCS / "interactive.md", source)
    settings = {
        "extensions": ["myst_parser", "interactive.extension"],
        "root_doc": "interactive",
        "html_theme": "furo",
        "suppress_warnings": ["myst.xref_missing"],  # the other pages are not there
    }
    site = folder / "site"
    Sphinx(source, None, site, folder / "trees", "html", settings, status=None, warningiserror=True).build()
    forget(extension)
    return site / "interactive.html"


def forget(extension):
    extension.shown.cache_clear()
    extension.runtime.cache_clear()


@pytest.fixture(scope="module")
def built(tmp_path_factory, model):
    from interactive.npm import RUNTIME, fetch

    try:
        fetch(RUNTIME, "package.json")
    except OSError as error:
        pytest.skip(f"npm cannot fetch the runtime: {error}")
    with pytest.MonkeyPatch.context() as patch:
        yield build(tmp_path_factory.mktemp("built"), model, patch)


@pytest.fixture
def page(chromium, built):
    chromium.get(built.as_uri())
    says(chromium, "are likely")
    return chromium


def says(page, text):
    WebDriverWait(page, 60).until(lambda page: text in page.find_element(By.ID, "demo-status").text)


def named(page, name):
    return page.find_element(By.CSS_SELECTOR, f"[aria-label='{name}']")


def numbers(page):
    return [cell.text.replace("\u00a0", " ") for cell in page.find_elements(By.CLASS_NAME, "demo-number")]


def rows(page):
    return page.find_elements(By.CLASS_NAME, "demo-row")


def answered(page):
    return torch.tensor(page.execute_script("return now.shares"))


@torch.no_grad()
def shares(model, picture):
    return model(image_transform(**IMAGE)(picture)[None])[0].sigmoid()


def test_the_page_says_what_torch_says_of_a_drawn_face(page, model):
    first, second = pictures()
    torch.testing.assert_close(answered(page), shares(model, first), atol=1e-4, rtol=0)
    assert numbers(page) == [f"{100 * share:.0f} %" for share in shares(model, first)]
    assert [title.text for title in page.find_elements(By.CSS_SELECTOR, ".demo h2")] == list(GROUPS)
    page.find_elements(By.CLASS_NAME, "demo-face")[1].click()
    WebDriverWait(page, 60).until(
        lambda page: numbers(page) == [f"{100 * share:.0f} %" for share in shares(model, second)]
    )


@pytest.mark.parametrize("size", [(48, 64), (31, 200), (640, 480), (9, 7)], ids=lambda size: "x".join(map(str, size)))
def test_a_dropped_picture_of_any_size_is_squeezed_as_in_training(size, page, model):
    picture = pictures()[0].resize(size)
    drop(page, ".demo-drop", encoded(picture))
    wanted = shares(model, picture)
    close = 2e-3  # Pillow may filter the two axes in the other order, which rounds otherwise
    WebDriverWait(page, 60).until(lambda page: (answered(page) - wanted).abs().max() < close)


def test_a_picture_can_be_chosen_and_a_bad_one_changes_nothing(page, tmp_path):
    before = numbers(page)
    bad = {
        "text.png": (b"no picture", "not a picture"),
        "empty.png": (b"", "is empty"),
        "large.png": (bytes(10 * 2**20 + 1), "more than 10 MB"),
        "wide.png": (png_of_size(50_000, 50_000), "not a picture"),
    }
    file = page.find_element(By.ID, "demo-file")
    for name, (content, complaint) in bad.items():
        (tmp_path / name).write_bytes(content)
        file.send_keys(str(tmp_path / name))
        says(page, complaint)
    assert numbers(page) == before
    (tmp_path / "face.png").write_bytes(encoded(pictures()[1]))
    file.send_keys(str(tmp_path / "face.png"))
    says(page, "are likely")
    assert numbers(page) != before
    assert page.find_element(By.ID, "demo-picture").get_attribute("alt") == "The picture you chose"


def test_pointing_and_the_keyboard_show_the_map_that_averages_to_the_logit(page, model):
    canvas, note = page.find_element(By.ID, "demo-map"), page.find_element(By.ID, "demo-note")
    smiling, big_lips = rows(page)[1:3]
    with torch.no_grad():
        maps = model.attribute_maps(image_transform(**IMAGE)(pictures()[0])[None])[0]
    ActionChains(page).move_to_element(smiling).perform()
    pixels = torch.tensor(page.execute_script(PIXELS)).view(160, 160, 4)
    rows_of_cells, columns_of_cells = (
        [int(160 * at) for at in centres] for centres in map_centres(model, IMAGE["size"])
    )
    pixels = pixels[rows_of_cells][:, columns_of_cells]  # at the centres of the cells
    orange, visible = pixels[..., 0] > pixels[..., 2], pixels[..., 3] > 20
    assert visible.any()
    assert torch.equal(orange[visible], (maps[1] > 0)[visible])
    assert f"on average {maps[1].mean():.2f}".replace("-", "\u2212") in note.text
    ActionChains(page).move_to_element(page.find_element(By.TAG_NAME, "h1")).perform()
    assert canvas.get_attribute("aria-label") == "No map"
    page.execute_script("arguments[0].focus()", smiling)
    ActionChains(page).send_keys(Keys.ENTER, Keys.TAB).perform()
    assert page.switch_to.active_element == big_lips
    assert canvas.get_attribute("aria-label") == "Map of Big Lips"
    assert smiling.get_attribute("aria-pressed") == "true"
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert canvas.get_attribute("aria-label") == "No map"


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("Gate of mouth", (switches(1), switches(), switches())),
        ("Place of mouth", (switches(), switches(1), switches())),
        ("Listening of mouth", (switches(), switches(), switches(1))),
        ("Gate of <eyes>", (switches(0), switches(), switches())),
    ],
)
def test_a_switch_changes_the_numbers_as_in_torch_and_back_again(name, off, page, computed):
    before = numbers(page)
    switch = named(page, name)
    page.execute_script("arguments[0].focus()", switch)
    ActionChains(page).send_keys(Keys.SPACE).perform()
    says(page, f"{name}: off.")
    assert switch.get_attribute("aria-checked") == "false"
    _, (logits, *_) = computed(image_transform(**IMAGE)(pictures()[0])[None], *off)
    torch.testing.assert_close(torch.tensor(page.execute_script("return now.logits")), logits[0], atol=1e-4, rtol=0)
    assert numbers(page) != before
    assert any(change.text for change in page.find_elements(By.CLASS_NAME, "demo-change"))
    ActionChains(page).send_keys(Keys.SPACE).perform()
    says(page, f"{name}: on. All is on again.")
    assert numbers(page) == before
    assert not any(change.text for change in page.find_elements(By.CLASS_NAME, "demo-change"))


def test_a_deaf_group_is_struck_from_the_table_whose_rows_add_up_to_100(page):
    table = page.find_elements(By.CSS_SELECTOR, ".demo-affinity tbody tr")
    for row in table:
        assert sum(int(cell.text) for cell in row.find_elements(By.TAG_NAME, "td")) == pytest.approx(100, abs=2)
    page.find_element(By.CSS_SELECTOR, "[data-all=listening]").click()
    says(page, "Nobody listens.")
    assert all(row.get_attribute("class") == "off" for row in table)
    page.find_element(By.CSS_SELECTOR, "[data-all=on]").click()
    says(page, "All is on again.")
    assert not any(row.get_attribute("class") for row in table)


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_nothing_is_wider_than_the_window(width, page):
    with seen(page, width=width):
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.find_element(By.ID, "demo-picture").is_displayed()


@pytest.mark.parametrize(
    "forced", ["light", "dark", None], ids=["toggled to light", "toggled to dark", "as the system"]
)
def test_colours_follow_the_themes_toggle_and_the_system(forced, page):
    with seen(page, dark=forced != "dark"):
        page.execute_script("document.body.dataset.theme = arguments[0]", forced or "auto")
        ink = page.execute_script("return getComputedStyle(document.querySelector('.demo-drop b')).color")
        bright = sum(map(int, ink.removeprefix("rgb(").removesuffix(")").split(","))) > 3 * 128
        assert bright == (forced != "light")


def test_without_network_the_browser_has_nothing_to_complain_of(page, built):
    page.get_log("browser")  # what others left
    page.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.refresh()
        says(page, "are likely")
    finally:
        page.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    assert page.get_log("browser") == []
    files = page.execute_script("return [...document.scripts].map((script) => script.src).filter(Boolean)")
    assert any(name.endswith("runtime.js") for name in files)
    assert all(name.startswith(built.parent.as_uri()) for name in files)


def test_without_npm_the_site_is_built_and_says_how_to_get_the_runtime(tmp_path, model, monkeypatch):
    from interactive import extension

    def unreachable(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(extension, "fetch", unreachable)
    text = build(tmp_path, model, monkeypatch).read_text(encoding="utf-8")
    assert "The runtime is missing" in text
    assert "onnxruntime-web-1.30.0.tgz" in text
    assert not (tmp_path / "site/_static/interactive/runtime.js").exists()


def packed(content):
    """A tarball of one file, and the package that is pinned to it."""
    from interactive.npm import Package

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo("package/dist/file.js")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    total = b64encode(hashlib.sha512(file.getvalue()).digest()).decode()
    return file.getvalue(), Package("something", "1.0.0", f"sha512-{total}")


def test_a_file_comes_from_a_tarball_that_lies_in_the_cache_and_then_from_the_cache_itself(tmp_path):
    from interactive.npm import fetch

    tarball, package = packed(b"let x;")
    (tmp_path / "something-1.0.0.tgz").write_bytes(tarball)
    assert fetch(package, "dist/file.js", cache=tmp_path) == b"let x;"
    (tmp_path / "something-1.0.0.tgz").unlink()
    assert fetch(package, "dist/file.js", cache=tmp_path) == b"let x;"


def test_a_tarball_that_is_not_the_pinned_one_is_refused(tmp_path):
    from interactive.npm import fetch

    _, package = packed(b"let x;")
    tarball, _ = packed(b"let y;")
    (tmp_path / "something-1.0.0.tgz").write_bytes(tarball)
    with pytest.raises(ValueError, match=r"something-1\.0\.0\.tgz must have the sum sha512-.*, got sha512-"):
        fetch(package, "dist/file.js", cache=tmp_path)
    assert not list(tmp_path.glob("*/dist/*"))


def stand_in(folder, monkeypatch, script):
    """Put a program in npm's place."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!{sys.executable}\nimport sys\n{script}")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a script with a first line")
def test_a_file_comes_through_npm_by_the_name_of_its_package(tmp_path, monkeypatch):
    from interactive.npm import fetch

    tarball, package = packed(b"let x;")
    (tmp_path / "kept").write_bytes(tarball)
    script = f"""
assert sys.argv[1:3] == ["pack", "something@1.0.0"], sys.argv
open("something-1.0.0.tgz", "wb").write(open({str(tmp_path / "kept")!r}, "rb").read())
"""
    stand_in(tmp_path / "bin", monkeypatch, script)
    assert fetch(package, "dist/file.js", cache=tmp_path / "cache") == b"let x;"


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a script with a first line")
@pytest.mark.parametrize(
    ("script", "reason"),
    [("sys.exit('npm error ENOTFOUND')", "npm pack failed: npm error ENOTFOUND"), ("", "npm pack failed")],
    ids=["no network", "no file"],
)
def test_what_npm_cannot_fetch_is_an_os_error(script, reason, tmp_path, monkeypatch):
    from interactive.npm import AXE, fetch

    stand_in(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(OSError, match=reason):
        fetch(AXE, "axe.min.js", cache=tmp_path)


def test_without_npm_is_an_os_error(tmp_path, monkeypatch):
    from interactive.npm import AXE, fetch

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="there is no npm"):
        fetch(AXE, "axe.min.js", cache=tmp_path)
