"""The page of the served example in headless Chromium: drop a picture, see attributes and where their evidence lies."""

import pytest
import torch

for package in ("onnx", "onnxruntime", "fastapi", "uvicorn", "selenium"):
    pytest.importorskip(package, reason="the extras export and serve, and selenium, are not installed")

from browsing import drop, seen, served  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402
from serving import IMAGE, encoded, red_above_blue, write_model  # noqa: E402

from mtattn.functional import Centres, draw_maps  # noqa: E402

SIDE = 160  # of the canvas
pytestmark = pytest.mark.outside

MAP = """
const canvas = document.querySelector("#map");
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(write_model(tmp_path_factory.mktemp("model") / "colours.onnx")) as address:
        yield address


@pytest.fixture
def page(chromium, address):
    chromium.get(address)
    return chromium


def rows(page):
    """The lines of all attributes, once there are any."""
    WebDriverWait(page, 60).until(lambda page: page.find_elements(By.CSS_SELECTOR, "#groups button"))
    return page.find_elements(By.CSS_SELECTOR, "#groups button")


def status(page, text):
    WebDriverWait(page, 60).until(lambda page: text in page.find_element(By.ID, "status").text)


def colors(page):
    """What is drawn at the middles of the map's four rows, at its left edge: orange, blue or nothing."""
    pixels = torch.tensor(page.execute_script(MAP)).view(SIDE, SIDE, 4)
    edges = [pixels[SIDE * (2 * row + 1) // 8, 0].tolist() for row in range(4)]
    return ["nothing" if edge[3] == 0 else "orange" if edge[0] > edge[2] else "blue" for edge in edges]


def test_a_dropped_picture_shows_its_attributes_and_pointing_at_one_its_map(page):
    drop(page, ".drop", encoded(red_above_blue()))
    assert [row.text.split("\n") for row in rows(page)] == [["Red", "50 %"], ["Green", "12 %"], ["Blue Or So", "50 %"]]
    assert [title.text for title in page.find_elements(By.TAG_NAME, "h2")] == ["warm", "cold"]
    assert page.find_element(By.ID, "status").text == "0 of 3 attributes are likely."
    ActionChains(page).move_to_element(rows(page)[0]).perform()
    assert colors(page) == ["orange", "orange", "blue", "blue"]
    ActionChains(page).move_to_element(rows(page)[1]).perform()
    assert colors(page) == ["blue"] * 4
    ActionChains(page).move_to_element(page.find_element(By.TAG_NAME, "h1")).perform()
    assert colors(page) == ["nothing"] * 4


def test_the_keyboard_does_all_that_the_mouse_does(page):
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.get_attribute("id") == "file"
    drop(page, ".drop", encoded(red_above_blue()))
    first, second, _ = rows(page)
    canvas = page.find_element(By.ID, "map")
    ActionChains(page).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert page.switch_to.active_element == first
    assert (canvas.get_attribute("aria-label"), first.get_attribute("aria-pressed")) == ("Map of Red", "true")
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element == second
    assert canvas.get_attribute("aria-label") == "Map of Green"
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert first.get_attribute("aria-pressed") == "false"
    assert canvas.get_attribute("aria-label") == "No map"


def test_a_picture_can_be_chosen_and_another_after_a_bad_one(page, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "face.png").write_bytes(encoded(red_above_blue()))
    file = page.find_element(By.ID, "file")
    file.send_keys(str(tmp_path / "text.png"))
    status(page, "The body is not a picture; send one of JPEG")
    assert not page.find_elements(By.CSS_SELECTOR, "#groups button")
    file.send_keys(str(tmp_path / "face.png"))
    assert len(rows(page)) == 3
    status(page, "0 of 3")


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_nothing_is_wider_than_the_window(width, page):
    with seen(page, width=width, height=700):
        drop(page, ".drop", encoded(red_above_blue(size=(178, 218))))
        rows(page)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_browser_has_nothing_to_complain_of(page, address):
    page.get_log("browser")  # what others left
    drop(page, ".drop", encoded(red_above_blue()))
    rows(page)
    assert page.get_log("browser") == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded
    assert all(name.startswith((address, f"blob:{address}")) for name in loaded)


@pytest.mark.parametrize(
    "centres",
    [None, Centres([0.01, 0.26, 0.51, 0.76], [0.1, 0.4, 0.9]), Centres([-0.2, 0.3, 0.8, 1.3], [0.4, 0.5, 0.6])],
    ids=["squares", "up and left", "beyond the picture"],
)
def test_the_browser_draws_a_map_as_torch_does(centres, page):
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    told = None if centres is None else centres._asdict()
    limit = float(values.abs().max())
    page.execute_script(
        "drawMap(document.querySelector('#map'), ...arguments)", values.flatten().tolist(), [4, 3], limit, told
    )
    pixels = torch.tensor(page.execute_script(MAP)).view(SIDE, SIDE, 4)
    drawn = draw_maps(values, (SIDE, SIDE), centres)
    assert (pixels[..., 3] - 204 * drawn.abs() / limit).abs().max() < 1
    seen = pixels[..., 3] > 9
    assert torch.equal((pixels[..., 0] > pixels[..., 2])[seen], (drawn > 0)[seen])


def test_the_page_draws_the_cells_where_the_model_says_that_they_look(tmp_path, chromium):
    low = Centres([0.6, 0.7, 0.8, 0.9], [0.1, 0.3, 0.5, 0.7, 0.8, 0.9])
    with served(write_model(tmp_path / "colours.onnx", centres=low._asdict())) as address:
        chromium.get(address)
        drop(chromium, ".drop", encoded(red_above_blue()))
        ActionChains(chromium).move_to_element(rows(chromium)[0]).perform()
        assert colors(chromium) == ["orange", "orange", "orange", "blue"]


def test_the_map_of_a_model_of_the_middle_covers_the_middle(tmp_path, chromium):
    image = IMAGE | {"crop": [0.5, 0.25]}
    with served(write_model(tmp_path / "colours.onnx", image=image)) as address:
        chromium.get(address)
        drop(chromium, ".drop", encoded(red_above_blue(size=(240, 160))))
        rows(chromium)
        whole, middle = (chromium.find_element(By.ID, name).rect for name in ("picture", "map"))
    assert middle["height"] == pytest.approx(whole["height"] / 2, abs=1)
    assert middle["width"] == pytest.approx(whole["width"] / 4, abs=1)
    assert middle["x"] - whole["x"] == pytest.approx(whole["width"] * 3 / 8, abs=1)
    assert middle["y"] - whole["y"] == pytest.approx(whole["height"] / 4, abs=1)
