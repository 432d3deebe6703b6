"""axe-core finds no serious fault on any kind of page: on paper white and in the dark, on a desktop and on a phone.

The pages of the documentation are those of a site that is built already: MTATTN_SITE=path/to/html.
"""

import json
import os
from pathlib import Path

import pytest

for package in ("selenium", "onnx", "fastapi", "uvicorn", "matplotlib"):
    pytest.importorskip(package, reason="selenium and the extras recipes, export and serve are not installed")

from browsing import drop, seen, served  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402
from serving import encoded, red_above_blue, write_model  # noqa: E402

pytestmark = pytest.mark.outside

DOCS = Path(__file__).parents[1] / "docs"
SITE = os.environ.get("MTATTN_SITE")
KINDS = {  # each kind of page, and where the first of them is looked for
    "landing": "index.html",
    "tutorial": "tutorials/*-*.html",
    "how-to": "how-to/resume.html",
    "explanation": "explanation/[!i]*.html",
    "figures": "explanation/how-fast.html",
    "reference": "reference/modules.html",
    "gallery": "auto_gallery/index.html",
    "gallery page": "auto_gallery/plot_*.html",
    "interactive": "interactive.html",
    "search": "search.html",
}
FORMS = [(width, dark) for width in (1400, 390) for dark in (False, True)]
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => done(JSON.stringify(violations)));
"""


@pytest.fixture(scope="module")
def axe():
    """The text of axe-core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        from interactive.npm import AXE, fetch

        try:
            return fetch(AXE, "axe.min.js").decode()
        except OSError as error:
            pytest.skip(f"axe-core cannot be fetched: {error}")


def faults(page, axe):
    """The serious and critical faults of the page that is shown, each with the first elements that have it."""
    page.execute_script(axe)
    found = json.loads(page.execute_async_script(AXE))
    return [
        f"{fault['impact']}: {fault['help']}: {' | '.join(node['html'][:150] for node in fault['nodes'][:4])}"
        for fault in found
        if fault["impact"] in {"serious", "critical"}
    ]


def assert_no_faults(page, axe, width, dark):
    found = faults(page, axe)
    assert not found, "\n".join([f"{width} pixels wide, {'dark' if dark else 'light'}:", *found])


def check(page, axe, address, ready):
    page.set_script_timeout(120)
    for width, dark in FORMS:
        with seen(page, width=width, dark=dark):
            page.get(address)
            WebDriverWait(page, 60).until(ready)
            assert_no_faults(page, axe, width, dark)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_the_site_has_no_serious_fault(kind, chromium, axe):
    if SITE is None:
        pytest.skip("MTATTN_SITE names no built site")
    files = sorted(Path(SITE).glob(KINDS[kind]))
    assert files, f"{SITE} has no page {KINDS[kind]}"
    check(chromium, axe, files[0].absolute().as_uri(), settled if kind == "interactive" else shown)


def shown(page):
    return page.execute_script("return document.readyState") == "complete"


def settled(page):
    """Whether the interactive page has answered, or says that it cannot."""
    demo = page.find_element(By.ID, "demo")
    return demo.get_attribute("data-runtime") == "missing" or "are likely" in demo.text


def test_the_report_of_a_run_has_no_serious_fault(tmp_path, chromium, axe):
    from test_report import FACES, make_run, written

    written(tmp_path, make_run(FACES))
    check(chromium, axe, (tmp_path / "report.html").as_uri(), shown)


def test_the_served_page_has_no_serious_fault(tmp_path, chromium, axe):
    with served(write_model(tmp_path / "colours.onnx")) as address:
        for width, dark in FORMS:
            with seen(chromium, width=width, dark=dark):
                chromium.get(address)
                drop(chromium, ".drop", encoded(red_above_blue()))
                WebDriverWait(chromium, 60).until(lambda page: page.find_elements(By.CSS_SELECTOR, "#groups button"))
                chromium.find_element(By.CSS_SELECTOR, "#groups button").click()
                assert_no_faults(chromium, axe, width, dark)
