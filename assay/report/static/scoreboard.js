// Filters and sorts the scoreboard. Without this script every claim is shown and the form stays hidden.
(() => {
  "use strict";
  const form = document.getElementById("filter");
  const status = document.getElementById("shown");
  const found = document.querySelectorAll(".board tbody tr");
  if (!form || !found.length) return;
  const rows = [...found].map((element, place) => ({
    element, place, body: element.parentNode, ...element.dataset,
    text: `${element.textContent} ${element.dataset.also}`.toLowerCase().replace(/\s+/g, " "),
  }));
  const order = {
    paper: (a, b) => a.place - b.place,
    verdict: (a, b) => a.rank - b.rank || a.place - b.place,
    evidence: (a, b) => (a.q === "" ? 2 : +a.q) - (b.q === "" ? 2 : +b.q) || a.place - b.place,
  };

  function state() {
    const data = new FormData(form);
    return {
      verdict: data.getAll("verdict"), paper: data.get("paper"), profile: data.get("profile"),
      q: data.get("q").trim(), sort: data.get("sort"),
    };
  }

  function show() {
    const wanted = state();
    const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const fits = (!wanted.verdict.length || wanted.verdict.includes(row.verdict))
        && (!wanted.paper || row.paper === wanted.paper)
        && (!wanted.profile || row.profile === wanted.profile)
        && words.every((word) => row.text.includes(word));
      row.element.hidden = !fits;
      count += fits;
    }
    const compare = order[wanted.sort] || order.paper;
    [...rows].sort(compare).forEach((row) => row.body.append(row.element));
    status.textContent = count === rows.length ? `All ${count} claims are shown.`
      : `${count} of ${rows.length} claims are shown.` + (count ? "" : " Nothing fits: clear a filter.");
  }

  function remember() {
    const wanted = state();
    const hash = new URLSearchParams();
    wanted.verdict.forEach((word) => hash.append("verdict", word));
    for (const name of ["paper", "profile", "q"]) if (wanted[name]) hash.set(name, wanted[name]);
    if (wanted.sort !== "paper") hash.set("sort", wanted.sort);
    address(hash.toString());
  }

  function address(hash) {
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function recall() {
    const hash = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    for (const box of form.elements.verdict) box.checked = hash.getAll("verdict").includes(box.value);
    for (const name of ["paper", "profile", "sort"]) {
      const field = form.elements[name];
      const value = hash.get(name);
      field.selectedIndex = Math.max(0, [...field.options].findIndex((option) => option.value === value));
    }
    form.elements.q.value = hash.get("q") || "";
    show();
  }

  form.addEventListener("input", () => { show(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    address("");
    recall();
  });
  window.addEventListener("hashchange", () => { if (!location.hash || location.hash.includes("=")) recall(); });
  form.hidden = false;
  recall();
})();
