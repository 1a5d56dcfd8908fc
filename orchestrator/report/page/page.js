"use strict";
(() => {
  const source = document.getElementById("figures");
  const plots = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;

  // Figures are stored in light colours; a figure is put into the dark by replacing each colour by its twin.
  function draw(isDark) {
    if (!source) return;
    const { figures, dark_of } = JSON.parse(source.textContent);
    const twin = (key, value) => (isDark && typeof value === "string" && dark_of[value]) || value;
    for (const plot of plots) {
      const figure = JSON.parse(JSON.stringify(figures[plot.dataset.figure]), twin);
      figure.layout.width = plot.clientWidth;
      figure.layout.hoverlabel = isDark ? { bgcolor: "#2b313a", font: { color: "#e7eaee" } } : {};
      const config = { displayModeBar: false, staticPlot: coarse };
      window.Plotly.react(plot, figure.data, figure.layout, config);
    }
  }

  draw(dark.matches);
  dark.addEventListener("change", (event) => draw(event.matches));

  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    // A phone that scrolls its address bar away changes its height alone.
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => draw(dark.matches), 150);
  });

  // On paper everything is light and open, and each figure is as wide as its column.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
    document.documentElement.classList.add("paper");
    draw(false);
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
    document.documentElement.classList.remove("paper");
    draw(dark.matches);
  });

  async function copy(text) {
    if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
    // A page opened from a file has no clipboard of its own.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await copy(button.parentElement.querySelector("pre").textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
})();
