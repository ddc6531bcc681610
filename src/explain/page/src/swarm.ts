// The beeswarm: a point for each row and feature, moved aside so that points of a row do not cover each other.
import type { VisualizationSpec } from "vega-embed";
import { chart } from "./chart";
import type { Input, PageData, Points, Rows } from "./data";
import { clipped, element, tableUnder, widthOf } from "./dom";
import { Figures, inputText } from "./figures";
import type { Labels } from "./words";

const RADII = [3.2, 2.6, 2, 1.6];
const TALLEST = 34; // half the height of a swarm, pixels

/** The free place nearest to 0 for a point whose neighbours block `taken` (open intervals). */
function nearestFree(taken: [number, number][]): number {
  taken.sort((a, b) => a[0] - b[0]);
  let up = 0;
  for (const [low, high] of taken) if (low < up && up < high) up = high;
  let down = 0;
  taken.sort((a, b) => b[1] - a[1]);
  for (const [low, high] of taken) if (low < down && down < high) down = low;
  return up <= -down ? up : down;
}

/** How far each point leaves the line so that circles of `radius` at `xs` do not overlap. */
export function swarmOffsets(xs: number[], radius: number): number[] {
  const order = xs.map((_, i) => i).sort((a, b) => (xs[a] ?? 0) - (xs[b] ?? 0));
  const offsets = xs.map(() => 0);
  const near = 2 * radius;
  let first = 0;
  order.forEach((point, place) => {
    const x = xs[point] ?? 0;
    while (first < place && x - (xs[order[first] ?? 0] ?? 0) >= near) ++first;
    const taken: [number, number][] = [];
    for (let k = first; k < place; ++k) {
      const other = order[k] ?? 0;
      const away = x - (xs[other] ?? 0);
      const reach = Math.sqrt(near * near - away * away);
      const at = offsets[other] ?? 0;
      taken.push([at - reach, at + reach]);
    }
    offsets[point] = nearestFree(taken);
  });
  return offsets;
}

interface Swarm {
  offsets: number[];
  radius: number;
  half: number;
  squeezed: boolean;
}

// The greatest radius that keeps the swarm within its height; where none does, as of many equal values, the pile is pressed together.
function layOut(xs: number[]): Swarm {
  for (const radius of RADII) {
    const offsets = swarmOffsets(xs, radius);
    const half = Math.max(0, ...offsets.map(Math.abs));
    if (half <= TALLEST) return { offsets, radius, half, squeezed: false };
    if (radius === RADII.at(-1)) return { offsets: offsets.map((y) => (y * TALLEST) / half), radius, half: TALLEST, squeezed: true };
  }
  throw new Error("no radius");
}

const RAMP: [number, number, number][] = [
  [106, 92, 222],
  [201, 79, 141],
  [240, 160, 24],
];

/** Where an input stands among the feature's inputs, 0 to 1; null for what has no size. */
function places(inputs: Input[]): (number | null)[] {
  const numbers = inputs.filter((x): x is number => typeof x === "number").sort((a, b) => a - b);
  const low = numbers[Math.floor(numbers.length * 0.02)] ?? 0;
  const high = numbers[Math.ceil(numbers.length * 0.98) - 1] ?? 1;
  return inputs.map((x) => (typeof x === "number" ? (high > low ? Math.min(1, Math.max(0, (x - low) / (high - low))) : 0.5) : null));
}

function colourOf(place: number | null): string {
  if (place === null) return "var(--none)";
  const at = place * (RAMP.length - 1);
  const i = Math.min(RAMP.length - 2, Math.floor(at));
  const mixed = [0, 1, 2].map((c) => Math.round((RAMP[i]?.[c] ?? 0) * (i + 1 - at) + (RAMP[i + 1]?.[c] ?? 0) * (at - i)));
  return `rgb(${mixed.join(",")})`;
}

function specification(data: PageData, points: Points, labels: Labels, width: number): VisualizationSpec {
  const figures = new Figures(data.meanDecimals);
  const names = points.features.map(({ node }) => data.nodes[node]?.name ?? "");
  const nameRoom = Math.min(width < 520 ? width * 0.3 : 200, Math.max(...names.map((text) => widthOf(text, 13))) + 4);
  const all = points.features.flatMap((feature) => feature.values).concat(0);
  const low = Math.min(...all);
  const high = Math.max(...all);
  const room = (high - low || 1) * 0.03;
  const domain = [low - room, high + room];
  const range = [nameRoom + 14, width - 6];
  const pixel = (value: number) => nameRoom + 14 + ((value - low + room) / (high - low + 2 * room)) * (width - 20 - nameRoom);
  let top = 4;
  const rows: object[] = [];
  const titles = points.features.map(({ node, values, inputs }, i) => {
    const { offsets, radius, half } = layOut(values.map(pixel));
    const middle = top + half + radius + 6;
    const place = places(inputs);
    values.forEach((value, k) => {
      const input = inputs[k] ?? null;
      rows.push({ node, value, y: middle + (offsets[k] ?? 0), size: 4 * radius * radius, colour: colourOf(place[k] ?? null), name: names[i], input: input === null ? labels.missing : inputText(input), shown: figures.signed(value), sample: points.samples[k] });
    });
    top = middle + half + radius + 6;
    return { name: names[i], shownName: clipped(names[i] ?? "", nameRoom, 13), middle, bottom: top };
  });
  const height = Math.max(top, 40);
  const x = { type: "quantitative" as const, scale: { domain, range, nice: false, zero: false } };
  const y = { type: "quantitative" as const, scale: { domain: [0, height], range: [0, height], nice: false }, axis: null };
  const tooltip = [
    { field: "name", title: labels.feature },
    { field: "input", title: labels.input },
    { field: "shown", title: labels.value },
    { field: "sample", type: "nominal" as const, title: labels.sampleNumber },
  ];
  return {
    width,
    height,
    autosize: { type: "pad", contains: "padding" },
    layer: [
      { data: { values: [{ at: 0 }] }, mark: { type: "rule", stroke: "var(--soft)" }, encoding: { x: { ...x, field: "at", axis: { grid: false, tickCount: width < 520 ? 4 : 8, title: null } }, y: { value: 0 }, y2: { value: height } } },
      { data: { values: titles.slice(0, -1) }, mark: { type: "rule", stroke: "var(--line)" }, encoding: { x: { value: 0 }, x2: { value: width }, y: { ...y, field: "bottom" } } },
      { data: { values: titles }, mark: { type: "text", align: "left", fontSize: 13, fill: "var(--ink)" }, encoding: { x: { value: 0 }, y: { ...y, field: "middle" }, text: { field: "shownName" }, tooltip: { field: "name" } } },
      { data: { values: rows }, name: "points", mark: { type: "point", shape: "circle", filled: true, opacity: 0.9 }, encoding: { x: { ...x, field: "value" }, y: { ...y, field: "y" }, size: { field: "size", type: "quantitative", scale: null }, fill: { field: "colour", type: "nominal", scale: null }, tooltip } },
    ],
  };
}

function quantiles(values: number[]): [number, number, number] {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.round(q * (sorted.length - 1))] ?? 0;
  return [at(0), at(0.5), at(1)];
}

export function swarm(data: PageData, rows: Rows, points: Points, labels: Labels): HTMLElement {
  const figures = new Figures(data.meanDecimals);
  const body = points.features.map(({ node, values }) => [{ text: data.nodes[node]?.name ?? "" }, ...quantiles(values).map((value) => ({ text: figures.signed(value), number: true })), { text: figures.plain(rows.importance[node] ?? 0), number: true }]);
  const head = [{ text: labels.feature }, ...[labels.lowest, labels.median, labels.highest, labels.importance].map((text) => ({ text, number: true }))];
  const said = body.map((row) => `${row[0]?.text}: ${row[1]?.text} … ${row[3]?.text}`).join("; ");
  const ramp = element("span", { class: "ramp", "aria-hidden": "true" });
  ramp.style.background = `linear-gradient(to right, ${RAMP.map((rgb) => `rgb(${rgb.join(",")})`).join(", ")})`;
  const anyText = points.features.some(({ inputs }) => inputs.some((x) => typeof x !== "number"));
  const legend = element("p", { class: "legend" }, labels.low, ramp, labels.high, anyText ? element("span", { class: "dot", "aria-hidden": "true" }) : null, anyText ? labels.noSize : null);
  return element("div", { id: "swarm" }, legend, chart(`${labels.swarm}${labels.colon}${said}`, (width) => specification(data, points, labels, width)), tableUnder(labels.table, labels.swarm, head, body));
}
