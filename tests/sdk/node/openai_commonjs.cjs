// OpenAI's package as CommonJS. Usage: node openai_commonjs.cjs BASE_URL KEY SLUG
const OpenAI = require("openai");
const run = require("./running.cjs");
const scenarios = require("./openai_scenarios.cjs");

const [baseURL, apiKey, slug] = process.argv.slice(2);
run(scenarios, new OpenAI({ baseURL: `${baseURL}/v1`, apiKey, maxRetries: 0, timeout: 20_000 }), slug, OpenAI);
