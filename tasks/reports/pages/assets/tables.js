// Tables that answer to a click: heat maps, and lists with filters.
"use strict";

// A table of coloured cells: rows by partition. A cell has a level, which is its colour, and a text; it is a button.
const matrix = (root, { caption, rows, columns, cell, pick, first = 0 }) => {
  const width = Math.min(64, Math.max(16, Math.floor((root.clientWidth - 190) / columns.length))), step = Math.ceil(78 / (width + 1));
  const head = element("tr", {}, element("td"), ...columns.map((key, at) => (at % step === 0 ? element("th", { scope: "col", colSpan: Math.min(step, columns.length - at), textContent: key }) : null)));
  const body = rows.map((row, r) => element("tr", {}, element("th", { scope: "row", textContent: row.name, title: row.note ?? "" }), ...columns.map((key, c) => {
    const { level, mark = "", text } = cell(r, c + first);
    const button = element("button", { type: "button", className: `cell ${level}`, textContent: mark, title: `${row.name}, ${key}: ${text}` });
    button.setAttribute("aria-label", button.title);
    button.dataset.at = `${r},${c + first}`;
    return element("td", {}, button);
  })));
  const grid = element("table", { className: "matrix", attributes: { "aria-label": caption } }, element("thead", {}, head), element("tbody", {}, ...body));
  grid.style.setProperty("--cell", `${width}px`);
  grid.addEventListener("click", (event) => { const at = event.target.dataset?.at; if (at) pick(...at.split(",").map(Number)); });
  root.replaceChildren(element("p", { className: "soft", textContent: caption }), element("div", { className: "wide", tabIndex: 0, attributes: { role: "region", "aria-label": caption } }, grid));
};

// A table with a text filter, a filter for some columns, sorting by a click on a heading, pages of 50 rows, and the rows as CSV.
const listing = (root, { caption, columns, rows, filters = [], name }) => {
  const state = { text: "", chosen: {}, sort: null, page: 0 };
  const plain = (cell) => (cell && typeof cell === "object" ? cell.text : String(cell ?? ""));
  const shown = () => {
    const kept = rows.filter((row) => Object.entries(state.chosen).every(([at, value]) => !value || plain(row[at]) === value) && (!state.text || row.some((cell) => plain(cell).toLowerCase().includes(state.text))));
    if (state.sort === null) return kept;
    const at = Math.abs(state.sort) - 1, sign = Math.sign(state.sort);
    return [...kept].sort((a, b) => sign * compare(plain(a[at]), plain(b[at])));
  };
  const holder = element("div"), count = element("span", { className: "soft", attributes: { role: "status" } });
  const draw = () => {
    const all = shown(), pages = Math.max(1, Math.ceil(all.length / 50));
    state.page = Math.min(state.page, pages - 1);
    const part = all.slice(50 * state.page, 50 * state.page + 50);
    const drawn = table(caption, columns, part.map((row) => row.map((cell) => (cell && typeof cell === "object" ? link(cell.text, cell.href) : cell))));
    drawn.querySelectorAll("thead th").forEach((head, at) => {
      const sorted = state.sort !== null && Math.abs(state.sort) - 1 === at;
      head.ariaSort = sorted ? (state.sort > 0 ? "ascending" : "descending") : "none";
      const mark = sorted ? (state.sort > 0 ? " ▲" : " ▼") : "";
      head.replaceChildren(element("button", { type: "button", className: "sort", textContent: head.textContent + mark, onclick: () => { state.sort = sorted && state.sort > 0 ? -(at + 1) : at + 1; draw(); } }));
    });
    count.textContent = `${all.length} of ${rows.length}` + (pages > 1 ? `, page ${state.page + 1} of ${pages} ` : "");
    const turn = (text, by, off) => element("button", { type: "button", textContent: text, disabled: off, onclick: () => { state.page += by; draw(); } });
    holder.replaceChildren(drawn, ...(pages > 1 ? [turn("newer", -1, !state.page), " ", turn("older", 1, state.page >= pages - 1)] : []));
  };
  const search = element("input", { type: "search", oninput: () => { state.text = search.value.toLowerCase(); state.page = 0; draw(); } });
  const selects = filters.map((at) => choice(columns[at].replace("#", ""), [["", "all"], ...[...new Set(rows.map((row) => plain(row[at])))].filter(Boolean).sort().map((value) => [value, value])], "", (value) => { state.chosen[at] = value; state.page = 0; draw(); }));
  const quote = (text) => `"${text.replaceAll('"', '""').replace(/^[=+\-@\t\r]/, "'$&")}"`; // a spreadsheet would run a formula
  const save = element("button", { type: "button", textContent: "save as CSV", onclick: () => {
    const lines = [columns.map((column) => column.replace("#", "")), ...shown().map((row) => row.map(plain))].map((row) => row.map(quote).join(","));
    const address = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    element("a", { href: address, download: `${name}.csv` }).click();
    URL.revokeObjectURL(address);
  } });
  root.replaceChildren(element("p", { className: "controls" }, element("label", { className: "choice" }, "containing ", search), ...selects, save, count), holder);
  draw();
};
