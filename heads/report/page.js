"use strict";
// A click on a header sorts its table: numbers the highest first, words from a to z; once more, the other way round.
// Cells without anything stay below.
for (const table of document.querySelectorAll("table")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const isWord = header.classList.contains("word");
      const before = header.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : isWord;
      headers.forEach((one) => one.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        if (!isWord) return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
        return cell.textContent === "" ? null : cell.textContent;
      };
      const body = table.tBodies[0];
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const order = isWord ? x.localeCompare(y, "en", { numeric: true }) : x - y;
        return ascending ? order : -order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
// A box that hides something has a shadow at that edge until it is scrolled there; one that is too wide says so as well.
for (const box of document.querySelectorAll(".scroll")) {
  const edges = box.parentElement;
  const mark = () => {
    edges.nextElementSibling.hidden = box.scrollWidth <= box.clientWidth + 1;
    edges.classList.toggle("right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    edges.classList.toggle("below", box.scrollTop + box.clientHeight < box.scrollHeight - 1);
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
  mark();
}
