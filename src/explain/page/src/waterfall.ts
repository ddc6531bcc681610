// The waterfall: from the base value, one bar for each feature or group, to the score.
import type { VisualizationSpec } from "vega-embed";
import { chart } from "./chart";
import type { PageData, Sample } from "./data";
import { clipped, element, tableUnder, widthOf } from "./dom";
import { Figures, holdsZero, sampleInput } from "./figures";
import type { Labels } from "./words";

const MOST_BARS = 12;
const ROW = 40;

export interface Bar {
  name: string;
  input: string;
  value: number;
  halfWidth: number | null;
  from: number;
  to: number;
}

/** The nodes that the bars stand for: features, or the children of the root. */
export function waterfallNodes(data: PageData, sample: Sample, byGroup: boolean): number[] {
  const wanted = data.nodes.flatMap((node, index) => (!node.others && (byGroup ? node.parent === 0 : node.leaf) ? [index] : []));
  return wanted.sort((a, b) => Math.abs(sample.values[b] ?? 0) - Math.abs(sample.values[a] ?? 0));
}

export function waterfallBars(data: PageData, sample: Sample, labels: Labels, byGroup: boolean): Bar[] {
  const nodes = waterfallNodes(data, sample, byGroup);
  const most = nodes.length === MOST_BARS + 1 ? MOST_BARS + 1 : MOST_BARS; // one alone is no "others"
  const bars: Bar[] = [];
  let at = data.base;
  let shownLeaves = 0;
  for (const index of nodes.slice(0, most)) {
    const node = data.nodes[index];
    const value = sample.values[index] ?? 0;
    if (!node) continue;
    bars.push({ name: node.name, input: sampleInput(sample, index, labels.missing), value, halfWidth: sample.halfWidths[index] ?? null, from: at, to: at + value });
    at += value;
    shownLeaves += node.leaves;
  }
  const rest = data.features - shownLeaves;
  if (rest > 0) bars.push({ name: rest === 1 ? labels.other : labels.others(rest.toLocaleString("en")), input: "", value: sample.score - at, halfWidth: null, from: at, to: sample.score });
  return bars;
}

function domainOf(data: PageData, sample: Sample, bars: Bar[]): [number, number] {
  const ends = bars.flatMap((bar) => [bar.from, bar.to - (bar.halfWidth ?? 0), bar.to + (bar.halfWidth ?? 0)]).concat(data.base, sample.score);
  const low = Math.min(...ends);
  const high = Math.max(...ends);
  const room = (high - low || Math.abs(low) || 1) * 0.02;
  return [low - room, high + room];
}

function specification(data: PageData, sample: Sample, labels: Labels, bars: Bar[], width: number): VisualizationSpec {
  const figures = new Figures(data.decimals);
  const narrow = width < 520;
  const label = (bar: Bar) => figures.signed(bar.value) + (narrow ? "" : figures.plusMinus(bar.halfWidth));
  const nameRoom = Math.min(narrow ? width * 0.34 : 220, Math.max(...bars.map((bar) => Math.max(widthOf(bar.name, 13), widthOf(bar.input, 12))), 1.12 * widthOf(labels.baseValue, 13)) + 6);
  const labelRoom = Math.max(...bars.map((bar) => widthOf(label(bar), 12)), 1.12 * widthOf(figures.plain(sample.score), 13)) + 14;
  const height = (bars.length + 2) * ROW;
  const x = { type: "quantitative" as const, scale: { domain: domainOf(data, sample, bars), range: [nameRoom + 12, width - labelRoom], nice: false, zero: false } };
  const y = { type: "quantitative" as const, scale: { domain: [0, height], range: [0, height], nice: false }, axis: null };
  const rows = bars.map((bar, i) => ({
    ...bar,
    middle: (i + 1.5) * ROW,
    top: (i + 1) * ROW + 9,
    bottom: (i + 2) * ROW - 9,
    below: i + 1 < bars.length ? (i + 2) * ROW + 9 : (i + 2.5) * ROW,
    low: bar.to - (bar.halfWidth ?? 0),
    high: bar.to + (bar.halfWidth ?? 0),
    right: Math.max(bar.from, bar.to + (bar.halfWidth ?? 0)),
    label: label(bar),
    colour: bar.value < 0 ? "var(--down)" : "var(--up)",
    interval: figures.signed(bar.value) + figures.plusMinus(bar.halfWidth) + (holdsZero(bar.value, bar.halfWidth) ? ` (${labels.zero})` : ""),
    shownName: clipped(bar.name, nameRoom, 13),
    shownInput: clipped(bar.input, nameRoom, 12),
    nameY: (i + 1.5) * ROW - (bar.input ? 8 : 0),
    inputY: (i + 1.5) * ROW + 9,
  }));
  const ends = [
    { name: labels.baseValue, at: data.base, label: figures.plain(data.base), middle: ROW / 2 },
    { name: labels.score, at: sample.score, label: figures.plain(sample.score), middle: height - ROW / 2 },
  ];
  const tooltip = [
    { field: "name", title: labels.feature },
    { field: "input", title: labels.input },
    { field: "interval", title: labels.value },
  ];
  const left = { value: 0 };
  return {
    width,
    height,
    autosize: { type: "pad", contains: "padding" },
    data: { values: rows },
    layer: [
      { data: { values: [ends[0]] }, mark: { type: "rule", strokeDash: [3, 4], stroke: "var(--soft)", opacity: 0.7 }, encoding: { x: { ...x, field: "at", axis: { grid: false, tickCount: narrow ? 3 : 6, title: null } }, y: { value: ROW / 2 }, y2: { value: height } } },
      { mark: { type: "rule", stroke: "var(--soft)", opacity: 0.6 }, encoding: { x: { ...x, field: "to" }, y: { ...y, field: "bottom" }, y2: { field: "below" } } },
      { mark: { type: "rect", cornerRadius: 2, description: "bar" }, name: "bars", encoding: { x: { ...x, field: "from" }, x2: { field: "to" }, y: { ...y, field: "top" }, y2: { field: "bottom" }, color: { field: "colour", type: "nominal", scale: null }, tooltip } },
      { transform: [{ filter: { field: "halfWidth", gt: 0 } }], name: "errors", mark: { type: "rule", stroke: "var(--ink)", strokeWidth: 1.5 }, encoding: { x: { ...x, field: "low" }, x2: { field: "high" }, y: { ...y, field: "middle" } } },
      { mark: { type: "text", align: "left", dx: 6, fontSize: 12, fill: "var(--ink)" }, name: "labels", encoding: { x: { ...x, field: "right" }, y: { ...y, field: "middle" }, text: { field: "label" } } },
      { mark: { type: "text", align: "left", fontSize: 13, fill: "var(--ink)" }, name: "names", encoding: { x: left, y: { ...y, field: "nameY" }, text: { field: "shownName" }, tooltip: { field: "name" } } },
      { mark: { type: "text", align: "left", fontSize: 12, fill: "var(--soft)" }, encoding: { x: left, y: { ...y, field: "inputY" }, text: { field: "shownInput" }, tooltip: { field: "input" } } },
      { data: { values: ends }, mark: { type: "point", filled: true, size: 70, opacity: 1, fill: "var(--ink)" }, name: "ends", encoding: { x: { ...x, field: "at" }, y: { ...y, field: "middle" } } },
      { data: { values: ends }, mark: { type: "text", align: "left", dx: 9, fontSize: 13, fontWeight: 600, fill: "var(--ink)" }, encoding: { x: { ...x, field: "at" }, y: { ...y, field: "middle" }, text: { field: "label" } } },
      { data: { values: ends }, mark: { type: "text", align: "left", fontSize: 13, fontWeight: 600, fill: "var(--ink)" }, encoding: { x: left, y: { ...y, field: "middle" }, text: { field: "name" } } },
    ],
  };
}

export function waterfall(data: PageData, sample: Sample, labels: Labels, byGroup: boolean): HTMLElement {
  const figures = new Figures(data.decimals);
  const bars = waterfallBars(data, sample, labels, byGroup);
  const said = bars.map((bar) => `${bar.name}${bar.input ? " = " + bar.input : ""} ${figures.signed(bar.value)}${figures.plusMinus(bar.halfWidth)}`).join("; ");
  const summary = `${labels.waterfall}${labels.colon}${labels.baseValue} ${figures.plain(data.base)}; ${said}; ${labels.score} ${figures.plain(sample.score)}`;
  const rows = bars.map((bar) => [
    { text: bar.name },
    { text: bar.input },
    { text: figures.signed(bar.value), number: true },
    { text: bar.halfWidth ? figures.plain(bar.halfWidth) : "", number: true },
    { text: figures.plain(bar.from), number: true },
    { text: figures.plain(bar.to), number: true },
  ]);
  const head = [{ text: byGroup ? labels.group : labels.feature }, { text: labels.input }, { text: labels.value, number: true }, { text: labels.plusMinus, number: true }, { text: labels.from, number: true }, { text: labels.to, number: true }];
  return element("div", { id: "waterfall" }, chart(summary, (width) => specification(data, sample, labels, bars, width)), tableUnder(labels.table, labels.waterfall, head, rows));
}
