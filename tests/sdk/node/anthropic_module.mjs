// What an application does with Anthropic's package. Usage: node anthropic_module.mjs BASE_URL KEY SLUG
import Anthropic, { BadRequestError, InternalServerError, RateLimitError } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";
import assert from "node:assert/strict";

import run from "./running.cjs";

const TEXT = "Grüße, 世界 👋🏽!";
const TWICE = "The weather in two cities? Say it twice, think aloud.";
const PIXEL = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), Buffer.alloc(60)]).toString("base64");
const INPUT = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const DESCRIPTION = "The weather of a city";

function asked(slug, content, more = {}) {
  return { model: `${slug}/agent`, max_tokens: 4096, messages: [{ role: "user", content }], ...more };
}

function textOf(message) {
  return message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

async function text(client, slug) {
  const message = await client.messages.create(asked(slug, "Hello", { system: "Be kind." }));
  assert.equal(message.type, "message");
  assert.equal(message.model, `${slug}/agent`);
  assert.deepEqual(
    message.content.map((block) => block.type),
    ["text"],
  );
  assert.equal(textOf(message), TEXT);
  assert.equal(message.stop_reason, "end_turn");
  assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [8, 7]);
  assert.ok(message._request_id);
}

async function stream(client, slug) {
  const kinds = [];
  let said = "";
  for await (const event of await client.messages.create(asked(slug, "Hello", { stream: true }))) {
    kinds.push(event.type);
    said += event.type === "content_block_delta" ? event.delta.text : "";
  }
  assert.equal(said, TEXT);
  assert.deepEqual([kinds[0], kinds.at(-2), kinds.at(-1)], ["message_start", "message_delta", "message_stop"]);
  let heard = "";
  const streamed = client.messages.stream(asked(slug, "Hello")).on("text", (piece) => (heard += piece));
  const final = await streamed.finalMessage();
  assert.deepEqual([textOf(final), heard, final.stop_reason], [TEXT, TEXT, "end_turn"]);
  assert.deepEqual([final.usage.input_tokens, final.usage.output_tokens], [8, 7]);
}

async function tools(client, slug) {
  const thinking = { type: "enabled", budget_tokens: 1024 };
  const more = { tools: [{ name: "get_weather", description: DESCRIPTION, input_schema: INPUT }], thinking };
  const messages = asked(slug, TWICE).messages;
  const called = await client.messages.stream(asked(slug, TWICE, more)).finalMessage();
  assert.equal(called.stop_reason, "tool_use");
  assert.equal(called.content[0].type, "thinking");
  const calls = called.content.filter((block) => block.type === "tool_use");
  assert.deepEqual(
    calls.map((call) => [call.name, call.input]),
    Array(2).fill(["get_weather", { city: "Köln" }]),
  );
  messages.push({ role: "assistant", content: called.content });
  const content = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "sunny" }));
  messages.push({ role: "user", content });
  const final = await client.messages.create({ ...asked(slug, ""), ...more, messages });
  assert.match(textOf(final), /The tool said: sunny/);
}

async function toolRunner(client, slug) {
  for (const stream of [false, true]) {
    const cities = [];
    const get_weather = betaTool({
      name: "get_weather",
      description: DESCRIPTION,
      inputSchema: INPUT,
      run: ({ city }) => {
        cities.push(city);
        return "sunny";
      },
    });
    const final = await client.beta.messages.toolRunner(asked(slug, TWICE, { tools: [get_weather], stream }));
    assert.match(textOf(final), /The tool said: sunny/);
    assert.deepEqual(cities, ["Köln", "Köln"]);
  }
}

async function structured(client, slug) {
  const format = jsonSchemaOutputFormat({
    type: "object",
    properties: { name: { type: "string" }, people: { type: "integer" } },
    required: ["name", "people"],
    additionalProperties: false,
  });
  const whole = await client.messages.parse(asked(slug, "A city", { output_config: { format } }));
  assert.deepEqual(whole.parsed_output, { name: "Köln", people: 7 });
  const streamed = client.messages.stream(asked(slug, "A city", { output_config: { format } }));
  assert.deepEqual((await streamed.finalMessage()).parsed_output, { name: "Köln", people: 7 });
}

async function image(client, slug) {
  const source = { type: "base64", media_type: "image/png", data: PIXEL };
  const content = [
    { type: "image", source },
    { type: "text", text: "What?" },
  ];
  assert.equal(textOf(await client.messages.create(asked(slug, content))), "I see image/png of 68 bytes");
}

async function error(client, slug) {
  for (const [status, kind] of [
    [400, BadRequestError],
    [429, RateLimitError],
    [500, InternalServerError],
  ]) {
    for (const stream of [false, true]) {
      const failed = client.messages.create({ ...asked(slug, "x", { stream }), model: `${slug}/status-${status}-json` });
      await assert.rejects(failed, (error) => {
        assert.ok(error instanceof kind, error);
        assert.equal(error.status, status === 500 ? 502 : status);
        assert.equal(error.error.type, "error");
        assert.ok(error.requestID);
        return true;
      });
    }
  }
}

async function count(client, slug) {
  const { messages, model } = asked(slug, "Hello, how are you?");
  assert.ok((await client.messages.countTokens({ model, messages })).input_tokens > 5);
}

const [baseURL, apiKey, slug] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
await run({ text, stream, tools, toolRunner, structured, image, error, count }, client, slug);
