"""What a reader chooses on a report: another baseline, a length, a batch, a workload, a scale, and charts with their outliers."""

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from browser import check, rows, texts, visible

# What a page has only if there is something to choose from.
CONTROLS = {"baseline", "decision", "length", "workload", "batch", "scale", "outliers", "peer", "groups"}


def there(needed, control, elements):
    """The elements of a control. It is a failure if it is needed and there are none."""
    if control in needed and not elements:
        check(False, f"there is a control for: {control}")
    return elements


def chooses(driver, needed):
    """Uses the controls that are there. Those that are needed must be."""
    chooses_a_baseline(driver, needed)
    chooses_a_place(driver, needed)
    for key in ("length", "workload", "batch"):
        for field in there(needed, key, driver.find_elements(By.ID, f"choose-{key}")):
            filters_by(driver, key, Select(field))
    changes_a_scale(driver, needed)
    shows_an_outlier(driver, needed)


def chooses_a_baseline(driver, needed):
    for field in there(needed, "baseline", driver.find_elements(By.ID, "choose-baseline")):
        select = Select(field)
        own = select.first_selected_option.get_attribute("value")
        name = next(option for option in select.options if not option.is_selected()).get_attribute("value")
        before, lines_before = texts(driver, "td[data-ratio]"), relative_lines(driver)
        select.select_by_value(name)
        after, lines = texts(driver, "td[data-ratio]"), relative_lines(driver)
        check(before != after and "1 (baseline)" in after, f"the baseline {name[:30]!r} changes the ratios")
        check(all(heading == name for heading in texts(driver, "[data-baseline-name]")), "and is named")
        check(marked(driver) == {name} and note_is_shown(driver), "and is marked, with a note on what is still judged by the other")
        if lines_before:
            of_it = [values for line, values in lines if is_of(line, name)]
            check(any(of_it) and all(value == 1 for values in of_it for value in values), "and its line is 1 everywhere among the relative times")
            check(lines != lines_before, "where the others change")
        select.select_by_value(own)
        check(texts(driver, "td[data-ratio]") == before and relative_lines(driver) == lines_before, "and can be left again")
        check(marked(driver) == {own} and not note_is_shown(driver), f"{own[:30]!r} is marked again")


def relative_lines(driver):
    """The lines of the strategies' relative times: their names and values."""
    return driver.execute_script("""
        const chart = document.getElementById("chart-relative");
        if (!chart) return [];
        const peers = JSON.parse(document.getElementById("data").textContent).figures[chart.id].peers ?? [];
        const plain = name => (name ?? "").replace(/&lt;/g, "<").replace(/&amp;/g, "&");
        return chart.data.filter((_, index) => !peers.includes(index)).map(trace => [plain(trace.name), [...trace.y]]);
    """)


def is_of(line, label):
    """Whether a line is one of a label: long names are cut, and a batch may follow."""
    return label.startswith(line[:-1]) if line.endswith("…") else line == label or line.startswith(f"{label} ×")


def marked(driver):
    return set(driver.execute_script("return [...document.querySelectorAll('[data-mark=baseline]')].filter(mark => !mark.hidden).map(mark => mark.closest('tr').dataset.label)"))


def note_is_shown(driver):
    return driver.execute_script("return !document.querySelector('[data-judged]').hidden")


def chooses_a_place(driver, needed):
    for field in there(needed, "decision", driver.find_elements(By.ID, "choose-decision")):
        select = Select(field)
        for option in select.options:
            select.select_by_visible_text(option.text)
            check(side_by_side(driver) == [option.get_attribute("value")], f"side by side at {option.text}")


def side_by_side(driver):
    return [table.get_attribute("data-decision") for table in visible(driver, "[data-decision]")]


def filters_by(driver, key, select):
    before = rows(driver)
    # The first shows all. Every choice draws all charts anew, so that two of many will do.
    for index in sorted({1, len(select.options) - 1}):
        select.select_by_index(index)
        chosen = select.first_selected_option.text
        is_all = driver.execute_script(
            "return [...document.querySelectorAll('.results tbody tr')].filter(row => !row.hidden).every(row => row.dataset[arguments[0]] === arguments[1])", key, chosen
        )
        check(is_all and 0 < rows(driver) < before, f"{key} {chosen}: {rows(driver)} of {before} rows")
        if key in ("length", "batch"):
            follows(driver, key, chosen)
        if key == "length":
            has_only_points_at(driver, chosen)
    select.select_by_index(0)
    check(rows(driver) == before, f"all rows are back after the choice of a {key}")


def follows(driver, key, chosen):
    """Strategies stand side by side at what was chosen, if there is a table of it."""
    fields = driver.find_elements(By.ID, "choose-decision")
    if not fields:
        return
    select = Select(fields[0])
    if any(option.get_attribute(f"data-{key}") == chosen for option in select.options):
        now = select.first_selected_option
        is_shown = side_by_side(driver) == [now.get_attribute("value")]
        check(now.get_attribute(f"data-{key}") == chosen and is_shown, f"strategies stand side by side at {now.text}")


def has_only_points_at(driver, length):
    """Charts over lengths keep the points of one length, with their values and intervals, and no others."""
    states = driver.execute_script("""
        const figures = JSON.parse(document.getElementById("data").textContent).figures;
        const over = Object.keys(figures).filter(id => figures[id].over === "lengths" && document.getElementById(id)?.data);
        return over.map(id => document.getElementById(id).data).map((traces, index) => [
            traces.every(trace => [...trace.x].every(x => String(x) === arguments[0]) && trace.y.length === trace.x.length
                && (!trace.error_y?.array || trace.error_y.array.length === trace.x.length)),
            traces.reduce((sum, trace) => sum + trace.x.length, 0),
            figures[over[index]].data.reduce((sum, trace) => sum + trace.x.length, 0),
        ]);
    """, length)
    if states:
        check(all(is_right for is_right, *_ in states), f"{len(states)} charts over lengths have no points but those at {length}")
        check(any(0 < points < whole for _, points, whole in states), "and have fewer than before")


def changes_a_scale(driver, needed):
    for button in there(needed, "scale", visible(driver, "button[data-scale]"))[:1]:
        kind = "return document.getElementById(arguments[0])._fullLayout.yaxis.type"
        chart = button.get_attribute("data-scale")
        before = driver.execute_script(kind, chart)
        button.click()
        check(driver.execute_script(kind, chart) != before, f"the scale of {chart} changes from {before}")
        button.click()


def shows_an_outlier(driver, needed):
    for button in there(needed, "outliers", visible(driver, "button[data-outliers]"))[:1]:
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
