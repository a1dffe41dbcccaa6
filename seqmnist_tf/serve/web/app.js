import { readWeights, trace } from "./lstm.js";
import { prepare } from "./picture.js";

const SIDE = 28;
const STEPS = SIDE * SIDE;
const DIGITS = [...Array(10).keys()];
const HINT = "Draw a digit or choose a picture.";
const PAUSE_BEFORE_READING = 600; // ms: enough time to begin the next stroke of a digit
const TRACE_DURATION = 6000; // ms
const PEN_WIDTH = 1 / 14; // of the paper's width: after scaling to MNIST's size, about as thick as MNIST's strokes
const SURE = 0.8; // probability of an answer without a doubt, as in ask.py
const MARGIN = { left: 44, right: 12, top: 44, bottom: 170 }; // of the curves in the chart, px
const SPAN_HEIGHT = 18; // px, the band of the most probable digits
const SEQUENCE_HEIGHT = 10; // px, the band of pixels
const HEAT_HEIGHT = 128; // px
const [BELOW_ZERO, ABOVE_ZERO] = [[43, 131, 226], [226, 84, 40]]; // the colours of the heat map
// What the heat map can show: its lowest value (the largest is 1), and how opaque a value is. Most hidden states and input
// gates are near 0, most forget gates near 1.
const STATES = {
  hidden: { lowest: -1, opacity: (value) => Math.sqrt(Math.abs(value)) },
  forget: { lowest: 0, opacity: (value) => Math.min(1, -Math.log10(1 - value) / 3) },
  input: { lowest: 0, opacity: Math.sqrt },
};

const element = (id) => document.getElementById(id);
const paper = element("paper").getContext("2d");
const pixels = element("pixels").getContext("2d");
const chart = element("chart");
const slider = element("slider");
const file = element("file");
const state = element("state");
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

let shown = null; // the newest picture, the model's steps over it and the spans of their most probable digits
let step = 0; // pixels read
let seen = 0; // the largest step so far: the chart hides everything after it
let frame = 0;
let pause = 0;
let newest = 0; // the number of the newest request: only its answer is shown
let pen = null; // the last point of the current stroke; null between strokes
let drawn = null; // the parts of the chart that move with the step

const percent = (probability) => `${(100 * probability).toFixed(1)}\u00a0%`;
const decode = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const withArticle = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

// The model and the requests

async function get(path) {
  try {
    return await fetch(path);
  } catch {
    throw new Error(`The page could not load ${path}. Is the server still running?`);
  }
}

const getJson = async (path) => (await get(path)).json();

async function loadModel() {
  const [description, response] = await Promise.all([getJson("model.json"), get("weights.bin")]);
  showModel(description);
  const { layer, hidden_size: units, output_size: classes } = description.config.model;
  if (!response.ok) {
    throw new Error(`This page reads with a stock LSTM, and this version has another layer (${layer}).`);
  }
  return { description, weights: readWeights(await response.arrayBuffer(), units, classes) };
}

function stop() {
  clearTimeout(pause);
  newest += 1;
  halt();
}

// Resolves to whether no other request came in between.
async function read(source, label, getImage) {
  stop();
  const current = newest;
  element("error").textContent = "";
  element("answer").textContent = "Reading.";
  try {
    const [{ description, weights }, image] = await Promise.all([model, getImage()]);
    if (current !== newest) return false;
    if (!image) throw new Error("No digit was found. Give one whole digit on plain paper.");
    begin({ label, image, order: description.pixel_order, steps: trace(description, weights, image) }, source);
  } catch (error) {
    if (current !== newest) return false;
    forget("");
    element("error").textContent = error.message;
  }
  return true;
}

const readDrawing = () => read("your drawing", null, () => prepare(paper.canvas));

async function readChosen(source, label, getImage) {
  const done = await read(source, label, getImage);
  if (done) element("verdict").scrollIntoView({ block: "nearest" }); // on a phone, the choice is below the answer
}

// The drawing

function clearPaper() {
  paper.fillStyle = "#ffffff";
  paper.fillRect(0, 0, paper.canvas.width, paper.canvas.height);
}

function drawTo({ clientX, clientY }) {
  const box = paper.canvas.getBoundingClientRect();
  const scale = paper.canvas.width / box.width;
  const point = { x: (clientX - box.left) * scale, y: (clientY - box.top) * scale };
  Object.assign(paper, { strokeStyle: "#111111", lineCap: "round", lineWidth: PEN_WIDTH * paper.canvas.width });
  paper.beginPath();
  paper.moveTo(pen?.x ?? point.x - 0.01, pen?.y ?? point.y); // some browsers do not draw a line of length 0
  paper.lineTo(point.x, point.y);
  paper.stroke();
  pen = point;
}

function lift() {
  if (pen) pause = setTimeout(readDrawing, PAUSE_BEFORE_READING);
  pen = null;
}

const onPen = (type, act) => paper.canvas.addEventListener(type, (event) => event.isPrimary && act(event));

// The trace and its steps

function begin({ steps, ...picture }, source) {
  const leaders = steps.map(({ probabilities }) => probabilities.indexOf(Math.max(...probabilities)));
  const spans = []; // of steps with the same most probable digit
  leaders.forEach((digit, index) => {
    if (digit !== leaders[index - 1]) spans.push({ digit, from: index });
    spans.at(-1).to = index + 1;
  });
  const memory = steps[0].forget.map((_, unit) => steps.reduce((total, { forget }) => total + forget[unit], 0));
  const units = [...memory.keys()].sort((a, b) => memory[b] - memory[a]);
  shown = { ...picture, steps, leaders, spans, units };
  step = seen = 0;
  element("source").textContent = source;
  element("first").textContent = `it first says ${spans[0].digit}`;
  element("answer").textContent = "Reading. The answer comes after the last pixel.";
  slider.disabled = element("play").disabled = false;
  drawChart();
  if (reducedMotion.matches) show(STEPS);
  else play(0);
}

function forget(hint) {
  stop();
  shown = null;
  step = seen = 0;
  element("answer").textContent = hint;
  element("source").textContent = element("error").textContent = "";
  element("count").textContent = "none";
  slider.disabled = element("play").disabled = true;
  slider.value = 1;
  drawPixels();
  drawBars();
  drawChart();
}

function show(count) {
  step = count;
  seen = Math.max(seen, step);
  const leader = shown.leaders[step - 1];
  slider.value = step;
  slider.ariaValueText = `${step} of ${STEPS}: ${leader}, ${percent(shown.steps[step - 1].probabilities[leader])}`;
  element("count").textContent = `${step} of ${STEPS}`;
  drawPixels();
  drawBars();
  moveCursor();
  if (step === STEPS) element("answer").textContent = answer();
}

function answer() {
  const { digit, from } = shown.spans.at(-1);
  const probability = shown.steps[STEPS - 1].probabilities[digit];
  const said = `${probability < SURE ? "The model is unsure: it may be" : "The model reads"} ${withArticle(digit)} (${percent(probability)}).`;
  const wrong = shown.label !== null && shown.label !== digit ? ` The label says ${shown.label}.` : "";
  return `${said}${wrong} The answer has been ${digit} since pixel ${from + 1} of ${STEPS}.`;
}

function play(from) {
  halt();
  const start = performance.now();
  const tick = (now) => {
    const count = Math.round(from + ((now - start) / TRACE_DURATION) * STEPS);
    show(Math.min(STEPS, Math.max(1, count)));
    if (step === STEPS) halt();
    else frame = requestAnimationFrame(tick);
  };
  frame = requestAnimationFrame(tick);
  element("play").textContent = "Pause";
}

function halt() {
  cancelAnimationFrame(frame);
  frame = 0;
  element("play").textContent = "Play";
}

// The pictures

function drawPixels() {
  const cell = pixels.canvas.width / SIDE;
  const hatching = new Path2D();
  const current = new Path2D();
  (shown?.order ?? [...Array(STEPS).keys()]).forEach((position, index) => {
    const [x, y] = [(position % SIDE) * cell, Math.floor(position / SIDE) * cell];
    const level = shown?.image[position] ?? 0;
    const shade = index < step ? level : 70 + 0.3 * level;
    pixels.fillStyle = `rgb(${shade} ${shade} ${shade})`;
    pixels.fillRect(x, y, cell, cell);
    if (index === step - 1) current.rect(x, y, cell, cell);
    if (index < step) return;
    hatching.moveTo(x, y + cell);
    hatching.lineTo(x + cell, y);
  });
  Object.assign(pixels, { strokeStyle: "#9a9a9a", lineWidth: 1.5 }).stroke(hatching);
  Object.assign(pixels, { strokeStyle: "#ffb000", lineWidth: 6 }).stroke(current);
  pixels.canvas.ariaLabel = shown ? `The picture, light on dark: ${step} of ${STEPS} pixels read` : "No picture yet";
}

// Levels from 0 to 255, or colours as red, green, blue and opacity, row by row.
function pictureOf(points, width, height, canvas = document.createElement("canvas")) {
  const picture = new ImageData(width, height);
  points.forEach((point, index) => picture.data.set(point.length ? point : [point, point, point, 255], 4 * index));
  Object.assign(canvas, { width, height }).getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function drawBars() {
  DIGITS.forEach((digit) => {
    const row = element("bars").children[digit];
    const probability = step ? shown.steps[step - 1].probabilities[digit] : 0;
    row.classList.toggle("leader", step > 0 && digit === shown.leaders[step - 1]);
    row.querySelector(".bar").style.width = `${100 * probability}%`;
    row.querySelector(".percent").textContent = step ? percent(probability) : "–";
  });
}

function add(parent, name, attributes, text = "") {
  const child = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) child.setAttribute(key, value);
  child.textContent = text;
  parent.append(child);
  return child;
}

function drawChart() {
  const box = chart.getBoundingClientRect();
  const [width, height] = [box.width - MARGIN.left - MARGIN.right, box.height - MARGIN.top - MARGIN.bottom];
  const x = (count) => MARGIN.left + (count / STEPS) * width;
  const y = (probability) => MARGIN.top + (1 - probability) * height;
  const heatTop = y(0) + SEQUENCE_HEIGHT + 8;
  const bottom = heatTop + HEAT_HEIGHT;
  chart.replaceChildren();
  chart.ariaLabel = "No picture yet";
  drawn = null;
  for (const level of [0, 0.25, 0.5, 0.75, 1]) {
    add(chart, "path", { class: "grid", d: `M${x(0)} ${y(level)}H${x(STEPS)}` });
    add(chart, "text", { class: "level", x: x(0) - 6, y: y(level) + 4 }, `${100 * level}\u00a0%`);
  }
  add(chart, "rect", { class: "grid", x: x(0), y: heatTop, width, height: HEAT_HEIGHT });
  add(chart, "text", { class: "level", x: x(0) - 6, y: heatTop + 10 }, "long");
  add(chart, "text", { class: "level", x: x(0) - 6, y: bottom - 2 }, "short");
  for (const count of [0, 196, 392, 588, 784]) {
    add(chart, "text", { class: "tick", x: x(count), y: bottom + 15 }, count);
  }
  if (!shown) return;

  const clip = add(add(chart, "clipPath", { id: "seen" }), "rect", { x: x(0), y: 0, height: bottom });
  const curves = add(chart, "g", { "clip-path": "url(#seen)" });
  drawSpans(curves, x);
  drawCurves(curves, x, y);
  const sequence = pictureOf(shown.order.map((position) => shown.image[position]), STEPS, 1);
  const place = { x: x(0), y: y(0) + 4, width, height: SEQUENCE_HEIGHT, preserveAspectRatio: "none" };
  add(curves, "image", { class: "sequence", href: sequence.toDataURL(), ...place });
  add(curves, "image", { href: heatMap().toDataURL(), ...place, y: heatTop, height: HEAT_HEIGHT });
  const veil = add(chart, "rect", { class: "veil", y: 0, height: bottom });
  drawn = { x, clip, veil, cursor: add(chart, "path", { class: "cursor", d: `M0 0V${bottom}` }) };
  const long = shown.spans.filter(({ from, to }) => to - from >= SIDE);
  const texts = long.map(({ digit, from, to }) => `${digit} from pixel ${from + 1} to ${to}`);
  chart.ariaLabel = `Curves of the ten probabilities. Most probable digits: ${texts.join(", ")}. Below, a row for each unit.`;
  moveCursor();
}

const colourOf = (value) => [
  ...(value < 0 ? BELOW_ZERO : ABOVE_ZERO),
  255 * STATES[state.value].opacity(value),
];

// A row for each unit, those with the largest mean forget gate first, and a column for each step.
function heatMap() {
  const rows = shown.units.map((unit) => shown.steps.map((each) => colourOf(each[state.value][unit])));
  return pictureOf(rows.flat(), STEPS, rows.length);
}

function drawLegend() {
  const { lowest } = STATES[state.value];
  const values = Array.from({ length: 129 }, (_, index) => lowest + ((1 - lowest) * index) / 128);
  element("lowest").textContent = lowest < 0 ? "\u22121" : "0";
  pictureOf(values.map(colourOf), values.length, 1, element("ramp"));
}

function drawSpans(group, x) {
  for (const { digit, from, to } of shown.spans) {
    const width = x(to) - x(from);
    add(group, "rect", { class: "span", "data-digit": digit, x: x(from), y: 0, width, height: SPAN_HEIGHT });
    if (width >= 12) add(group, "text", { class: "span-name", x: x(from) + width / 2, y: 13 }, digit);
  }
}

function drawCurves(group, x, y) {
  const names = [];
  const within = (count) => Math.min(Math.max(x(count), x(0) + 6), x(STEPS) - 6);
  for (const digit of DIGITS) {
    const curve = shown.steps.map(({ probabilities }) => probabilities[digit]);
    const leads = shown.leaders.includes(digit);
    const d = `M${curve.map((probability, index) => `${x(index + 1)} ${y(probability)}`).join("L")}`;
    add(group, "path", { class: leads ? "curve leads" : "curve", "data-digit": digit, d });
    const peak = Math.max(...curve);
    if (leads) names.push({ digit, x: within(curve.indexOf(peak) + 1), y: y(peak) - 7 });
  }
  names.sort((a, b) => a.y - b.y);
  names.forEach(({ digit, ...place }, index) => {
    const crowded = names.slice(0, index).some((other) => Math.hypot(place.x - other.x, place.y - other.y) < 16);
    if (!crowded) add(group, "text", { class: "curve-name", "data-digit": digit, ...place }, digit);
  });
}

function moveCursor() {
  if (!drawn) return;
  const { x, clip, veil, cursor } = drawn;
  clip.setAttribute("width", x(seen) - x(0));
  veil.setAttribute("x", x(step));
  veil.setAttribute("width", x(seen) - x(step));
  cursor.setAttribute("transform", `translate(${x(step)})`);
}

// The page's parts and events

function showModel({ version, test_accuracy: accuracy, pixel_order: order }) {
  const known = accuracy === null ? "unknown" : `${(100 * accuracy).toFixed(2)}\u00a0%`;
  const inOrder = order.every((position, index) => position === index) ? "row by row" : "permuted";
  element("model").textContent = `Model version ${version}, test accuracy ${known}, pixel order: ${inOrder}. `;
}

function addBar(digit) {
  const row = document.createElement("li");
  row.dataset.digit = digit;
  row.innerHTML = `${digit} <span class="track"><span class="bar"></span></span> <span class="percent"></span>`;
  element("bars").append(row);
}

function addSample({ index, label, pixels: encoded }) {
  const image = [...decode(encoded)];
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.ariaLabel = `test image of ${withArticle(label)}`;
  button.append(pictureOf(image, SIDE, SIDE));
  button.addEventListener("click", () => readChosen(`test image ${index}, labelled ${label}`, label, () => image));
  element("samples").append(button);
}

onPen("pointerdown", (event) => {
  if (event.button !== 0) return;
  stop();
  paper.canvas.setPointerCapture(event.pointerId);
  drawTo(event);
});
onPen("pointermove", (event) => {
  if (!pen) return;
  event.getCoalescedEvents?.().forEach(drawTo);
  drawTo(event);
});
onPen("pointerup", lift);
onPen("pointercancel", lift);
element("read").addEventListener("click", readDrawing);
element("clear").addEventListener("click", () => {
  clearPaper();
  file.value = "";
  forget(HINT);
});
file.addEventListener("click", () => (file.value = "")); // otherwise choosing the same file again would not be a change
file.addEventListener("change", () => {
  const [chosen] = file.files;
  if (chosen) readChosen(chosen.name, null, () => prepare(chosen));
});
slider.addEventListener("input", () => {
  halt();
  show(Number(slider.value));
});
element("play").addEventListener("click", () => {
  if (frame) halt();
  else play(step < STEPS ? step : 0);
});
state.addEventListener("change", () => {
  drawLegend();
  drawChart();
});
new ResizeObserver(drawChart).observe(chart);
if (window.frameElement) {
  // In a page of the same site, such as the documentation, the frame is as high as its content.
  document.body.classList.add("framed");
  const fit = () => (window.frameElement.style.height = `${document.documentElement.offsetHeight}px`);
  new ResizeObserver(fit).observe(document.documentElement);
  const site = window.parent.document.body; // Material for MkDocs writes there which palette its button has chosen
  const follow = () => {
    const scheme = { default: "light", slate: "dark" }[site.dataset.mdColorScheme];
    document.documentElement.style.colorScheme = scheme ?? "light dark";
  };
  new MutationObserver(follow).observe(site, { attributeFilter: ["data-md-color-scheme"] });
  follow();
}

DIGITS.forEach(addBar);
clearPaper();
drawLegend();
forget(HINT);
const model = loadModel();
try {
  await Promise.all([model, getJson("samples.json").then((samples) => samples.forEach(addSample))]);
} catch (error) {
  element("error").textContent = error.message;
}
