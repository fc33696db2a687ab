// PPO's clipped surrogate in JavaScript, checked against golden vectors:
//
//   trref export ppo.clipped_surrogate vectors
//   node examples/vectors/clipped_surrogate.mjs vectors results.json
//   trref compare vectors results.json
import { readFileSync, writeFileSync } from "node:fs";

function clippedSurrogate(logProb, oldLogProb, advantage, clip) {
  const n = logProb.length;
  let value = 0;
  const gradient = [];
  for (let i = 0; i < n; i++) {
    const ratio = Math.exp(logProb[i] - oldLogProb[i]);
    const unclipped = ratio * advantage[i];
    const clipped = Math.min(Math.max(ratio, 1 - clip), 1 + clip) * advantage[i];
    value -= Math.min(unclipped, clipped) / n;
    gradient.push(unclipped <= clipped ? -unclipped / n : 0);
  }
  return { value, gradient };
}

const [directory, output] = process.argv.slice(2);
const results = {};
for (const { id, inputs, hyper } of JSON.parse(readFileSync(`${directory}/cases.json`, "utf8"))) {
  const { log_prob, old_log_prob, advantage } = inputs;
  const { value, gradient } = clippedSurrogate(log_prob.data, old_log_prob.data, advantage.data, hyper.clip);
  results[id] = { value, gradient_log_prob: gradient };
}
writeFileSync(output, JSON.stringify(results));
