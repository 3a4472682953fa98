"use strict";
(() => {
  const all = (query, of = document) => [...of.querySelectorAll(query)];
  const add = (parent, tag, words = "", options = {}) => {
    const made = Object.assign(document.createElement(tag), options);
    made.textContent = words;
    parent.append(made);
    return made;
  };

  // Light or dark: as the reader's system has it, or as chosen here.

  const root = document.documentElement;
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = add(document.querySelector("header"), "button", "", { className: "theme", type: "button" });
  document.querySelector("header").prepend(theme);
  const nameTheme = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  // Tables that are sorted by a column; rows without a value are last in both directions.

  const NUMBER = /^(<\s*)?(-?(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)(?:%|\s.*)?$/;
  const numberOf = (text) => {
    const found = NUMBER.exec(text.replaceAll("\u2212", "-"));
    return found ? Number(found[2]) - (found[1] ? 1e-12 : 0) : NaN;
  };
  const sort = (table, column, direction) => {
    const rows = all("tbody tr", table).map((row) => ({ row, text: row.cells[column].textContent.trim() }));
    const known = rows.filter(({ text }) => text && text !== "\u2013");
    const numbers = known.every(({ text }) => !Number.isNaN(numberOf(text)));
    const order = numbers
      ? (a, b) => numberOf(a.text) - numberOf(b.text)
      : (a, b) => a.text.localeCompare(b.text, undefined, { numeric: true });
    const sorted = [...known].sort((a, b) => direction * order(a, b));
    const missing = rows.filter((one) => !known.includes(one));
    table.tBodies[0].append(...[...sorted, ...missing].map(({ row }) => row));
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const words = head.textContent;
      head.textContent = "";
      head.setAttribute("aria-sort", "none");
      add(head, "button", words, { type: "button", title: `Sort by ${words}` }).addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up ? 1 : -1);
      });
    });
  }

  // Copy the BibTeX entries; where the browser does not allow it, they are selected.

  for (const entries of all("pre.bibtex")) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
    entries.before(button);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(entries.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(entries);
        button.textContent = "Selected: copy with Ctrl+C or \u2318C";
      }
    });
  }

  // RDMs: the names, images and values of the pair under the pointer, or of the cell chosen with the arrow keys.

  const stored = document.getElementById("matrices");
  if (!stored) return;
  const data = JSON.parse(stored.textContent);
  const MISSING = 65535;

  const decoded = new Map();
  const valuesOf = (k) => {
    if (!decoded.has(k)) {
      const { pairs, low, high } = data.matrices[k];
      const bytes = atob(pairs);
      const values = new Float64Array(bytes.length / 2);
      for (let p = 0; p < values.length; p += 1) {
        const code = bytes.charCodeAt(2 * p) | (bytes.charCodeAt(2 * p + 1) << 8);
        values[p] = code === MISSING ? NaN : low + (code / (MISSING - 1)) * (high - low);
      }
      decoded.set(k, values);
    }
    return decoded.get(k);
  };
  const written = (value, { low, high }) => {
    if (Number.isNaN(value)) return "unknown";
    const step = (high - low) / (MISSING - 1);
    const size = Math.max(Math.abs(low), Math.abs(high));
    const digits = step > 0 ? Math.floor(-Math.log10(step)) - 1 : 3;
    const exact = step > 0 && value ? Math.floor(Math.log10(Math.abs(value) / step)) : 4;
    const words = size > 0 && (size < 1e-3 || digits < 0)
      ? value && value.toExponential(Math.max(1, Math.min(6, exact)) - 1)
      : value.toFixed(Math.min(6, digits));
    return String(words).replace(/^-(?=0(?:\.0*)?$)/, "").replaceAll("-", "\u2212");
  };

  const readings = (figure, panel, i, j) => {
    const names = data.names[figure.names];
    const n = names.length;
    const [a, b] = i < j ? [i, j] : [j, i];
    if (i === j) return [names[i], "the same condition"];
    const pair = a * n - (a * (a + 1)) / 2 + (b - a - 1);
    const lines = panel.shows.map((k, m) => {
      const value = valuesOf(k)[pair];
      const rank = panel.ranks.length ? valuesOf(panel.ranks[m])[pair] : NaN;
      const words = Number.isNaN(rank) ? "" : ` (rank ${(rank + 1e-9).toFixed(2)})`;
      return `${data.matrices[k].label}: ${written(value, data.matrices[k])}${words}`;
    });
    return [`${names[i]} \u2013 ${names[j]}`, ...lines];
  };
  const thumbnails = (parent, names) => {
    const { src, columns, size, places } = data.thumbnails;
    const row = add(parent, "div", "", { className: "thumbnails" });
    for (const name of names.filter((one) => Object.hasOwn(places, one))) {
      const place = places[name];
      const image = add(row, "div", "", { className: "thumbnail" });
      Object.assign(image.style, {
        width: `${size}px`, height: `${size}px`, backgroundImage: `url(${src})`,
        backgroundPosition: `-${(place % columns) * size}px -${Math.floor(place / columns) * size}px`,
      });
    }
  };

  for (const picture of all("[data-rdm]")) {
    const figure = data.figures[Number(picture.dataset.rdm)];
    const [large, small] = all("img", picture);
    const isNarrow = () => figure.narrow.length > 0 && matchMedia("(max-width: 40rem)").matches;
    const shownImage = () => (isNarrow() ? small : large);
    const panels = () => (isNarrow() ? figure.narrow : figure.wide);
    const cells = add(picture, "div", "", { className: "cells", tabIndex: 0 });
    cells.setAttribute("role", "application");
    cells.setAttribute("aria-label", `${large.alt} Arrow keys read single pairs, Page Down the next matrix.`);
    const cell = add(picture, "div", "", { className: "cell" });
    const reading = add(picture, "div", "", { className: "reading" });
    reading.setAttribute("role", "status");
    let at = { panel: 0, row: 0, column: 1 };

    const hide = () => { cell.style.display = reading.style.display = "none"; };
    const show = (place) => {
      at = place;
      const panel = panels()[place.panel];
      const order = data.orders[panel.order];
      const [x, y, width, height] = panel.box;
      const { clientWidth: wide, clientHeight: high } = shownImage();
      const step = [(width * wide) / order.length, (height * high) / order.length];
      const corner = [x * wide + place.column * step[0], y * high + place.row * step[1]];
      Object.assign(cell.style, {
        display: "block", left: `${corner[0]}px`, top: `${corner[1]}px`, width: `${step[0]}px`, height: `${step[1]}px`,
      });
      const names = data.names[figure.names];
      const [i, j] = [order[place.row], order[place.column]];
      const [first, ...rest] = readings(figure, panel, i, j);
      reading.textContent = "";
      if (data.thumbnails) thumbnails(reading, i === j ? [names[i]] : [names[i], names[j]]);
      add(reading, "div", first, { className: "pair" });
      rest.forEach((line) => add(reading, "div", line));
      reading.style.display = "block";
      const left = Math.min(corner[0] + step[0] + 14, picture.clientWidth - reading.offsetWidth);
      Object.assign(reading.style, { left: `${Math.max(0, left)}px`, top: `${corner[1] + step[1] + 14}px` });
    };
    const under = (event) => {
      const box = shownImage().getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      const inside = ({ box: [left, top, width, height] }) =>
        x >= left && x < left + width && y >= top && y < top + height;
      const panel = panels().findIndex(inside);
      if (panel < 0) return null;
      const [left, top, width, height] = panels()[panel].box;
      const n = data.orders[panels()[panel].order].length;
      return { panel, row: Math.floor(((y - top) / height) * n), column: Math.floor(((x - left) / width) * n) };
    };
    const point = (event) => { const place = under(event); if (place) show(place); else hide(); };
    cells.addEventListener("pointermove", point);
    cells.addEventListener("pointerdown", point);
    cells.addEventListener("pointerleave", hide);
    cells.addEventListener("blur", hide);
    cells.addEventListener("keydown", (event) => {
      const by = event.shiftKey ? 10 : 1;
      const moves = { ArrowUp: [-by, 0], ArrowDown: [by, 0], ArrowLeft: [0, -by], ArrowRight: [0, by] };
      const turns = { PageDown: 1, PageUp: -1 };
      if (event.key === "Escape") { hide(); return; }
      if (!(event.key in moves) && !(event.key in turns)) return;
      event.preventDefault();
      const count = panels().length;
      const panel = (Math.min(at.panel, count - 1) + (turns[event.key] ?? 0) + count) % count;
      const n = data.orders[panels()[panel].order].length;
      const [down, right] = moves[event.key] ?? [0, 0];
      const within = (k) => Math.min(n - 1, Math.max(0, k));
      show({ panel, row: within(at.row + down), column: within(at.column + right) });
    });
    matchMedia("(max-width: 40rem)").addEventListener("change", hide);
    const hint = add(picture, "p", "", { className: "hint" });
    hint.textContent = "Point at a cell to read a pair, or press Tab and use the arrow keys.";
  }
})();
