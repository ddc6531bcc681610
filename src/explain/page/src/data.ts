// What the page carries: written by src/explain/report/page_data.cc.
export type LanguageCode = "en" | "zh";
export type Input = number | string | null;

export interface PageNode {
  name: string;
  parent: number; // -1: the root
  leaves: number; // features below, itself where it is one
  leaf?: true;
  others?: true; // stands for the leaves that were left out of its parent
}

export interface Interaction {
  nodes: number[];
  value: number;
  halfWidth: number;
}

/** One entry for each node; a half width of null is unknown, 0 exact. */
export interface Sample {
  sample?: number;
  score: number;
  values: number[];
  halfWidths: (number | null)[];
  inputs: Input[];
  missing: number[]; // nodes whose input says nothing
  interactions: Interaction[];
  interactionCount: number;
}

export interface Points {
  samples: number[];
  features: { node: number; values: number[]; inputs: Input[] }[];
}

export interface Rows {
  rows: number;
  dataRows: number; // from which they were drawn
  importance: number[]; // of "others": the greatest among them
  halfWidths: (number | null)[];
  mean: (number | null)[];
  interactions: Interaction[];
  interactionCount: number;
  points?: Points;
}

export interface Texts {
  subject: string;
  conclusion: string;
  detail: string;
  units: string;
  baseName: string;
  prediction?: string;
  sampleSentences?: string[];
  interactionSentences?: string[];
  rowSentences?: string[];
  directions?: string[];
  method: [string, string][];
}

export interface PageData {
  language: LanguageCode;
  units: string;
  base: number;
  exact: boolean;
  confidence: number;
  decimals: number;
  meanDecimals: number;
  features: number;
  nodes: PageNode[];
  local?: Sample;
  global?: Rows;
  texts: Record<LanguageCode, Texts>;
}

export function readData(): PageData {
  const text = document.getElementById("data")?.textContent;
  if (!text) throw new Error("the page carries no data");
  return JSON.parse(text) as PageData;
}

/** Children of each node, by falling size of `column`, what was left out last. */
export function childrenBySize(nodes: PageNode[], column: number[]): number[][] {
  const children: number[][] = nodes.map(() => []);
  nodes.forEach((node, index) => {
    if (node.parent >= 0) children[node.parent]?.push(index);
  });
  const size = (index: number) => (nodes[index]?.others ? -1 : Math.abs(column[index] ?? 0));
  for (const list of children) list.sort((a, b) => size(b) - size(a));
  return children;
}
