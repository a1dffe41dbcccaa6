const SIDE = 28;
const STEPS = SIDE * SIDE;
const DIGITS = [...Array(10).keys()];
const HINT = "Draw a digit or choose a picture.";
const PAUSE_BEFORE_READING = 600; // ms: enough time to begin the next stroke of a digit
const TRACE_DURATION = 6000; // ms
const ANSWER_TIMEOUT = 20000; // ms
const PEN_WIDTH = 1 / 14; // of the paper's width: after scaling to MNIST's size, about as thick as MNIST's strokes
const SURE = 0.8; // probability of an answer without a doubt, as in ask.py
const MARGIN = { left: 44, right: 12, top: 44, bottom: 34 }; // of the chart, px
const SPAN_HEIGHT = 18; // px, the band of the most probable digits
const SEQUENCE_HEIGHT = 10; // px, the band of pixels

const element = (id) => document.getElementById(id);
const paper = element("paper").getContext("2d");
const pixels = element("pixels").getContext("2d");
const chart = element("chart");
const slider = element("slider");
const file = element("file");
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

let trace = null; // the newest picture, its probabilities and the spans of their maximum
let step = 0; // pixels read
let seen = 0; // the largest step so far: the chart hides everything after it
let frame = 0;
let pause = 0;
let newest = new AbortController();
let pen = null; // the last point of the current stroke; null between strokes
let drawn = null; // the parts of the chart that move with the step

const percent = (probability) => `${(100 * probability).toFixed(1)}\u00a0%`;
const decode = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
const withArticle = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

// The server

class ServerError extends Error {}

async function ask(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response.json();
  const { error } = await response.json().catch(() => ({}));
  throw new ServerError(sentence(error || `the server answered with status ${response.status}`));
}

async function prepare(body, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  const found = await ask("prepare", { method: "POST", headers, body, signal });
  if (found.image === null) throw new ServerError("No digit was found. Give one whole digit on plain paper.");
  return found;
}

async function predict(image, signal) {
  const body = JSON.stringify({ signature_name: "trace", instances: [image] });
  const headers = { "Content-Type": "application/json" };
  const { predictions } = await ask("v1/models/seqmnist:predict", { method: "POST", headers, body, signal });
  return predictions[0];
}

function requireTrace({ config, difference_from_keras: signatures }) {
  if (signatures && !("trace" in signatures)) {
    const layer = config?.model?.layer ?? "another layer";
    throw new ServerError(`This version (${layer}) has no probabilities after each pixel. Use the command client.`);
  }
}

function explain(error) {
  if (error instanceof ServerError) return error.message;
  if (error.name === "TimeoutError") return "The server did not answer in time. Try again.";
  return "The server cannot be reached, or its answer is damaged. Try again.";
}

// Requests: only the answer to the newest one is shown

function stop() {
  clearTimeout(pause);
  newest.abort();
  newest = new AbortController();
  halt();
}

// Resolves to whether no other request came in between.
async function read(source, label, getImage) {
  stop();
  const current = newest;
  const { signal } = current;
  const limit = setTimeout(() => current.abort(new DOMException("", "TimeoutError")), ANSWER_TIMEOUT);
  element("error").textContent = "";
  element("answer").textContent = "Waiting for the server.";
  try {
    // Since the page was loaded, the server may have been restarted with another version and pixel order.
    const [model, { image }] = await Promise.all([ask("model.json", { signal }), getImage(signal)]);
    requireTrace(model);
    const probabilities = await predict(image, signal);
    if (current !== newest) return false;
    showModel(model);
    begin({ label, image: image.flat(), order: model.pixel_order, probabilities }, source);
  } catch (error) {
    if (current !== newest) return false;
    forget("");
    element("error").textContent = explain(error);
  } finally {
    clearTimeout(limit);
  }
  return true;
}

function readDrawing() {
  // Not toBlob: Chromium waits for an idle moment to run it, which takes seconds on a busy machine.
  const drawing = decode(paper.canvas.toDataURL().split(",")[1]);
  read("your drawing", null, (signal) => prepare(drawing, signal));
}

async function readChosen(source, label, getImage) {
  const shown = await read(source, label, getImage);
  if (shown) element("verdict").scrollIntoView({ block: "nearest" }); // on a phone, the choice is below the answer
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

function begin({ probabilities, ...picture }, source) {
  const leaders = probabilities.map((row) => row.indexOf(Math.max(...row)));
  const spans = []; // of steps with the same most probable digit
  leaders.forEach((digit, index) => {
    if (digit !== leaders[index - 1]) spans.push({ digit, from: index });
    spans.at(-1).to = index + 1;
  });
  trace = { ...picture, probabilities, leaders, spans };
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
  trace = null;
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
  const leader = trace.leaders[step - 1];
  slider.value = step;
  slider.ariaValueText = `${step} of ${STEPS}: ${leader}, ${percent(trace.probabilities[step - 1][leader])}`;
  element("count").textContent = `${step} of ${STEPS}`;
  drawPixels();
  drawBars();
  moveCursor();
  if (step === STEPS) element("answer").textContent = answer();
}

function answer() {
  const { digit, from } = trace.spans.at(-1);
  const probability = trace.probabilities[STEPS - 1][digit];
  const said = `${probability < SURE ? "I am unsure: it may be" : "It is"} ${withArticle(digit)} (${percent(probability)}).`;
  const wrong = trace.label !== null && trace.label !== digit ? ` The label says ${trace.label}.` : "";
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
  (trace?.order ?? [...Array(STEPS).keys()]).forEach((position, index) => {
    const [x, y] = [(position % SIDE) * cell, Math.floor(position / SIDE) * cell];
    const level = trace?.image[position] ?? 0;
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
  pixels.canvas.ariaLabel = trace ? `The picture, light on dark: ${step} of ${STEPS} pixels read` : "No picture yet";
}

function pictureOf(levels, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const picture = new ImageData(width, height);
  levels.forEach((level, index) => picture.data.set([level, level, level, 255], 4 * index));
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function drawBars() {
  DIGITS.forEach((digit) => {
    const row = element("bars").children[digit];
    const probability = step ? trace.probabilities[step - 1][digit] : 0;
    row.classList.toggle("leader", step > 0 && digit === trace.leaders[step - 1]);
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
  const bottom = y(0) + SEQUENCE_HEIGHT + 4;
  chart.replaceChildren();
  chart.ariaLabel = "No picture yet";
  drawn = null;
  for (const level of [0, 0.25, 0.5, 0.75, 1]) {
    add(chart, "path", { class: "grid", d: `M${x(0)} ${y(level)}H${x(STEPS)}` });
    add(chart, "text", { class: "level", x: x(0) - 6, y: y(level) + 4 }, `${100 * level}\u00a0%`);
  }
  for (const count of [0, 196, 392, 588, 784]) {
    add(chart, "text", { class: "tick", x: x(count), y: bottom + 15 }, count);
  }
  if (!trace) return;

  const clip = add(add(chart, "clipPath", { id: "seen" }), "rect", { x: x(0), y: 0, height: bottom });
  const curves = add(chart, "g", { "clip-path": "url(#seen)" });
  drawSpans(curves, x);
  drawCurves(curves, x, y);
  const sequence = pictureOf(trace.order.map((position) => trace.image[position]), STEPS, 1);
  const place = { x: x(0), y: y(0) + 4, width, height: SEQUENCE_HEIGHT, preserveAspectRatio: "none" };
  add(curves, "image", { href: sequence.toDataURL(), ...place });
  const veil = add(chart, "rect", { class: "veil", y: 0, height: bottom });
  drawn = { x, clip, veil, cursor: add(chart, "path", { class: "cursor", d: `M0 0V${bottom}` }) };
  const long = trace.spans.filter(({ from, to }) => to - from >= SIDE);
  const texts = long.map(({ digit, from, to }) => `${digit} from pixel ${from + 1} to ${to}`);
  chart.ariaLabel = `Curves of the ten probabilities. Most probable digits: ${texts.join(", ")}.`;
  moveCursor();
}

function drawSpans(group, x) {
  for (const { digit, from, to } of trace.spans) {
    const width = x(to) - x(from);
    add(group, "rect", { class: "span", "data-digit": digit, x: x(from), y: 0, width, height: SPAN_HEIGHT });
    if (width >= 12) add(group, "text", { class: "span-name", x: x(from) + width / 2, y: 13 }, digit);
  }
}

function drawCurves(group, x, y) {
  const names = [];
  const within = (count) => Math.min(Math.max(x(count), x(0) + 6), x(STEPS) - 6);
  for (const digit of DIGITS) {
    const curve = trace.probabilities.map((row) => row[digit]);
    const leads = trace.leaders.includes(digit);
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
  const levels = [...decode(encoded)];
  const image = Array.from({ length: SIDE }, (_, row) => levels.slice(row * SIDE, (row + 1) * SIDE));
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.ariaLabel = `test image of ${withArticle(label)}`;
  button.append(pictureOf(levels, SIDE, SIDE));
  button.addEventListener("click", () => readChosen(`test image ${index}, labelled ${label}`, label, () => ({ image })));
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
  if (chosen) readChosen(chosen.name, null, (signal) => prepare(chosen, signal));
});
slider.addEventListener("input", () => {
  halt();
  show(Number(slider.value));
});
element("play").addEventListener("click", () => {
  if (frame) halt();
  else play(step < STEPS ? step : 0);
});
new ResizeObserver(drawChart).observe(chart);

DIGITS.forEach(addBar);
clearPaper();
forget(HINT);
try {
  const [model, samples] = await Promise.all([ask("model.json"), ask("samples.json")]);
  showModel(model);
  samples.forEach(addSample);
} catch (error) {
  element("error").textContent = explain(error);
}
