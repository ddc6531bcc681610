#include "train/report/page.h"

namespace deepseek::train {

const char* const kPageStyle = R"css(
:root { color-scheme: light dark; --back: #fcfcfb; --card: #fff; --ink: #1b1b1a; --soft: #62615d; --line: #e3e2dd;
  --c1: #2a78d6; --c2: #d9541e; --good: #0b7a3e; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161615; --card: #1f1f1e; --ink: #f1f0ec; --soft: #a9a8a2; --line: #383734; --c1: #5a9cf0; --c2: #f08a5a;
    --good: #4cc38a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 20px 60px; max-width: 980px; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 34px 0 10px; }
p.sub, .note { color: var(--soft); margin: 0; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(210px, 44%), 1fr)); gap: 12px; margin: 24px 0 0; }
.tile, .chart, .table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 16px; } .tile b { display: block; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; } .good b { color: var(--good); }
.chart { padding: 16px 16px 10px; margin-bottom: 14px; } .chart h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; }
.plot { width: 100%; } .table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 7px 14px; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; } th { color: var(--soft); font-weight: 500; white-space: nowrap; }
td { overflow-wrap: anywhere; white-space: pre-wrap; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
table.answers { table-layout: fixed; min-width: 640px; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.plain text { fill: var(--soft); font: 12px system-ui, sans-serif; } .plain .grid { stroke: var(--line); }
.plain .stage { stroke: var(--soft); stroke-dasharray: 4 4; }
.plain path { fill: none; stroke-width: 2; stroke-linejoin: round; } .plain path.faint { stroke-width: 1; opacity: .35; }
.plain path.c1 { stroke: var(--c1); } .plain path.c2 { stroke: var(--c2); } .plain circle.c2 { fill: var(--c2); }
.legend { margin: 4px 0 0; font-size: 13px; color: var(--soft); } .legend span { margin-right: 14px; }
.legend span::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: 4px;
  background: var(--c1); }
.legend span.c2::before { background: var(--c2); }
)css";

const char* const kPageScript = R"js(
(function () {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue(name).trim();
    const soft = colour("--soft"), line = colour("--line");
    const axis = { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
                   titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12 };
    const config = { background: "transparent", view: { stroke: null }, axis, axisX: { grid: false, format: "~s", tickCount: 8, labelOverlap: true },
                     font: "system-ui, sans-serif", rule: { color: soft }, text: { color: soft, fontSize: 12 },
                     legend: { orient: "bottom", labelColor: soft, labelFontSize: 13, symbolType: "stroke", symbolStrokeWidth: 3,
                               symbolOpacity: 1 } };
    for (const [id, original] of Object.entries(specs)) {
      const spec = structuredClone(original);
      const scale = { domain: spec.usermeta.names, range: spec.usermeta.colours.map(c => colour("--c" + c)) };
      for (const { encoding } of spec.layer) {
        if (!encoding.color) continue;
        encoding.color.scale = scale;
        if (encoding.color.legend !== null) encoding.color.legend = { values: spec.usermeta.legend, labelLimit: 0 };
      }
      const options = { config, renderer: "svg", tooltip: { theme: dark.matches ? "dark" : "light" }, actions: false };
      const plot = document.getElementById("plot-" + id), target = document.createElement("div");
      target.className = "plot";
      plot.after(target);
      vegaEmbed(target, spec, options).then(() => { plot.remove(); target.id = "plot-" + id; }, () => target.remove());
    }
  }
  draw();
  dark.addEventListener("change", draw);
})();
)js";

}  // namespace deepseek::train
