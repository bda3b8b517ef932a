"use strict";
// All numbers were computed before: this script chooses what is shown, and draws it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const all = selector => [...document.querySelectorAll(selector)];
  const charts = typeof Plotly === "undefined" ? {} : data.figures;
  const state = { hidden: new Set(), hiddenPeers: new Set(), baseline: data.baseline, batch: "", workload: "", length: "", scale: {}, outliers: {} };

  // A line's name is its label, with the batch where there are several, and perhaps the way in which the work was done.
  const lines = [...data.lines].sort((a, b) => b.name.length - a.name.length);
  const unescaped = name => name.replace(/&lt;/g, "<").replace(/&amp;/g, "&");
  const plain = name => unescaped(name).replace(/^\d+\*? {2}/, "");
  const lineOf = name => lines.find(line => plain(name) === line.name || plain(name).startsWith(line.name + ", "));
  // A bar's name is its label, followed by what distinguishes it from the other bars: a workload, a length, a batch.
  const ofBar = /^(?:, [^,]+)?(?: at \d+)?(?: ×(\d+))?$/;
  const lineOfBar = name => lines.find(line => {
    const rest = plain(name).startsWith(line.label) && ofBar.exec(plain(name).slice(line.label.length));
    return rest && (rest[1] === undefined || Number(rest[1]) === line.batch);
  });
  // A very long name would leave no room for the plot.
  const short = name => {
    const characters = [...unescaped(name)];
    return characters.length <= 48 ? name : (characters.slice(0, 47).join("") + "…").replace(/&/g, "&amp;").replace(/</g, "&lt;");
  };
  const isShown = line => !line || (!state.hidden.has(line.label) && (!state.batch || String(line.batch) === state.batch));

  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const ink = color => isDark() && color === "rgb(0,0,0)" ? "rgb(235,235,235)" : color;
  const style = name => getComputedStyle(root).getPropertyValue(name).trim();

  // The ratio of a cell to the one of the chosen baseline: [ratio, low, high, verdict].
  const pair = (cell, metric) => {
    const own = data.cells[cell];
    const other = own && Object.keys(data.pairs[cell]?.[metric] ?? {}).find(id => data.cells[id]?.label === state.baseline);
    return other ? data.pairs[cell][metric][other] : null;
  };
  const cellAt = (line, length) => Object.keys(data.cells).find(id => {
    const cell = data.cells[id];
    return cell.workload === "decode" && cell.label === line.label && cell.batch === line.batch && cell.length === length;
  });

  const relative = { "relative": "tpot_ratio", "cache-relative": "cache_ratio" };
  function rebased(trace, line, metric) {
    if (!line || state.baseline === data.baseline) return trace;
    const kept = trace.x.map((x, index) => ({ x, index, found: line.label === state.baseline ? [1, null, null] : pair(cellAt(line, x), metric) })).filter(point => point.found);
    return {
      ...trace, x: kept.map(point => point.x), y: kept.map(point => point.found[0]),
      error_y: { type: "data", symmetric: false, thickness: 1.5, width: 4,
        array: kept.map(({ found }) => found[2] === null ? null : found[2] - found[0]),
        arrayminus: kept.map(({ found }) => found[1] === null ? null : found[0] - found[1]) },
    };
  }

  function traceNow(id, trace, index, figure) {
    const name = id.slice("chart-".length);
    if (trace.type === "bar") return dressed(only(trace, category => isShown(lineOfBar(category))));
    // The name of another engine may begin as a strategy's does.
    const isPeer = figure.peers?.includes(index);
    const line = trace.name === undefined || isPeer ? null : lineOf(trace.name);
    const isChosen = isPeer ? !state.hiddenPeers.has(unescaped(trace.name)) : isShown(line);
    let shown = relative[name] ? rebased(trace, line, relative[name]) : trace;
    if (state.length && figure.over === "lengths") shown = only(shown, x => String(x) === state.length);
    const isOutlier = figure.outliers?.includes(trace.name) && !state.outliers[id];
    return { ...dressed(shown), visible: isChosen && !isOutlier };
  }

  // A trace's points at the places that are kept, with their intervals.
  function only(trace, isKept) {
    const keep = trace.x.map(isKept);
    const filter = list => list?.filter((_, index) => keep[index]);
    const kept = { ...trace, x: filter(trace.x), y: filter(trace.y) };
    if (trace.error_y) kept.error_y = { ...trace.error_y, array: filter(trace.error_y.array), arrayminus: filter(trace.error_y.arrayminus) };
    return kept;
  }

  // A trace in the colors of the theme, with what is told of a point that is pointed at.
  function dressed(trace) {
    const colored = { ...trace };
    if (colored.name !== undefined) colored.name = short(colored.name);
    if (colored.line) colored.line = { ...colored.line, color: ink(colored.line.color) };
    if (colored.marker) colored.marker = { ...colored.marker, color: ink(colored.marker.color) };
    if (colored.error_y && trace.type === "bar") colored.error_y = { ...colored.error_y, color: style("--ink") };
    // Of some points of a line no interval is known: there a template would show its own text.
    if (trace.hoverinfo !== "skip") colored.hovertemplate = trace.x.map((_, index) => {
      const interval = trace.error_y?.array[index] == null ? "" : " [−%{error_y.arrayminus:.3g}, +%{error_y.array:.3g}]";
      return `%{x}: %{y:.6g}${interval}<extra>%{fullData.name}</extra>`;
    });
    return colored;
  }

  // Of other lines and points than those of the two views that ticks were computed for, plotly.js chooses the ticks.
  const freeTicks = axis => {
    delete axis.tickvals;
    delete axis.ticktext;
    Object.assign(axis, { nticks: 8, tickformat: ".4~r" });
  };
  function setTicks(id, figure, layout) {
    const isOneLength = state.length && figure.over === "lengths";
    const isRebased = relative[id.slice("chart-".length)] && state.baseline !== data.baseline;
    const { xaxis, yaxis } = layout;
    if (state.hidden.size || state.hiddenPeers.size || state.batch || isOneLength || isRebased) {
      freeTicks(yaxis);
      if (xaxis.tickvals && figure.over !== "lengths") freeTicks(xaxis);
    } else if (figure.outliers && state.outliers[id]) {
      delete yaxis.tickvals;
      delete yaxis.ticktext;
      Object.assign(yaxis, figure.ticks_all);
    }
  }

  function draw(id) {
    const element = document.getElementById(id);
    if (!element || element.closest("[hidden]")) return;
    const figure = charts[id];
    const traces = figure.data.map((trace, index) => traceNow(id, trace, index, figure));
    const layout = structuredClone(figure.layout);
    setTicks(id, figure, layout);
    const narrow = element.clientWidth < 700;
    const categories = layout.xaxis.type === "category" ? layout.xaxis.categoryarray.filter(name => traces.some(trace => trace.x.includes(name))) : [];
    if (categories.length) Object.assign(layout.xaxis, { categoryarray: categories, tickvals: categories, ticktext: categories.map(short) });
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: style("--ink"), size: narrow ? 11 : 12 };
    if (narrow) {
      layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -0.25, xanchor: "left", yanchor: "top" };
      layout.margin = { l: 45, r: 5, t: 10, b: 40 };
      layout.height = 420 + 18 * traces.length;
    }
    for (const axis of ["xaxis", "yaxis"]) Object.assign(layout[axis], { gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line") });
    const scale = state.scale[id];
    if (scale && scale !== figure.layout.yaxis.type) {
      layout.yaxis.type = scale;
      freeTicks(layout.yaxis);
      delete layout.yaxis.range;
    }
    if (relative[id.slice("chart-".length)]) layout.yaxis.title = { text: `ratio to ${state.baseline}`.slice(0, 60) };
    Plotly.react(id, traces, layout, { responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: !narrow });
  }
  const drawAll = () => Object.keys(charts).forEach(draw);

  // Tables.
  function baselineCells() {
    for (const td of all("td[data-ratio]")) {
      const found = pair(td.dataset.ratio, "tpot_ratio");
      const label = data.cells[td.dataset.ratio]?.label;
      if (state.baseline === data.baseline) td.textContent = td.dataset.own;
      else if (label === state.baseline) td.textContent = "1 (baseline)";
      else td.textContent = found ? `${number(found[0])} [${number(found[1])}, ${number(found[2])}] ${found[3]}` : "not compared";
    }
    for (const heading of all("[data-baseline-name]")) heading.textContent = state.baseline;
    for (const note of all("[data-judged]")) note.hidden = state.baseline === data.baseline;
    for (const row of all(".decision tbody tr")) markBaseline(row);
  }

  // The mark of the baseline stands in the row of the chosen one.
  function markBaseline(row) {
    const isChosen = row.dataset.label === state.baseline;
    let mark = row.querySelector("[data-mark=baseline]");
    if (!mark && isChosen && state.baseline !== data.baseline) {
      mark = Object.assign(document.createElement("span"), { className: "mark", textContent: "baseline" });
      mark.dataset.mark = "baseline";
      row.cells[0].append(" ", mark);
    }
    if (mark) mark.hidden = !isChosen;
  }
  const number = value => Number(value.toPrecision(3)).toString();

  function filterRows() {
    const words = document.getElementById("filter").value.trim().toLowerCase();
    let shown = 0;
    for (const row of all(".results tbody tr")) {
      const { label, workload, batch, length } = row.dataset;
      row.hidden = state.hidden.has(label) || (state.workload && workload !== state.workload) || (state.batch && batch !== state.batch)
        || (state.length && length !== state.length) || (words && !row.textContent.toLowerCase().includes(words));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("shown-rows").textContent = `${shown} of ${all(".results tbody tr").length} rows`;
    for (const row of all(".decision tbody tr")) row.hidden = state.hidden.has(row.dataset.label);
    for (const part of all("section[data-workload], li[data-workload]")) part.hidden = Boolean(state.workload) && !part.dataset.workload.split(" ").includes(state.workload);
  }

  function update() { filterRows(); baselineCells(); drawAll(); }

  for (const box of all("input[data-strategy]")) box.addEventListener("change", () => {
    box.checked ? state.hidden.delete(box.dataset.strategy) : state.hidden.add(box.dataset.strategy);
    update();
  });
  for (const box of all("input[data-peer]")) box.addEventListener("change", () => {
    box.checked ? state.hiddenPeers.delete(box.dataset.peer) : state.hiddenPeers.add(box.dataset.peer);
    drawAll();
  });
  for (const key of ["batch", "workload", "length", "baseline"]) {
    document.getElementById(`choose-${key}`)?.addEventListener("change", event => { state[key] = event.target.value; update(); });
  }
  document.getElementById("filter").addEventListener("input", filterRows);
  const place = document.getElementById("choose-decision");
  const showDecision = () => { for (const table of all("[data-decision]")) table.hidden = table.dataset.decision !== place.value; };
  place?.addEventListener("change", showDecision);
  // Strategies stand side by side at the length and batch of the filters if there is a table of them, or else stay as they are.
  function followFilters() {
    const now = place?.selectedOptions[0]?.dataset;
    if (!now) return;
    const length = state.length || now.length, batch = state.batch || now.batch;
    const fitting = [...place.options].filter(({ dataset }) => (!state.length || dataset.length === length) && (!state.batch || dataset.batch === batch));
    const nearest = fitting.find(({ dataset }) => dataset.length === length && dataset.batch === batch) ?? fitting[0];
    if (!nearest) return;
    place.value = nearest.value;
    showDecision();
  }
  for (const key of ["length", "batch"]) document.getElementById(`choose-${key}`)?.addEventListener("change", followFilters);
  // The button is pressed while the page is dark, by choice or by the reader's preference.
  const tellTheme = () => document.getElementById("theme").setAttribute("aria-pressed", String(isDark()));
  const changeTheme = () => { tellTheme(); drawAll(); };
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    changeTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changeTheme);
  for (const button of all("button[data-scale]")) button.addEventListener("click", () => {
    const id = button.dataset.scale;
    const now = state.scale[id] ?? charts[id].layout.yaxis.type;
    state.scale[id] = now === "log" ? "linear" : "log";
    button.setAttribute("aria-pressed", String(state.scale[id] === "log"));
    draw(id);
  });
  for (const button of all("button[data-outliers]")) button.addEventListener("click", () => {
    const id = button.dataset.outliers;
    state.outliers[id] = !state.outliers[id];
    button.setAttribute("aria-pressed", String(state.outliers[id]));
    draw(id);
  });
  for (const button of all("button[data-file]")) button.addEventListener("click", () => {
    const name = button.dataset.file;
    const content = name.endsWith(".json") ? JSON.stringify(data.files[name], null, 2) : data.files[name];
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([content])), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  for (const [index, heading] of all(".results th").entries()) heading.firstElementChild.addEventListener("click", () => {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    all(".results th").forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = row => { const cell = row.cells[index]; return "number" in cell.dataset ? Number(cell.dataset.number) : cell.textContent; };
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    const body = document.querySelector(".results tbody");
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b)) * (descending ? -1 : 1)));
  });

  // Charts are drawn when they come near, so that the page answers at once; all of them soon after.
  const pending = new Set(Object.keys(charts));
  const drawPending = id => { if (pending.delete(id)) draw(id); };
  const near = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => drawPending(entry.target.id)), { rootMargin: "600px" });
  pending.forEach(id => near.observe(document.getElementById(id)));
  const rest = () => { const [id] = pending; if (id) { drawPending(id); setTimeout(rest, 0); } else { root.dataset.drawn = "all"; } };
  setTimeout(rest, 0);
  // On paper everything is drawn, and dark on white.
  let themeOnScreen;
  addEventListener("beforeprint", () => {
    themeOnScreen = root.dataset.theme;
    root.dataset.theme = "light";
    pending.clear();
    drawAll();
  });
  addEventListener("afterprint", () => {
    if (themeOnScreen) root.dataset.theme = themeOnScreen; else delete root.dataset.theme;
    drawAll();
  });
  tellTheme();
  filterRows();
})();
