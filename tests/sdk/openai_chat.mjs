// The openai SDK's chat completions (and its other calls) against victor.

import assert from "node:assert/strict";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
  CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, PLAIN, REPORT_SCHEMA, RESULT, STREAMED, SYSTEM, raises,
  row, run,
} from "./cells.mjs";

const HELLO = [{ role: "user", content: GREETING }];
const OPENAI_ONLY = ["simo"];
const tool = (name) => ({
  type: "function",
  function: { name, description: "About a city", parameters: CITY_SCHEMA },
});
const BOTH_TOOLS = { tools: [tool("get_weather"), tool("get_time")] };
const Report = z.object({ city: z.string(), degrees: z.number(), tags: z.array(z.string()) });

function client(cell, options = {}) {
  return new OpenAI({ baseURL: cell.url("/v1"), apiKey: cell.key, maxRetries: 0, ...options });
}

// One choice of a stream as the message that a plain call answers with.
async function gathered(chunks) {
  const message = { role: null, content: "" };
  let finish = null;
  let usage = null;
  for await (const chunk of chunks) {
    usage = chunk.usage ?? usage;
    for (const { delta, finish_reason } of chunk.choices) {
      message.role ??= delta.role ?? null;
      message.content += delta.content ?? "";
      for (const name of ["refusal", "reasoning_content"]) {
        if (delta[name]) message[name] = (message[name] ?? "") + delta[name];
      }
      if (delta.thinking_blocks) {
        message.thinking_blocks = [...(message.thinking_blocks ?? []), ...delta.thinking_blocks];
      }
      for (const call of delta.tool_calls ?? []) {
        message.tool_calls ??= [];
        message.tool_calls[call.index] ??= {
          id: call.id,
          type: "function",
          function: { name: call.function.name, arguments: "" },
        };
        message.tool_calls[call.index].function.arguments += call.function?.arguments ?? "";
      }
      finish = finish_reason ?? finish;
    }
  }
  return { message, finish, usage };
}

// A call in the cell's mode: the message, the finish reason, and the usage.
async function ask(cell, model, messages = HELLO, more = {}) {
  const { completions } = client(cell).chat;
  if (cell.streamed) {
    const options = { stream: true, stream_options: { include_usage: true } };
    return gathered(await completions.create({ model, messages, ...options, ...more }));
  }
  const answer = await completions.create({ model, messages, ...more });
  const [{ message, finish_reason: finish }] = answer.choices;
  return { message, finish, usage: answer.usage };
}

const names = (message) => message.tool_calls.map((call) => call.function.name);

async function chat(cell) {
  const { message, finish, usage } = await ask(cell, cell.model());
  assert.match(message.content, /^sim answer /);
  assert.deepEqual([message.role, finish], ["assistant", "stop"]);
  assert.ok(usage.prompt_tokens > 0);
  assert.equal(usage.completion_tokens, 16);
  await cell.arrived(GREETING);
}

async function manyEvents(cell) {
  const stream = await client(cell).chat.completions.create({
    model: cell.model("pace-2x16"), messages: HELLO, stream: true,
  });
  let texts = 0;
  for await (const chunk of stream) {
    assert.ok(!chunk.usage, "a usage that nobody asked for");
    if (chunk.choices[0]?.delta.content) texts++;
  }
  assert.equal(texts, 16);
}

async function helper(cell) {
  const stream = client(cell).chat.completions.stream({ model: cell.model("pace-2x8"), messages: HELLO });
  let text = "";
  stream.on("content", (part) => (text += part));
  assert.equal(await stream.finalContent(), text);
}

async function system(cell, { role }) {
  const { finish } = await ask(cell, cell.model(), [{ role, content: SYSTEM }, ...HELLO]);
  assert.equal(finish, "stop");
  await cell.arrived(SYSTEM, GREETING);
}

async function conversation(cell) {
  const parts = ["one", "two"].map((text) => ({ type: "text", text }));
  const { finish } = await ask(cell, cell.model(), [
    { role: "user", content: parts },
    { role: "assistant", content: "three" },
    { role: "user", content: "four" },
  ]);
  assert.equal(finish, "stop");
  await cell.arrived("one", "two", "three", "four");
}

async function tools(cell) {
  const first = await ask(cell, cell.model("tools"), HELLO, BOTH_TOOLS);
  assert.equal(first.finish, "tool_calls");
  assert.deepEqual(names(first.message), ["get_weather"]);
  const [call] = first.message.tool_calls;
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "sim" });
  const result = { role: "tool", tool_call_id: call.id, content: RESULT };
  const second = await ask(cell, cell.model("tools"), [...HELLO, first.message, result], BOTH_TOOLS);
  assert.equal(second.finish, "stop");
  assert.ok(second.message.content);
  await cell.arrived(RESULT, call.id);
}

async function parallel(cell, { behaviours = [] }) {
  const model = cell.model("tools-2", ...behaviours);
  const first = await ask(cell, model, HELLO, BOTH_TOOLS);
  assert.deepEqual(names(first.message), ["get_weather", "get_time"]);
  for (const call of first.message.tool_calls) {
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "sim" });
  }
  const ids = first.message.tool_calls.map((call) => call.id);
  assert.equal(new Set(ids).size, 2);
  const results = ids.map((id, index) => ({ role: "tool", tool_call_id: id, content: `${RESULT} ${index}` }));
  const second = await ask(cell, model, [...HELLO, first.message, ...results], BOTH_TOOLS);
  assert.equal(second.finish, "stop");
  await cell.arrived(...ids, `${RESULT} 0`, `${RESULT} 1`);
}

async function toolChoice(cell) {
  const with_ = (model, more) => ask(cell, model, HELLO, { ...BOTH_TOOLS, ...more });
  const named = { type: "function", function: { name: "get_time" } };
  const forced = await with_(cell.model(), { tool_choice: named });
  assert.deepEqual(names(forced.message), ["get_time"]);
  const required = await with_(cell.model(), { tool_choice: "required" });
  assert.equal(required.finish, "tool_calls");
  const none = await with_(cell.model("tools"), { tool_choice: "none" });
  assert.equal(none.finish, "stop");
  const single = await with_(cell.model("tools-2"), { parallel_tool_calls: false });
  assert.equal(single.message.tool_calls.length, 1);
}

async function image(cell, { url, needle }) {
  const content = [
    { type: "text", text: "What is this?" },
    { type: "image_url", image_url: { url } },
  ];
  const { finish } = await ask(cell, cell.model(), [{ role: "user", content }]);
  assert.equal(finish, "stop");
  await cell.arrived(needle, "What is this?");
}

async function jsonSchema(cell) {
  const json_schema = { name: "report", strict: true, schema: REPORT_SCHEMA };
  const wanted = { response_format: { type: "json_schema", json_schema } };
  const { message, finish } = await ask(cell, cell.model(), HELLO, wanted);
  assert.equal(finish, "stop");
  Report.parse(JSON.parse(message.content));
}

async function parsed(cell) {
  const { completions } = client(cell).chat;
  const wanted = {
    model: cell.model(), messages: HELLO, response_format: zodResponseFormat(Report, "report"),
  };
  const answer = cell.streamed
    ? await completions.stream(wanted).finalChatCompletion()
    : await completions.parse(wanted);
  Report.parse(answer.choices[0].message.parsed);
}

async function limit(cell) {
  const { finish, usage } = await ask(cell, cell.model(), HELLO, { max_completion_tokens: 4 });
  assert.deepEqual([finish, usage.completion_tokens], ["length", 4]);
}

async function stop(cell) {
  const { message, finish } = await ask(cell, cell.model(), HELLO, { stop: ["answer"] });
  assert.deepEqual([message.content.trim(), finish], ["sim", "stop"]);
}

async function sampling(cell) {
  const more = { temperature: 0.5, max_tokens: 50, user: "someone" };
  const { finish } = await ask(cell, cell.model(), HELLO, more);
  assert.equal(finish, "stop");
  await cell.arrived("someone");
}

async function reasoning(cell) {
  const { message, usage } = await ask(cell, cell.model("thinking"), HELLO, { reasoning_effort: "low" });
  assert.match(message.reasoning_content, /^sim thought /);
  assert.match(message.content, /^sim answer /);
  assert.equal(usage.completion_tokens_details.reasoning_tokens, 8);
}

async function cached(cell) {
  const bare = await ask(cell, cell.model());
  const { usage } = await ask(cell, cell.model("cached-100"));
  assert.equal(usage.prompt_tokens_details.cached_tokens, 100);
  assert.equal(usage.prompt_tokens, bare.usage.prompt_tokens + 100);
}

async function refusal(cell) {
  const { message, finish } = await ask(cell, cell.model("refusal"));
  assert.ok(message.refusal || finish === "content_filter", JSON.stringify({ message, finish }));
}

async function error(cell, { behaviour, kind, statuses, code }) {
  const model = behaviour === null ? "nobody/nothing" : cell.model(behaviour);
  const found = await raises(kind, ask(cell, model));
  assert.ok(statuses.includes(found.status), `status ${found.status}`);
  assert.ok(found.error.message && found.requestID);
  if (code && cell.provider === "simo") assert.equal(found.code, code);
}

async function wrongKey(cell) {
  const { completions } = client(cell, { apiKey: "wrong" }).chat;
  const call = { model: cell.model(), messages: HELLO, stream: cell.streamed };
  const found = await raises(OpenAI.AuthenticationError, completions.create(call));
  assert.deepEqual([found.status, found.code], [401, "invalid_api_key"]);
}

async function broken(cell) {
  const call = { model: cell.model("pace-1x20", "cut-5"), messages: HELLO, stream: true };
  const stream = await client(cell).chat.completions.create(call);
  const found = await raises(OpenAI.APIError, gathered(stream));
  assert.ok(found.message);
}

async function headers(cell) {
  const call = { model: cell.model(), messages: HELLO };
  const { data, response } = await client(cell).chat.completions.create(call).withResponse();
  assert.equal(response.headers.get("x-victor-provider"), cell.provider);
  assert.ok(data._request_id);
}

async function embeddings(cell) {
  for (const encoding of ["float", "base64", undefined]) {
    const call = { model: cell.model(), input: ["one", "two"], encoding_format: encoding };
    const answer = await client(cell).embeddings.create(call);
    assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
    assert.ok(answer.data[0].embedding.length > 1);
  }
}

// Single texts at the same time, which go to the provider in one call.
async function mergedEmbeddings(cell) {
  const texts = Array.from({ length: 8 }, (_, number) => `text ${number}`);
  const create = (input) => client(cell).embeddings.create({ model: cell.model(), input });
  const expected = await create(texts);
  const answers = await Promise.all(texts.map(create));
  answers.forEach((answer, number) => {
    assert.deepEqual(answer.data, [{ ...expected.data[number], index: 0 }]);
  });
}

async function completions(cell) {
  const call = { model: cell.model(), prompt: "Once upon", max_tokens: 8, stream: cell.streamed };
  const answer = await client(cell).completions.create(call);
  let text = cell.streamed ? "" : answer.choices[0].text;
  if (cell.streamed) for await (const chunk of answer) text += chunk.choices[0]?.text ?? "";
  assert.ok(text);
}

async function models(cell) {
  const found = [];
  for await (const model of client(cell).models.list()) found.push(model.id);
  assert.ok(found.includes("sim"), found.join());
  assert.equal((await client(cell).models.retrieve("sim")).id, "sim");
  await raises(OpenAI.NotFoundError, client(cell).models.retrieve("nothing-like-it"));
}

const fault = (behaviour, kind, statuses, code) => ({ options: { behaviour, kind, statuses, code } });

const TABLE = [
  row("chat", chat),
  row("many-events", manyEvents, { modes: STREAMED }),
  row("helper", helper, { modes: STREAMED }),
  row("system", system, { options: { role: "system" } }),
  row("developer", system, { options: { role: "developer" } }),
  row("conversation", conversation),
  row("tools", tools),
  row("parallel-tools", parallel),
  row("interleaved-tools", parallel, {
    modes: STREAMED, providers: OPENAI_ONLY, options: { behaviours: ["interleave"] },
  }),
  row("tool-choice", toolChoice),
  row("image-base64", image, { options: { url: "data:image/png;base64," + PIXEL, needle: PIXEL } }),
  row("image-url", image, { options: { url: PICTURE_URL, needle: PICTURE_URL } }),
  row("json-schema", jsonSchema),
  row("parse", parsed),
  row("limit", limit),
  // Which of them it was has no place in the answer.
  row("stop", stop, { drops: { sima: ["stop_sequence"] } }),
  row("sampling", sampling),
  row("reasoning", reasoning),
  row("cached", cached),
  row("refusal", refusal),
  row("error-400", error, fault("context-length", OpenAI.BadRequestError, [400], "context_length_exceeded")),
  row("error-401", wrongKey),
  row("error-404", error, fault(null, OpenAI.NotFoundError, [404])),
  row("error-429", error, fault("status-429", OpenAI.RateLimitError, [429])),
  row("error-500", error, fault("status-500", OpenAI.InternalServerError, [500])),
  row("error-529", error, fault("status-529", OpenAI.InternalServerError, [503, 529])),
  row("broken-stream", broken, { modes: STREAMED }),
  row("headers", headers, { modes: PLAIN }),
  row("embeddings", embeddings, { modes: PLAIN, providers: OPENAI_ONLY }),
  row("merged_embeddings", mergedEmbeddings, { modes: PLAIN, providers: OPENAI_ONLY }),
  row("completions", completions, { providers: OPENAI_ONLY }),
  row("models", models, { modes: PLAIN, providers: OPENAI_ONLY }),
];

await run({ "openai-node": TABLE });
