// From any picture of a digit to MNIST's form, as LeCun et al. (1998) made it: 28x28, light on dark, scaled to a 20x20
// box, centred by mass. The command client does the same in picture.py.

const SIDE = 28;
const BOX = 20;
const CENTRE = 14; // the row and the column of the pixel that contains the centre of mass of a digit of MNIST
const WORKING_SIDE = 256; // larger pictures are first reduced to this size
const MIN_CONTRAST = 12; // of 255; a picture with less shows no digit
const MIN_STROKE = 0.1; // of the area of the largest stroke; smaller pieces are specks

// Resolves to the levels of the digit, 784 numbers from 0 (background) to 255 (ink), or null where there is none.
export async function prepare(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, WORKING_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return toMnist(greyOf(context.getImageData(0, 0, width, height).data), width, height);
}

// Transparent parts count as white under dark ink and as black under light ink.
function greyOf(data) {
  const levels = Float64Array.from({ length: data.length / 4 }, (_, index) => {
    const [red, green, blue] = data.subarray(4 * index, 4 * index + 3);
    return 0.299 * red + 0.587 * green + 0.114 * blue;
  });
  const opacity = levels.map((_, index) => data[4 * index + 3] / 255);
  const mean = sum(levels.map((level, index) => level * opacity[index])) / Math.max(sum(opacity), 1e-9);
  return levels.map((level, index) => level * opacity[index] + (mean < 128 ? 255 : 0) * (1 - opacity[index]));
}

function toMnist(grey, width, height) {
  const edge = [...grey].filter((_, index) => {
    const [x, y] = [index % width, Math.floor(index / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  const paper = edge.sort((a, b) => a - b)[edge.length >> 1];
  const ink = grey.map((level) => Math.round(Math.abs(level - paper)));
  if (Math.max(...ink) < MIN_CONTRAST) return null;
  const strokes = strokesOf(ink, width, height);
  const xs = strokes.map((index) => index % width);
  const ys = strokes.map((index) => Math.floor(index / width));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs) + 1, Math.min(...ys), Math.max(...ys) + 1];
  const kept = new Set(strokes.flatMap((index) => around(index, width, height))); // with the soft edge of a stroke
  const drawn = Array.from({ length: bottom - top }, (_, y) =>
    Array.from({ length: right - left }, (_, x) => {
      const index = (top + y) * width + left + x;
      return kept.has(index) ? ink[index] : 0;
    }),
  );
  const longest = Math.max(right - left, bottom - top);
  const [wide, high] = [right - left, bottom - top].map((side) => Math.max(1, Math.round((side * BOX) / longest)));
  const columns = drawn.map((row) => shrink(row, wide));
  const digit = transposed(transposed(columns).map((column) => shrink(column, high)));
  return centred(digit);
}

// The pixels above Otsu's threshold (1979) in pieces that are not specks.
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
  const largest = Math.max(...pieces.map((piece) => piece.length));
  return pieces.filter((piece) => piece.length >= MIN_STROKE * largest).flat();
}

function around(index, width, height) {
  const [x, y] = [index % width, Math.floor(index / width)];
  const near = [];
  for (let b = Math.max(0, y - 1); b <= Math.min(height - 1, y + 1); b++) {
    for (let a = Math.max(0, x - 1); a <= Math.min(width - 1, x + 1); a++) near.push(b * width + a);
  }
  return near;
}

// Averages of equal parts of a line.
function shrink(line, length) {
  const part = line.length / length;
  return Array.from({ length }, (_, index) => {
    const [from, to] = [index * part, (index + 1) * part];
    let total = 0;
    for (let at = Math.floor(from); at < Math.min(to, line.length); at++) {
      total += line[at] * (Math.min(at + 1, to) - Math.max(at, from));
    }
    return total / part;
  });
}

function centred(digit) {
  const most = Math.max(...digit.flat());
  const levels = digit.map((row) => row.map((level) => Math.round((255 * level) / most)));
  const total = sum(levels.flat());
  const y = sum(levels.map((row, index) => index * sum(row))) / total;
  const x = sum(transposed(levels).map((column, index) => index * sum(column))) / total;
  const clamp = (centre, side) => Math.min(Math.max(Math.round(CENTRE - centre), 0), SIDE - side);
  const [top, left] = [clamp(y, levels.length), clamp(x, levels[0].length)];
  const image = new Array(SIDE * SIDE).fill(0);
  levels.forEach((row, b) => row.forEach((level, a) => (image[(top + b) * SIDE + left + a] = level)));
  return image;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
const transposed = (rows) => rows[0].map((_, column) => rows.map((row) => row[column]));
