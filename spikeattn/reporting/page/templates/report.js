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
})();
