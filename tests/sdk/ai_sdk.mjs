// Vercel's AI SDK over victor: OpenAI's models by responses (its default) and by chat completions,
// and Anthropic's.

import assert from "node:assert/strict";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, Output, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

import { GREETING, PIXEL, RESULT, SYSTEM, raises, row, run } from "./cells.mjs";

const Report = z.object({ city: z.string(), degrees: z.number(), tags: z.array(z.string()) });
// It warns of models that it does not know; all of these are.
globalThis.AI_SDK_LOG_WARNINGS = false;

const openai = (cell) => createOpenAI({ baseURL: cell.url("/v1"), apiKey: cell.key });
const MAKERS = {
  responses: (cell, name) => openai(cell)(name),
  chat: (cell, name) => openai(cell).chat(name),
  messages: (cell, name) => createAnthropic({ baseURL: cell.url("/v1"), apiKey: cell.key })(name),
};

// The result in the cell's mode, with everything awaited that a stream promises.
async function ask(cell, call) {
  const options = { maxRetries: 0, ...call };
  if (!cell.streamed) return generateText(options);
  let failure;
  const stream = streamText({ ...options, onError: ({ error }) => (failure = error) });
  let text = "";
  for await (const part of stream.textStream) text += part;
  if (failure) throw failure;
  const [whole, steps, finishReason, usage] = await Promise.all([
    stream.text, stream.steps, stream.finishReason, stream.usage,
  ]);
  const output = options.output ? await stream.output : undefined;
  if (steps.length === 1) assert.equal(whole, text);
  return { text: whole, steps, finishReason, usage, output };
}

async function text(cell, { make }) {
  const answer = await ask(cell, { model: make(cell, cell.model()), system: SYSTEM, prompt: GREETING });
  assert.match(answer.text, /^sim answer /);
  assert.equal(answer.finishReason, "stop");
  assert.equal(answer.usage.outputTokens, 16);
  assert.ok(answer.usage.inputTokens > 0, JSON.stringify(answer.usage));
  await cell.arrived(SYSTEM, GREETING);
}

// It calls the tools itself, and the model again with their results.
async function tools(cell, { make, behaviour, count }) {
  const called = [];
  const about = (name, says) =>
    tool({
      description: "About a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        called.push(name);
        return `${says} in ${city}`;
      },
    });
  const answer = await ask(cell, {
    model: make(cell, cell.model(behaviour)),
    prompt: GREETING,
    tools: { get_weather: about("get_weather", RESULT), get_time: about("get_time", "noon") },
    stopWhen: stepCountIs(4),
  });
  assert.deepEqual(called, ["get_weather", "get_time"].slice(0, count));
  assert.equal(answer.steps.length, 2);
  assert.match(answer.text, /^sim answer /);
  await cell.arrived(`${RESULT} in sim`);
}

async function object(cell, { make }) {
  const call = { model: make(cell, cell.model()), schema: Report, prompt: GREETING, maxRetries: 0 };
  if (!cell.streamed) return Report.parse((await generateObject(call)).object);
  const stream = streamObject(call);
  for await (const part of stream.partialObjectStream) assert.ok(part);
  Report.parse(await stream.object);
}

async function output(cell, { make }) {
  const wanted = Output.object({ schema: Report });
  const answer = await ask(cell, { model: make(cell, cell.model()), prompt: GREETING, output: wanted });
  Report.parse(answer.output);
}

async function image(cell, { make }) {
  const content = [
    { type: "text", text: "What is this?" },
    { type: "image", image: Buffer.from(PIXEL, "base64"), mediaType: "image/png" },
  ];
  const answer = await ask(cell, { model: make(cell, cell.model()), messages: [{ role: "user", content }] });
  assert.ok(answer.text);
  await cell.arrived(PIXEL);
}

async function error(cell, { make }) {
  const found = await raises(
    APICallError,
    ask(cell, { model: make(cell, cell.model("status-429")), prompt: GREETING }),
  );
  assert.equal(found.statusCode, 429);
  assert.ok(found.message);
}

// A hint of Anthropic's that its package sends along with every tool of a stream.
const drops = { simo: ["tools[].eager_input_streaming"] };

function table(make) {
  return [
    row("text", text, { options: { make } }),
    row("tools", tools, { options: { make, behaviour: "tools", count: 1 }, drops }),
    row("parallel-tools", tools, { options: { make, behaviour: "tools-2", count: 2 }, drops }),
    row("object", object, { options: { make }, drops }),
    row("output", output, { options: { make }, drops }),
    row("image", image, { options: { make } }),
    row("error-429", error, { options: { make } }),
  ];
}

await run({
  "ai-sdk-openai": table(MAKERS.responses),
  "ai-sdk-openai-chat": table(MAKERS.chat),
  "ai-sdk-anthropic": table(MAKERS.messages),
});
