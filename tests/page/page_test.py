"""The page of an explanation in Chromium: drawn as its document says, offline, in both languages, usable by keyboard.    page_test.py [NAME]"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import documents

WRITE_PAGE = os.environ["WRITE_PAGE"]
DRAWN = "[...document.querySelectorAll('.plot')].length > 0 && [...document.querySelectorAll('.plot')].every(plot => plot.dataset.ready)"
LARGEST_PAGE, LONGEST_SECONDS = 2 << 20, 60  # bytes; a figure that only an endless loop exceeds on a busy machine


def shown_number(x, decimals, sign=False):
    """As src/explain/report/words.h says: the document's decimals, one digit of what would round to zero."""
    text = f"{abs(x):,.{decimals}f}"
    if not re.search("[1-9]", text):
        text = "0" if x == 0 else next(t for d in range(1, 20) if re.search("[1-9]", t := f"{abs(x):.{d}f}"))
    return ("−" if x < 0 else "+" if sign and x > 0 else "") + text


class Pages:
    def __init__(self, browser, folder):
        self.browser, self.folder, self.documents = browser, folder, {}
        for make in (documents.adult, documents.nhanes, documents.wide, documents.hostile, documents.words, documents.credit):
            self.documents[make.__name__] = make()

    def file(self, name, language="en"):
        page = self.folder / f"{name}-{language}.html"
        if not page.exists():
            source = self.folder / f"{name}.json"
            source.write_text(json.dumps(self.documents[name], ensure_ascii=False), encoding="utf-8")
            subprocess.run([WRITE_PAGE, source, language, page], check=True, stdout=subprocess.DEVNULL)
        return page

    def open(self, name, language="en", width=1280, scheme="light", java_script=True):
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=java_script)
        page = context.new_page()
        page.messages, page.requests = [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on("dialog", lambda dialog: (page.messages.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: page.requests.append(request.url))
        start = time.monotonic()
        page.goto(self.file(name, language).as_uri())
        if java_script:
            page.wait_for_function(DRAWN, timeout=1000 * LONGEST_SECONDS)
        page.seconds = time.monotonic() - start
        return page


def marks(page, box, name):
    return page.locator(f"{box} svg .{name} > *")


def leaves_of(document):
    return [i for i, node in enumerate(document["tree"]) if "feature" in node]


def test_offline_and_silent(pages):
    for name in pages.documents:
        for language in ("en", "zh"):
            page = pages.open(name, language)
            assert page.messages == [], (name, page.messages)
            assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == [], page.requests
            assert len([url for url in page.requests if url.startswith("file:")]) == 1
            assert pages.file(name, language).stat().st_size < LARGEST_PAGE
            assert page.evaluate("document.documentElement.lang") == {"en": "en", "zh": "zh-CN"}[language]
            print(f"  {name} {language}: drawn in {page.seconds:.1f} s, {pages.file(name, language).stat().st_size / 2**20:.2f} MiB")
            page.context.close()


def test_policy_refuses_scripts_and_loads(pages):
    page = pages.open("credit")
    page.evaluate("() => { const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); }")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("() => fetch('https://localhost:9/').then(() => 'loaded', () => 'refused')") == "refused"
    # In a task of its own: what the browser's debugger evaluates may evaluate more.
    evaluated = "new Promise(done => setTimeout(() => { try { done(new Function('return 1')()); } catch { done('refused'); } }))"
    assert page.evaluate(evaluated) == "refused"
    page.context.close()


def test_waterfall(pages):
    document = pages.documents["adult"]
    local, leaves = document["local"], leaves_of(document)
    page = pages.open("adult")
    groups = [i for i, node in enumerate(document["tree"]) if node["parent"] == 0]
    assert marks(page, "#waterfall", "bars_marks").count() == len(groups)
    page.get_by_role("button", name="features", exact=True).click()
    page.wait_for_function("count => document.querySelectorAll('#waterfall svg .bars_marks > *').length === count", arg=len(leaves))
    # Every bar's width in pixels is its value; the first begins at the base value and the last ends at the score.
    boxes = [marks(page, "#waterfall", "bars_marks").nth(i).bounding_box() for i in range(len(leaves))]
    order = sorted(leaves, key=lambda i: -abs(local["values"][i]))
    scale = boxes[0]["width"] / abs(local["values"][order[0]])
    for box, leaf in zip(boxes, order):
        assert abs(box["width"] - scale * abs(local["values"][leaf])) < 1.5, document["tree"][leaf]
    ends = [marks(page, "#waterfall", "ends_marks").nth(i).bounding_box() for i in range(2)]
    assert abs((ends[1]["x"] - ends[0]["x"]) - scale * (local["score"] - document["base"])) < 1.5
    labels = page.locator("#waterfall svg .labels_marks text").all_text_contents()
    for label, leaf in zip(labels, order):
        assert label == f"{shown_number(local['values'][leaf], 2, True)} ±{shown_number(local['half_widths'][leaf], 2)}", label
    assert marks(page, "#waterfall", "errors_marks").count() == len(leaves)
    page.context.close()


def test_tables_say_the_document(pages):
    document = pages.documents["adult"]
    page = pages.open("adult")
    page.locator("#sample-tree summary").click()
    rows = [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in page.locator("#sample-tree tbody tr").all()]
    assert len(rows) == len(document["tree"]) - 1
    by_name = {}
    for name, inputs, figure in rows:
        by_name.setdefault(name, []).append((inputs, figure))
    for i, node in enumerate(document["tree"][1:], 1):
        inputs = document["local"]["inputs"].get(node["name"]) if "feature" in node else None
        missing = "feature" in node and node["name"] in document["local"]["inputs"] and inputs is None
        expected = ("missing" if missing else "" if inputs is None else str(inputs), f"{shown_number(document['local']['values'][i], 2, True)} ±{shown_number(document['local']['half_widths'][i], 2)}")
        assert expected in by_name[node["name"]], (node, expected, by_name[node["name"]])
    assert page.locator("#sample-interactions tbody tr").count() == len(document["local"]["interactions"])
    assert "cannot be told apart from 0" in page.locator("#sample-interactions tbody tr").last.text_content()
    page.context.close()


def test_beeswarm(pages):
    document = pages.documents["nhanes"]
    points = document["global"]["points"]
    page = pages.open("nhanes")
    count = min(15, len(leaves_of(document)))
    circles = page.evaluate("""[...document.querySelectorAll('#swarm svg .points_marks > *')].map(mark => {
        const box = mark.getBoundingClientRect(); return [mark.__data__.datum.node, mark.__data__.datum.value, box.x + box.width / 2, box.y + box.height / 2, box.width / 2]; })""")
    assert len(circles) == count * len(points)
    rows = {}
    for node, value, x, y, radius in circles:
        rows.setdefault(node, []).append((x, y, radius, value))
    for node, row in rows.items():
        values = sorted(point["values"][node + 0] for point in points)
        assert all(abs(a - b) <= 1e-4 * (1 + abs(b)) for a, b in zip(sorted(v for *_, v in row), values))
        tall = max(y for _, y, *_ in row) - min(y for _, y, *_ in row) >= 62  # pressed together: about as high as a swarm may be
        covered = sum((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 < (0.97 * (a[2] + b[2])) ** 2 for i, a in enumerate(row) for b in row[:i])
        assert tall or covered == 0, (node, covered)
    # x is linear in the value
    (x0, *_, v0), (x1, *_, v1) = min(circles, key=lambda c: c[1])[2:] + [min(c[1] for c in circles)], max(circles, key=lambda c: c[1])[2:] + [max(c[1] for c in circles)]
    assert all(abs(c[2] - (x0 + (c[1] - v0) / (v1 - v0) * (x1 - x0))) < 1 for c in circles)
    page.context.close()


def test_heat_map(pages):
    document = pages.documents["adult"]
    page = pages.open("adult")
    nodes = {node for entry in document["local"]["interactions"] for node in entry["nodes"]}
    side = min(10, len(nodes))
    assert marks(page, "#sample-interactions", "cells_marks").count() == side * side
    page.context.close()


def test_languages(pages):
    page = pages.open("adult", "en")
    for text in ("From the base value to the score", "base value", "cannot be told apart from 0", "log-odds"):
        assert text in page.locator("#page").text_content(), text
    page.get_by_role("button", name="中文").click()
    page.wait_for_function(DRAWN)
    shown = page.locator("#page").text_content()
    for text in ("从基准值到得分", "基准值", "对数几率", "归因值", "交互作用", "置信区间", "与 0 无法区分"):
        assert text in shown, text
    assert "From the base value" not in shown and page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.evaluate("document.activeElement.textContent") == "中文"
    assert page.messages == []
    page.context.close()


def test_keyboard(pages):
    page = pages.open("adult")
    rows = page.locator("#sample-tree [role=treeitem]")
    before = rows.count()
    rows.first.focus()
    focused = "document.activeElement.getAttribute('aria-label')"
    first = page.evaluate(focused)
    page.keyboard.press("ArrowLeft")
    assert page.locator("#sample-tree [role=treeitem]").first.get_attribute("aria-expanded") == "false" and rows.count() < before
    page.keyboard.press("Enter")
    assert rows.count() == before and page.evaluate(focused) == first
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "2"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == first
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement === document.activeElement.parentElement.lastElementChild")
    page.keyboard.press("Home")
    assert page.evaluate(focused) == first
    assert page.locator("#sample-tree [tabindex='0'][role=treeitem]").count() == 1
    page.context.close()


CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => { const f = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const back = element => { for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.5) return c; } return [255, 255, 255]; };
  const worst = [];
  for (const element of document.querySelectorAll('#page *')) {
    const text = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && element.getClientRects().length > 0 && !element.closest('[aria-hidden]');
    if (!text) continue;
    const style = getComputedStyle(element), ink = parse(element.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(back(element))].sort((x, y) => y - x);
    worst.push([(a + 0.05) / (b + 0.05), element.textContent.slice(0, 40)]);
  }
  return worst.sort((x, y) => x[0] - y[0])[0];
}"""


def test_contrast(pages):
    backs = set()
    for scheme in ("light", "dark"):
        page = pages.open("adult", scheme=scheme)
        ratio, text = page.evaluate(CONTRAST)
        assert ratio >= 4.5, (scheme, ratio, text)  # WCAG 2.2, level AA
        backs.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.context.close()
    assert len(backs) == 2


def test_many_features(pages):
    page = pages.open("wide")
    shown = page.locator("#sample").text_content()
    assert re.search(r"Of 2,000 features the strongest \d+ are shown one by one", shown)
    assert "1,988 other features" in page.locator("#waterfall table").text_content()
    assert page.locator("#sample-tree [role=treeitem]").count() <= 22
    assert page.locator("#rows-tree [role=treeitem]").count() <= 22
    page.locator("#sample-tree .more").click()
    assert page.locator("#sample-tree [role=treeitem]").count() > 60
    page.context.close()


def test_narrow(pages):
    for name in ("adult", "hostile", "credit", "words"):
        for language in ("en", "zh"):
            page = pages.open(name, language, width=390)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
            outside = page.evaluate("[...document.querySelectorAll('.plot svg text')].filter(t => { const b = t.getBoundingClientRect(); return b.width > 0 && (b.right > 391 || b.left < -1); }).map(t => t.textContent)")
            assert outside == [], (name, outside)
            page.context.close()


def test_hostile_names(pages):
    page = pages.open("hostile")
    assert page.title() == "'><svg onload=alert(4)> <script>alert(3)</script>: " + page.locator("h1 .prediction").inner_text()
    assert page.locator("#page img, #page script, #page b").count() == 0
    names = page.locator("#sample-tree .name").all_inner_texts()
    for name in ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "דירוג אשראי", "%DATA%", "__proto__", "constructor", "tab\\tand\\nnewline", "🙂👩‍👩‍👧‍👦 emoji"):
        assert name in names, (name, names)
    assert "\u202e" not in page.content()
    page.context.close()


def test_screen_reader_and_no_script(pages):
    page = pages.open("adult")
    for plot in page.locator(".plot").all():
        assert plot.get_attribute("role") == "img" and len(plot.get_attribute("aria-label")) > 20
    assert page.locator("#waterfall table caption").count() == 1 and page.locator("#swarm table caption").count() == 1
    assert "base value" in page.locator("#waterfall .plot").get_attribute("aria-label")
    page.context.close()
    page = pages.open("adult", java_script=False)
    assert "income >50K: 60.1%" in page.locator("body").inner_text()
    page.context.close()


def main():
    wanted = sys.argv[1:]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        pages = Pages(browser, pathlib.Path(folder))
        for name, test in list(globals().items()):
            if name.startswith("test_") and (not wanted or name in wanted):
                print(name, flush=True)
                test(pages)
        browser.close()


if __name__ == "__main__":
    main()
