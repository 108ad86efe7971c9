"use strict";
(() => {
  const downloads = JSON.parse(document.getElementById("downloads").textContent);

  // Download: the very bytes of the csv beside this page.
  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([downloads[button.dataset.download]], { type: "text/csv" }));
      link.download = button.dataset.download;
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  // Copy: the clipboard where the browser grants it, else a selection that the old command copies.
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const button of document.querySelectorAll("[data-copy]")) {
    const name = button.textContent;
    button.addEventListener("click", async () => {
      await copy(downloads[button.dataset.copy]);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = name; }, 1500);
    });
  }

  // Choose: one of several charts; without this script all of them are there.
  document.documentElement.classList.add("js");
  for (const select of document.querySelectorAll("[data-choose]")) {
    const choose = () => {
      for (const option of document.querySelectorAll(`[data-group="${select.dataset.choose}"]`)) {
        option.classList.toggle("unchosen", option.dataset.option !== select.value);
      }
    };
    select.addEventListener("change", choose);
    choose();
  }

  // Look closer: the value of a mark under the pointer, or with the arrow keys on a chart.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  const show = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - width - 8))}px`;
    tip.style.top = `${y - height - 10 > 4 ? y - height - 10 : y + 18}px`;
  };
  const hide = () => {
    tip.hidden = true;
    for (const at of document.querySelectorAll(".mark.at")) at.classList.remove("at");
  };
  for (const title of document.querySelectorAll("svg .mark > title")) {
    title.parentElement.dataset.tip = title.textContent;
    title.remove();
  }
  // Words of the glossary and footnotes: a tip under the pointer, at the touch of a finger, or where the keyboard is.
  for (const word of document.querySelectorAll(".term, sup[title]")) {
    word.dataset.tip = word.title;
    word.removeAttribute("title");
    const at = () => show(word, word.getBoundingClientRect().x, word.getBoundingClientRect().y);
    word.addEventListener("focus", at);
    word.addEventListener("click", at);
    word.addEventListener("blur", hide);
    word.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  }
  for (const mark of document.querySelectorAll("[data-tip]")) {
    mark.addEventListener("pointermove", (event) => show(mark, event.clientX, event.clientY));
    mark.addEventListener("pointerleave", hide);
  }
  for (const chart of document.querySelectorAll("figure svg, .blocks, .pairs, .falls")) {
    const marks = [...chart.querySelectorAll("[data-tip]")];
    if (!marks.length) continue;
    let at = -1;
    chart.setAttribute("tabindex", "0");
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") return hide();
      if (!step) return;
      event.preventDefault();
      hide();
      at = (at + step + (at < 0 && step < 0 ? 1 : 0) + marks.length) % marks.length;
      marks[at].classList.add("at");
      marks[at].scrollIntoView({ block: "nearest" });
      const box = marks[at].getBoundingClientRect();
      show(marks[at], box.x + box.width / 2, box.y);
    });
  }

  // Contents: the section that is being read is marked, and its link is in sight.
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const strip = document.querySelector(".contents");
  const mark = () => {
    const line = innerHeight / 3;
    let here;
    for (const id of links.keys()) {
      const top = document.getElementById(id)?.getBoundingClientRect().top;
      if (top !== undefined && top <= line) here = id;
    }
    if (innerHeight + scrollY >= document.documentElement.scrollHeight - 2) here = [...links.keys()].at(-1);
    for (const [id, link] of links) {
      if (id !== here) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "location");
        strip.scrollTo({ left: link.offsetLeft - strip.clientWidth / 3, top: link.offsetTop - strip.clientHeight / 2 });
      }
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();

  // Print: everything, also what is folded away on the screen.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  // Sort: ascending, descending, then the order of the network again.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.classList.contains("number") ? NaN : cell.textContent;
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return a - b;
  };
  for (const table of document.querySelectorAll("table.sheet")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] || "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        const rows = [...original];
        if (next !== "none") {
          head.setAttribute("aria-sort", next);
          rows.sort((a, b) => compare(value(a, column), value(b, column)));
          if (next === "descending") rows.reverse();
        }
        table.classList.toggle("sorted", next !== "none");
        body.replaceChildren(...rows);
      });
    });
  }

  // Search: rows that hold every word; where a column has a few different texts, those of one of them alone.
  const SHORT = 8, FEW = 12, COLUMNS = 2; // rows that one sees at a glance; texts and columns that a choice is made from
  for (const table of document.querySelectorAll("table.sheet")) {
    const rows = [...table.tBodies[0].rows], name = table.id.replace("table-", "");
    const tools = document.querySelector(`.tools[data-for="${name}"]`);
    if (rows.length < SHORT || !tools) continue;
    const title = table.closest("[role=region]").getAttribute("aria-label").toLowerCase();
    const box = document.createElement("span");
    box.className = "find";
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = "Search rows";
    field.setAttribute("aria-label", `Search the ${title}`);
    const told = document.createElement("output");
    const choices = [];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const texts = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))];
      const worded = head.classList.contains("text") && texts.length > 1 && texts.length <= FEW;
      if (!worded || texts.length === rows.length || choices.length === COLUMNS) return;
      const select = document.createElement("select");
      select.setAttribute("aria-label", `${head.textContent} in the ${title}`);
      select.append(new Option(`${head.textContent}: all`, ""), ...texts.map((text) => new Option(text || "none", text)));
      choices.push([select, column]);
    });
    const find = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let seen = 0;
      for (const row of rows) {
        const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        const chosen = choices.every(([select, column]) =>
          !select.selectedIndex || row.cells[column].textContent.trim() === select.value);
        row.hidden = !(chosen && words.every((word) => text.includes(word)));
        seen += !row.hidden;
      }
      told.textContent = seen === rows.length ? "" : `${seen} of ${rows.length} rows; downloads hold all`;
    };
    field.addEventListener("input", find);
    for (const [select] of choices) select.addEventListener("change", find);
    box.append(field, ...choices.map(([select]) => select), told);
    tools.prepend(box);
  }
})();
