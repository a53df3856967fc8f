// Filters the claims. Without this script every paper can be opened by hand and the form stays hidden.
(() => {
  "use strict";
  const form = document.getElementById("filter");
  const status = document.getElementById("shown");
  const found = document.querySelectorAll(".board tbody tr");
  if (!form || !found.length) return;
  const squashed = (text) => text.toLowerCase().replace(/×/g, "x").replace(/[\s\u00ad\u2010-\u2015-]+/g, "");
  const rows = [...found].map((element) => ({
    element, paper: element.closest("details"), ...element.dataset,
    text: squashed(`${element.textContent} ${element.dataset.also}`),
  }));
  const papers = [...new Set(rows.map((row) => row.paper))];
  const fields = ["of", "profile", "q"];

  function state() {
    const data = new FormData(form);
    return { verdict: data.getAll("verdict"), of: data.get("of"), profile: data.get("profile"), q: data.get("q").trim() };
  }

  function show() {
    const wanted = state();
    const words = wanted.q.split(/\s+/).map(squashed).filter(Boolean);
    const any = wanted.verdict.length || words.length || wanted.of || wanted.profile;
    let count = 0;
    for (const row of rows) {
      const fits = (!wanted.verdict.length || wanted.verdict.includes(row.verdict))
        && (!wanted.of || row.of === wanted.of)
        && (!wanted.profile || row.profile === wanted.profile)
        && words.every((word) => row.text.includes(word));
      row.element.hidden = !fits;
      count += fits;
    }
    for (const paper of papers) {
      const some = rows.some((row) => row.paper === paper && !row.element.hidden);
      paper.hidden = !some;
      paper.open = Boolean(any && some);
    }
    status.textContent = any ? `${count} of ${rows.length} claims and checks are shown.` + (count ? "" : " Nothing fits: clear a filter.")
      : `${rows.length} claims and checks, collapsed by paper.`;
  }

  function remember() {
    const wanted = state();
    const hash = new URLSearchParams();
    wanted.verdict.forEach((word) => hash.append("verdict", word));
    for (const name of fields) if (wanted[name]) hash.set(name, wanted[name]);
    address(hash.toString());
  }

  function address(hash) {
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function recall() {
    const hash = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    for (const box of form.elements.verdict) box.checked = hash.getAll("verdict").includes(box.value);
    for (const name of ["of", "profile"]) {
      const field = form.elements[name];
      field.selectedIndex = Math.max(0, [...field.options].findIndex((option) => option.value === hash.get(name)));
    }
    form.elements.q.value = hash.get("q") || "";
    show();
    const paper = !location.hash.includes("=") && document.getElementById(location.hash.slice(1));
    if (paper && paper.matches("details")) paper.open = true;
  }

  form.addEventListener("input", () => { show(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    address("");
    recall();
  });
  window.addEventListener("hashchange", recall);
  form.hidden = false;
  recall();
})();
