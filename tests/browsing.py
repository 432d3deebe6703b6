"""For the tests of pages in a browser: headless Chromium, and what one does in it."""

import base64
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

DROP = """
const bytes = Uint8Array.from(atob(arguments[1]), (letter) => letter.charCodeAt(0)), data = new DataTransfer();
data.items.add(new File([bytes], "face.png", { type: "image/png" }));
const options = { dataTransfer: data, bubbles: true, cancelable: true };
document.querySelector(arguments[0]).dispatchEvent(new DragEvent("drop", options));
"""


def find_chromium():
    """The paths of a Chromium and its driver, or None where one of them is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def chromium(browser, driver):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as page:
        yield page


def drop(page, selector, data):
    """Drop a picture's bytes on an element."""
    page.execute_script(DROP, selector, base64.b64encode(data).decode())


@contextmanager
def seen(page, *, width=None, height=800, dark=False):
    """See pages at a width, in light or dark colours."""
    if width is not None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        yield
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@contextmanager
def served(model_file):
    """mtattn serve in a process of its own, on a free port; gives its address."""
    command = [sys.executable, "-m", "mtattn", "serve", model_file, "--port=0", "--threads=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if found := re.search(r"http://[\d.:]+", line):
                yield found[0]
                break
        process.terminate()
