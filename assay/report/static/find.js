// Finds papers on the front page: every word of a paper's claims stands in its first row. Without this script all are shown.
(() => {
  "use strict";
  const form = document.getElementById("find");
  const status = document.getElementById("found");
  if (!form) return;
  const squashed = (text) => text.toLowerCase().replace(/×/g, "x").replace(/[\s\u00ad\u2010-\u2015-]+/g, "");
  const papers = [];
  for (const row of document.querySelectorAll("#headline-board tbody tr:not(.topic)")) {
    if (row.dataset.words) papers.push({ words: row.dataset.words, rows: [row] });
    else papers[papers.length - 1].rows.push(row);
  }

  function show() {
    const q = form.elements.q.value.trim();
    const words = q.split(/\s+/).map(squashed).filter(Boolean);
    let count = 0;
    for (const paper of papers) {
      const fits = words.every((word) => paper.words.includes(word));
      paper.rows.forEach((row) => { row.hidden = !fits; });
      count += fits;
    }
    for (const body of document.querySelectorAll("#headline-board tbody"))
      body.hidden = ![...body.rows].some((row) => !row.classList.contains("topic") && !row.hidden);
    status.textContent = !words.length ? "" : `${count} of ${papers.length} papers. `;
    if (words.length) {
      const all = document.createElement("a");
      all.href = `claims.html#${new URLSearchParams({ q })}`;
      all.textContent = "Search all claims";
      status.append(all);
    }
  }

  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
