// The tree of features: rows that open and close, each with its bar; the keys of a tree widget (arrows, Home, End, Enter, Space).
import { type PageData, type Sample, childrenBySize } from "./data";
import { element, name as nameElement, tableUnder, widthOf } from "./dom";
import { Figures, holdsZero, sampleInput } from "./figures";
import type { Labels } from "./words";

const FIRST_SHOWN = 20;
const MORE_EACH = 50;
const ZERO = " \u2248\u00a00"; // what cannot be told apart from 0

export interface TreeColumns {
  id: string;
  title: string;
  signed: boolean; // bars on both sides of zero
  values: number[];
  halfWidths: (number | null)[];
  beside: (node: number) => string; // input or direction
  besideTitle: string;
  decimals: number;
}

/** What is open survives a change of language. */
export interface TreeState {
  open: Set<number>;
  shown: Map<number, number>;
  focus: number;
}

export function newTreeState(data: PageData): TreeState {
  const few = data.nodes.length <= 40;
  const open = new Set<number>();
  data.nodes.forEach((node, index) => {
    if (!node.leaf && !node.others && (few || node.parent < 0)) open.add(index);
  });
  return { open, shown: new Map(), focus: -1 };
}

interface Line {
  node: number;
  level: number;
  place: number;
  siblings: number;
  more?: number; // a line that shows more of the children of `node`
}

class TreeView {
  readonly box = element("div", { class: "tree", role: "tree" });
  private readonly children: number[][];
  private readonly figures: Figures;
  private readonly low: number;
  private readonly high: number;
  private lines: Line[] = [];

  constructor(private readonly data: PageData, private readonly columns: TreeColumns, private readonly labels: Labels, private readonly state: TreeState) {
    this.box.setAttribute("aria-label", columns.title);
    this.children = childrenBySize(data.nodes, columns.values);
    this.figures = new Figures(columns.decimals);
    const drawn = data.nodes.map((_, i) => i).filter((i) => i > 0 || data.nodes.length === 1);
    const ends = drawn.flatMap((i) => [(columns.values[i] ?? 0) - (columns.halfWidths[i] ?? 0), (columns.values[i] ?? 0) + (columns.halfWidths[i] ?? 0)]);
    this.low = columns.signed ? Math.min(0, ...ends) : 0;
    this.high = Math.max(0, ...ends);
    // Every row is a grid of its own: the figures' column is as wide as the widest of all.
    const widest = Math.max(...data.nodes.map((_, node) => widthOf(this.figureOf(node) + (holdsZero(columns.values[node] ?? 0, columns.halfWidths[node] ?? null) ? ZERO : ""), 14)));
    this.box.style.setProperty("--figures", `${Math.ceil(widest) + 4}px`);
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
    this.show();
  }

  openAll(open: boolean) {
    this.state.open.clear();
    this.data.nodes.forEach((node, index) => {
      if (node.parent < 0 || (open && this.isGroup(index))) this.state.open.add(index);
    });
    this.show();
  }

  nameOf(node: number): string {
    const shown = this.data.nodes[node];
    if (!shown?.others) return shown?.name ?? "";
    return shown.leaves === 1 ? this.labels.other : this.labels.others(shown.leaves.toLocaleString("en"));
  }

  figureOf(node: number): string {
    const value = this.columns.values[node] ?? 0;
    const bar = this.figures.plusMinus(this.columns.halfWidths[node] ?? null);
    if (this.columns.signed) return this.figures.signed(value) + bar;
    return (this.data.nodes[node]?.others ? this.labels.atMost : "") + this.figures.plain(value) + bar;
  }

  /** Every node in reading order with its level, whether open or not. */
  allLines(): Line[] {
    return this.linesBelow(() => true, () => Infinity);
  }

  private isGroup(node: number): boolean {
    return (this.children[node]?.length ?? 0) > 0;
  }

  private linesBelow(isOpen: (node: number) => boolean, shownOf: (node: number) => number): Line[] {
    const lines: Line[] = [];
    const root: Line = { node: 0, level: 0, place: 1, siblings: 1 };
    const stack: Line[] = [root];
    for (let line = stack.pop(); line; line = stack.pop()) {
      if (line.more !== undefined || line.level > 0 || !this.isGroup(0)) lines.push(line.level > 0 ? line : { ...line, level: 1 });
      if (line.more !== undefined || !this.isGroup(line.node) || !isOpen(line.node)) continue;
      const children = this.children[line.node] ?? [];
      const count = Math.min(children.length, shownOf(line.node));
      const level = line.level + 1;
      if (count < children.length) stack.push({ node: line.node, level, place: count + 1, siblings: count + 1, more: children.length - count });
      for (let i = count - 1; i >= 0; --i) stack.push({ node: children[i] ?? 0, level, place: i + 1, siblings: children.length });
    }
    return lines;
  }

  private show(focus = false) {
    this.lines = this.linesBelow((node) => this.state.open.has(node), (node) => this.state.shown.get(node) ?? FIRST_SHOWN);
    if (!this.lines.some((line) => line.node === this.state.focus && line.more === undefined)) this.state.focus = this.lines[0]?.node ?? 0;
    this.box.replaceChildren(...this.lines.map((line, i) => this.row(line, i)));
    if (focus) this.box.querySelector<HTMLElement>("[tabindex='0']")?.focus();
  }

  private row(line: Line, index: number): HTMLElement {
    const item = element("div", { role: "treeitem", class: "row", "aria-level": line.level, "aria-posinset": line.place, "aria-setsize": line.siblings, "data-line": index, "data-node": line.node });
    item.style.setProperty("--level", String(Math.min(line.level - 1, 6)));
    item.tabIndex = line.more === undefined && line.node === this.state.focus ? 0 : -1;
    if (line.more !== undefined) {
      item.classList.add("more");
      item.append(element("span", { class: "label" }, element("span", { class: "caret", "aria-hidden": "true" }, "+"), this.labels.more(Math.min(MORE_EACH, line.more))));
      return item;
    }
    const group = this.isGroup(line.node);
    const value = this.columns.values[line.node] ?? 0;
    const halfWidth = this.columns.halfWidths[line.node] ?? null;
    const zero = holdsZero(value, halfWidth);
    const beside = this.columns.beside(line.node);
    if (group) item.setAttribute("aria-expanded", String(this.state.open.has(line.node)));
    item.setAttribute("aria-label", [this.nameOf(line.node), beside, this.figureOf(line.node), zero ? this.labels.zero : ""].filter(Boolean).join(", "));
    const count = group ? element("span", { class: "count" }, String(this.data.nodes[line.node]?.leaves ?? "")) : null;
    item.append(
      element("span", { class: "label" }, element("span", { class: "caret", "aria-hidden": "true" }, group ? "\u203a" : ""), nameElement(this.nameOf(line.node), group ? "name group" : "name"), count),
      element("span", { class: "beside" }, beside ? nameElement(beside, "") : null),
      element("span", { class: zero ? "figure zero" : "figure", ...(zero ? { title: this.labels.zero } : {}) }, this.figureOf(line.node) + (zero ? ZERO : "")),
      this.bar(line.node, value, halfWidth),
    );
    return item;
  }

  private bar(node: number, value: number, halfWidth: number | null): HTMLElement {
    const share = (x: number) => ((x - this.low) / (this.high - this.low || 1)) * 100;
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    const piece = (className: string, from: number, to: number) => {
      const made = element("span", { class: className });
      made.style.left = `${share(Math.min(from, to))}%`;
      made.style.width = `${share(Math.max(from, to)) - share(Math.min(from, to))}%`;
      bar.append(made);
    };
    if (!this.columns.signed && this.data.nodes[node]?.others) return bar;
    piece(!this.columns.signed ? "fill" : value < 0 ? "fill down" : "fill up", 0, value);
    piece("axis", 0, 0);
    if (halfWidth) piece("error", value - halfWidth, value + halfWidth);
    return bar;
  }

  private toggle(node: number, open: boolean) {
    if (open) this.state.open.add(node);
    else this.state.open.delete(node);
    this.state.focus = node;
    this.show(true);
  }

  private showMore(line: Line) {
    const first = this.children[line.node]?.[this.state.shown.get(line.node) ?? FIRST_SHOWN];
    this.state.shown.set(line.node, (this.state.shown.get(line.node) ?? FIRST_SHOWN) + MORE_EACH);
    if (first !== undefined) this.state.focus = first;
    this.show(true);
  }

  private click(event: MouseEvent) {
    const line = this.lines[Number((event.target as Element).closest<HTMLElement>(".row")?.dataset["line"] ?? -1)];
    if (!line) return;
    if (line.more !== undefined) this.showMore(line);
    else if (this.isGroup(line.node)) this.toggle(line.node, !this.state.open.has(line.node));
    else this.focusLine(this.lines.indexOf(line));
  }

  private focusLine(index: number) {
    const line = this.lines[index];
    const item = this.box.children[index];
    if (!line || !(item instanceof HTMLElement)) return;
    this.box.querySelector<HTMLElement>("[tabindex='0']")?.setAttribute("tabindex", "-1");
    item.tabIndex = 0;
    if (line.more === undefined) this.state.focus = line.node;
    item.focus();
  }

  private key(event: KeyboardEvent) {
    const index = Number((event.target as Element).closest<HTMLElement>(".row")?.dataset["line"] ?? -1);
    const line = this.lines[index];
    if (!line || event.altKey || event.ctrlKey || event.metaKey) return;
    const group = line.more === undefined && this.isGroup(line.node);
    const open = this.state.open.has(line.node);
    const parent = line.more !== undefined ? line.node : (this.data.nodes[line.node]?.parent ?? -1);
    const moves: Record<string, () => void> = {
      ArrowDown: () => this.focusLine(index + 1),
      ArrowUp: () => this.focusLine(index - 1),
      Home: () => this.focusLine(0),
      End: () => this.focusLine(this.lines.length - 1),
      ArrowRight: () => (group && !open ? this.toggle(line.node, true) : group ? this.focusLine(index + 1) : undefined),
      ArrowLeft: () => (group && open ? this.toggle(line.node, false) : this.focusLine(this.lines.findIndex((other) => other.node === parent && other.more === undefined))),
      Enter: () => (line.more !== undefined ? this.showMore(line) : group ? this.toggle(line.node, !open) : undefined),
    };
    moves[" "] = moves["Enter"] ?? (() => undefined);
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    move();
  }
}

export function tree(data: PageData, columns: TreeColumns, labels: Labels, state: TreeState): HTMLElement {
  const view = new TreeView(data, columns, labels, state);
  const hasGroups = data.nodes.some((node, i) => i > 0 && !node.leaf && !node.others);
  const button = (text: string, open: boolean) => {
    const made = element("button", { type: "button", class: "quiet" }, text);
    made.addEventListener("click", () => view.openAll(open));
    return made;
  };
  const tools = hasGroups ? element("div", { class: "tools" }, button(labels.expandAll, true), button(labels.collapseAll, false)) : null;
  const rows = view.allLines().map(({ node, level }) => [{ text: "\u2003".repeat(level - 1) + view.nameOf(node) }, { text: columns.beside(node) }, { text: view.figureOf(node), number: true }]);
  const head = [{ text: labels.feature }, { text: columns.besideTitle }, { text: columns.signed ? labels.value : labels.importance, number: true }];
  return element("div", { id: columns.id }, tools, view.box, tableUnder(labels.table, columns.title, head, rows));
}

export function sampleBeside(sample: Sample, labels: Labels): (node: number) => string {
  return (node) => sampleInput(sample, node, labels.missing);
}
