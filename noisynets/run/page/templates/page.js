"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const SCHEMES = {
  light: {
    text: "#1c2024", line: "#d5d9de", back: "#ffffff",
    colours: ["#1f77b4", "#d9541a", "#2a8a2a", "#8e4bb8", "#b03060", "#7a5230", "#008b95", "#6b6b6b", "#a08600", "#3b3bd0"],
    scale: [[0, "#ffffff"], [0.02, "#e4edf7"], [0.2, "#9cc3e4"], [0.5, "#4a90c8"], [1, "#0b4a86"]],
  },
  dark: {
    text: "#e7eaee", line: "#3a414b", back: "#1d2127",
    colours: ["#63b0f0", "#ff9a5c", "#6fd06f", "#c99af0", "#ff7fa8", "#d0a878", "#4fd3dc", "#b8b8b8", "#e0c840", "#9a9aff"],
    scale: [[0, "#181c21"], [0.02, "#1f2f40"], [0.2, "#25527e"], [0.5, "#3a83c4"], [1, "#9fd0ff"]],
  },
};

function drawn(source) {
  const figure = structuredClone(source);
  const scheme = dark.matches ? SCHEMES.dark : SCHEMES.light;
  for (const trace of figure.data) {
    if (!trace.meta) continue;
    const colour = scheme.colours[trace.meta.colour % scheme.colours.length];
    trace.line = { ...trace.line, color: colour };
    trace.marker = { ...trace.marker, color: colour };
    if (trace.marker.line) trace.marker.line = { ...trace.marker.line, color: colour };
    if (trace.fill) trace.fillcolor = colour;
  }
  const axis = { gridcolor: scheme.line, linecolor: scheme.line, zerolinecolor: scheme.line, automargin: true };
  const layout = figure.layout;
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    layout[name] = { ...axis, ...layout[name], title: { ...layout[name].title, standoff: 8 } };
  }
  if (layout.coloraxis) layout.coloraxis.colorscale = scheme.scale;
  return [figure.data, {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: scheme.text, size: 12 },
    hoverlabel: { bgcolor: scheme.back, bordercolor: scheme.line, font: { color: scheme.text } },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    margin: { l: 48, r: 12, t: layout.showlegend ? 36 : 12, b: 40 },
  }];
}

function draw() {
  for (const place of document.querySelectorAll(".plot")) {
    const source = JSON.parse(place.nextElementSibling.textContent);
    Plotly.react(place, ...drawn(source), { responsive: true, displayModeBar: false });
  }
}

draw();
dark.addEventListener("change", draw);
