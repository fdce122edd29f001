"use strict";
// What the page of save_interactive does: surfaces in an orthographic view, painted from far to near; lines; spectra.
addEventListener("error", event => {
  const shown = document.getElementById("error");
  shown.hidden = false;
  shown.textContent = `The page could not be drawn: ${event.message}`;
});

const view = JSON.parse(document.getElementById("data").textContent);
const {scale, networks} = view;
const HOME = {turn: 0.6, tilt: 0.6};
const state = {...HOME, frame: view.labels.length - 1, along: 0, log: scale.log, at: [0, 0]};
const TALL = 1.1;  // height of the box where its half width is 1
const HIGHEST = Math.PI / 2, LOWEST = 0.05;

const asked = new URLSearchParams(location.hash.slice(1));
for (const key of ["turn", "tilt", "frame", "along"])
  if (isFinite(parseFloat(asked.get(key)))) state[key] = parseFloat(asked.get(key));
state.frame = Math.round(within(state.frame, 0, view.labels.length - 1));
if (asked.has("log")) state.log = asked.get("log") === "1" && scale.low > 0;
if (asked.has("at")) state.at = asked.get("at").split(",").map(text => parseFloat(text) || 0);

const frameOf = network => network.frames[Math.min(state.frame, network.frames.length - 1)];
const frames = networks.flatMap(network => network.frames);
const ends = values => [values[0], values[values.length - 1]];
const middle = values => (values[0] + values[values.length - 1]) / 2;
const reach = Math.max(...frames.flatMap(frame => [frame.x, frame.y]).map(axis => Math.abs(axis[axis.length - 1] - axis[0]) / 2));
const most = Math.max(0, ...frames.map(frame => frame.values.length));

function within(value, low, high) { return Math.min(Math.max(value, low), high); }
function say(value) { return value === null || value === undefined ? "not finite" : String(+value.toPrecision(5)).replace("-", "−"); }
function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }
function nearest(axis, value) { return axis.reduce((best, own, i) => Math.abs(own - value) < Math.abs(axis[best] - value) ? i : best, 0); }
function place(frame) { return [nearest(frame.x, state.at[0]), nearest(frame.y, state.at[1])]; }

function height(value) {  // 0 to 1 from the lowest to the highest of all surfaces
  const kept = within(value, scale.low, scale.high);
  return state.log ? Math.log(kept / scale.low) / Math.log(scale.high / scale.low) : (kept - scale.low) / (scale.high - scale.low);
}
function shade(value) {
  if (value > scale.high) return scale.above;
  return value < scale.low ? scale.below : scale.colors[Math.round(height(value) * (scale.colors.length - 1))];
}
function ticks(low, high, log, count) {  // round numbers between
  if (log) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    for (const factors of [[1, 2, 5], [1, 3], [1]]) {
      const powers = Array.from({length: last - first + 1}, (_, i) => first + i);
      const found = powers.flatMap(power => factors.map(factor => +(factor * 10 ** power).toPrecision(3))).filter(own => own >= low && own <= high);
      if (found.length <= count + 1 || factors.length === 1) {
        if (found.length < 2) break;
        return found.filter((_, i) => i % Math.ceil(found.length / (count + 1)) === 0);
      }
    }
  }
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(own => own * power >= raw) * power, found = [];
  for (let own = Math.ceil(low / step) * step; own <= high + step * 1e-9; own += step) found.push(+own.toPrecision(6));
  return found;
}

function pen(canvas) {  // a context in CSS pixels, sharp on every screen, wiped
  const wide = canvas.clientWidth, tall = canvas.clientHeight, ratio = devicePixelRatio || 1;
  canvas.width = Math.round(wide * ratio);
  canvas.height = Math.round(tall * ratio);
  const ink = canvas.getContext("2d");
  ink.scale(ratio, ratio);
  ink.font = "12px system-ui, sans-serif";
  ink.lineJoin = "round";
  return {ink, wide, tall};
}
function path(ink, points, closed) {
  ink.beginPath();
  points.forEach(([x, y], i) => i ? ink.lineTo(x, y) : ink.moveTo(x, y));
  if (closed) ink.closePath();
}

// ------------------------------------------------------------------ surfaces

function projection(frame, wide, tall) {
  const unit = Math.min(wide / 3.6, tall / 3.4);  // the box and its labels, however it is turned
  const [ct, st, cp, sp] = [Math.cos(state.turn), Math.sin(state.turn), Math.cos(state.tilt), Math.sin(state.tilt)];
  const [x0, y0] = [middle(frame.x), middle(frame.y)];
  const to = (x, y, h) => {
    const u = (x - x0) / reach, v = (y - y0) / reach;
    return [wide / 2 + unit * (u * ct - v * st), tall / 2 - unit * ((h - 0.5) * TALL * cp + (u * st + v * ct) * sp)];
  };
  return {to, farX: st > 0, farY: ct > 0};  // whether larger x and y lie farther away
}
function* cells(frame, {farX, farY}) {  // from far to near
  const columns = frame.x.length - 1, rows = frame.y.length - 1;
  for (let a = 0; a < rows; a++)
    for (let b = 0; b < columns; b++)
      yield [farY ? rows - 1 - a : a, farX ? columns - 1 - b : b];
}
function corners(frame, j, i, at) {
  return [[j, i], [j, i + 1], [j + 1, i + 1], [j + 1, i]].map(([row, column]) => at(frame.x[column], frame.y[row], frame.loss[row][column]));
}

function drawSurface(panel) {
  const {ink, wide, tall} = pen(panel.surface), frame = frameOf(panel.network);
  const seen = projection(frame, wide, tall), at = (x, y, value) => seen.to(x, y, height(value));
  panel.quads = [];
  drawFloor(ink, frame, seen);
  ink.lineWidth = 0.5;
  for (const [j, i] of cells(frame, seen)) {
    const values = corners(frame, j, i, (x, y, value) => value);
    if (values.includes(null)) continue;
    const points = corners(frame, j, i, at);
    path(ink, points, true);
    ink.fillStyle = shade(values.reduce((sum, value) => sum + value) / 4);
    ink.fill();
    ink.strokeStyle = "rgba(0, 0, 0, 0.2)";
    ink.stroke();
    panel.quads.push([points, j, i]);
  }
  const [column, row] = [nearest(frame.x, 0), nearest(frame.y, 0)];
  if (frame.own !== null) diamond(ink, at(frame.x[column], frame.y[row], frame.own));
  const [i, j] = place(frame), value = frame.loss[j][i];
  const [x, y] = value === null ? seen.to(frame.x[i], frame.y[j], 0) : at(frame.x[i], frame.y[j], value);
  ink.beginPath();
  ink.arc(x, y, 5, 0, 2 * Math.PI);
  ink.lineWidth = 2;
  ink.strokeStyle = "#fff";
  ink.stroke();
  ink.lineWidth = 1;
  ink.strokeStyle = "#000";
  ink.stroke();
  const accuracy = frame.accuracy && frame.accuracy[j][i] !== null ? `, accuracy ${(100 * frame.accuracy[j][i]).toFixed(1)} %` : "";
  panel.point.textContent = `α = ${say(frame.x[i])}, β = ${say(frame.y[j])}: loss ${say(value)}${accuracy}`;
}
function drawFloor(ink, frame, seen) {
  const [[x0, x1], [y0, y1]] = [ends(frame.x), ends(frame.y)], line = color("line"), soft = color("soft");
  ink.fillStyle = color("hole");
  for (const [j, i] of cells(frame, seen))
    if (corners(frame, j, i, (x, y, value) => value).includes(null)) {
      path(ink, corners(frame, j, i, (x, y) => seen.to(x, y, 0)), true);
      ink.fill();
    }
  ink.strokeStyle = line;
  path(ink, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]].map(([x, y]) => seen.to(x, y, 0)), true);
  ink.stroke();
  const left = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]].sort((a, b) => seen.to(...a, 0)[0] - seen.to(...b, 0)[0])[0];
  path(ink, [seen.to(...left, 0), seen.to(...left, 1)]);
  ink.stroke();
  ink.fillStyle = soft;
  const [nearX, nearY] = [seen.farX ? x0 : x1, seen.farY ? y0 : y1], gap = 0.16 * reach;
  const outX = nearX + (seen.farX ? -gap : gap), outY = nearY + (seen.farY ? -gap : gap);
  const write = (text, x, y) => { const [a, b] = seen.to(x, y, 0); ink.textAlign = "center"; ink.fillText(text, a, b + 4); };
  const inward = (value, axis) => value + 0.1 * (middle(axis) - value);  // two labels meet at the corner in front
  for (const x of [x0, x1]) write(say(+x.toPrecision(3)), inward(x, frame.x), outY);
  for (const y of [y0, y1]) write(say(+y.toPrecision(3)), outX, inward(y, frame.y));
  write("α", middle(frame.x), outY);
  write("β", outX, middle(frame.y));
  ink.textAlign = "right";
  const marks = Math.cos(state.tilt) > 0.5 ? ticks(scale.low, scale.high, state.log, 4) : [];
  for (const value of marks) {
    const [x, y] = seen.to(...left, height(value));
    ink.fillText(say(value), Math.max(x - 5, ink.measureText(say(value)).width), y + 4);
    path(ink, [[x - 3, y], [x, y]]);
    ink.stroke();
  }
}
function diamond(ink, [x, y]) {
  path(ink, [[x, y - 6], [x + 6, y], [x, y + 6], [x - 6, y]], true);
  ink.fillStyle = "#fff";
  ink.fill();
  ink.lineWidth = 1.2;
  ink.strokeStyle = "#000";
  ink.stroke();
}
function pointed(panel, x, y) {  // the corner that is seen there, of the nearest cell in front; null beside the surface
  const inside = points => points.reduce((odd, [bx, by], k) => {
    const [ax, ay] = points[(k + 3) % 4];
    return (ay > y) !== (by > y) && x < ax + (bx - ax) * (y - ay) / (by - ay) ? !odd : odd;
  }, false);
  const hit = panel.quads.findLast(([points]) => inside(points));
  if (!hit) return null;
  const [points, j, i] = hit, far = ([a, b]) => (a - x) ** 2 + (b - y) ** 2;
  const best = points.reduce((own, point, k) => far(point) < far(points[own]) ? k : own, 0);
  const frame = frameOf(panel.network), [row, column] = [[j, i], [j, i + 1], [j + 1, i + 1], [j + 1, i]][best];
  return [frame.x[column], frame.y[row]];
}

// ---------------------------------------------------------- lines and spectra

function drawAxes({ink, wide, tall}, [x0, x1], [y0, y1], {log = false, whole = false, names}) {
  const box = {left: 52, right: wide - 8, top: 8, bottom: tall - 30}, up = value => log ? Math.log(value) : value;
  const toX = x => box.left + (x - x0) / (x1 - x0) * (box.right - box.left);
  const toY = y => box.bottom - (up(y) - up(y0)) / (up(y1) - up(y0)) * (box.bottom - box.top);
  ink.strokeStyle = color("line");
  ink.fillStyle = color("soft");
  ink.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  ink.textAlign = "center";
  for (const x of ticks(x0, x1, false, whole ? Math.min(10, x1 - x0) : 4)) if (!whole || x >= 1 && Number.isInteger(x)) ink.fillText(say(x), toX(x), box.bottom + 13);
  ink.fillText(names[0], (box.left + box.right) / 2, box.bottom + 26);
  ink.textAlign = "right";
  for (const y of ticks(y0, y1, log, 3)) {
    ink.fillText(say(y), box.left - 5, toY(y) + 4);
    path(ink, [[box.left, toY(y)], [box.right, toY(y)]]);
    ink.stroke();
  }
  ink.textAlign = "left";
  ink.fillText(names[1], box.left + 5, box.top + 12);
  ink.save();
  ink.beginPath();
  ink.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  ink.clip();
  return {toX, toY, fromX: px => x0 + (px - box.left) / (box.right - box.left) * (x1 - x0)};
}

function lineOf(frame) {  // what is drawn: points of a line, and the parabola that an eigenvalue gives
  const [i, j] = place(frame);
  if (state.along === 0) return {x: frame.x, loss: frame.loss[j], name: `α, at β = ${say(frame.y[j])}`, at: frame.x[i]};
  if (state.along === 1) return {x: frame.y, loss: frame.loss.map(row => row[i]), name: `β, at α = ${say(frame.x[i])}`, at: frame.y[j]};
  const index = state.along - 2, curvature = frame.values[index], {x = [], loss = []} = frame.lines[index] || {};
  return {x, loss, curvature, error: frame.errors[index], name: `distance along eigenvector ${index + 1}`};
}
function parabola(frame, line) { return x => frame.own + line.curvature * x * x / 2; }

function lineRange() {  // the same for all networks and epochs, so that lines can be compared
  const lines = frames.map(lineOf), xs = lines.flatMap(line => line.x);
  if (xs.length) return [Math.min(...xs), Math.max(...xs)];
  const steepest = Math.max(...lines.map(line => Math.abs(line.curvature || 0)));  // no line: as far as the scale goes
  const far = steepest ? Math.sqrt(2 * (scale.high - scale.low) / steepest) : 1;
  return [-far, far];
}

function lossRange() {  // the surfaces' scale, or that of the lines along this eigenvector
  const values = frames.map(lineOf).flatMap(line => line.loss).filter(value => value !== null);
  if (state.along < 2 || !values.length) return [scale.low, scale.high];
  const low = Math.min(...values), high = Math.max(...values);
  return [low, high + 0.05 * (high - low) || low + 1];
}

function drawLine(panel) {
  const frame = frameOf(panel.network), line = lineOf(frame), paper = pen(panel.line), {ink} = paper;
  const range = lossRange(), log = state.log && range[0] > 0;
  const to = drawAxes(paper, lineRange(), range, {log, names: [line.name, `${view.split} loss`]});
  panel.fromX = to.fromX;
  const model = line.curvature !== undefined && frame.own !== null ? parabola(frame, line) : null;
  ink.lineWidth = 2;
  ink.strokeStyle = color("accent");
  ink.beginPath();
  let down = false;
  line.loss.forEach((value, k) => {  // a gap where it is not finite
    if (value !== null) ink[down ? "lineTo" : "moveTo"](to.toX(line.x[k]), to.toY(Math.max(value, log ? range[0] / 10 : value)));
    down = value !== null;
  });
  ink.stroke();
  if (model) {
    const [x0, x1] = lineRange(), xs = Array.from({length: 121}, (_, k) => x0 + k / 120 * (x1 - x0));
    ink.setLineDash([5, 4]);
    ink.strokeStyle = color("model");
    path(ink, xs.filter(x => !log || model(x) > 0).map(x => [to.toX(x), to.toY(model(x))]));
    ink.stroke();
    ink.setLineDash([]);
  }
  if (panel.read !== null && line.x.length) line.at = line.x[nearest(line.x, panel.read)];
  const k = line.at === undefined ? -1 : nearest(line.x, line.at);
  if (k >= 0 && line.loss[k] !== null) {
    ink.beginPath();
    ink.arc(to.toX(line.x[k]), to.toY(line.loss[k]), 4, 0, 2 * Math.PI);
    ink.fillStyle = color("ink");
    ink.fill();
  }
  ink.restore();
  panel.told.textContent = told(frame, line, model, k);
}
function told(frame, line, model, k) {
  if (state.along < 2) return `${state.along ? "β" : "α"} = ${say(line.x[k])}: loss ${say(line.loss[k])}`;
  if (line.curvature === undefined) return "This network has no such eigenvalue.";
  const value = `λ = ${say(line.curvature)}${line.error ? ` ± ${say(+line.error.toPrecision(2))}` : ""}`;
  if (k >= 0) return `${value}; at ${say(line.x[k])} loss ${say(line.loss[k])}${model ? `, L₀ + λ α²/2 = ${say(model(line.x[k]))}` : ""}`;
  if (!model) return `${value}; the loss of the network itself is not on the grid`;
  return `${value}; dashed L₀ + λ α²/2${line.x.length ? "" : ", no slice along this eigenvector was given"}`;
}

function drawSpectrum(panel) {
  if (!panel.spectrum) return;
  const all = frames.flatMap(frame => frame.values), frame = frameOf(panel.network), paper = pen(panel.spectrum), {ink} = paper;
  const span = [Math.min(0, ...all), Math.max(0, ...all)], more = 0.06 * (span[1] - span[0]) || 1;
  const to = drawAxes(paper, [0.4, most + 0.6], [span[0] - (span[0] < 0 ? more : 0), span[1] + more], {whole: true, names: ["number", "eigenvalue"]});
  panel.fromRank = to.fromX;
  frame.values.forEach((value, k) => {
    ink.strokeStyle = ink.fillStyle = color(state.along === k + 2 ? "model" : "accent");
    ink.lineWidth = state.along === k + 2 ? 4 : 2;
    path(ink, [[to.toX(k + 1), to.toY(0)], [to.toX(k + 1), to.toY(value)]]);
    ink.stroke();
    ink.beginPath();
    ink.arc(to.toX(k + 1), to.toY(value), ink.lineWidth + 1, 0, 2 * Math.PI);
    ink.fill();
  });
  ink.restore();
}

// ---------------------------------------------------------------- the page

const panels = networks.map((network, index) => {
  const own = document.querySelectorAll("section")[index], part = name => own.querySelector(`.${name}`);
  return {network, surface: part("surface"), spectrum: part("spectrum"), line: part("line"), point: part("point"), told: part("told"), facts: part("facts"), quads: [], read: null};
});
const control = name => document.getElementById(name);
const along = control("along");
["α", "β", ...Array.from({length: most}, (_, k) => `eigenvector ${k + 1}`)].forEach((name, k) => along.add(new Option(name, k)));
state.along = within(Math.round(state.along), 0, most + 1);

function drawBar() {
  const {ink, wide, tall} = pen(control("bar")), left = 12, right = wide - 12, count = scale.colors.length;
  scale.colors.forEach((own, k) => { ink.fillStyle = own; ink.fillRect(left + k / count * (right - left), 2, (right - left) / count + 1, 14); });
  ink.fillStyle = color("soft");
  ink.textAlign = "center";
  for (const value of ticks(scale.low, scale.high, state.log, 5)) ink.fillText(say(value), left + height(value) * (right - left), tall - 8);
}
function drawAll() {
  along.value = state.along;
  control("log").checked = state.log;
  control("log").disabled = !(scale.low > 0);
  if (control("frame")) {
    control("frame").value = state.frame;
    control("when").textContent = `${view.labels[state.frame]} (${state.frame + 1} of ${view.labels.length})`;
    control("frame").setAttribute("aria-valuetext", `${view.unit} ${view.labels[state.frame]}`);
  }
  for (const panel of panels) {
    drawSurface(panel);
    drawSpectrum(panel);
    drawLine(panel);
    panel.facts.textContent = frameOf(panel.network).facts;
  }
  drawBar();
}
let waiting = false;
function soon() {  // at most once a frame of the screen
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawAll(); });
}
function set(changes) { Object.assign(state, changes); soon(); }
function turned(across, up) { set({turn: state.turn + across, tilt: within(state.tilt + up, LOWEST, HIGHEST)}); }
function moved(panel, across, up) {
  const frame = frameOf(panel.network), [i, j] = place(frame);
  set({at: [frame.x[within(i + across, 0, frame.x.length - 1)], frame.y[within(j + up, 0, frame.y.length - 1)]]});
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
for (const panel of panels) {
  let from = null;
  const read = event => {
    const at = pointed(panel, event.offsetX, event.offsetY);
    if (at) set({at});
  };
  panel.surface.addEventListener("pointerdown", event => {
    read(event);
    from = [event.clientX, event.clientY];
    panel.surface.setPointerCapture(event.pointerId);
  });
  panel.surface.addEventListener("pointerup", () => { from = null; });
  panel.surface.addEventListener("pointercancel", () => { from = null; });
  panel.surface.addEventListener("pointermove", event => {
    if (!from) return read(event);
    turned((event.clientX - from[0]) * 0.01, (event.clientY - from[1]) * 0.01);
    from = [event.clientX, event.clientY];
  });
  panel.surface.addEventListener("keydown", event => {
    if (event.key === "Home") set(HOME);
    else if (!(event.key in ARROWS) || event.ctrlKey || event.altKey || event.metaKey) return;
    else if (event.shiftKey) moved(panel, ...ARROWS[event.key]);
    else turned(...ARROWS[event.key].map(step => 0.08 * step));
    event.preventDefault();
  });
  panel.line.addEventListener("pointermove", event => {
    const read = panel.fromX(event.offsetX), frame = frameOf(panel.network);
    if (state.along < 2) set({at: state.along ? [state.at[0], read] : [read, state.at[1]]});
    else panels.forEach(own => { own.read = read; });
    soon();
  });
  panel.spectrum?.addEventListener("click", event => {
    const rank = Math.round(panel.fromRank(event.offsetX));
    if (rank >= 1 && rank <= frameOf(panel.network).values.length) set({along: rank + 1});
  });
}
along.addEventListener("change", () => { panels.forEach(own => { own.read = null; }); set({along: +along.value}); });
control("log").addEventListener("change", () => set({log: control("log").checked}));
control("home").addEventListener("click", () => set(HOME));
control("frame")?.addEventListener("input", () => set({frame: +control("frame").value}));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
new ResizeObserver(drawAll).observe(document.querySelector(".networks"));
drawAll();
