"use strict";
(() => {
  const { texts, figures } = JSON.parse(document.getElementById("figures").textContent);
  const config = {
    displaylogo: false,
    displayModeBar: "hover",
    responsive: true,
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["toImage", "lasso2d", "select2d", "zoomIn2d", "zoomOut2d"],
  };

  /* Keep the runs whose line stays inside the box on every axis that the box covers; brushes add up. */
  function brush(div) {
    const whole = div.data.map(({ x, y, text }) => ({ x, y, text }));
    let shown = whole;
    const show = (traces) => {
      shown = traces;
      const each = (key) => traces.map((trace) => trace[key]);
      Plotly.update(div, { x: each("x"), y: each("y"), text: each("text") }, { selections: [] });
    };
    div.on("plotly_selected", (event) => {
      if (!event || !event.range) return;
      const [left, right] = [...event.range.x].sort((a, b) => a - b);
      const [low, high] = [...event.range.y].sort((a, b) => a - b);
      show(shown.map((trace) => keep(trace, left, right, low, high)));
    });
    div.on("plotly_deselect", () => show(whole));
    div.on("plotly_doubleclick", () => show(whole));
  }

  function keep(trace, left, right, low, high) {
    const kept = { x: [], y: [], text: [] };
    let start = 0;
    for (let i = 0; i <= trace.x.length; i++) {
      if (i < trace.x.length && trace.text[i] !== "") continue;
      let covered = 0, inside = 0;
      for (let j = start; j < i; j++) {
        if (trace.x[j] !== null && trace.x[j] >= left && trace.x[j] <= right) {
          covered++;
          inside += trace.y[j] >= low && trace.y[j] <= high;
        }
      }
      if (covered && covered === inside) {
        for (const key of ["x", "y", "text"]) kept[key].push(...trace[key].slice(start, i + 1));
      }
      start = i + 1;
    }
    return kept;
  }

  async function draw(div) {
    const figure = figures[div.index];
    for (const trace of figure.data) {
      if (Array.isArray(trace.text)) trace.text = trace.text.map((i) => texts[i]);
    }
    await Plotly.newPlot(div, figure.data, figure.layout, config);
    if (figure.brush) brush(div);
  }

  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "800px" });
  document.querySelectorAll(".plot").forEach((div, i) => {
    div.index = i;
    watch.observe(div);
  });
})();
