"use strict";
(async () => {
  const plots = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;

  // Both plotly.js and the figures are packed by gzip, and written in base64.
  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  let figures = {};
  let dark_of = {};
  if (plots.length) {
    ({ figures, dark_of } = JSON.parse(await unpacked("figures")));
    const plotly = document.createElement("script");
    plotly.textContent = await unpacked("plotly");
    document.head.append(plotly);
  }
  document.getElementById("undrawn").remove();

  // Figures are stored in light colours; a figure is put into the dark by replacing each colour by its twin.
  function draw(plot, isDark) {
    const twin = (key, value) => (isDark && typeof value === "string" && dark_of[value]) || value;
    const figure = JSON.parse(JSON.stringify(figures[plot.dataset.figure]), twin);
    figure.layout.width = plot.clientWidth;
    if (plot.clientWidth < 420) {
      const title = figure.layout.xaxis.title;
      title.text = title.text.replace(" (", "<br>(");
      thinTicks(figure.layout.xaxis);
      figure.layout.margin.r = 30;
    }
    figure.layout.height = plot.clientHeight;
    figure.layout.hoverlabel = isDark ? { bgcolor: "#2b313a", font: { color: "#e7eaee" } } : {};
    const config = { displayModeBar: false, staticPlot: coarse };
    window.Plotly.react(plot, figure.data, figure.layout, config);
    plot.dataset.drawn = "";
  }
  // On a phone the labels would run into each other: both ends stay, and no change or what is nearest the middle.
  function thinTicks(axis) {
    if (!axis.tickvals || axis.tickvals.length < 5) return;
    const last = axis.tickvals.length - 1;
    const none = axis.ticktext.indexOf("none");
    const kept = new Set([0, none > 0 ? none : Math.round(last / 2), last]);
    const isKept = (_, place) => kept.has(place);
    axis.tickvals = axis.tickvals.filter(isKept);
    axis.ticktext = axis.ticktext.filter(isKept);
  }
  // A figure in a closed fold is drawn when the fold opens.
  const isShown = (plot) => !plot.closest("details:not([open])");
  function drawShown(isDark) {
    for (const plot of plots) {
      delete plot.dataset.drawn;
      if (isShown(plot)) draw(plot, isDark);
    }
  }
  addEventListener(
    "toggle",
    ({ target }) => {
      for (const plot of target.querySelectorAll(".plot")) {
        if (isShown(plot) && !("drawn" in plot.dataset)) draw(plot, dark.matches);
      }
      markWide();
    },
    true,
  );

  // Says of a table that is wider than the page that it goes on.
  function markWide() {
    for (const frame of document.querySelectorAll(".scroll")) {
      frame.querySelector(".wider").hidden = frame.scrollWidth <= frame.clientWidth;
    }
  }

  // Those in sight first; the others one at a time, so that a long page can be scrolled at once.
  const waitingPlots = [...plots];
  const isNear = (plot) => isShown(plot) && plot.getBoundingClientRect().top < innerHeight;
  function drawNext() {
    const next = waitingPlots.shift();
    if (!next) {
      document.documentElement.dataset.drawn = "";
      return;
    }
    if (isShown(next) && !("drawn" in next.dataset)) draw(next, dark.matches);
    (window.requestIdleCallback || setTimeout)(drawNext);
  }
  markWide();
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

  dark.addEventListener("change", (event) => drawShown(event.matches));

  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    // A phone that scrolls its address bar away changes its height alone.
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      drawShown(dark.matches);
      markWide();
    }, 150);
  });

  // On paper everything is light, and open but for lists of trials and files; each figure is as wide as its column.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open], .shut)")];
    for (const each of closed) each.open = true;
    document.documentElement.classList.add("paper");
    drawShown(false);
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
    document.documentElement.classList.remove("paper");
    drawShown(dark.matches);
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
      const { of } = button.dataset;
      await copy((of ? document.getElementById(of) : button.parentElement.querySelector("pre")).textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
})();
