// A trainer in JavaScript (Node), without Windlass: logistic regression on wine.csv by gradient descent.
//
//     windlass trainers check --config '{"epochs": 4000}' --data wine.csv node train.js
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

const DEFAULTS = { learning_rate: 0.5, epochs: 400, l2: 0.0001 };
const option = (name) => process.argv[process.argv.indexOf(name) + 1];

function refuse(why) {
  console.error(why);
  process.exit(3);
}

/** Rows of [features with a leading 1, whether it is the first cultivar]; every fifth is held out. */
function read(file) {
  const rows = fs.readFileSync(file, "utf8").trim().split("\n").slice(1).map((line) => line.split(",").map(Number));
  const columns = rows[0].slice(0, -1).map((_, j) => rows.map((row) => row[j]));
  const means = columns.map((c) => c.reduce((a, b) => a + b) / c.length);
  const spreads = columns.map((c, j) => Math.sqrt(c.reduce((a, v) => a + (v - means[j]) ** 2, 0) / c.length));
  const scaled = rows.map((row) => [
    [1, ...row.slice(0, -1).map((v, j) => (v - means[j]) / spreads[j])],
    row[row.length - 1] === 0 ? 1 : 0,
  ]);
  return [scaled.filter((_, i) => i % 5), scaled.filter((_, i) => i % 5 === 0)];
}

const probability = (weights, x) => 1 / (1 + Math.exp(-x.reduce((sum, v, j) => sum + weights[j] * v, 0)));

function step(weights, rows, config) {
  const gradient = weights.map((w) => config.l2 * w);
  for (const [x, y] of rows) {
    const error = (probability(weights, x) - y) / rows.length;
    x.forEach((v, j) => (gradient[j] += error * v));
  }
  return weights.map((w, j) => w - config.learning_rate * gradient[j]);
}

function score(weights, rows) {
  let loss = 0;
  let right = 0;
  for (const [x, y] of rows) {
    const p = probability(weights, x);
    loss -= Math.log(Math.max(y ? p : 1 - p, 1e-15));
    right += p > 0.5 === (y === 1);
  }
  return { log_loss: loss / rows.length, accuracy: right / rows.length };
}

/** Aside, then renamed: a kill in between leaves the old file whole. */
function save(file, content) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file + ".new", JSON.stringify(content));
  fs.renameSync(file + ".new", file);
}

async function main() {
  const spec = JSON.parse(fs.readFileSync(option("--spec"), "utf8"));
  const folder = option("--output-dir");
  const unknown = Object.keys(spec.config).filter((name) => !(name in DEFAULTS));
  if (unknown.length) refuse(`unknown parameters: ${unknown}; known: ${Object.keys(DEFAULTS)}`);
  const data = spec.data[0] || path.join(__dirname, "wine.csv");
  const digest = crypto.createHash("sha256").update(fs.readFileSync(data)).digest("hex");
  if ((spec.fingerprints.data || digest) !== digest)
    refuse(`${path.basename(data)} is ${digest.slice(0, 12)}, not ${spec.fingerprints.data.slice(0, 12)}`);
  let asked = false;
  process.on("SIGTERM", () => (asked = true));

  const config = { ...DEFAULTS, ...spec.config };
  const [train, test] = read(data);
  const state = path.join(folder, "state", "weights.json");
  let { weights, epoch } = { weights: train[0][0].map(() => 0), epoch: 0 };
  if (fs.existsSync(state)) {
    ({ weights, epoch } = JSON.parse(fs.readFileSync(state, "utf8")));
    console.error(`going on after epoch ${epoch}`);
  }
  const journal = path.join(folder, "journal.jsonl");
  while (epoch < config.epochs) {
    weights = step(weights, train, config);
    epoch += 1;
    fs.appendFileSync(journal, JSON.stringify({ step: epoch, metrics: score(weights, test) }) + "\n");
    save(state, { weights, epoch });
    await new Promise(setImmediate); // lets a signal in
    if (asked && epoch < config.epochs) {
      console.error(`asked to end: saved after epoch ${epoch}`);
      process.exit(143);
    }
  }
  save(path.join(folder, "checkpoint", "weights.json"), weights);
  console.log(JSON.stringify({ metrics: score(weights, test), identity: spec.identity }));
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
