// The LSTM of Keras and its dense layer, step by step, from the weights that the export wrote.

const GATES = 4; // input, forget, candidate, output, in Keras's order
const [MEAN, STD] = [0.1307, 0.3081]; // of MNIST's pixels

const sigmoid = (value) => 1 / (1 + Math.exp(-value));

// Returns for each of the 784 steps over an image, levels from 0 to 255, what run does. The description is the model.json
// of an exported version.
export function trace({ config, pixel_order: order }, weights, image) {
  const standard = config.task.normalization === "standard";
  const value = (level) => Math.fround(standard ? (level / 255 - MEAN) / STD : level / 255);
  return run(weights, order.map((position) => value(image[position])));
}

// The weights, one after the other, little-endian float32: the kernel (1, 4 units), the recurrent kernel (units,
// 4 units) and the bias (4 units) of the LSTM, then kernel (units, classes) and bias (classes) of the dense layer.
export function readWeights(buffer, units, classes) {
  const view = new DataView(buffer);
  const all = Float32Array.from({ length: buffer.byteLength / 4 }, (_, index) => view.getFloat32(4 * index, true));
  const sizes = [GATES * units, units * GATES * units, GATES * units, units * classes, classes];
  let start = 0;
  const [kernel, recurrent, bias, denseKernel, denseBias] = sizes.map((size) => all.subarray(start, (start += size)));
  if (start !== all.length) throw new Error("the weights have another size");
  return { units, classes, kernel, recurrent, bias, denseKernel, denseBias };
}

// Returns for each step of a sequence of numbers the probabilities of the classes, the hidden state and the gates.
export function run({ units, classes, kernel, recurrent, bias, denseKernel, denseBias }, sequence) {
  const width = GATES * units;
  const gates = new Float64Array(width);
  const state = new Float64Array(units);
  let hidden = new Float64Array(units);
  return sequence.map((x) => {
    for (let k = 0; k < width; k++) gates[k] = bias[k] + x * kernel[k];
    for (let j = 0; j < units; j++) {
      const [value, row] = [hidden[j], j * width];
      for (let k = 0; k < width; k++) gates[k] += value * recurrent[row + k];
    }
    const step = { input: [], forget: [], hidden: [] };
    const next = new Float64Array(units);
    for (let j = 0; j < units; j++) {
      const input = sigmoid(gates[j]);
      const forget = sigmoid(gates[units + j]);
      state[j] = forget * state[j] + input * Math.tanh(gates[2 * units + j]);
      next[j] = sigmoid(gates[3 * units + j]) * Math.tanh(state[j]);
      step.input.push(input);
      step.forget.push(forget);
      step.hidden.push(next[j]);
    }
    hidden = next;
    const logits = Array.from({ length: classes }, (_, c) => {
      let sum = denseBias[c];
      for (let j = 0; j < units; j++) sum += hidden[j] * denseKernel[j * classes + c];
      return sum;
    });
    const top = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - top));
    const total = powers.reduce((sum, power) => sum + power);
    return { ...step, probabilities: powers.map((power) => power / total) };
  });
}
