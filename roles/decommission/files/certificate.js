/*
 * Copyright (c) 2026 the matrixops.synapse contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
"use strict";

function cells(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  return value === undefined ? cell.textContent : Number(value);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => compare(cells(a, column), cells(b, column)) * (falling ? -1 : 1));
      body.append(...rows);
    });
  });
}

for (const input of document.querySelectorAll("input[data-table]")) {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const found = document.getElementById(input.dataset.table + "-found");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, number) => {
      row.hidden = !words.every((word) => texts[number].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    found.textContent = words.length ? shown + " of " + rows.length : "";
  });
}

// As plugins/module_utils/_decommission/digest.py: PBKDF2, in URL-safe Base64. Callers cut it to the width of those here.
async function digestOf(userId, form) {
  const salt = Uint8Array.from(form.dataset.salt.match(/../g), (pair) => parseInt(pair, 16));
  const key = await crypto.subtle.importKey("raw", new TextEncoder().encode(userId), "PBKDF2", false, ["deriveBits"]);
  const algorithm = { name: "PBKDF2", hash: "SHA-256", salt, iterations: Number(form.dataset.rounds) };
  const bits = new Uint8Array(await crypto.subtle.deriveBits(algorithm, key, 256));
  return btoa(String.fromCharCode(...bits)).replaceAll("+", "-").replaceAll("/", "_");
}

for (const form of document.querySelectorAll("form.check")) {
  const input = form.querySelector("input");
  const answer = form.querySelector("output");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const userId = input.value.trim();
    if (!/^@[^:]+:/.test(userId)) {
      answer.textContent = "Enter a user ID, for example " + input.placeholder;
      return;
    }
    if (!globalThis.crypto || !crypto.subtle) {
      answer.textContent = "This browser cannot compute digests on this page. Save the page, and open the file.";
      return;
    }
    const width = Number(form.dataset.width);
    const wanted = (await digestOf(userId, form)).slice(0, width);
    const digests = form.dataset.digests;
    let found = false;
    for (let at = 0; at < digests.length && !found; at += width) {
      found = digests.startsWith(wanted, at);
    }
    answer.textContent = userId + (found ? " was an account of this server and is deactivated." : " is not among the deactivated accounts.");
  });
}
