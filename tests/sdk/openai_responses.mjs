// The openai SDK's responses against victor; `simr` serves them itself.

import assert from "node:assert/strict";

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
  CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, PLAIN, REPORT_SCHEMA, RESULT, STREAMED, SYSTEM, raises,
  row, run,
} from "./cells.mjs";

const ALL = { providers: ["simo", "sima", "simr"] };
const tool = (name) => ({
  type: "function", name, description: "About a city", strict: true, parameters: CITY_SCHEMA,
});
const BOTH_TOOLS = { tools: [tool("get_weather"), tool("get_time")] };
const Report = z.object({ city: z.string(), degrees: z.number(), tags: z.array(z.string()) });

function client(cell, options = {}) {
  return new OpenAI({ baseURL: cell.url("/v1"), apiKey: cell.key, maxRetries: 0, ...options });
}

// A call in the cell's mode: the whole response.
async function ask(cell, model, input = GREETING, more = {}) {
  const { responses } = client(cell);
  if (!cell.streamed) return responses.create({ model, input, ...more });
  let text = "";
  let final;
  for await (const event of await responses.create({ model, input, stream: true, ...more })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    if (["response.completed", "response.incomplete"].includes(event.type)) final = event.response;
  }
  const parts = final.output.flatMap((item) => (item.type === "message" ? item.content : []));
  final.output_text ??= parts.map((part) => part.text ?? "").join("");
  assert.equal(final.output_text, text);
  return final;
}

const calls = (response) => response.output.filter((item) => item.type === "function_call");
const outputOf = (call, output) => ({ type: "function_call_output", call_id: call.call_id, output });
const user = (content) => ({ role: "user", content });

async function text(cell) {
  const response = await ask(cell, cell.model());
  assert.deepEqual(response.output.map((item) => item.type), ["message"]);
  assert.match(response.output_text, /^sim answer /);
  assert.equal(response.status, "completed");
  assert.equal(response.usage.output_tokens, 16);
  await cell.arrived(GREETING);
}

async function helper(cell) {
  const stream = client(cell).responses.stream({ model: cell.model("pace-2x8"), input: GREETING });
  let deltas = 0;
  stream.on("response.output_text.delta", () => deltas++);
  const final = await stream.finalResponse();
  assert.equal(deltas, 8);
  assert.ok(final.output_text);
}

async function instructions(cell) {
  const response = await ask(cell, cell.model(), GREETING, { instructions: SYSTEM });
  assert.equal(response.instructions, SYSTEM);
  await cell.arrived(SYSTEM, GREETING);
}

async function conversation(cell) {
  const response = await ask(cell, cell.model(), [
    { role: "developer", content: SYSTEM },
    user([{ type: "input_text", text: "one" }]),
    { role: "assistant", content: "two" },
    { type: "message", ...user("three") },
  ]);
  assert.equal(response.status, "completed");
  await cell.arrived(SYSTEM, "one", "two", "three");
}

async function tools(cell, { behaviour, count }) {
  const more = { ...BOTH_TOOLS, store: false };
  const first = await ask(cell, cell.model(behaviour), GREETING, more);
  const wanted = ["get_weather", "get_time"].slice(0, count);
  assert.deepEqual(calls(first).map((call) => call.name), wanted);
  for (const call of calls(first)) assert.deepEqual(JSON.parse(call.arguments), { city: "sim" });
  const results = calls(first).map((call, index) => outputOf(call, `${RESULT} ${index}`));
  const items = [user(GREETING), ...first.output, ...results];
  const second = await ask(cell, cell.model(behaviour), items, more);
  assert.ok(second.output_text);
  await cell.arrived(`${RESULT} ${count - 1}`, ...calls(first).map((call) => call.call_id));
}

async function storedTools(cell) {
  const first = await ask(cell, cell.model("tools"), GREETING, { ...BOTH_TOOLS, instructions: SYSTEM });
  const [call] = calls(first);
  const more = { ...BOTH_TOOLS, previous_response_id: first.id };
  const second = await ask(cell, cell.model("tools"), [outputOf(call, RESULT)], more);
  assert.equal(second.previous_response_id, first.id);
  assert.ok(second.output_text);
  await cell.arrived(GREETING, RESULT, call.call_id);
  assert.ok(!(await cell.sent())?.includes(SYSTEM), "instructions hold for one call only");
}

async function previous(cell) {
  const first = await ask(cell, cell.model(), "The first question");
  const second = await ask(cell, cell.model(), "The second question", { previous_response_id: first.id });
  await cell.arrived("The first question", first.output_text, "The second question");
  assert.ok(second.usage.input_tokens > first.usage.input_tokens);
  const missing = { previous_response_id: "resp_0123456789abcdef" };
  const found = await raises(OpenAI.BadRequestError, ask(cell, cell.model(), GREETING, missing));
  assert.equal(found.code, "previous_response_not_found");
}

async function stored(cell) {
  const { responses } = client(cell);
  const made = await ask(cell, cell.model());
  const kept = await responses.retrieve(made.id);
  assert.deepEqual([kept.id, kept.output_text, kept.status], [made.id, made.output_text, "completed"]);
  await responses.delete(made.id);
  await raises(OpenAI.NotFoundError, responses.retrieve(made.id));
}

async function notStored(cell) {
  const made = await ask(cell, cell.model(), GREETING, { store: false });
  await raises(OpenAI.NotFoundError, client(cell).responses.retrieve(made.id));
}

async function toolChoice(cell) {
  const with_ = (model, more) => ask(cell, model, GREETING, { ...BOTH_TOOLS, ...more });
  const named = { type: "function", name: "get_time" };
  const forced = await with_(cell.model(), { tool_choice: named });
  assert.deepEqual(calls(forced).map((call) => call.name), ["get_time"]);
  assert.equal(calls(await with_(cell.model(), { tool_choice: "required" })).length, 1);
  assert.equal(calls(await with_(cell.model("tools"), { tool_choice: "none" })).length, 0);
  assert.equal(calls(await with_(cell.model("tools-2"), { parallel_tool_calls: false })).length, 1);
}

async function image(cell, { url, needle }) {
  const content = [
    { type: "input_text", text: "What is this?" },
    { type: "input_image", image_url: url, detail: "auto" },
  ];
  const response = await ask(cell, cell.model(), [user(content)]);
  assert.equal(response.status, "completed");
  await cell.arrived(needle, "What is this?");
}

async function jsonSchema(cell) {
  const format = { type: "json_schema", name: "report", strict: true, schema: REPORT_SCHEMA };
  const response = await ask(cell, cell.model(), GREETING, { text: { format } });
  Report.parse(JSON.parse(response.output_text));
}

async function parsed(cell) {
  const { responses } = client(cell);
  const call = { model: cell.model(), input: GREETING, text: { format: zodTextFormat(Report, "report") } };
  const response = cell.streamed
    ? await responses.stream(call).finalResponse()
    : await responses.parse(call);
  Report.parse(response.output_parsed);
}

async function limit(cell) {
  // The vendor takes no fewer than 16.
  const response = await ask(cell, cell.model("pace-0x40"), GREETING, { max_output_tokens: 16 });
  assert.equal(response.status, "incomplete");
  assert.equal(response.incomplete_details.reason, "max_output_tokens");
}

async function reasoning(cell) {
  const more = { reasoning: { effort: "low", summary: "auto" }, store: false };
  const first = await ask(cell, cell.model("thinking"), GREETING, more);
  assert.deepEqual(first.output.map((item) => item.type), ["reasoning", "message"]);
  assert.equal(first.usage.output_tokens_details.reasoning_tokens, 8);
  const items = [user(GREETING), ...first.output, user("And now?")];
  await ask(cell, cell.model("thinking"), items, more);
  await cell.arrived("And now?");
}

async function cached(cell) {
  const bare = await ask(cell, cell.model());
  const { usage } = await ask(cell, cell.model("cached-100"));
  assert.equal(usage.input_tokens_details.cached_tokens, 100);
  assert.equal(usage.input_tokens, bare.usage.input_tokens + 100);
}

async function error(cell, { behaviour, kind, statuses }) {
  const model = behaviour === null ? "nobody/nothing" : cell.model(behaviour);
  const found = await raises(kind, ask(cell, model));
  assert.ok(statuses.includes(found.status), `status ${found.status}`);
  assert.ok(found.error.message && found.requestID);
}

async function wrongKey(cell) {
  const call = { model: cell.model(), input: GREETING, stream: cell.streamed };
  const { responses } = client(cell, { apiKey: "wrong" });
  await raises(OpenAI.AuthenticationError, responses.create(call));
}

// The SDK hands on the error event, or raises it; it must not look complete.
async function broken(cell) {
  const call = { model: cell.model("pace-1x20", "cut-5"), input: GREETING, stream: true };
  const kinds = [];
  try {
    for await (const event of await client(cell).responses.create(call)) kinds.push(event.type);
  } catch (error) {
    return assert.ok(error instanceof OpenAI.APIError, String(error));
  }
  assert.ok(["error", "response.failed"].includes(kinds.at(-1)), kinds.at(-1));
}

async function headers(cell) {
  const call = { model: cell.model(), input: GREETING };
  const { data, response } = await client(cell).responses.create(call).withResponse();
  assert.equal(response.headers.get("x-victor-provider"), cell.provider);
  assert.ok(data._request_id);
}

const fault = (behaviour, kind, ...statuses) => ({ ...ALL, options: { behaviour, kind, statuses } });

const TABLE = [
  row("text", text, ALL),
  row("helper", helper, { ...ALL, modes: STREAMED }),
  row("instructions", instructions, ALL),
  row("conversation", conversation, ALL),
  row("tools", tools, { ...ALL, options: { behaviour: "tools", count: 1 } }),
  row("parallel-tools", tools, { ...ALL, options: { behaviour: "tools-2", count: 2 } }),
  row("stored-tools", storedTools),
  row("previous", previous),
  row("stored", stored),
  row("not-stored", notStored),
  row("tool-choice", toolChoice, ALL),
  row("image-base64", image, { ...ALL, options: { url: "data:image/png;base64," + PIXEL, needle: PIXEL } }),
  row("image-url", image, { ...ALL, options: { url: PICTURE_URL, needle: PICTURE_URL } }),
  row("json-schema", jsonSchema, ALL),
  row("parse", parsed, ALL),
  row("limit", limit, ALL),
  // What was thought has no place in the chat completions' requests.
  row("reasoning", reasoning, { ...ALL, drops: { simo: ["messages[].thinking"] } }),
  row("cached", cached, ALL),
  row("error-400", error, fault("context-length", OpenAI.BadRequestError, 400)),
  row("error-401", wrongKey),
  row("error-404", error, fault(null, OpenAI.NotFoundError, 404)),
  row("error-429", error, fault("status-429", OpenAI.RateLimitError, 429)),
  row("error-500", error, fault("status-500", OpenAI.InternalServerError, 500)),
  row("error-529", error, fault("status-529", OpenAI.InternalServerError, 503, 529)),
  row("broken-stream", broken, { ...ALL, modes: STREAMED }),
  row("headers", headers, { ...ALL, modes: PLAIN }),
];

await run({ "openai-responses-node": TABLE });
