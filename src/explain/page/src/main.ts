// The page of an explanation: reads the data that it carries and shows it in one of two languages.
import { type LanguageCode, type PageData, type Rows, type Sample, type Texts, readData } from "./data";
import { type Child, element } from "./dom";
import { interactions } from "./interactions";
import { swarm } from "./swarm";
import { newTreeState, sampleBeside, tree } from "./tree";
import { waterfall } from "./waterfall";
import { type Labels, labels } from "./words";

const data: PageData = readData();
const sampleTree = newTreeState(data);
const rowsTree = newTreeState(data);
const groups = data.nodes.filter((node) => node.parent === 0 && !node.leaf && !node.others).length;
let byGroup = groups >= 3 && data.features > 12;

function card(title: string, notes: string[], ...children: Child[]): HTMLElement {
  return element("section", { class: "card", "aria-label": title }, element("h3", {}, title), ...notes.filter(Boolean).map((note) => element("p", { class: "note" }, note)), ...children);
}

function sentences(list: string[] | undefined): HTMLElement | null {
  return list && list.length > 0 ? element("ul", { class: "sentences" }, ...list.map((sentence) => element("li", {}, sentence))) : null;
}

function choice(label: string, options: [string, boolean][], current: boolean, choose: (value: boolean) => void): HTMLElement {
  const buttons = options.map(([text, value]) => {
    const button = element("button", { type: "button", "aria-pressed": String(value === current) }, text);
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      choose(value);
    });
    return button;
  });
  return element("div", { class: "switch", role: "group", "aria-label": label }, ...buttons);
}

function intervalNote(text: Labels, halfWidths: (number | null)[]): string {
  return halfWidths.some((half) => half !== null && half > 0) ? text.interval(`${Number((100 * data.confidence).toPrecision(4))}%`) : "";
}

function topOnly(text: Labels): string {
  const shown = data.nodes.filter((node) => node.leaf).length;
  return shown < data.features ? text.topOnly(shown.toLocaleString("en"), data.features.toLocaleString("en")) : "";
}

function waterfallCard(sample: Sample, texts: Texts, text: Labels): HTMLElement {
  const place = element("div", {}, waterfall(data, sample, text, byGroup));
  const switcher =
    groups > 0 && groups < data.features
      ? choice(text.show, [[text.byGroup, true], [text.byFeature, false]], byGroup, (value) => {
          byGroup = value;
          place.replaceChildren(waterfall(data, sample, text, byGroup));
        })
      : null;
  return card(text.waterfall, [text.waterfallNote(texts.units), intervalNote(text, sample.halfWidths)], switcher, place);
}

function sampleSection(sample: Sample, texts: Texts, text: Labels): HTMLElement {
  const title = sample.sample === undefined ? text.thisSample : `${text.thisSample}${text.colon}${text.row(sample.sample)}`;
  const columns = { id: "sample-tree", title: text.tree, signed: true, values: sample.values, halfWidths: sample.halfWidths, beside: sampleBeside(sample, text), besideTitle: text.input, decimals: data.decimals };
  const section = element("section", { id: "sample", "aria-label": title }, element("h2", {}, title), sentences(texts.sampleSentences), waterfallCard(sample, texts, text), card(text.tree, [text.treeNote, topOnly(text)], tree(data, columns, text, sampleTree)));
  if (sample.interactions.length > 0) {
    const shown = sample.interactions.length < sample.interactionCount ? text.interactionsShown(sample.interactions.length, sample.interactionCount.toLocaleString("en")) : "";
    const box = interactions(data, sample.interactions, { title: text.interactions, sentences: texts.interactionSentences }, text, true);
    box.id = "sample-interactions";
    section.append(card(text.interactions, [text.interactionsNote, shown], box));
  }
  return section;
}

function rowsSection(rows: Rows, texts: Texts, text: Labels): HTMLElement {
  const title = rows.rows < rows.dataRows ? text.someRows(rows.rows.toLocaleString("en"), rows.dataRows.toLocaleString("en")) : text.allRows(rows.rows.toLocaleString("en"));
  const columns = { id: "rows-tree", title: text.importanceTree, signed: false, values: rows.importance, halfWidths: rows.halfWidths, beside: (node: number) => texts.directions?.[node] ?? "", besideTitle: text.direction, decimals: data.meanDecimals };
  const section = element("section", { id: "rows", "aria-label": title }, element("h2", {}, title), sentences(texts.rowSentences));
  section.append(card(text.importanceTree, [text.importanceNote(texts.units), intervalNote(text, rows.halfWidths), topOnly(text)], tree(data, columns, text, rowsTree)));
  if (rows.points && rows.points.samples.length > 0) {
    const drawn = rows.points.samples.length;
    const note = drawn < rows.rows ? text.pointsShown(drawn.toLocaleString("en"), rows.rows.toLocaleString("en")) : "";
    section.append(card(text.swarm, [text.swarmNote(texts.units), note], swarm(data, rows, rows.points, text)));
  }
  if (rows.interactions.length > 0) {
    const shown = rows.interactions.length < rows.interactionCount ? text.interactionsShown(rows.interactions.length, rows.interactionCount.toLocaleString("en")) : "";
    const box = interactions(data, rows.interactions, { title: text.interactions }, text, false);
    box.id = "rows-interactions";
    section.append(card(text.interactions, [text.rowInteractionsNote, shown], box));
  }
  return section;
}

function header(language: LanguageCode, texts: Texts, text: Labels): HTMLElement {
  const languages = choice(text.language, [["English", true], ["中文", false]], language === "en", (english) => show(english ? "en" : "zh", true));
  languages.id = "language";
  const heading = texts.prediction === undefined ? element("h1", {}, texts.conclusion) : element("h1", {}, element("bdi", { class: "subject" }, texts.subject), element("span", { class: "prediction" }, texts.prediction));
  return element("header", {}, element("div", { class: "top" }, element("span", { class: "kind" }, text.skip), languages), heading, element("p", { class: "detail" }, texts.detail));
}

function methodCard(texts: Texts, text: Labels): HTMLElement {
  const list = element("dl", { id: "method" }, ...texts.method.flatMap(([label, value]) => [element("dt", {}, label), element("dd", {}, element("bdi", {}, value))]));
  return card(text.method, [], list);
}

function show(language: LanguageCode, focus = false) {
  const texts = data.texts[language];
  const text = labels[language];
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = texts.conclusion;
  const main = element("main", {}, data.local ? sampleSection(data.local, texts, text) : null, data.global ? rowsSection(data.global, texts, text) : null, methodCard(texts, text));
  document.getElementById("page")?.replaceChildren(header(language, texts, text), main);
  if (focus) document.querySelector<HTMLElement>("#language [aria-pressed='true']")?.focus();
}

show(data.language);
