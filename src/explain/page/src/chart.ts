// Draws Vega-Lite specifications: no evaluated code, no loading, colours from the page's style so that light, dark and print need no second drawing.
import embed, { type VisualizationSpec } from "vega-embed";
import { expressionInterpreter } from "vega-interpreter";
import { FONT, element } from "./dom";

const soft = "var(--soft)";
const line = "var(--line)";

const config = {
  background: "transparent",
  font: FONT,
  padding: 0,
  view: { stroke: null },
  aria: false, // the figure has a label, and a table stands under it
  axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12, labelOverlap: true },
} as const;

export type Draw = (width: number) => VisualizationSpec;

/** A figure that is drawn for the width that it has, again where that changes. `label`: what a screen reader says in place of the drawing. */
export function chart(label: string, draw: Draw): HTMLElement {
  const plot = element("div", { class: "plot", role: "img", "aria-label": label });
  let drawn = 0;
  const show = async (width: number) => {
    drawn = width;
    const target = element("div");
    await embed(target, draw(width), { mode: "vega-lite", renderer: "svg", actions: false, ast: true, expr: expressionInterpreter, config, tooltip: { theme: "custom" }, hover: false });
    if (drawn === width) plot.replaceChildren(target);
    plot.dataset["ready"] = "true";
  };
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0]?.contentRect.width ?? 0);
    if (width > 0 && Math.abs(width - drawn) > 4) show(width).catch((error: unknown) => console.error(error));
  }).observe(plot);
  return plot;
}
