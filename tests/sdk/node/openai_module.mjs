// OpenAI's package as an ES module. Usage: node openai_module.mjs BASE_URL KEY SLUG
import OpenAI, { BadRequestError, InternalServerError, RateLimitError } from "openai";

import scenarios from "./openai_scenarios.cjs";
import run from "./running.cjs";

const [baseURL, apiKey, slug] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey, maxRetries: 0, timeout: 20_000 });
await run(scenarios, client, slug, { BadRequestError, InternalServerError, RateLimitError });
