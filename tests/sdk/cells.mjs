// The table of cells, as cells.py has it for Python; the comments are there.

import assert from "node:assert/strict";

export const PLAIN = ["plain"];
export const STREAMED = ["streamed"];
export const BOTH = ["plain", "streamed"];
export const PROVIDERS = ["simo", "sima"];

export const GREETING = "Hello there, \u201cGrüße\u201d 👋";
export const SYSTEM = "Be brief and kind.";
export const RESULT = "sunny, 23 degrees";
// One red pixel.
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
export const PICTURE_URL = "https://example.com/picture.png";
export const CITY_SCHEMA = {
  type: "object",
  properties: { city: { type: "string", description: "Its name" } },
  required: ["city"],
  additionalProperties: false,
};
export const REPORT_SCHEMA = {
  type: "object",
  properties: {
    city: { type: "string" },
    degrees: { type: "integer" },
    tags: { type: "array", items: { type: "string" } },
  },
  required: ["city", "degrees", "tags"],
  additionalProperties: false,
};

// A capability, and the cells that it has. `drops` are fields that may be left out of the request.
export function row(name, run, { modes = BOTH, providers = PROVIDERS, options = {}, drops = {} } = {}) {
  return { name, run, modes, providers, options, drops };
}

export class Cell {
  constructor(client, provider, mode, row) {
    this.provider = provider;
    this.mode = mode;
    this.row = row;
    this.streamed = mode === "streamed";
    this.name = `${client}/${provider}/${mode}/${row.name}`;
    this.key = process.env.VICTOR_KEY ?? "unused";
  }

  // The base URL for the client; it names the cell to the tap.
  url(path = "") {
    const prefix = tapped ? "/@" + this.name.replaceAll("/", "~") : "";
    return root() + prefix + path;
  }

  // A model of the cell's provider that also validates what it is sent.
  model(...behaviours) {
    return `${this.provider}/` + ["sim", "strict", ...behaviours].join("+");
  }

  // The body that the provider was sent last, as text; undefined if nobody can know.
  async sent() {
    const simulator = process.env.VICTOR_SIM_URL;
    if (!simulator) return undefined;
    const log = await get(simulator + "/_sim/log?body=1");
    return JSON.stringify(JSON.parse(log.at(-1).body));
  }

  // Checks that the provider was sent all of these, wherever its dialect has them.
  async arrived(...needles) {
    const sent = await this.sent();
    for (const needle of needles) {
      const quoted = JSON.stringify(needle).slice(1, -1);
      const found = sent === undefined || sent.includes(quoted);
      assert.ok(found, `${needle.slice(0, 60)} did not arrive: ${sent?.slice(0, 900)}`);
    }
  }
}

const root = () => process.env.VICTOR_URL.replace(/\/$/, "");

async function get(url) {
  const answer = await fetch(url);
  assert.equal(answer.status, 200, url);
  return answer.json();
}

const report = (cell) => get(root() + "/@tap/report?cell=" + encodeURIComponent(cell));

let tapped = false;

async function faults(cell) {
  if (!tapped) return [];
  const seen = await report(cell.name);
  const allowed = new Set(cell.row.drops[cell.provider] ?? []);
  const dropped = [...new Set(seen.dropped)].filter((name) => !allowed.has(name));
  const found = [...seen.faults, ...dropped.map((name) => `left out of the request: ${name}`)];
  return seen.exchanges ? found : [...found, "nothing came by the tap"];
}

// Why it failed, in lines; none if it passed.
async function runCell(cell) {
  const lines = [];
  try {
    await cell.row.run(cell, cell.row.options);
  } catch (error) {
    const at = error.stack?.split("\n").find((line) => line.includes("file://") && !line.includes("node_modules"));
    lines.push(`${error.name}: ${error.message}`.slice(0, 1200), String(at ?? "").trim());
  }
  return [...lines, ...(await faults(cell))];
}

// The exception of that class that the promise rejects with.
export async function raises(kind, promise) {
  let found;
  try {
    found = await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error?.name} is no ${kind.name}: ${error?.message}`);
    return error;
  }
  throw new Error(`no ${kind.name}, but ${JSON.stringify(found)?.slice(0, 300)}`);
}

// Runs all cells of each client's table whose names hold every one of the program's arguments,
// prints a line for each and the count of each client, and ends the program.
export async function run(tables) {
  tapped = await report("nobody").then(() => true, () => false);
  const words = process.argv.slice(2);
  let good = true;
  for (const [client, table] of Object.entries(tables)) {
    let passed = 0;
    let failed = 0;
    for (const cell of cells(client, table)) {
      if (!words.every((word) => cell.name.includes(word))) continue;
      const began = performance.now();
      const lines = await runCell(cell);
      lines.length ? failed++ : passed++;
      const took = Math.round(performance.now() - began);
      console.log(`${lines.length ? "FAIL" : "ok  "} ${cell.name} (${took} ms)`);
      for (const line of lines) console.log(`     ${line}`);
    }
    console.log(`${client}: ${passed} passed, ${failed} failed`);
    good &&= failed === 0 && (passed > 0 || words.length > 0);
  }
  process.exit(good ? 0 : 1);
}

function* cells(client, table) {
  for (const row of table) {
    for (const provider of row.providers) {
      for (const mode of row.modes) yield new Cell(client, provider, mode, row);
    }
  }
}
