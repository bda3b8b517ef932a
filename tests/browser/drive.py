"""Uses a report in Chromium as a reader does: sorts, filters, switches lines off, chooses another baseline and length, changes
the theme, narrows the window, and looks for what keeps people out with axe-core. Exits with 1 if something does not work.

    python3 tests/browser/drive.py PAGE [FOLDER FOR SCREENSHOTS] [--all-controls] [--overview OVERVIEW]

With `--all-controls` it is a failure if a control is missing that only a page of several strategies, lengths and workloads, with
another engine drawn beside them, has. Opens `light.html` beside the page as well, if it is there, and the overview of several models.

Needs Debian's `chromium` and `chromium-driver`, and of PyPI `selenium` and `axe-playwright-python` (for the axe-core in it).
"""

import argparse
import base64
import importlib.util
import pathlib
import sys
import time

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

MOST_BYTES = 6_000_000
PHONE = 390
# What a page has only if there is something to choose from.
CONTROLS = {"baseline", "length", "workload", "scale", "outliers", "peer", "groups"}
failures = []


def check(is_so, what):
    print(f"{'ok' if is_so else 'FAILED'}: {what}")
    if not is_so:
        failures.append(what)


def opened(page, width=1280, height=1000):
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


def loads_alone(driver, page):
    print(f"{page.stat().st_size / 1e6:.2f} MB")
    check(page.stat().st_size < MOST_BYTES, f"the page has fewer than {MOST_BYTES} bytes")
    all_drawn = drawn(driver)
    interactive = driver.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    print(f"interactive after {interactive:.0f} ms, all charts drawn after {all_drawn:.0f} ms (times are told, not judged)")
    charts = len(driver.find_elements(By.CSS_SELECTOR, ".chart"))
    figures = len(driver.find_elements(By.CSS_SELECTOR, ".chart .main-svg:first-child"))
    check(charts > 0 and figures >= charts, f"{charts} charts are drawn")
    check(driver.execute_script("return performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length") == 0, "nothing is requested")


def sorts(driver):
    names = [button.text for button in visible(driver, ".results th button")]
    index = next((names.index(name) for name in ("tpot_ms_p50", "seq_len") if name in names), len(names) - 1)
    heading = visible(driver, ".results th button")[index]
    numbers = lambda: driver.execute_script(
        "return [...document.querySelectorAll('.results tbody tr')].map(row => row.cells[arguments[0]].dataset.number).filter(number => number !== undefined).map(Number)",
        index,
    )
    heading.send_keys(Keys.ENTER)
    rising = numbers()
    heading.click()
    falling = numbers()
    check(len(rising) > 1 and rising == sorted(rising) and falling == sorted(falling, reverse=True), f"sorts by {names[index]}, by key and by mouse")


def filters(driver, label):
    field = driver.find_element(By.ID, "filter")
    before = rows(driver)
    field.send_keys(label)
    expected = sum(label.lower() in text.lower() for text in texts(driver, ".results tbody tr"))
    check(0 < rows(driver) == expected < before, f"{rows(driver)} of {before} rows contain {label[:30]!r}")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    check(rows(driver) == before, "all rows are back")


def switches_off(driver, label):
    lines = "return [...document.querySelectorAll('.chart')].flatMap(chart => chart.data ?? []).filter(trace => trace.name?.startsWith(arguments[0]) && trace.visible === false).length"
    box = next(box for box in driver.find_elements(By.CSS_SELECTOR, "input[data-strategy]") if box.get_attribute("data-strategy") == label)
    before = (rows(driver), driver.execute_script(lines, label))
    box.send_keys(Keys.SPACE)
    after = (rows(driver), driver.execute_script(lines, label))
    check(after[0] < before[0] and after[1] > before[1], f"{label[:30]!r} is switched off in {after[1]} charts and {before[0] - after[0]} rows")
    box.send_keys(Keys.SPACE)
    check((rows(driver), driver.execute_script(lines, label)) == before, "and on again")


def switches_off_a_peer(driver, needed):
    """The last other engine goes from every chart that has it, and nothing else does."""
    boxes = driver.find_elements(By.CSS_SELECTOR, "input[data-peer]")
    if not boxes:
        if "peer" in needed:
            check(False, "there is a control for: peer")
        return
    hidden = "return [...document.querySelectorAll('.chart')].flatMap(chart => (chart.data ?? []).filter(trace => trace.visible === false).map(trace => trace.name))"
    name = boxes[-1].get_attribute("data-peer")
    before = driver.execute_script(hidden)
    boxes[-1].send_keys(Keys.SPACE)
    after = driver.execute_script(hidden)
    charts = after.count(name) - before.count(name)
    check(charts > 0 and len(after) - len(before) == charts, f"the engine {name[:30]!r} is switched off in {charts} charts, and nothing else is")
    boxes[-1].send_keys(Keys.SPACE)
    check(driver.execute_script(hidden) == before, "and on again")


def hides_groups(driver, needed):
    """A group of charts is hidden with the last of its charts, and so are the links to them."""
    groups = texts(driver, "section[id^=charts-] > h3")
    fields = driver.find_elements(By.ID, "choose-workload")
    if not groups or not fields:
        if "groups" in needed:
            check(False, "the charts are in groups")
        return
    shown = """return [...document.querySelectorAll("section[id^=charts-]")].map(group => {
        const link = id => document.querySelector(`a[href="#${id}"]`).checkVisibility();
        const charts = [...group.querySelectorAll("section")].map(chart => [chart.checkVisibility(), link(chart.id)]);
        return [group.querySelector("h3").checkVisibility(), link(group.id), charts];
    })"""
    select = Select(fields[0])
    seen = set()
    for option in [option.text for option in select.options]:
        select.select_by_visible_text(option)
        states = driver.execute_script(shown)
        fits = all(heading == entry == any(chart for chart, _ in charts) and all(chart == link for chart, link in charts) for heading, entry, charts in states)
        there = [name for name, (heading, *_) in zip(groups, states) if heading]
        seen.add(tuple(there))
        check(fits and there, f"workload {option}: the groups {', '.join(there)} and the links to them")
    check(len(seen) == len(select.options), "each workload has groups of its own")
    select.select_by_index(0)


def names_everything(driver, labels):
    cells = set(texts(driver, ".results tbody td"))
    missing = [label for label in labels if label not in cells]
    check(not missing, f"{len(labels)} labels stand in the table as they are{': not ' + repr(missing[0]) if missing else ''}")


def chooses(driver, needed):
    """Uses the controls that are there. Those that are needed must be."""

    def there(control, elements):
        if control in needed and not elements:
            check(False, f"there is a control for: {control}")
        return elements

    baselines = there("baseline", driver.find_elements(By.ID, "choose-baseline"))
    if baselines:
        select = Select(baselines[0])
        own, other = select.first_selected_option, next(option for option in select.options if not option.is_selected())
        before = texts(driver, "td[data-ratio]")
        name = other.get_attribute("value")
        select.select_by_value(name)
        after = texts(driver, "td[data-ratio]")
        check(before != after and "1 (baseline)" in after, f"the baseline {name[:30]!r} changes the ratios")
        check(all(heading == name for heading in texts(driver, "[data-baseline-name]")), "and is named")
        select.select_by_value(own.get_attribute("value"))
        check(texts(driver, "td[data-ratio]") == before, "and can be left again")
    lengths = driver.find_elements(By.ID, "choose-decision")
    if lengths:
        select = Select(lengths[0])
        for option in select.options:
            select.select_by_visible_text(option.text)
            shown = [table.get_attribute("data-decision") for table in visible(driver, "[data-decision]")]
            check(shown == [option.get_attribute("value")], f"side by side at {option.text}")
    for key in ("length", "workload", "batch"):
        fields = there(key, driver.find_elements(By.ID, f"choose-{key}"))
        if fields:
            select = Select(fields[0])
            before = rows(driver)
            select.select_by_index(1)
            chosen = select.first_selected_option.text
            is_all = driver.execute_script(
                "return [...document.querySelectorAll('.results tbody tr')].filter(row => !row.hidden).every(row => row.dataset[arguments[0]] === arguments[1])", key, chosen
            )
            check(is_all and 0 < rows(driver) < before, f"{key} {chosen}: {rows(driver)} of {before} rows")
            select.select_by_index(0)
    scale = there("scale", visible(driver, "button[data-scale]"))
    if scale:
        kind = "return document.getElementById(arguments[0])._fullLayout.yaxis.type"
        chart = scale[0].get_attribute("data-scale")
        before = driver.execute_script(kind, chart)
        scale[0].click()
        check(driver.execute_script(kind, chart) != before, f"the scale of {chart} changes from {before}")
        scale[0].click()
    for button in there("outliers", visible(driver, "button[data-outliers]"))[:1]:
        chart = button.get_attribute("data-outliers")
        count = "return document.getElementById(arguments[0]).data.filter(trace => trace.visible === false).length"
        ticks = "return document.getElementById(arguments[0]).querySelectorAll('.ytick text').length"
        before = driver.execute_script(count, chart)
        without = driver.execute_script(ticks, chart)
        button.click()
        check(driver.execute_script(count, chart) < before, f"the outlier of {chart} can be shown")
        shown = driver.execute_script(ticks, chart)
        check(min(without, shown) >= 2, f"its axis has {without} ticks without the outlier, and {shown} with it")
        button.click()


def changes_theme(driver):
    color = "return getComputedStyle(document.body).backgroundColor"
    light = driver.execute_script(color)
    driver.find_element(By.ID, "theme").send_keys(Keys.ENTER)
    dark = driver.execute_script(color)
    check(light == "rgb(255, 255, 255)" and dark not in (light, ""), f"the theme changes from {light} to {dark}")


def is_open_to_all(driver, theme):
    """No finding of axe-core that is serious or critical."""
    source = pathlib.Path(importlib.util.find_spec("axe_playwright_python").origin).parent
    axe = next(source.rglob("axe.min.js"))
    driver.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")
    driver.execute_script(axe.read_text())
    driver.set_script_timeout(120)
    found = driver.execute_async_script("const done = arguments[arguments.length - 1]; axe.run(document, { resultTypes: ['violations'] }).then(done, error => done({ error: String(error) }))")
    if "error" in found:
        check(False, f"axe-core runs: {found['error']}")
        return
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    for rule in serious:
        print(f"  {rule['id']} ({rule['impact']}): {rule['help']}")
        for node in rule["nodes"][:4]:
            print(f"    {node['html'][:160]}\n      {node['failureSummary'][:300]}")
    check(not serious, f"axe-core {found['testEngine']['version']} finds nothing serious ({theme}); {len(found['violations'])} lesser findings")


def logs_nothing(driver):
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    check(not errors, f"no error is logged{': ' + errors[0][:300] if errors else ''}")
    asked = [entry["message"] for entry in driver.get_log("performance") if '"Network.requestWillBeSent"' in entry["message"]]
    remote = [message for message in asked if '"url":"http' in message.replace(" ", "") or '"url":"ws' in message.replace(" ", "")]
    check(not remote, f"no request leaves the machine{': ' + remote[0][:300] if remote else ''}")


def fits_a_phone(page, folder):
    driver = opened(page, width=PHONE, height=844)
    drawn(driver)
    driver.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")
    width = driver.execute_script("return document.documentElement.scrollWidth")
    check(width <= PHONE, f"at {PHONE} px the page is {width} px wide")
    shot(driver, folder, "phone")
    driver.quit()


def light_is_whole(page):
    """The page without the charts' library, on a phone: all of it fits, and its pictures are there."""
    print(f"-- {page.name}")
    driver = opened(page, width=PHONE, height=844)
    driver.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")
    width = driver.execute_script("return document.documentElement.scrollWidth")
    check(width <= PHONE, f"at {PHONE} px the light page is {width} px wide")
    widths = driver.execute_script("return [...document.images].map(image => image.naturalWidth)")
    check(widths and min(widths) > 0, f"its {len(widths)} pictures are loaded")
    logs_nothing(driver)
    driver.quit()


def overview_is_whole(page, folder):
    """The overview of several models: its pictures, its theme, on a screen and on a phone."""
    print(f"-- {page}")
    driver = opened(page)
    pictures = lambda: [picture.get_attribute("class") for picture in visible(driver, "img")]
    check(pictures() == ["picture light"], "a light page has a light picture")
    check(driver.execute_script("return [...document.images].every(image => image.complete && image.naturalWidth > 0)"), "its pictures are loaded")
    is_open_to_all(driver, "overview, light")
    shot(driver, folder, "overview")
    changes_theme(driver)
    check(pictures() == ["picture dark"], "a dark page has a dark picture")
    check(driver.find_element(By.ID, "theme").get_attribute("aria-pressed") == "true", "its button says so")
    is_open_to_all(driver, "overview, dark")
    logs_nothing(driver)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    check(pictures() == ["picture light"] and not visible(driver, "button"), "on paper it is light, and has no button")
    driver.quit()
    driver = opened(page, width=PHONE, height=844)
    width = driver.execute_script("return document.documentElement.scrollWidth")
    check(width <= PHONE, f"at {PHONE} px the overview is {width} px wide")
    shot(driver, folder, "overview-phone")
    driver.quit()


def shot(driver, folder, name):
    if folder:
        height = driver.execute_script("return document.documentElement.scrollHeight")
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png", "clip": {"x": 0, "y": 0, "width": driver.execute_script("return innerWidth"), "height": min(height, 14000), "scale": 1}})
        (folder / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--all-controls", dest="needed", action="store_const", const=CONTROLS, default=set())
    parser.add_argument("--overview", type=pathlib.Path)
    arguments = parser.parse_args()
    page, folder, needed = arguments.page.resolve(), arguments.folder, arguments.needed
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    driver = opened(page)
    loads_alone(driver, page)
    shot(driver, folder, "light")
    driver.execute_script("document.querySelector('nav.controls details').open = true")
    labels = [box.get_attribute("data-strategy") for box in driver.find_elements(By.CSS_SELECTOR, "input[data-strategy]")]
    sorts(driver)
    filters(driver, labels[-1])
    switches_off(driver, labels[-1])
    switches_off_a_peer(driver, needed)
    hides_groups(driver, needed)
    if needed:
        names_everything(driver, labels)
    chooses(driver, needed)
    is_open_to_all(driver, "light")
    changes_theme(driver)
    is_open_to_all(driver, "dark")
    logs_nothing(driver)
    driver.execute_script("document.querySelectorAll('details').forEach(details => details.open = false)")
    shot(driver, folder, "dark")
    driver.quit()
    fits_a_phone(page, folder)
    light = page.with_name("light.html")
    if light.exists():
        light_is_whole(light)
    if arguments.overview:
        overview_is_whole(arguments.overview.resolve(), folder)
    print(f"{len(failures)} failures")
    sys.exit(bool(failures))


main()
