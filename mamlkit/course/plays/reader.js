// The transformer of chapter 14: it reads points, and answers without a step.
// The same numbers as mamlkit.InContextLearner.

/** Each row, of `from` numbers, times the weights, plus the bias. */
function product(rows, from, weights, bias, to) {
  const n = rows.length / from, found = new Float64Array(n * to);
  for (let k = 0; k < n; k++) {
    for (let i = 0; i < to; i++) {
      // Four sums at once: one alone would wait for itself at every number.
      let a = bias ? bias[i] : 0, b = 0, c = 0, d = 0, j = 0;
      const w = i * from, r = k * from;
      for (; j + 3 < from; j += 4) {
        a += weights[w + j] * rows[r + j];
        b += weights[w + j + 1] * rows[r + j + 1];
        c += weights[w + j + 2] * rows[r + j + 2];
        d += weights[w + j + 3] * rows[r + j + 3];
      }
      for (; j < from; j++) a += weights[w + j] * rows[r + j];
      found[k * to + i] = a + b + c + d;
    }
  }
  return found;
}

/** Each row with mean 0 and deviation 1. */
function normalised(rows, width) {
  const found = new Float64Array(rows.length);
  for (let at = 0; at < rows.length; at += width) {
    let mean = 0, square = 0;
    for (let i = at; i < at + width; i++) mean += rows[i] / width;
    for (let i = at; i < at + width; i++)
      square += (rows[i] - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(square + 1e-5);
    for (let i = at; i < at + width; i++) found[i] = (rows[i] - mean) * scale;
  }
  return found;
}

/** What each query finds: the values, in the shares that its keys get. */
function attended(queries, keys, values, width, heads) {
  const part = width / heads, found = new Float64Array(queries.length);
  const match = new Float64Array(keys.length / width);
  for (let q = 0; q < queries.length; q += part) {
    const head = q % width; // where the part of this head begins
    let highest = -Infinity, total = 0;
    for (let k = 0; k < match.length; k++) {
      let sum = 0;
      for (let i = 0, at = k * width + head; i < part; i++)
        sum += queries[q + i] * keys[at + i];
      match[k] = sum / Math.sqrt(part);
      if (match[k] > highest) highest = match[k];
    }
    for (let k = 0; k < match.length; k++)
      total += match[k] = Math.exp(match[k] - highest);
    for (let k = 0; k < match.length; k++)
      for (let i = 0, at = k * width + head; i < part; i++)
        found[q + i] += match[k] / total * values[at + i];
  }
  return found;
}

/** In place, both. */
function relu(rows) {
  for (let i = 0; i < rows.length; i++) if (rows[i] < 0) rows[i] = 0;
  return rows;
}
function grow(rows, more) {
  for (let i = 0; i < rows.length; i++) rows[i] += more[i];
}

/** Make a method of the fit: (points, steps, grid) => values on the grid. */
export function reader({ flat, width, layers, heads }) {
  let at = 0;
  const take = (size) => flat.subarray(at, at += size);
  const linear = (from, to, biased = true) => {
    const matrix = take(from * to), bias = biased ? take(to) : null;
    return (rows) => product(rows, from, matrix, bias, to);
  };
  const square = () => linear(width, width, false);
  // In the order of the module's own parameters.
  const first = linear(3, width), second = linear(width, width);
  const stack = Array.from({ length: layers }, () => ({
    query: square(), key: square(), value: square(), out: square(),
    up: linear(width, 2 * width), down: linear(2 * width, width),
  }));
  const write = linear(width, 1);

  return ({ x, y }, steps, grid) => {
    const known = x.length;
    if (!known) return null;
    const written = new Float64Array(3 * (known + grid.length));
    x.forEach((each, i) => written.set([each, y[i], 1], 3 * i));
    grid.forEach((each, i) => { written[3 * (known + i)] = each; });
    const tokens = second(relu(first(written)));
    for (const { query, key, value, out, up, down } of stack) {
      const normal = normalised(tokens, width);
      const context = normal.subarray(0, known * width);
      grow(tokens, out(attended(
        query(normal), key(context), value(context), width, heads)));
      grow(tokens, down(relu(up(normalised(tokens, width)))));
    }
    return write(normalised(tokens.subarray(known * width), width));
  };
}
