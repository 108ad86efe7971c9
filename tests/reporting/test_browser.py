"""The page in a browser, from disk: no error, tables sort, downloads equal the files, charts answer to the keys."""

from __future__ import annotations

import hashlib
import html as markup
import json
import re
import shutil
import subprocess

import pytest

from spikeattn.reporting import Report, write_report
from spikeattn.reporting.page.glossary import TERMS

PROBE = """<script>
const said = {errors: [], sorted: {}, restored: {}, bytes: {}};
addEventListener("error", (event) => said.errors.push(event.message));
addEventListener("unhandledrejection", (event) => said.errors.push(String(event.reason)));
try {
  for (const table of document.querySelectorAll("table.sheet")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const before = [...body.rows].map((row) => row.textContent).join();
    let up = true;
    heads.forEach((head, i) => {
      const button = head.querySelector("button");
      const column = () => [...body.rows].map((row) => row.cells[i].dataset.v).filter((v) => v !== undefined)
        .map(Number).filter((v) => !Number.isNaN(v));
      button.click();
      up &&= head.getAttribute("aria-sort") === "ascending" && column().every((v, j, all) => !j || all[j - 1] <= v);
      button.click();
      up &&= head.getAttribute("aria-sort") === "descending" && column().every((v, j, all) => !j || all[j - 1] >= v);
      button.click();
      up &&= !head.hasAttribute("aria-sort");
    });
    said.sorted[table.id] = up;
    said.restored[table.id] = before === [...body.rows].map((row) => row.textContent).join();
  }
  let text; // read here and now: the browser's virtual time does not wait for a blob
  const RealBlob = Blob;
  window.Blob = function (parts, options) { text = parts.join(""); return new RealBlob(parts, options); };
  HTMLAnchorElement.prototype.click = () => {};
  for (const button of document.querySelectorAll("[data-download]")) {
    button.click();
    said.bytes[button.dataset.download] = text;
  }
  const tip = document.querySelector(".tip"), mark = document.querySelector(".energy_by_part [data-tip]");
  mark.dispatchEvent(new PointerEvent("pointermove", { clientX: 50, clientY: 50 }));
  said.hover = !tip.hidden && tip.textContent === mark.dataset.tip;
  mark.dispatchEvent(new PointerEvent("pointerleave"));
  const chart = mark.closest("svg");
  chart.focus();
  said.focus = document.activeElement === chart;
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  said.key = !tip.hidden && tip.textContent;
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  said.escaped = tip.hidden;
  const select = document.querySelector("#choose-fall"), seen = () =>
    [...document.querySelectorAll("[data-group=fall]")].filter((e) => e.offsetHeight).map((e) => e.dataset.option);
  const first = seen();
  select.value = "syops";
  select.dispatchEvent(new Event("change"));
  said.falls = [...first, ...seen()];
  const rates = document.querySelector("#table-rates"), rows = [...rates.tBodies[0].rows];
  const tools = document.querySelector('.tools[data-for="rates"]'), field = tools.querySelector("input");
  const find = (text) => {
    field.value = text;
    field.dispatchEvent(new Event("input"));
    return rows.filter((row) => row.offsetHeight).map((row) => row.textContent.toLowerCase());
  };
  said.search = { all: rows.length, block: find("block.1 MLP"), none: find("nowhere"), back: find("").length };
  const part = tools.querySelector("select");
  part.value = "SPS";
  part.dispatchEvent(new Event("change"));
  said.search.chosen = rows.filter((row) => row.offsetHeight).map((row) => row.cells[0].textContent.trim());
  said.search.told = tools.querySelector("output").textContent;
  part.selectedIndex = 0;
  part.dispatchEvent(new Event("change"));
  const word = document.querySelector(".remarks .term, .terms .term");
  word.focus();
  said.word = document.activeElement === word && !tip.hidden && tip.textContent;
  word.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  said.silenced = tip.hidden;
  const contents = document.querySelector(".contents");
  document.querySelector("#energy").scrollIntoView({ behavior: "instant" });
  const bar = contents.getBoundingClientRect();
  said.contents = [bar.top, bar.bottom > 0, document.querySelector("#energy h2").getBoundingClientRect().top >= 0];
  said.wide = document.documentElement.scrollWidth - innerWidth;
  said.leftovers = document.querySelectorAll("svg title").length;
  document.body.textContent = JSON.stringify(said);
  document.body.id = "said";
} catch (error) {
  document.body.textContent = JSON.stringify({errors: [String(error)]});
  document.body.id = "said";
}
</script></body>"""

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed; on Debian: apt install chromium"
)


def browse(page, tmp_path, *options: str) -> tuple[str, str]:
    """DOM and log of a page opened from disk, without a network."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    flags += " --disable-component-update --enable-logging=stderr --virtual-time-budget=30000 --window-size=1366,900"
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'user'}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def report(profile, attended, tmp_path_factory) -> Report:
    return write_report(profile, tmp_path_factory.mktemp("browser"), attention=attended, command="spikeattn report")


@pytest.fixture(scope="module")
def said(report, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "page.html").write_text(report.page.read_text().replace("</body>", PROBE))
    dom, log = browse(folder / "page.html", folder, "--dump-dom")
    assert "CONSOLE" not in log
    return json.loads(markup.unescape(re.search(r'<body id="said">(.*?)</body>', dom, re.DOTALL).group(1)))


def test_it_opens_without_an_error_and_fits_a_laptop(said):
    assert said["errors"] == []
    assert said["wide"] <= 0


def test_every_table_sorts_both_ways_and_back(said):
    names = {
        f"table-{n}" for n in ("rates", "energy", "operations", "time", "comparison", "waterfall", "models", "sweep")
    }
    names |= {"table-prices", "table-switches", "table-structure"}
    assert set(said["sorted"]) == names | {"table-attention"}
    assert all(said["sorted"].values()) and all(said["restored"].values())


def test_downloads_equal_the_files(said, report):
    assert {name for name in report.files if name.endswith(".csv")} == set(said["bytes"])
    for name, text in said["bytes"].items():
        assert hashlib.sha256(text.encode()).digest() == hashlib.sha256(report.files[name].read_bytes()).digest(), name


def test_charts_answer_to_mouse_and_keys(said):
    assert said["hover"] and said["focus"] and said["escaped"]
    assert said["key"].startswith("SPS: ")
    assert said["leftovers"] == 0


def test_tables_are_searched_by_words_and_by_part(said):
    found = said["search"]
    assert found["back"] == found["all"] > len(found["block"]) > 0 and found["none"] == []
    assert all("block.1" in text and "mlp" in text for text in found["block"])
    assert set(found["chosen"]) == {"SPS"} and found["told"].startswith(
        f"{len(found['chosen'])} of {found['all']} rows"
    )


def test_words_tell_what_they_mean_to_the_keyboard_and_the_contents_stay_in_sight(said):
    assert said["word"] in TERMS.values() and said["silenced"]
    assert said["contents"] == [0, True, True]


def test_one_waterfall_is_seen_and_it_is_the_chosen_one(said):
    assert said["falls"] == ["sdt-paper", "syops"]


@pytest.mark.parametrize("width", [800, 390])
def test_it_fits_a_small_screen(report, tmp_path, width):
    """Nothing reaches beyond the right edge but what scrolls in a box of its own; charts stay as wide as to be read."""
    probe = """<script>
    const inside = (e) =>
      e.closest(".scroll, figure, .tip, .contents") || e.getBoundingClientRect().right <= innerWidth + 1;
    const wide = [...document.querySelectorAll("body *")].filter((e) => !inside(e)).map((e) => e.className);
    const chart = Math.min(...[...document.querySelectorAll("figure svg")].map((e) => e.getBoundingClientRect().width));
    parent.postMessage(JSON.stringify({wide, chart, width: innerWidth}), "*");
    </script></body>"""
    frame = """<body><iframe src="page.html" width="WIDTH" height="900" frameborder="0"></iframe><script>
    onmessage = (event) => { document.body.textContent = event.data; document.body.id = "said"; };
    </script></body>"""
    (tmp_path / "page.html").write_text(report.page.read_text().replace("</body>", probe))
    (tmp_path / "frame.html").write_text(frame.replace("WIDTH", str(width)))
    dom, _ = browse(tmp_path / "frame.html", tmp_path, "--dump-dom")
    said = json.loads(markup.unescape(re.search(r'<body id="said">(.*?)</body>', dom, re.DOTALL).group(1)))
    assert said["wide"] == [] and said["width"] == width and said["chart"] >= 500


def test_it_prints(report, tmp_path):
    browse(report.page, tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"/Type /Page" in content
