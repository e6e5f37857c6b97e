// What an application does with OpenAI's package, as judged by the package itself: chat completions and Responses.
// Exports the scenarios by name; each is given a client, a provider's slug and the classes of the package's errors.
const assert = require("node:assert/strict");

const TEXT = "Grüße, 世界 👋🏽!";
const TWICE = "The weather in two cities? Say it twice, think aloud.";
const PIXEL =
  "data:image/png;base64," +
  Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), Buffer.alloc(60)]).toString("base64");
const CITY = {
  type: "object",
  properties: { name: { type: "string" }, people: { type: "integer" } },
  required: ["name", "people"],
  additionalProperties: false,
};
const WEATHER = {
  name: "get_weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

function asked(slug, content, more = {}) {
  return { model: `${slug}/agent`, messages: [{ role: "user", content }], ...more };
}

// --- Chat completions ------------------------------------------------------------------------------------------------
async function chatText(client, slug) {
  const { data, request_id: id } = await client.chat.completions.create(asked(slug, "Hello")).withResponse();
  assert.equal(data.object, "chat.completion");
  assert.equal(data.model, `${slug}/agent`);
  assert.equal(data.choices[0].message.content, TEXT);
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.usage.completion_tokens, 7);
  assert.ok(id);
}

async function chatStream(client, slug) {
  const stream = await client.chat.completions.create(
    asked(slug, "Hello", { stream: true, stream_options: { include_usage: true } }),
  );
  let text = "";
  let last;
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    text += chunk.choices[0]?.delta.content ?? "";
    last = chunk;
  }
  assert.equal(text, TEXT);
  assert.equal(last.usage.completion_tokens, 7);
  const final = await client.chat.completions.stream(asked(slug, "Hello")).finalChatCompletion();
  assert.equal(final.choices[0].message.content, TEXT);
}

async function chatTools(client, slug) {
  for (const stream of [false, true]) {
    const cities = [];
    const get_weather = ({ city }) => {
      cities.push(city);
      return "sunny";
    };
    const tools = [{ type: "function", function: { ...WEATHER, function: get_weather, parse: JSON.parse } }];
    const runner = client.chat.completions.runTools(asked(slug, TWICE, { tools, stream, reasoning_effort: "low" }));
    assert.match(await runner.finalContent(), /The tool said: sunny/);
    assert.deepEqual(cities, ["Köln", "Köln"]);
    const called = runner.messages.find((message) => message.tool_calls);
    assert.equal(new Set(called.tool_calls.map((call) => call.id).filter(Boolean)).size, 2);
  }
}

async function chatStructured(client, slug) {
  const response_format = { type: "json_schema", json_schema: { name: "city", schema: CITY, strict: true } };
  const whole = await client.chat.completions.parse(asked(slug, "A city", { response_format }));
  assert.deepEqual(whole.choices[0].message.parsed, { name: "Köln", people: 7 });
  const streamed = await client.chat.completions.stream(asked(slug, "A city", { response_format })).finalContent();
  assert.deepEqual(JSON.parse(streamed), { name: "Köln", people: 7 });
}

async function chatImage(client, slug) {
  const parts = [
    { type: "text", text: "What?" },
    { type: "image_url", image_url: { url: PIXEL } },
  ];
  const answer = await client.chat.completions.create(asked(slug, parts));
  assert.equal(answer.choices[0].message.content, "I see image/png of 68 bytes");
}

async function chatError(client, slug, errors) {
  for (const [status, kind] of [
    [400, errors.BadRequestError],
    [429, errors.RateLimitError],
    [500, errors.InternalServerError],
  ]) {
    for (const stream of [false, true]) {
      const failed = client.chat.completions.create({ ...asked(slug, "x", { stream }), model: `${slug}/status-${status}-json` });
      await assert.rejects(failed, (error) => {
        assert.ok(error instanceof kind, error);
        assert.equal(error.status, status === 500 ? 502 : status);
        assert.ok(error.requestID);
        return true;
      });
    }
  }
}

// --- Responses -------------------------------------------------------------------------------------------------------
async function responsesText(client, slug) {
  const answer = await client.responses.create({ model: `${slug}/agent`, instructions: "Be kind.", input: "Hello" });
  assert.equal(answer.object, "response");
  assert.equal(answer.model, `${slug}/agent`);
  assert.equal(answer.status, "completed");
  assert.equal(answer.output_text, TEXT);
}

async function responsesStream(client, slug) {
  const stream = client.responses.stream({ model: `${slug}/agent`, input: "Hello" });
  let text = "";
  let number = -1;
  for await (const event of stream) {
    assert.ok(event.sequence_number > number);
    number = event.sequence_number;
    text += event.type === "response.output_text.delta" ? event.delta : "";
  }
  assert.equal(text, TEXT);
  assert.equal((await stream.finalResponse()).output_text, TEXT);
}

async function responsesTools(client, slug) {
  const more = { model: `${slug}/agent`, tools: [{ type: "function", ...WEATHER, strict: false }] };
  const input = [{ role: "user", content: TWICE }];
  const reasoning = { effort: "low", summary: "auto" };
  const include = ["reasoning.encrypted_content"];
  const called = await client.responses.stream({ ...more, input, reasoning, include }).finalResponse();
  const calls = called.output.filter((item) => item.type === "function_call");
  assert.deepEqual(
    calls.map((call) => [call.name, JSON.parse(call.arguments)]),
    Array(2).fill(["get_weather", { city: "Köln" }]),
  );
  input.push(...called.output.map(({ parsed_arguments, ...item }) => item));
  input.push(...calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "sunny" })));
  const answer = await client.responses.create({ ...more, input, reasoning, include });
  assert.match(answer.output_text, /The tool said: sunny/);
}

async function responsesStructured(client, slug) {
  const text = { format: { type: "json_schema", name: "city", schema: CITY, strict: true } };
  const answer = await client.responses.parse({ model: `${slug}/agent`, input: "A city", text });
  assert.deepEqual(answer.output_parsed, { name: "Köln", people: 7 });
}

async function responsesImage(client, slug) {
  const content = [
    { type: "input_text", text: "What?" },
    { type: "input_image", image_url: PIXEL, detail: "auto" },
  ];
  const answer = await client.responses.create({ model: `${slug}/agent`, input: [{ role: "user", content }] });
  assert.equal(answer.output_text, "I see image/png of 68 bytes");
}

async function responsesError(client, slug, errors) {
  for (const [status, kind] of [
    [400, errors.BadRequestError],
    [429, errors.RateLimitError],
    [500, errors.InternalServerError],
  ]) {
    await assert.rejects(client.responses.create({ model: `${slug}/status-${status}-json`, input: "x" }), kind);
  }
}

module.exports = {
  chatText,
  chatStream,
  chatTools,
  chatStructured,
  chatImage,
  chatError,
  responsesText,
  responsesStream,
  responsesTools,
  responsesStructured,
  responsesImage,
  responsesError,
};
