// Interactions: a heat map of the nodes that take part, and the list with what each says.
import type { VisualizationSpec } from "vega-embed";
import { chart } from "./chart";
import type { Interaction, PageData } from "./data";
import { clipped, element, plainTable, widthOf } from "./dom";
import { Figures, holdsZero } from "./figures";
import type { Labels } from "./words";

const MOST_NODES = 10;
const FEWEST_NODES = 3;
const SMALLEST_CELL = 30;

function nodesBySize(list: Interaction[]): number[] {
  const sums = new Map<number, number>();
  for (const { nodes, value } of list) if (nodes.length === 2) for (const node of nodes) sums.set(node, (sums.get(node) ?? 0) + Math.abs(value));
  return [...sums].sort((a, b) => b[1] - a[1]).map(([node]) => node);
}

function specification(data: PageData, list: Interaction[], figures: Figures, signed: boolean, labels: Labels, width: number): VisualizationSpec {
  const candidates = nodesBySize(list).slice(0, MOST_NODES);
  const nameOf = (node: number) => data.nodes[node]?.name ?? "";
  const nameRoom = Math.min(width < 520 ? width * 0.32 : 190, Math.max(...candidates.map((node) => widthOf(nameOf(node), 13))) + 4);
  const nodes = candidates.slice(0, Math.max(FEWEST_NODES, Math.floor((width - nameRoom - 60) / SMALLEST_CELL)));
  const cell = Math.min(64, (width - nameRoom - 60) / nodes.length);
  const row = Math.min(cell, 44);
  const head = Math.min(96, Math.max(...nodes.map((node) => widthOf(nameOf(node), 12))) * 0.71 + 16);
  const largest = Math.max(...list.map(({ value }) => Math.abs(value)), 1e-300);
  const values = nodes.flatMap((a, i) =>
    nodes.map((b, j) => {
      const found = list.find(({ nodes: pair }) => pair.length === 2 && pair.includes(a) && pair.includes(b) && a !== b);
      const value = found?.value ?? 0;
      return {
        left: nameRoom + 12 + j * cell + 1, right: nameRoom + 12 + (j + 1) * cell - 1, top: head + i * row + 1, bottom: head + (i + 1) * row - 1,
        x: nameRoom + 12 + (j + 0.5) * cell, y: head + (i + 0.5) * row, pair: `${nameOf(a)} × ${nameOf(b)}`, found: Boolean(found),
        colour: !found ? "var(--line)" : !signed ? "var(--accent)" : value < 0 ? "var(--down)" : "var(--up)", strength: found ? 0.08 + 0.52 * (Math.abs(value) / largest) : a === b ? 0 : 0.35,
        label: found && cell >= 40 ? (signed ? figures.signed(value) : figures.plain(value)) : "", shown: found ? (signed ? figures.signed(value) : figures.plain(value)) + figures.plusMinus(found.halfWidth) : "",
      };
    }),
  );
  const names = nodes.map((node, i) => ({ name: nameOf(node), atLeft: clipped(nameOf(node), nameRoom, 13), above: clipped(nameOf(node), 108, 12), y: head + (i + 0.5) * row, x: nameRoom + 12 + (i + 0.5) * cell }));
  const height = head + nodes.length * row;
  const pixels = (size: number) => ({ type: "quantitative" as const, scale: { domain: [0, size], range: [0, size], nice: false }, axis: null });
  const x = pixels(width);
  const y = pixels(height);
  const tooltip = [{ field: "pair", title: labels.feature }, { field: "shown", title: labels.value }];
  return {
    width,
    height,
    autosize: { type: "pad", contains: "padding" },
    data: { values },
    layer: [
      { name: "cells", mark: { type: "rect", cornerRadius: 3 }, encoding: { x: { ...x, field: "left" }, x2: { field: "right" }, y: { ...y, field: "top" }, y2: { field: "bottom" }, fill: { field: "colour", type: "nominal", scale: null }, fillOpacity: { field: "strength", type: "quantitative", scale: null }, tooltip } },
      { mark: { type: "text", fontSize: 12, fill: "var(--ink)" }, encoding: { x: { ...x, field: "x" }, y: { ...y, field: "y" }, text: { field: "label" }, tooltip } },
      { data: { values: names }, mark: { type: "text", align: "left", fontSize: 13, fill: "var(--ink)" }, encoding: { x: { value: 0 }, y: { ...y, field: "y" }, text: { field: "atLeft" }, tooltip: { field: "name" } } },
      { data: { values: names }, mark: { type: "text", align: "left", angle: -45, fontSize: 12, fill: "var(--soft)" }, encoding: { x: { ...x, field: "x" }, y: { value: head - 8 }, text: { field: "above" }, tooltip: { field: "name" } } },
    ],
  };
}

export interface InteractionTexts {
  title: string;
  sentences?: string[] | undefined;
}

/** `signed`: of a sample; without: the mean size over all rows. */
export function interactions(data: PageData, list: Interaction[], texts: InteractionTexts, labels: Labels, signed: boolean): HTMLElement {
  const figures = new Figures(signed ? data.decimals : data.meanDecimals);
  const rows = list.map(({ nodes, value, halfWidth }, i) => {
    const zero = !texts.sentences && holdsZero(value, halfWidth) ? ` (${labels.zero})` : "";
    const name = { text: nodes.map((node) => data.nodes[node]?.name ?? "").join(" × ") };
    const figure = { text: (signed ? figures.signed(value) : figures.plain(value)) + figures.plusMinus(halfWidth) + zero, number: true };
    return texts.sentences ? [name, figure, { text: texts.sentences[i] ?? "" }] : [name, figure];
  });
  const head = [{ text: labels.pair }, { text: labels.pairValue, number: true }, ...(texts.sentences ? [{ text: labels.meaning }] : [])];
  const box = element("div", { class: "interactions" });
  if (nodesBySize(list).length >= FEWEST_NODES) {
    const said = rows.slice(0, MOST_NODES).map((row) => `${row[0]?.text} ${row[1]?.text}`).join("; ");
    box.append(chart(`${texts.title}${labels.colon}${said}`, (width) => specification(data, list, figures, signed, labels, width)));
  }
  const shown = 6;
  box.append(plainTable(texts.title, head, rows.slice(0, shown)));
  if (rows.length > shown) box.append(element("details", { class: "as-table" }, element("summary", {}, labels.more(rows.length - shown)), plainTable(texts.title, head, rows.slice(shown))));
  return box;
}
