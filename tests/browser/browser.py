"""Chromium for the checks of pages, what is asked of every page, and the failures so far."""

import base64
import importlib.util
import pathlib
import time

from selenium import webdriver
from selenium.webdriver.common.by import By

SCREEN = (1280, 1000)
PHONE = (390, 844)
WHITE = "rgb(255, 255, 255)"
failures = []


def check(is_so, what):
    print(f"{'ok' if is_so else 'FAILED'}: {what}")
    if not is_so:
        failures.append(what)


def opened(page, size=SCREEN):
    width, height = size
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    driver.get(page.as_uri())
    return driver


def drawn(driver):
    """The milliseconds from the start of the load until all charts are drawn; what is drawn later is seen 20 ms late."""
    for _ in range(3000):
        if driver.execute_script("return document.documentElement.dataset.drawn === 'all'"):
            return driver.execute_script("return performance.now()")
        time.sleep(0.02)
    return float("nan")


def visible(driver, selector):
    return [element for element in driver.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def texts(driver, selector):
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map(element => element.textContent)", selector)


def rows(driver):
    return driver.execute_script("return [...document.querySelectorAll('.results tbody tr')].filter(row => !row.hidden).length")


def opens_details(driver):
    driver.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")


def paper(driver):
    """The color behind the text."""
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def is_pressed(driver):
    """Whether the button of the theme says that it is pressed; nothing if the page has none."""
    buttons = driver.find_elements(By.ID, "theme")
    return buttons[0].get_attribute("aria-pressed") == "true" if buttons else None


def fits(driver, size, what):
    width = driver.execute_script("return document.documentElement.scrollWidth")
    check(width <= size[0], f"at {size[0]} px {what} is {width} px wide")


def is_open_to_all(driver, what):
    """No finding of axe-core that is serious or critical."""
    source = pathlib.Path(importlib.util.find_spec("axe_playwright_python").origin).parent
    axe = next(source.rglob("axe.min.js"))
    opens_details(driver)
    driver.execute_script(axe.read_text())
    driver.set_script_timeout(300)
    # Of a long table's rows that are alike, some are enough: with all of them it takes minutes.
    found = driver.execute_async_script("""
        const done = arguments[arguments.length - 1];
        axe.run({ exclude: ["tbody tr:nth-child(n+20):not([class])"] }, { resultTypes: ["violations"] }).then(done, error => done({ error: String(error) }));
    """)
    if "error" in found:
        check(False, f"axe-core runs: {found['error']}")
        return
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    for rule in serious:
        print(f"  {rule['id']} ({rule['impact']}): {rule['help']}")
        for node in rule["nodes"][:4]:
            print(f"    {node['html'][:160]}\n      {node['failureSummary'][:300]}")
    check(not serious, f"axe-core {found['testEngine']['version']} finds nothing serious ({what}); {len(found['violations'])} lesser findings")


def logs_nothing(driver):
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    check(not errors, f"no error is logged{': ' + errors[0][:300] if errors else ''}")
    asked = [entry["message"] for entry in driver.get_log("performance") if '"Network.requestWillBeSent"' in entry["message"]]
    remote = [message for message in asked if '"url":"http' in message.replace(" ", "") or '"url":"ws' in message.replace(" ", "")]
    check(not remote, f"no request leaves the machine{': ' + remote[0][:300] if remote else ''}")


def shot(driver, folder, name):
    if folder:
        height = driver.execute_script("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": driver.execute_script("return innerWidth"), "height": min(height, 14000), "scale": 1}
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png", "clip": clip})
        (folder / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
