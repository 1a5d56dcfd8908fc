"use strict";
(() => {
  const source = document.getElementById("figures");
  const plots = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;

  const { figures, dark_of } = source ? JSON.parse(source.textContent) : { figures: {}, dark_of: {} };

  // Figures are stored in light colours; a figure is put into the dark by replacing each colour by its twin.
  function draw(plot, isDark) {
    const twin = (key, value) => (isDark && typeof value === "string" && dark_of[value]) || value;
    const figure = JSON.parse(JSON.stringify(figures[plot.dataset.figure]), twin);
    figure.layout.width = plot.clientWidth;
    if (plot.clientWidth < 420) {
      const title = figure.layout.xaxis.title;
      title.text = title.text.replace(" (", "<br>(");
      thinTicks(figure.layout.xaxis);
    }
    figure.layout.hoverlabel = isDark ? { bgcolor: "#2b313a", font: { color: "#e7eaee" } } : {};
    const config = { displayModeBar: false, staticPlot: coarse };
    window.Plotly.react(plot, figure.data, figure.layout, config);
    plot.dataset.drawn = "";
  }
  // On a phone the labels of changes would run into each other: every other one of a side that has several, from no change.
  function thinTicks(axis) {
    if (axis.type !== "log" || !axis.tickvals || axis.tickvals.length < 4) return;
    const none = axis.tickvals.indexOf(1);
    const numBeside = (place) => (place < none ? none : axis.tickvals.length - 1 - none);
    const kept = axis.tickvals.map((_, place) => (place - none) % 2 === 0 || numBeside(place) === 1);
    const isKept = (_, place) => kept[place];
    axis.tickvals = axis.tickvals.filter(isKept);
    axis.ticktext = axis.ticktext.filter(isKept);
  }
  const drawAll = (isDark) => plots.forEach((plot) => draw(plot, isDark));

  // Those in sight first; the others one at a time, so that a page of a hundred figures can be scrolled at once.
  const waitingPlots = [...plots];
  const isNear = (plot) => plot.getBoundingClientRect().top < innerHeight;
  function drawNext() {
    const next = waitingPlots.shift();
    if (!next) {
      document.documentElement.dataset.drawn = "";
      return;
    }
    if (!("drawn" in next.dataset)) draw(next, dark.matches);
    (window.requestIdleCallback || setTimeout)(drawNext);
  }
  plots.filter(isNear).forEach((plot) => draw(plot, dark.matches));
  drawNext();

  // Figures that share a place: the chosen one is drawn, and its caption shown.
  for (const choice of document.querySelectorAll(".choice")) {
    const figure = choice.closest("figure");
    const plot = figure.querySelector(".plot");
    const captions = [...figure.querySelectorAll("figcaption")];
    const choose = (key) => {
      plot.dataset.figure = key;
      for (const caption of captions) caption.hidden = caption.dataset.figure !== key;
      plot.style.height = `${captions.find((caption) => !caption.hidden).dataset.height}px`;
      for (const button of choice.querySelectorAll("button")) button.ariaPressed = String(button.value === key);
      window.Plotly.purge(plot);
      draw(plot, dark.matches);
    };
    choice.addEventListener("click", (event) => event.target.closest("button") && choose(event.target.value));
    choice.addEventListener("change", (event) => choose(event.target.value));
  }

  dark.addEventListener("change", (event) => drawAll(event.matches));

  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    // A phone that scrolls its address bar away changes its height alone.
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => drawAll(dark.matches), 150);
  });

  // On paper everything is light and open, and each figure is as wide as its column.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
    document.documentElement.classList.add("paper");
    drawAll(false);
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
    document.documentElement.classList.remove("paper");
    drawAll(dark.matches);
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
