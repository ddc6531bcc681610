// Elements with text; nothing here parses markup, so a name stays a name.
export type Child = Node | string | null | undefined;

export function element<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Record<string, string | number> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}

/** A name that may run in another direction than the page. */
export function name(text: string, className = "name"): HTMLElement {
  return element("bdi", { class: className, title: text }, text);
}

export interface Cell {
  text: string;
  number?: boolean;
}

/** A table that a reader opens under a chart. */
export function tableUnder(summary: string, caption: string, head: Cell[], rows: Cell[][]): HTMLElement {
  return element("details", { class: "as-table" }, element("summary", {}, summary), plainTable(caption, head, rows));
}

export function plainTable(caption: string, head: Cell[], rows: Cell[][]): HTMLElement {
  const cell = (tag: "td" | "th", { text, number }: Cell, scope?: string) =>
    element(tag, { ...(number ? { class: "n" } : {}), ...(scope ? { scope } : {}) }, element("bdi", {}, text));
  const body = rows.map((row) => element("tr", {}, ...row.map((entry, i) => (i === 0 ? cell("th", entry, "row") : cell("td", entry)))));
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head.map((entry) => cell("th", entry, "col")))), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
}

const pen = document.createElement("canvas").getContext("2d");
export const FONT = 'system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif';

export function widthOf(text: string, size: number): number {
  if (!pen) return text.length * size * 0.6;
  pen.font = `${size}px ${FONT}`;
  return pen.measureText(text).width;
}

const segmenter = new Intl.Segmenter();

/** The start of `text` that fits in `width` pixels; what people see as one character is not cut in two. */
export function clipped(text: string, width: number, size: number): string {
  if (widthOf(text, size) <= width) return text;
  const characters = [...segmenter.segment(text)].map(({ segment }) => segment);
  let fits = 0;
  for (let step = characters.length; step > 0; step = step > 1 ? Math.ceil(step / 2) : 0) {
    while (fits + step <= characters.length && widthOf(`${characters.slice(0, fits + step).join("")}\u2026`, size) <= width) fits += step;
  }
  return `${characters.slice(0, fits).join("")}\u2026`;
}
