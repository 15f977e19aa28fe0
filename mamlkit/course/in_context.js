// The transformer of chapter 14 in plain JavaScript: it reads points and
// answers. The same numbers as mamlkit.InContextLearner, to 1e-4.

// Weights come as signed bytes, one scale a row, in base64: see
// mamlkit.course.in_context.export_weights.
export function readWeights(file) {
  const bytes = Uint8Array.from(atob(file.bytes), (c) => c.charCodeAt(0));
  const levels = new Int8Array(bytes.buffer);
  const tensors = {};
  let at = 0;
  for (const { name, rows, columns, scales } of file.tensors) {
    const values = new Float32Array(rows * columns);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        values[i * columns + j] = levels[at++] * scales[i];
      }
    }
    tensors[name] = { rows, columns, values };
  }
  return { layers: file.layers, heads: file.heads, tensors };
}

function linear(x, weight, bias) {
  const y = new Float64Array(weight.rows);
  for (let i = 0; i < weight.rows; i++) {
    let sum = bias ? bias.values[i] : 0;
    const start = i * weight.columns;
    for (let j = 0; j < weight.columns; j++) {
      sum += weight.values[start + j] * x[j];
    }
    y[i] = sum;
  }
  return y;
}

const relu = (x) => x.map((v) => Math.max(v, 0));

const add = (x, y) => x.map((v, i) => v + y[i]);

function normalise(x) {
  const mean = x.reduce((a, b) => a + b, 0) / x.length;
  const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  return x.map((v) => (v - mean) * scale);
}

// What one token collects from the keys and values of the examples.
function attend(query, keys, values, heads) {
  const size = query.length / heads;
  const found = new Float64Array(query.length);
  for (let h = 0; h < heads; h++) {
    const from = h * size;
    const match = keys.map((key) => {
      let sum = 0;
      for (let i = from; i < from + size; i++) sum += query[i] * key[i];
      return sum / Math.sqrt(size);
    });
    const highest = Math.max(...match);
    const shares = match.map((m) => Math.exp(m - highest));
    const total = shares.reduce((a, b) => a + b, 0);
    values.forEach((value, k) => {
      for (let i = from; i < from + size; i++) {
        found[i] += (shares[k] / total) * value[i];
      }
    });
  }
  return found;
}

// points: [[x, y], ...], at least one; xs: numbers; returns [y, ...].
export function answer(weights, points, xs) {
  const w = weights.tensors;
  const asked = Array.from(xs, (x) => [x, 0, 0]);
  let tokens = [...points.map(([x, y]) => [x, y, 1]), ...asked].map((t) => {
    const hidden = relu(linear(t, w["read.0.weight"], w["read.0.bias"]));
    return linear(hidden, w["read.2.weight"], w["read.2.bias"]);
  });
  for (let l = 0; l < weights.layers; l++) {
    const part = (name) => w[`layers.${l}.${name}`];
    const normal = tokens.map(normalise);
    const known = normal.slice(0, points.length);
    const to = (name) => (t) => linear(t, part(`attention.${name}.weight`));
    const keys = known.map(to("key"));
    const values = known.map(to("value"));
    tokens = tokens.map((token, i) => {
      const query = to("query")(normal[i]);
      const found = attend(query, keys, values, weights.heads);
      const seen = add(token, to("out")(found));
      const hidden = linear(
        normalise(seen), part("mlp.0.weight"), part("mlp.0.bias"),
      );
      return add(
        seen, linear(relu(hidden), part("mlp.2.weight"), part("mlp.2.bias")),
      );
    });
  }
  return tokens.slice(points.length).map(
    (t) => linear(normalise(t), w["write.weight"], w["write.bias"])[0],
  );
}
