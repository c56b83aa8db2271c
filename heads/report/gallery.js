// The gallery shows the strips that match all filters, some at a time: a picture is decoded once its strip is shown.
{
  const AT_A_TIME = 20;
  const gallery = document.querySelector(".gallery");
  const templates = [...gallery.querySelectorAll("template")];
  const filters = [...gallery.querySelectorAll("select")];
  const [list, status, more] = [".strips", "[role=status]", ".more"].map((name) => gallery.querySelector(name));
  let matching = [];

  const matches = (template) =>
    filters.every(({ name, value }) => value === "" || JSON.parse(template.dataset[name]).includes(value));
  const showMore = () => {
    const start = list.children.length;
    for (const template of matching.slice(start, start + AT_A_TIME)) {
      const item = document.createElement("li");
      item.append(template.content.cloneNode(true));
      list.append(item);
    }
    more.hidden = list.children.length === matching.length;
    more.textContent = `Show more (${matching.length - list.children.length} left)`;
  };
  const refresh = () => {
    matching = templates.filter(matches);
    status.textContent = matching.length
      ? `${matching.length} of ${templates.length} strips`
      : `None of ${templates.length} strips matches these filters.`;
    list.replaceChildren();
    showMore();
  };
  // The arrow keys move the focus, to the first strip if none has it.
  const step = (by) => {
    const index = [...list.children].findIndex((item) => item.contains(document.activeElement));
    if (index + by >= list.children.length) showMore();
    const item = list.children[index < 0 ? 0 : index + by];
    if (item) {
      item.firstElementChild.focus({ preventScroll: true });
      item.scrollIntoView({ block: "center", behavior: "instant" });
    }
  };
  const isInView = () => {
    const { top, bottom } = gallery.getBoundingClientRect();
    return top < innerHeight && bottom > 0;
  };
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const isTaken = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (!by || isTaken || !isInView() || event.target.closest("select, .scroll")) return;
    event.preventDefault();
    step(by);
  });
  for (const filter of filters) filter.addEventListener("change", refresh);
  more.addEventListener("click", showMore);
  refresh();
}
