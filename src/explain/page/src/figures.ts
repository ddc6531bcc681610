// Numbers as src/explain/report/words.cc writes them.
import type { Input, Sample } from "./data";

export const MINUS = "\u2212";

function grouped(digits: string): string {
  const [whole = "", fraction] = digits.split(".");
  const commas = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? commas : `${commas}.${fraction}`;
}

export class Figures {
  constructor(readonly decimals: number) {}

  plain(x: number): string {
    const size = Math.abs(x);
    if (size === 0) return "0";
    let digits = size >= 1e12 ? size.toExponential(2) : grouped(size.toFixed(this.decimals));
    if (!/[1-9]/.test(digits)) digits = size < 1e-9 ? size.toExponential(0) : size.toFixed(Math.ceil(-Math.log10(size)));
    return (x < 0 ? MINUS : "") + digits;
  }

  signed(x: number): string {
    return (x > 0 ? "+" : "") + this.plain(x);
  }

  plusMinus(halfWidth: number | null): string {
    return halfWidth ? ` \u00b1${this.plain(halfWidth)}` : "";
  }
}

export function inputText(input: Input): string {
  if (input === null) return "";
  if (typeof input === "string") return input;
  if (Number.isInteger(input) && Math.abs(input) < 1e15) {
    const size = Math.abs(input);
    return (input < 0 ? MINUS : "") + (size < 10000 ? String(size) : grouped(String(size)));
  }
  return Number(input.toPrecision(4)).toString().replace("-", MINUS);
}

export function sampleInput(sample: Sample, node: number, missing: string): string {
  return sample.missing.includes(node) ? missing : inputText(sample.inputs[node] ?? null);
}

export function holdsZero(value: number, halfWidth: number | null): boolean {
  return halfWidth !== null && halfWidth > 0 && Math.abs(value) <= halfWidth;
}
