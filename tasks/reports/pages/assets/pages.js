// Draws the interactive parts of the pages from the JSON files beside them. Without it, or without a web server, the tables remain.
"use strict";

const views = {};

views.performance = (root, data) => {
  const state = { metric: "skill", size: FIRST };
  const plot = element("div", { className: "plot" }), about = element("p", { className: "soft" }), controls = element("p", { className: "controls" });
  const names = data.metrics.filter((name) => name !== data.loss);
  const draw = () => {
    const parts = newest(data.partitions, state.size), first = data.partitions.length - parts.length, skill = state.metric === "skill";
    const value = (part) => (skill ? part.skill : part.metrics[state.metric]) ?? null;
    const series = [{ name: `${words(state.metric)}, realised`, colour: "green", values: parts.map(value), bounds: parts.map((part) => (skill ? part.skill_interval : part.intervals[state.metric]) ?? null) }];
    const estimates = parts.map((part) => (skill ? null : part.estimates[state.metric]) ?? null);
    if (estimates.some((e) => e !== null)) series.push({ name: "estimated before labels", colour: "orange", dash: [6, 4], values: estimates, bounds: state.metric === data.loss ? parts.map((part) => part.estimate_interval) : undefined });
    if (state.metric === data.loss) series.push({ name: data.prior_name, colour: "soft", thin: true, values: parts.map((part) => part.prior_loss) });
    const periods = data.champions.map(({ version, from, to }) => ({ name: `v${version}`, from: from - first, to: to - first }));
    drawLines(plot, { labels: parts.map((part) => part.key), series, periods, limits: skill ? [{ name: "no better than a constant", value: 0 }] : [], format: skill ? percent : number });
    about.textContent = `${(skill ? data.about_skill : data.about[state.metric]) ?? ""} The bands are 95 % intervals.`;
  };
  controls.append(choice("metric", [["skill", "skill"], [data.loss, `${words(data.loss)} (the gate's loss)`], ...names.map((name) => [name, words(name)])], state.metric, (value) => { state.metric = value; draw(); }));
  const sizes = range(data.partitions.length, (value) => { state.size = value; draw(); });
  if (sizes) controls.append(sizes);
  const periods = data.champions.map((own) => [`v${own.version}`, `${data.partitions[own.from].key} to ${data.partitions[own.to].key}`, own.gate, own.effect]).reverse();
  root.replaceChildren(controls, plot, about, table("champion periods, newest first", ["version", "partitions", "evidence of the gate", "measured effect"], periods));
  redrawing(plot, draw);
};

views.groups = (root, data) => {
  const tables = [...data.segments.map(({ column }) => column)], state = { column: tables[0], size: FIRST };
  const plot = element("div", { className: "plot" }), controls = element("p", { className: "controls" });
  const colours = ["green", "orange", "link", "bad", "soft", "ink"];
  const draw = () => {
    const { groups, fairness } = data.segments.find(({ column }) => column === state.column) ?? data.segments[0];
    const labels = newest(data.partitions, state.size);
    const series = groups.slice(0, colours.length).map((group, at) => ({ name: group.name, colour: colours[at], values: newest(group.losses, state.size) }));
    drawLines(plot, { labels, series });
    about.textContent = `Loss by ${state.column}.${groups.length > colours.length ? ` The ${colours.length} groups with most rows of ${groups.length} are drawn.` : ""}`;
    gaps.replaceChildren(...fairness.flatMap(({ metric, limit, values }) => {
      const gap = element("div", { className: "plot small" });
      requestAnimationFrame(() => drawLines(gap, { labels, series: [{ name: metric, colour: "green", values: newest(values, state.size) }], limits: [{ name: "limit of the gate", value: limit }], format: (value) => number(value, 3) }));
      return [element("h3", { textContent: `Fairness: ${metric} between the groups of ${state.column}` }), gap];
    }));
  };
  const gaps = element("div"), about = element("p", { className: "soft" });
  controls.append(choice("column", tables.map((name) => [name, name]), state.column, (value) => { state.column = value; draw(); }));
  const sizes = range(data.partitions.length, (value) => { state.size = value; draw(); });
  if (sizes) controls.append(sizes);
  root.replaceChildren(controls, plot, about, gaps);
  redrawing(plot, draw);
};

views.calibration = (root, data) => {
  const keys = data.partitions.map(({ key }) => key), state = { from: Math.max(0, keys.length - 12), to: keys.length - 1 };
  const holder = element("div"), options = keys.map((key, at) => [String(at), key]);
  const draw = () => {
    const [from, to] = [Math.min(state.from, state.to), Math.max(state.from, state.to)];
    const sums = data.partitions.slice(from, to + 1).reduce((total, { bins }) => total.map((row, at) => row.map((value, i) => value + bins[at][i])), data.partitions[0].bins.map(() => [0, 0, 0]));
    const rows = sums.map(([n, predicted, observed], at) => ({ n, at, predicted: predicted / n, observed: observed / n })).filter(({ n }) => n);
    const size = 240, place = (value) => 10 + value * (size - 20), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const draw = (tag, attributes) => { const node = document.createElementNS(svg.namespaceURI, tag); for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value); svg.append(node); };
    svg.setAttribute("viewBox", `0 0 ${size} ${size}`); svg.setAttribute("role", "img"); svg.setAttribute("class", "calibration");
    svg.setAttribute("aria-label", "observed share by predicted probability; the numbers are in the table beside it");
    draw("line", { x1: place(0), y1: size - place(0), x2: place(1), y2: size - place(1), class: "diagonal" });
    draw("polyline", { points: rows.map((row) => `${place(row.predicted)},${size - place(row.observed)}`).join(" "), class: "line" });
    for (const row of rows) draw("circle", { cx: place(row.predicted), cy: size - place(row.observed), r: 3.5, class: "dot" });
    holder.replaceChildren(svg, table(`${keys[from]} to ${keys[to]}: predicted and observed`, ["predicted from", "#rows", "#mean predicted", "#observed"], rows.map((row) => [`${row.at / sums.length} to ${(row.at + 1) / sums.length}`, row.n.toLocaleString("en"), number(row.predicted, 3), number(row.observed, 3)])));
  };
  holder.className = "beside";
  root.replaceChildren(element("p", { className: "controls" }, choice("from", options, state.from, (value) => { state.from = Number(value); draw(); }), choice("to", options, state.to, (value) => { state.to = Number(value); draw(); })), holder);
  draw();
};

views.steps = (root, data) => {
  const state = { size: FIRST }, holder = element("div"), details = element("div", { attributes: { role: "status" } });
  const states = { done: "ok", empty: "empty", blocked: "blocked", failed: "failed", missing: "none" };
  const marks = { blocked: "✕", failed: "!", empty: "○" };
  const pick = (r, c) => {
    const [name, started, seconds, run, why] = data.cells[c][r] ?? ["missing"];
    details.replaceChildren(element("p", {}, element("strong", { textContent: `${data.steps[r]} of ${data.partitions[c]}: ${name}` }), started ? `, ${started} UTC, ${seconds} s. ` : ". ", run === undefined || run < 0 ? "" : link("its run in Prefect", data.runs_url.replace("RUN", data.runs[run]))), why ? element("p", { textContent: why }) : "");
  };
  const draw = () => {
    const columns = newest(data.partitions, state.size), first = data.partitions.length - columns.length;
    matrix(holder, { caption: "partitions by step; click a cell for its time, its duration and its run", rows: data.steps.map((name) => ({ name })), columns, first, pick, cell: (r, c) => {
      const [name, started, seconds] = data.cells[c][r] ?? ["missing"];
      return { level: states[name], mark: marks[name], text: started ? `${name}, ${started} UTC, ${seconds} s` : name };
    } });
  };
  root.replaceChildren(element("p", { className: "controls" }, range(data.partitions.length, (value) => { state.size = value; draw(); })), holder, legend([["ok", "done"], ["empty", "the source has no rows"], ["blocked", "blocked by the data contract"], ["failed", "failed"], ["none", "not run"]]), details);
  draw();
};

views.quality = (root, data) => {
  const state = { size: FIRST, all: false }, holder = element("div"), details = element("div", { attributes: { role: "status" } });
  const colours = { critical: "failed", warning: "warn", info: "info" };
  const failing = data.rules.map((_, r) => data.cells.some((cells) => cells[r]));
  const quarantine = async (key) => {
    const own = data.quarantine[key];
    if (!own) return element("p", { className: "soft", textContent: `No row of ${key} is in quarantine.` });
    const content = await read(own.file);
    const reasons = table(`reasons for quarantine in ${key}`, ["reason", "#rows"], Object.entries(content.reasons));
    return element("div", {}, reasons, content.rows.length ? table(`the first ${content.rows.length} of ${own.rows} rows in quarantine`, [content.key, "reasons"], content.rows) : "");
  };
  const pick = latest(details, async (r, c) => {
    const rule = data.rules[rows()[r]], cell = data.cells[c][rows()[r]], key = data.partitions[c];
    const result = cell === null ? "not checked" : cell === 0 ? "passed" : `failed for ${cell[0].toLocaleString("en")} rows (${percent(cell[1])}). ${cell[2]}`;
    return [element("p", {}, element("strong", { textContent: `${rule.name}, ${key}: ` }), result), await quarantine(key)];
  });
  const rows = () => data.rules.map((_, r) => r).filter((r) => state.all || failing[r]);
  const draw = () => {
    const columns = newest(data.partitions, state.size), first = data.partitions.length - columns.length, chosen = rows();
    if (!chosen.length) { holder.replaceChildren(element("p", { textContent: `All ${data.rules.length} checks passed in every partition.` })); return; }
    matrix(holder, { caption: "checks of the data contract by partition; click a cell for the result and the partition's rows in quarantine", rows: chosen.map((r) => ({ name: data.rules[r].name })), columns, first, pick, cell: (r, c) => {
      const cell = data.cells[c][chosen[r]];
      if (cell === null || cell === undefined) return { level: "none", text: "not checked" };
      return cell === 0 ? { level: "ok", text: "passed" } : { level: colours[data.rules[chosen[r]].severity], mark: "!", text: `failed for ${cell[0]} rows` };
    } });
  };
  const all = element("input", { type: "checkbox", onchange: () => { state.all = all.checked; draw(); } });
  root.replaceChildren(element("p", { className: "controls" }, range(data.partitions.length, (value) => { state.size = value; draw(); }), element("label", { className: "choice" }, all, ` all ${data.rules.length} checks`)), holder, legend([["ok", "passed"], ["info", "failed, for information"], ["warn", "failed, rows in quarantine"], ["failed", "failed, critical"], ["none", "not checked"]]), details);
  draw();
};

views.drift = (root, data) => {
  const state = { size: FIRST }, holder = element("div"), details = element("div", { attributes: { role: "status" } });
  const pick = latest(details, async (r, c) => {
    const column = data.columns[r].name, key = data.partitions[c], content = await read(data.files.replace("KEY", key));
    const signals = content.signals.filter((signal) => signal[0] === column);
    const drawn = content.distributions[column];
    return [element("h3", { textContent: `${column} in ${key}` }),
      signals.length ? table("tests of this column", content.columns.slice(1), signals.map((signal) => signal.slice(1))) : element("p", { textContent: "It was not tested in this partition." }),
      drawn ? compareDistributions(drawn, key) : element("p", { className: "soft", textContent: "No distribution is stored: the column is personal, or the partition was checked by an earlier version. A backfill of `watch` with mode=all stores it." })];
  });
  const draw = () => {
    const columns = newest(data.partitions, state.size), first = data.partitions.length - columns.length;
    matrix(holder, { caption: "drift score as a share of its threshold, by column and partition; click a cell for the column's tests and its distributions", rows: data.columns, columns, first, pick, cell: (r, c) => {
      const cell = data.cells[c][r];
      if (cell === null || cell === undefined) return { level: "none", text: "not tested" };
      const [ratio, flag] = cell, text = `${ratio === null ? "no threshold" : `${ratio.toFixed(2)} of the threshold`}`;
      if (flag === 1) return { level: "failed", mark: "●", text: `drifted, ${text}` };
      if (flag === 2) return { level: "info", mark: "~", text: `always different, ${text}` };
      return { level: ratio === null ? "none" : ratio < 0.5 ? "ok" : ratio < 1 ? "low" : "warn", text: ratio !== null && ratio >= 1 ? `not tested or not significant, ${text}` : `no drift, ${text}` };
    } });
  };
  root.replaceChildren(element("p", { className: "controls" }, range(data.partitions.length, (value) => { state.size = value; draw(); })), holder, legend([["failed", "drifted"], ["info", "always different: does not count"], ["warn", "above the threshold, but not counted"], ["low", "above half of the threshold"], ["ok", "below"], ["none", "not tested"]]), details);
  draw();
};
const compareDistributions = ({ labels, now, then, reference }, key) => {
  const largest = Math.max(...now, ...then, 1e-9);
  const bar = (value, kind) => { const node = element("span", { className: `bar ${kind}` }); node.style.width = `${(100 * value) / largest}%`; return node; };
  const rows = labels.map((label, at) => [label, [bar(then[at], "then"), bar(now[at], "now")], percent(then[at]), percent(now[at])]);
  const drawn = table(`${key} (now) against ${reference} (then)`, ["value", "share", "#then", "#now"], rows);
  drawn.classList.add("bars");
  return element("div", {}, legend([["then", "then"], ["now", "now"]]), drawn);
};

views.listing = (root, data) => listing(root, data);

views.compare = (root, data) => {
  const state = { a: data.compared[0], b: data.compared.at(-1) }, holder = element("div");
  const card = async (version) => { const own = data.versions.find((v) => v.version === version); return own.file ? read(own.file) : null; };
  const difference = (a, b) => {
    const left = a.split("\n"), right = b.split("\n"), common = left.map(() => new Int32Array(right.length + 1));
    common.push(new Int32Array(right.length + 1)); // lengths of the longest common subsequences of the rest
    for (let i = left.length - 1; i >= 0; i--) for (let j = right.length - 1; j >= 0; j--) common[i][j] = left[i] === right[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    const lines = [];
    for (let i = 0, j = 0; i < left.length || j < right.length;) {
      if (left[i] === right[j]) { i++; j++; } else if (j >= right.length || (i < left.length && common[i + 1][j] >= common[i][j + 1])) lines.push(`- ${left[i++]}`);
      else lines.push(`+ ${right[j++]}`);
    }
    return lines;
  };
  const draw = latest(holder, async () => {
    const [a, b] = [state.a, state.b].map((version) => data.versions.find((v) => v.version === version)), [left, right] = await Promise.all([card(state.a), card(state.b)]);
    const heads = [`v${state.a}`, `v${state.b}`], rules = [...new Set([...Object.keys(a.gate), ...Object.keys(b.gate)])], metrics = [...new Set([...Object.keys(a.metrics), ...Object.keys(b.metrics)])];
    const lines = left?.config && right?.config ? [...difference(left.config, right.config), ...difference(left.sql, right.sql)] : null;
    const importance = left && right ? [...new Set([...Object.keys(right.importance), ...Object.keys(left.importance)])].map((name) => [name, number(left.importance[name], 5), number(right.importance[name], 5)]) : [];
    return [
      table("what they are", ["property", ...heads], [["stage today", a.stage, b.stage], ["learned until", a.learned, b.learned], ["judged on", a.judged, b.judged], ["recipe", left?.recipe ?? "", right?.recipe ?? ""], ["card", link("its card", a.card), link("its card", b.card)]]),
      table("metrics on the rows on which each was judged; different rows are not comparable", ["metric", ...heads.map((head) => `#${head}`)], metrics.map((name) => [words(name), a.metrics[name] ?? "", b.metrics[name] ?? ""])),
      table("rules of the gate", ["rule", ...heads], rules.map((name) => [name, a.gate[name] ?? "", b.gate[name] ?? ""])),
      ...(importance.length ? [table("importance of the features", ["feature", ...heads.map((head) => `#${head}`)], importance)] : []),
      element("h3", { textContent: "Differences of model.yaml and SQL" }),
      lines === null ? element("p", { className: "soft", textContent: "Not shown: one of the versions was trained before cards kept their config, or the model has personal columns." }) : lines.length ? element("pre", { tabIndex: 0, textContent: lines.join("\n") }) : element("p", { textContent: "None." })];
  });
  const options = data.versions.map(({ version, stage }) => [version, `v${version} (${stage})`]);
  root.replaceChildren(element("p", { className: "controls" }, choice("compare", options, state.a, (value) => { state.a = value; draw(); }), choice("with", options, state.b, (value) => { state.b = value; draw(); })), holder);
  draw();
};

views.lineage = (root, data) => {
  const state = { version: (data.versions.find(({ stage }) => stage === "champion") ?? data.versions[0]).version }, holder = element("div");
  const draw = latest(holder, async () => {
    const own = data.versions.find(({ version }) => version === state.version), card = own.file ? await read(own.file) : null;
    const learned = card ? card.learned : [];
    const step = (title, ...content) => element("li", {}, element("h3", { textContent: title }), ...content);
    return [element("ol", { className: "lineage" },
      step("Partitions", learned.length ? table("rows that it learned from", ["partition", "#rows", "digest"], learned) : element("p", { className: "soft", textContent: "Not on record beside the page; the card has them." })),
      step("Training", element("p", {}, `as of ${own.trained}. `, own.run ? link("its run in Prefect", own.run) : "")),
      step(`Version ${own.version}`, element("p", {}, `${own.stage}. `, link("its card", own.card), " ", link("in MLflow", own.mlflow))),
      step("Predictions", element("p", { textContent: own.scored.length ? `${own.scored.length} partitions: ${own.scored.slice(0, 12).join(", ")}${own.scored.length > 12 ? " …" : ""}` : "none" })))];
  });
  root.replaceChildren(element("p", { className: "controls" }, choice("version", data.versions.map(({ version, stage }) => [version, `v${version} (${stage})`]), state.version, (value) => { state.version = value; draw(); })), holder);
  draw();
};

// Opens Prefect's form for a run, filled in.
views.forms = (root, data) => {
  const first = element("select"), last = element("select"), address = (form, parameters) => `${form.url}?parameters=${encodeURIComponent(JSON.stringify({ ...form.parameters, ...parameters }).replaceAll("%", "\\u0025"))}`; // V1 decodes twice
  for (const select of [first, last]) for (const key of data.partitions) select.append(element("option", { value: key, textContent: key, selected: select === last ? key === data.partitions.at(-1) : key === data.partitions.at(-Math.min(12, data.partitions.length)) }));
  const links = element("span"), ranged = () => ({ start: first.value, end: last.value });
  const draw = () => links.replaceChildren(...data.forms.flatMap((form) => [link(form.text, address(form, form.ranged ? ranged() : {})), " · "]).slice(0, -1));
  first.onchange = last.onchange = draw;
  root.replaceChildren(element("p", { className: "controls" }, element("label", { className: "choice" }, "from ", first), element("label", { className: "choice" }, "to ", last), links));
  draw();
};

// The table of all models: filters, ranks and sorts the rows that are there. A row without a value is last.
const RANKS = [["alert", "most severe alert", 1], ["skill", "lowest skill", 1], ["fall", "largest fall below its median skill", -1], ["loss", "highest loss", -1], ["name", "name", 1]];
views.models = (root) => {
  const body = root.querySelector("tbody"), rows = [...body.rows], heads = [...root.querySelectorAll("thead th")];
  const search = element("input", { type: "search" }), count = element("span", { className: "soft", attributes: { role: "status" } });
  const states = [...new Set(rows.map((row) => row.dataset.state))];
  let chosen = "";
  const draw = () => {
    const text = search.value.toLowerCase();
    for (const row of rows) row.hidden = (chosen && row.dataset.state !== chosen) || !row.textContent.toLowerCase().includes(text);
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  const order = (key, sign, sorted = -1) => {
    const ranked = (a, b) => (key(a) === "") - (key(b) === "") || sign * compare(key(a), key(b)) || compare(a.dataset.name, b.dataset.name);
    body.append(...rows.sort(ranked));
    heads.forEach((head, at) => head.setAttribute("aria-sort", at !== sorted ? "none" : sign > 0 ? "ascending" : "descending"));
  };
  const rank = choice("ranked by", RANKS.map(([name, text]) => [name, text]), "alert", (value) => { const [name, , sign] = RANKS.find(([own]) => own === value); order((row) => row.dataset[name], sign); });
  search.oninput = draw;
  root.prepend(element("p", { className: "controls" }, element("label", { className: "choice" }, "containing ", search), choice("state", [["", "all"], ...states.map((state) => [state, state])], "", (value) => { chosen = value; draw(); }), rank, count));
  heads.forEach((head, at) => {
    let sign = -1;
    head.replaceChildren(element("button", { type: "button", className: "sort", textContent: head.textContent, onclick: () => { sign = -sign; order((row) => row.cells[at].dataset.sort ?? row.cells[at].textContent, sign, at); } }));
  });
  draw();
};

const start = async (root) => {
  try {
    const { view, src } = root.dataset;
    if (src && location.protocol === "file:") throw new Error("a browser reads no file for a page that it opened from a folder");
    const response = src ? await fetch(src, { cache: "no-cache" }) : null;
    if (response && !response.ok) throw new Error(`${src}: ${response.status}`);
    views[view](root, response ? await response.json() : null);
    requestAnimationFrame(() => performance.mark("drawn"));
  } catch (error) {
    const why = location.protocol === "file:" ? "Charts and filters are drawn when a web server serves this folder, such as that of `make up` or `python -m http.server`." : `This part could not be drawn: ${error.message}`;
    root.append(element("p", { className: "soft", textContent: why }));
  }
};
document.querySelectorAll("[data-view]").forEach(start);
