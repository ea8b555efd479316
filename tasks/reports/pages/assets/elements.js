// Elements, numbers and tables that all parts of the pages use.
"use strict";

const DIGITS = 4;
const element = (tag, { attributes = {}, ...properties } = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};
const number = (value, digits = DIGITS) => (value === null || value === undefined ? "" : value.toFixed(digits));
const percent = (value) => (value === null || value === undefined ? "" : value < -10 ? "below -1000%" : `${(100 * value).toFixed(1)}%`);
// Order of two texts: as numbers if both are.
const compare = (a, b) => (a !== "" && b !== "" && Number.isFinite(Number(a)) && Number.isFinite(Number(b)) ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
const isDate = (text) => /^\d{4}-[\d :-]+$/.test(text);
const words = (name) => name.replaceAll("_", " ");
const link = (text, href) => (href ? element("a", { href, textContent: text }) : document.createTextNode(text));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const choice = (label, values, chosen, change) => {
  const select = element("select", { onchange: () => change(select.value) });
  for (const [value, text] of values) select.append(element("option", { value, textContent: text, selected: value === String(chosen) }));
  return element("label", { className: "choice" }, `${label} `, select);
};
const range = (count, change) => {
  const sizes = [30, 100, 400].filter((size) => size < count);
  if (!sizes.length) return null;
  const values = [...sizes.map((size) => [String(size), `newest ${size}`]), ["0", `all ${count}`]];
  return choice("partitions", values, sizes[0], (value) => change(Number(value)));
};
const FIRST = 30;
const newest = (list, size) => (size ? list.slice(-size) : list);
const table = (caption, columns, rows) =>
  element("div", { className: "wide", tabIndex: 0, attributes: { role: "region", "aria-label": caption } },
    element("table", {},
      element("caption", { textContent: caption }),
      element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { scope: "col", textContent: name.replace("#", ""), className: name.startsWith("#") ? "n" : "" })))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, at) => {
        const node = element(at ? "td" : "th", { className: columns[at].startsWith("#") ? "n" : isDate(String(cell)) ? "date" : "" }, ...(Array.isArray(cell) ? cell : [cell instanceof Node ? cell : String(cell ?? "")]));
        if (!at) node.scope = "row";
        return node;
      }))))));
const legend = (levels) => element("p", { className: "soft legend" }, ...levels.flatMap(([level, text]) => [element("span", { className: `cell ${level}` }), ` ${text}  `]));

// Runs the drawing of what was chosen last. An error is shown, and the answer to an earlier choice is dropped.
const latest = (holder, build) => {
  let turn = 0;
  return async (...chosen) => {
    const mine = ++turn;
    try {
      const nodes = await build(...chosen);
      if (mine !== turn) return;
      holder.replaceChildren(...nodes);
      if (holder.getAttribute("role") === "status") holder.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (mine === turn) holder.replaceChildren(element("p", { textContent: `This cannot be shown: ${error.message}` }));
    }
  };
};
const read = async (file) => {
  const response = await fetch(file, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return response.json();
};
