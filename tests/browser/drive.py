"""Uses a report in Chromium as a reader does: sorts, filters, switches lines off, chooses another baseline and length, changes
the theme, narrows the window, and looks for what keeps people out with axe-core. Exits with 1 if something does not work.

    python3 tests/browser/drive.py [REPORT [FOLDER FOR SCREENSHOTS]] [--all-controls | --needs CONTROL]... [--page PAGE]...

With `--all-controls` it is a failure if a control is missing that only a page of several strategies, lengths and workloads, with
another engine drawn beside them, has; with `--needs`, if the named one is. `light.html` beside the report, if it is there, and
every PAGE get the checks that any page must pass: an overview of several models, a comparison, a roofline.

Needs Debian's `chromium` and `chromium-driver`, and of PyPI `selenium` and `axe-playwright-python` (for the axe-core in it).
"""

import argparse
import pathlib
import sys

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import any_page
from browser import PHONE, check, drawn, failures, fits, is_open_to_all, logs_nothing, opened, opens_details, rows, shot, texts, visible
from choices import CONTROLS, chooses, there
from themes import changes_theme, follows_a_preference

MOST_BYTES = 6_000_000


def loads_alone(driver, page):
    print(f"{page.stat().st_size / 1e6:.2f} MB")
    check(page.stat().st_size < MOST_BYTES, f"the page has fewer than {MOST_BYTES} bytes")
    all_drawn = drawn(driver)
    interactive = driver.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    print(f"interactive after {interactive / 1e3:.2f} s (2 s are wanted), all charts drawn after {all_drawn / 1e3:.2f} s (5 s are wanted): times are told, not judged")
    charts = len(driver.find_elements(By.CSS_SELECTOR, ".chart"))
    figures = len(driver.find_elements(By.CSS_SELECTOR, ".chart .main-svg:first-child"))
    check(charts > 0 and figures >= charts, f"{charts} charts are drawn")
    check(driver.execute_script("return performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length") == 0, "nothing is requested")
    traces = driver.execute_script("return [...document.querySelectorAll('.chart')].flatMap(chart => chart.data).filter(trace => trace.type === 'bar').map(bar => bar.hovertemplate?.length === bar.x.length)")
    check(all(traces), f"every bar of {len(traces)} kinds tells its value where it is pointed at")


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
    bars = "return [...document.querySelectorAll('.chart')].flatMap(chart => chart.data ?? []).filter(trace => trace.type === 'bar').reduce((sum, trace) => sum + trace.x.length, 0)"
    state = lambda: (rows(driver), driver.execute_script(lines, label), driver.execute_script(bars))
    box = next(box for box in driver.find_elements(By.CSS_SELECTOR, "input[data-strategy]") if box.get_attribute("data-strategy") == label)
    before = state()
    box.send_keys(Keys.SPACE)
    after = state()
    check(after[0] < before[0] and after[1] > before[1], f"{label[:30]!r} is switched off in {after[1]} charts and {before[0] - after[0]} rows")
    check(after[2] < before[2] or before[2] == 0, f"and {before[2] - after[2]} parts of bars")
    box.send_keys(Keys.SPACE)
    check(state() == before, "and on again")


def switches_off_peers(driver, needed):
    """Every other engine goes from every chart that has it, and nothing else does."""
    hidden = "return [...document.querySelectorAll('.chart')].flatMap(chart => (chart.data ?? []).filter(trace => trace.visible === false).map(trace => trace.name))"
    plain = lambda name: name.replace("&lt;", "<").replace("&amp;", "&")
    for box in there(needed, "peer", driver.find_elements(By.CSS_SELECTOR, "input[data-peer]")):
        name = box.get_attribute("data-peer")
        names = lambda: [plain(of_line) for of_line in driver.execute_script(hidden)]
        before = names()
        box.send_keys(Keys.SPACE)
        after = names()
        charts = after.count(name) - before.count(name)
        check(charts > 0 and len(after) - len(before) == charts, f"the engine {name[:30]!r} is switched off in {charts} charts, and nothing else is")
        box.send_keys(Keys.SPACE)
        check(names() == before, "and on again")


def hides_groups(driver, needed):
    """A group of charts is hidden with the last of its charts, and so are the links to them."""
    groups = texts(driver, "section[id^=charts-] > h3")
    fields = driver.find_elements(By.ID, "choose-workload")
    if not there(needed, "groups", groups and fields):
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
        is_right = all(heading == entry == any(chart for chart, _ in charts) and all(chart == link for chart, link in charts) for heading, entry, charts in states)
        shown_groups = [name for name, (heading, *_) in zip(groups, states) if heading]
        seen.add(tuple(shown_groups))
        check(is_right and shown_groups, f"workload {option}: the groups {', '.join(shown_groups)} and the links to them")
    check(len(seen) == len(select.options), "each workload has groups of its own")
    select.select_by_index(0)


def names_everything(driver, labels):
    cells = set(texts(driver, ".results tbody td"))
    missing = [label for label in labels if label not in cells]
    check(not missing, f"{len(labels)} labels stand in the table as they are{': not ' + repr(missing[0]) if missing else ''}")


def fits_a_phone(page, folder):
    driver = opened(page, PHONE)
    drawn(driver)
    opens_details(driver)
    fits(driver, PHONE, "the page")
    shot(driver, folder, f"{page.parent.name}-phone")
    driver.quit()


def works(page, folder, needed):
    print(f"-- {page}")
    driver = opened(page)
    loads_alone(driver, page)
    shot(driver, folder, f"{page.parent.name}-light")
    driver.execute_script("document.querySelector('nav.controls details').open = true")
    labels = [box.get_attribute("data-strategy") for box in driver.find_elements(By.CSS_SELECTOR, "input[data-strategy]")]
    sorts(driver)
    filters(driver, labels[-1])
    switches_off(driver, labels[-1])
    switches_off_peers(driver, needed)
    hides_groups(driver, needed)
    if needed:
        names_everything(driver, labels)
    chooses(driver, needed)
    is_open_to_all(driver, "light")
    check(changes_theme(driver), "there is a button for the theme")
    is_open_to_all(driver, "dark")
    logs_nothing(driver)
    driver.execute_script("document.querySelectorAll('details').forEach(details => details.open = false)")
    shot(driver, folder, f"{page.parent.name}-dark")
    driver.quit()
    fits_a_phone(page, folder)
    follows_a_preference(page)
    light = page.with_name("light.html")
    if light.exists():
        any_page.works(light, folder, needs_pictures=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=pathlib.Path, nargs="?")
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--all-controls", dest="needed", action="store_const", const=sorted(CONTROLS), default=[])
    parser.add_argument("--needs", dest="needed", action="append", choices=sorted(CONTROLS))
    parser.add_argument("--page", dest="pages", type=pathlib.Path, action="append", default=[])
    arguments = parser.parse_args()
    if arguments.report is None and not arguments.pages:
        parser.error("there is no page to open")
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.report:
        works(arguments.report.resolve(), arguments.folder, set(arguments.needed))
    for page in arguments.pages:
        any_page.works(page.resolve(), arguments.folder)
    print(f"{len(failures)} failures")
    sys.exit(bool(failures))


main()
