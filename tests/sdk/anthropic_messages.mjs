// The @anthropic-ai/sdk against victor.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

import {
  CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, PLAIN, REPORT_SCHEMA, RESULT, STREAMED, SYSTEM, raises,
  row, run,
} from "./cells.mjs";

const HELLO = [{ role: "user", content: GREETING }];
const tool = (name) => ({ name, description: "About a city", input_schema: CITY_SCHEMA });
const BOTH_TOOLS = { tools: [tool("get_weather"), tool("get_time")] };
const Report = z.object({ city: z.string(), degrees: z.number(), tags: z.array(z.string()) });

function client(cell, options = {}) {
  return new Anthropic({ baseURL: cell.url(), apiKey: cell.key, maxRetries: 0, ...options });
}

// The message that a stream's raw events add up to; by hand, to see what is sent.
async function gathered(events) {
  let message;
  let json = "";
  for await (const event of events) {
    if (event.type === "message_start") message = event.message;
    if (event.type === "content_block_start") {
      message.content.push(event.content_block);
      json = "";
    }
    if (event.type === "content_block_delta") {
      const block = message.content[event.index];
      const field = event.delta.type.replace("_delta", "");
      if (field === "input_json") json += event.delta.partial_json;
      else block[field] = (block[field] ?? "") + event.delta[field];
    }
    if (event.type === "content_block_stop" && json) {
      message.content[event.index].input = JSON.parse(json);
      json = "";
    }
    if (event.type === "message_delta") {
      Object.assign(message, event.delta);
      Object.assign(message.usage, event.usage);
    }
  }
  return message;
}

// A call in the cell's mode: the message.
async function ask(cell, model, messages = HELLO, more = {}) {
  const call = { model, max_tokens: 64, messages, ...more };
  if (cell.streamed) return gathered(await client(cell).messages.create({ ...call, stream: true }));
  return client(cell).messages.create(call);
}

const of = (message, type) => message.content.filter((block) => block.type === type);
const text = (message) => of(message, "text").map((block) => block.text).join("");

async function message(cell) {
  const answer = await ask(cell, cell.model());
  assert.match(text(answer), /^sim answer /);
  const { type, role, stop_reason, usage } = answer;
  assert.deepEqual([type, role, stop_reason], ["message", "assistant", "end_turn"]);
  assert.ok(usage.input_tokens > 0);
  assert.equal(usage.output_tokens, 16);
  await cell.arrived(GREETING);
}

async function manyEvents(cell) {
  const call = { model: cell.model("pace-2x16"), max_tokens: 64, messages: HELLO, stream: true };
  const kinds = [];
  for await (const event of await client(cell).messages.create(call)) kinds.push(event.type);
  assert.deepEqual([kinds[0], kinds.at(-1)], ["message_start", "message_stop"]);
  assert.equal(kinds.filter((kind) => kind === "content_block_delta").length, 16);
}

async function helper(cell) {
  const call = { model: cell.model("pace-2x8"), max_tokens: 64, messages: HELLO };
  const stream = client(cell).messages.stream(call);
  let heard = "";
  stream.on("text", (part) => (heard += part));
  const final = await stream.finalMessage();
  assert.deepEqual([text(final), final.usage.output_tokens], [heard, 8]);
}

async function system(cell, { value }) {
  const answer = await ask(cell, cell.model(), HELLO, { system: value });
  assert.equal(answer.stop_reason, "end_turn");
  await cell.arrived(SYSTEM, GREETING);
}

async function conversation(cell) {
  const marked = { type: "text", text: "two", cache_control: { type: "ephemeral" } };
  const answer = await ask(cell, cell.model(), [
    { role: "user", content: [{ type: "text", text: "one" }, marked] },
    { role: "assistant", content: "three" },
    { role: "user", content: "four" },
  ]);
  assert.equal(answer.stop_reason, "end_turn");
  await cell.arrived("one", "two", "three", "four");
}

async function tools(cell, { behaviour, count }) {
  const first = await ask(cell, cell.model(behaviour), HELLO, BOTH_TOOLS);
  assert.equal(first.stop_reason, "tool_use");
  const uses = of(first, "tool_use");
  assert.deepEqual(uses.map((use) => use.name), ["get_weather", "get_time"].slice(0, count));
  for (const use of uses) assert.deepEqual(use.input, { city: "sim" });
  const results = uses.map((use, index) => ({
    type: "tool_result", tool_use_id: use.id, content: `${RESULT} ${index}`,
  }));
  const turns = [{ role: "assistant", content: first.content }, { role: "user", content: results }];
  const second = await ask(cell, cell.model(behaviour), [...HELLO, ...turns], BOTH_TOOLS);
  assert.equal(second.stop_reason, "end_turn");
  assert.ok(text(second));
  await cell.arrived(`${RESULT} ${count - 1}`, ...uses.map((use) => use.id));
}

async function toolHelper(cell) {
  const call = { model: cell.model("tools"), max_tokens: 64, messages: HELLO, ...BOTH_TOOLS };
  const final = await client(cell).messages.stream(call).finalMessage();
  const [use] = of(final, "tool_use");
  assert.deepEqual([use.input, final.stop_reason], [{ city: "sim" }, "tool_use"]);
}

async function toolChoice(cell) {
  const with_ = (model, tool_choice) => ask(cell, model, HELLO, { ...BOTH_TOOLS, tool_choice });
  const forced = await with_(cell.model(), { type: "tool", name: "get_time" });
  assert.deepEqual(of(forced, "tool_use").map((use) => use.name), ["get_time"]);
  assert.equal((await with_(cell.model(), { type: "any" })).stop_reason, "tool_use");
  assert.equal((await with_(cell.model("tools"), { type: "none" })).stop_reason, "end_turn");
  const single = await with_(cell.model("tools-2"), { type: "auto", disable_parallel_tool_use: true });
  assert.equal(of(single, "tool_use").length, 1);
}

async function image(cell, { source, needle }) {
  const content = [{ type: "image", source }, { type: "text", text: "What is this?" }];
  const answer = await ask(cell, cell.model(), [{ role: "user", content }]);
  assert.equal(answer.stop_reason, "end_turn");
  await cell.arrived(needle, "What is this?");
}

async function jsonSchema(cell) {
  const output_config = { format: { type: "json_schema", schema: REPORT_SCHEMA } };
  const answer = await ask(cell, cell.model(), HELLO, { output_config });
  Report.parse(JSON.parse(text(answer)));
}

async function parsed(cell) {
  const call = {
    model: cell.model(), max_tokens: 64, messages: HELLO,
    output_config: { format: zodOutputFormat(Report) },
  };
  const { messages } = client(cell);
  const answer = cell.streamed ? await messages.stream(call).finalMessage() : await messages.parse(call);
  Report.parse(answer.parsed_output);
}

async function limit(cell) {
  const answer = await ask(cell, cell.model(), HELLO, { max_tokens: 4 });
  assert.deepEqual([answer.stop_reason, answer.usage.output_tokens], ["max_tokens", 4]);
}

// OpenAI does not tell that it was a stop sequence that ended an answer, or which.
async function stop(cell) {
  const answer = await ask(cell, cell.model(), HELLO, { stop_sequences: ["answer"] });
  assert.equal(text(answer).trim(), "sim");
  if (cell.provider === "sima") assert.equal(answer.stop_sequence, "answer");
}

async function thinking(cell) {
  const wanted = { max_tokens: 2048, thinking: { type: "enabled", budget_tokens: 1024 } };
  const answer = await ask(cell, cell.model("thinking"), HELLO, wanted);
  assert.deepEqual(answer.content.map((block) => block.type), ["thinking", "text"]);
  const turns = [{ role: "assistant", content: answer.content }, { role: "user", content: "And now?" }];
  await ask(cell, cell.model("thinking"), [...HELLO, ...turns], wanted);
  await cell.arrived("And now?");
}

async function cached(cell) {
  const bare = await ask(cell, cell.model());
  const { usage } = await ask(cell, cell.model("cached-100"));
  assert.equal(usage.cache_read_input_tokens, 100);
  assert.equal(usage.input_tokens, bare.usage.input_tokens);
}

async function counted(cell) {
  const call = { model: cell.model(), messages: HELLO, system: SYSTEM, ...BOTH_TOOLS };
  const { data, response } = await client(cell).messages.countTokens(call).withResponse();
  assert.ok(data.input_tokens > 20 && data.input_tokens < 400, data.input_tokens);
  const estimated = cell.provider === "sima" ? null : "input_tokens";
  assert.equal(response.headers.get("x-victor-estimated"), estimated);
}

async function error(cell, { behaviour, kind, type, statuses }) {
  const model = behaviour === null ? "nobody/nothing" : cell.model(behaviour);
  const found = await raises(kind, ask(cell, model));
  assert.ok(statuses.includes(found.status), `status ${found.status}`);
  assert.equal(found.error.error.type, type);
  assert.ok(found.error.error.message && found.requestID);
}

async function wrongKey(cell) {
  const call = { model: cell.model(), max_tokens: 64, messages: HELLO, stream: cell.streamed };
  const { messages } = client(cell, { apiKey: "wrong" });
  await raises(Anthropic.AuthenticationError, messages.create(call));
}

async function broken(cell) {
  const call = { model: cell.model("pace-1x20", "cut-5"), max_tokens: 64, messages: HELLO, stream: true };
  const stream = await client(cell).messages.create(call);
  await raises(Anthropic.APIError, gathered(stream));
}

async function headers(cell) {
  const call = { model: cell.model(), max_tokens: 64, messages: HELLO };
  const { data, response } = await client(cell).messages.create(call).withResponse();
  assert.equal(response.headers.get("x-victor-provider"), cell.provider);
  assert.ok(data._request_id);
}

async function models(cell) {
  const found = [];
  for await (const model of client(cell).models.list()) found.push(model.id);
  assert.ok(found.includes("sim"), found.join());
  assert.equal((await client(cell).models.retrieve("sim")).id, "sim");
  await raises(Anthropic.NotFoundError, client(cell).models.retrieve("nothing-like-it"));
}

const { BadRequestError, NotFoundError, RateLimitError, InternalServerError } = Anthropic;
const fault = (behaviour, kind, type, ...statuses) => ({ options: { behaviour, kind, type, statuses } });
const BASE64 = { type: "base64", media_type: "image/png", data: PIXEL };
const BLOCKS = [{ type: "text", text: SYSTEM }, { type: "text", text: "Always." }];

const TABLE = [
  row("message", message),
  row("many-events", manyEvents, { modes: STREAMED }),
  row("helper", helper, { modes: STREAMED }),
  row("system", system, { options: { value: SYSTEM } }),
  row("system-blocks", system, { options: { value: BLOCKS } }),
  row("conversation", conversation, { drops: { simo: ["cache_control"] } }),
  row("tools", tools, { options: { behaviour: "tools", count: 1 } }),
  row("parallel-tools", tools, { options: { behaviour: "tools-2", count: 2 } }),
  row("tool-helper", toolHelper, { modes: STREAMED }),
  row("tool-choice", toolChoice),
  row("image-base64", image, { options: { source: BASE64, needle: PIXEL } }),
  row("image-url", image, { options: { source: { type: "url", url: PICTURE_URL }, needle: PICTURE_URL } }),
  row("json-schema", jsonSchema),
  row("parse", parsed),
  row("limit", limit),
  row("stop", stop),
  // What was thought has no place in the chat completions' requests.
  row("thinking", thinking, { drops: { simo: ["messages[].thinking"] } }),
  row("cached", cached),
  row("count-tokens", counted, { modes: PLAIN }),
  row("error-400", error, fault("context-length", BadRequestError, "invalid_request_error", 400)),
  row("error-401", wrongKey),
  row("error-404", error, fault(null, NotFoundError, "not_found_error", 404)),
  row("error-429", error, fault("status-429", RateLimitError, "rate_limit_error", 429)),
  row("error-500", error, fault("status-500", InternalServerError, "api_error", 500)),
  row("error-529", error, fault("status-529", InternalServerError, "overloaded_error", 529, 503)),
  row("broken-stream", broken, { modes: STREAMED }),
  row("headers", headers, { modes: PLAIN }),
  row("models", models, { modes: PLAIN, providers: ["sima"] }),
];

await run({ "anthropic-node": TABLE });
