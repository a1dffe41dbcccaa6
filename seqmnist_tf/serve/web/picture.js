// From any picture of a digit to MNIST's form, as LeCun et al. (1998) made it: 28x28, light on dark, scaled to a 20x20
// box, centred by mass. The command client does the same in picture.py.

const SIDE = 28;
const BOX = 20;
const CENTRE = 14; // the row and the column of the pixel that contains the centre of mass of a digit of MNIST
const WORKING_SIDE = 256; // larger pictures are first reduced to this size
const MIN_CONTRAST = 12; // of 255; a picture with less shows no digit
const MIN_STROKE = 0.1; // of the area of the largest stroke; smaller pieces are specks
const MIN_PIECE = 0.01; // of the area of the largest stroke
const MAX_PIECES = 12; // of at least that area; a picture with more shows a text, a drawing or noise
const MIN_SHARE = 0.8; // of the dark area that strokes cover; where specks cover more, they are noise
const MAX_EDGE = 0.22; // of the picture's edge; a piece that covers more is a shadow or a line of the paper, and no stroke
const PAPER_PARTS = 5; // a shadow is wider than this part of a picture, and a stroke is narrower
const SAMPLED_SIDE = 32; // enough pixels to see whether the paper is light or dark

const sum = (values) => values.reduce((total, value) => total + value, 0);
const most = (values) => values.reduce((largest, value) => Math.max(largest, value), 0);
// Half to even, as in Python.
const round = (value) => (value % 2 === 0.5 ? Math.floor(value) : Math.round(value));
const transposed = (rows) => rows[0].map((_, column) => rows.map((row) => row[column]));

// Resolves to the levels of the digit, 784 numbers from 0 (background) to 255 (ink), or null where there is none. The
// picture is a file or a canvas.
export async function prepare(picture) {
  const bitmap = await createImageBitmap(picture);
  const scale = Math.min(1, WORKING_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return toMnist(greyOf(context.getImageData(0, 0, width, height).data), width, height);
}

// Transparent parts count as white under dark ink and as black under light ink.
function greyOf(data) {
  const levels = Float64Array.from({ length: data.length / 4 }, (_, index) => {
    const [red, green, blue] = data.subarray(4 * index, 4 * index + 3);
    return round(0.299 * red + 0.587 * green + 0.114 * blue);
  });
  const opacity = levels.map((_, index) => data[4 * index + 3] / 255);
  const mean = sum(levels.map((level, index) => level * opacity[index])) / Math.max(sum(opacity), 1e-9);
  return levels.map((level, index) => level * opacity[index] + (mean < 128 ? 255 : 0) * (1 - opacity[index]));
}

function toMnist(grey, width, height) {
  const edge = grey.filter((_, index) => isAtEdge(index, width, height));
  const level = edge.sort()[edge.length >> 1];
  const contrast = grey.map((each) => round(Math.abs(each - level)));
  if (most(contrast) < MIN_CONTRAST) return null;
  const lines = linesOf(contrast, width);
  if (isMnist(lines)) return lines.flat();
  const ink = inkOf(grey, width, height);
  if (most(ink) < MIN_CONTRAST) return null;
  const rows = linesOf(ink, width);
  const strokes = strokesOf(ink, width, height);
  if (!strokes) return null;
  const kept = new Set(strokes.flatMap((index) => around(index, width, height))); // with the soft edge of a stroke
  const [left, right] = extent(strokes.map((index) => index % width));
  const [top, bottom] = extent(strokes.map((index) => Math.floor(index / width)));
  const drawn = rows
    .map((row, y) => row.map((level, x) => (kept.has(y * width + x) ? level : 0)).slice(left, right))
    .slice(top, bottom);
  const longest = Math.max(right - left, bottom - top);
  const [wide, high] = [right - left, bottom - top].map((side) => Math.max(1, round((side * BOX) / longest)));
  const columns = transposed(drawn.map((row) => resized(row, wide)));
  return centred(transposed(columns.map((column) => resized(column, high))));
}

function isAtEdge(index, width, height) {
  const [x, y] = [index % width, Math.floor(index / width)];
  return x === 0 || y === 0 || x === width - 1 || y === height - 1;
}

const linesOf = (values, width) =>
  Array.from({ length: values.length / width }, (_, y) => [...values.subarray(y * width, (y + 1) * width)]);

// How much darker than the paper around it each pixel is, 0 to 255: see _ink in picture.py.
function inkOf(grey, width, height) {
  const levels = hasLightInk(linesOf(grey, width)) ? grey.map((level) => 255 - level) : grey;
  const reach = Math.floor(Math.floor(Math.max(width, height) / PAPER_PARTS) / 2);
  const lightest = overWindows(linesOf(levels, width), reach, Math.max);
  const paper = overWindows(lightest, reach, Math.min).flat();
  const ink = levels.map((level, index) => round((255 * (paper[index] - level)) / Math.max(paper[index], 1)));
  const noise = ink.slice().sort()[ink.length >> 1]; // of the paper, of which the closing keeps the lightest pixels
  return ink.map((level) => Math.max(level - noise, 0));
}

function hasLightInk(rows) {
  const step = Math.ceil(Math.max(rows.length, rows[0].length) / SAMPLED_SIDE);
  const sample = rows.filter((_, y) => y % step === 0).map((row) => row.filter((_, x) => x % step === 0));
  const reach = SAMPLED_SIDE / 4 - 1;
  const offsets = Array.from({ length: 2 * reach + 1 }, (_, index) => index - reach);
  const at = (lines, index) => lines[Math.min(Math.max(index, 0), lines.length - 1)];
  const cubes = sample.flatMap((row, y) =>
    row.map((level, x) => {
      const window = offsets.flatMap((down) => offsets.map((right) => at(at(sample, y + down), x + right)));
      return (level - window.sort((a, b) => a - b)[window.length >> 1]) ** 3;
    }),
  );
  return sum(cubes) > 0;
}

// The largest or the smallest value in a square window around each pixel, first along the rows, then along the columns.
function overWindows(rows, reach, choose) {
  const along = (line) => line.map((_, index) => choose(...line.slice(Math.max(0, index - reach), index + reach + 1)));
  return transposed(transposed(rows.map(along)).map(along));
}

function isMnist(rows) {
  if (rows.length !== SIDE || rows[0].length !== SIDE) return false;
  return [rows, transposed(rows)].every((lines) => {
    const [from, to] = extent([...lines.keys()].filter((index) => sum(lines[index]) > 0));
    return to - from <= BOX && round(centreOf(lines)) === CENTRE;
  });
}

// The pixels above Otsu's threshold (1979) in pieces that are neither specks nor shadows, or null where there are too many
// specks, or no such piece.
function strokesOf(ink, width, height) {
  const counts = new Float64Array(256);
  for (const level of ink) counts[level] += 1;
  const all = sum(counts.map((count, level) => count * level));
  let [below, mass, best, threshold] = [0, 0, -1, 0];
  counts.forEach((count, level) => {
    below += count;
    mass += count * level;
    const between = ((all * below) / ink.length - mass) ** 2 / (below * (ink.length - below));
    if (between > best) [best, threshold] = [between, level];
  });
  const left = new Set([...ink.keys()].filter((index) => ink[index] > threshold));
  const pieces = [];
  for (const start of left) {
    left.delete(start);
    const piece = [start];
    for (const index of piece) {
      for (const near of around(index, width, height)) if (left.delete(near)) piece.push(near);
    }
    pieces.push(piece);
  }
  const largest = most(pieces.map((piece) => piece.length));
  if (pieces.filter((piece) => piece.length >= MIN_PIECE * largest).length > MAX_PIECES) return null;
  const large = pieces.filter((piece) => piece.length >= MIN_STROKE * largest);
  if (large.flat().length < MIN_SHARE * pieces.flat().length) return null;
  const mostAtEdge = MAX_EDGE * 2 * (width + height);
  const strokes = large.filter((piece) => piece.filter((index) => isAtEdge(index, width, height)).length <= mostAtEdge);
  return strokes.length ? strokes.flat() : null;
}

function around(index, width, height) {
  const [x, y] = [index % width, Math.floor(index / width)];
  const near = [];
  for (let b = Math.max(0, y - 1); b <= Math.min(height - 1, y + 1); b++) {
    for (let a = Math.max(0, x - 1); a <= Math.min(width - 1, x + 1); a++) near.push(b * width + a);
  }
  return near;
}

// The first of some positions, and the one after the last.
const extent = (positions) => [positions.reduce((a, b) => Math.min(a, b)), most(positions) + 1];

const centreOf = (lines) => sum(lines.map((line, index) => index * sum(line))) / sum(lines.map(sum));

// Bicubic, as in Pillow: where a line becomes shorter, the filter is as much wider.
function resized(line, length) {
  const scale = line.length / length;
  const width = Math.max(scale, 1);
  return Array.from({ length }, (_, index) => {
    const centre = (index + 0.5) * scale;
    let [total, weights] = [0, 0];
    line.forEach((level, at) => {
      const weight = cubic(Math.abs(at + 0.5 - centre) / width);
      total += weight * level;
      weights += weight;
    });
    return total / weights;
  });
}

function cubic(distance) {
  if (distance < 1) return (1.5 * distance - 2.5) * distance ** 2 + 1;
  return distance < 2 ? ((2.5 - 0.5 * distance) * distance - 4) * distance + 2 : 0;
}

function centred(digit) {
  const scale = 255 / most(digit.flat());
  const levels = digit.map((row) => row.map((level) => round(scale * Math.max(level, 0))));
  const place = (lines) => Math.min(Math.max(round(CENTRE - centreOf(lines)), 0), SIDE - lines.length);
  const [top, left] = [place(levels), place(transposed(levels))];
  const image = new Array(SIDE * SIDE).fill(0);
  levels.forEach((row, b) => row.forEach((level, a) => (image[(top + b) * SIDE + left + a] = level)));
  return image;
}
