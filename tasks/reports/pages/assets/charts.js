// Lines over partitions, drawn by uPlot.
"use strict";

// The range of the y axis: all values, and intervals as far as they do not press the values together.
const extent = (series, limits) => {
  const known = (list) => list.filter((value) => value !== null && value !== undefined);
  const values = known([...series.flatMap((line) => line.values), ...limits.map((limit) => limit.value)]);
  if (!values.length) return [0, 1];
  const low = Math.min(...values), high = Math.max(...values), span = high - low || Math.abs(high) || 1, reach = 1.5 * span;
  const ends = known(series.flatMap((line) => (line.bounds ?? []).flatMap((bounds) => bounds ?? []))).filter((end) => end > low - reach && end < high + reach);
  return [Math.min(low, ...ends) - 0.05 * span, Math.max(high, ...ends) + 0.1 * span];
};
// Lines over partitions, with intervals, champion periods and limits. `series`: name, values, colour, dash, bounds.
const drawLines = (root, { labels, series, periods = [], limits = [], format = number }) => {
  root.replaceChildren();
  const x = labels.map((_, at) => at);
  const data = [x], lines = [{ label: "partition", value: (_, at) => (at === null ? "" : labels[at]) }], bands = [];
  for (const line of series) {
    data.push(line.values);
    lines.push({
      label: line.name, stroke: colour(line.colour), width: line.thin ? 1 : 2, dash: line.dash, spanGaps: true,
      points: { show: !line.thin && labels.length <= 120, size: 5 },
      value: (_, value, __, at) => (value === null || value === undefined ? "" : format(value) + (line.bounds?.[at] ? ` (${format(line.bounds[at][0])} to ${format(line.bounds[at][1])})` : "")),
    });
    if (!line.bounds) continue;
    for (const end of [1, 0]) {
      data.push(line.bounds.map((bounds) => bounds?.[end] ?? null));
      lines.push({ class: "bound", stroke: "transparent", points: { show: false } });
    }
    bands.push({ series: [lines.length - 2, lines.length - 1], fill: `${colour(line.colour)}33` });
  }
  for (const limit of limits) {
    data.push(x.map(() => limit.value));
    lines.push({ label: limit.name, stroke: colour("soft"), width: 1, dash: [2, 3], points: { show: false }, value: () => format(limit.value) });
  }
  const shade = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    periods.forEach(({ from, to, name }, at) => {
      const left = Math.max(bbox.left, plot.valToPos(from - 0.5, "x", true));
      const right = Math.min(bbox.left + bbox.width, plot.valToPos(to + 0.5, "x", true));
      if (right <= left) return;
      ctx.fillStyle = at % 2 ? colour("band") : "transparent";
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.fillStyle = colour("soft");
      if (right - left > 22 * devicePixelRatio) ctx.fillText(name, left + 4 * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
    });
    ctx.restore();
  };
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const options = {
    width: Math.max(280, root.clientWidth), height: 260, series: lines, bands, scales: { x: { time: false, range: () => [-0.5, labels.length - 0.5] }, y: { range: () => extent(series, limits) } },
    axes: [{ ...axis, space: 70, incrs: [1, 2, 5, 10, 20, 50, 100], values: (_, splits) => splits.map((at) => labels[at] ?? "") }, { ...axis, size: 62, values: (_, splits) => splits.map((value) => format(value)) }],
    hooks: { drawClear: [shade] }, legend: { live: true }, cursor: { drag: { x: false, y: false }, y: false },
  };
  const plot = new uPlot(options, data, root);
  plot.setCursor({ left: plot.valToPos(labels.length - 1, "x"), top: 10 });
  return plot;
};
// Redraws when the width or the theme changes.
const redrawing = (root, draw) => {
  let width = 0;
  new ResizeObserver(() => { if (Math.abs(root.clientWidth - width) > 4) { width = root.clientWidth; draw(); } }).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
};
