(() => {
  const source = () => {
    for (const doc of (window.Bokeh ? Bokeh.documents : [])) {
      const found = doc.get_model_by_name("map");
      if (found) return found;
    }
    return null;
  };
  let kind = "cluster", kept = new Set();

  const shade = (s) => {
    const labels = s.data[kind + " label"];
    s.data.alpha = Array.from(labels, (label) => kept.size === 0 || kept.has(label) ? 0.75 : 0.05);
    for (const list of document.querySelectorAll(".legend")) {
      list.hidden = list.dataset.legend !== kind;
      list.classList.toggle("muted", kept.size > 0);
      for (const item of list.children) item.classList.toggle("kept", kept.has(Number(item.dataset.label)));
    }
  };
  const press = (button) => {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
  };
  const choose = (name, act) => {
    for (const button of document.querySelectorAll(`button[data-${name}]`)) {
      button.addEventListener("click", () => {
        const s = source();
        if (!s) return;
        press(button);
        act(s, button.dataset[name]);
        s.change.emit();
      });
    }
  };
  choose("layout", (s, name) => {
    s.data.x = s.data[name + " x"];
    s.data.y = s.data[name + " y"];
  });
  choose("colour", (s, name) => {
    kind = name === "cluster" ? "cluster" : "class";
    kept = new Set();
    s.data.colour = s.data[kind + " colour"];
    s.data.marker = s.data[kind + " marker"];
    shade(s);
  });
  for (const item of document.querySelectorAll(".legend li")) {
    const toggle = () => {
      const s = source(), label = Number(item.dataset.label);
      if (!s) return;
      if (!kept.delete(label)) kept.add(label);
      shade(s);
      s.change.emit();
    };
    item.addEventListener("click", toggle);
    item.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(); });
  }
})();
