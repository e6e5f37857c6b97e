// The realtime client of the package `openai`, over Node's `ws`, and then `ws` alone. Says what it saw as JSON.
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import OpenAI from "openai";
import WebSocket from "ws";

const [address, key] = process.argv.slice(2);
const host = address.replace(/^https?:\/\//, "");

function throughThePackage() {
  return new Promise((resolve) => {
    const client = new OpenAI({ apiKey: key, baseURL: `${address}/v1` });
    const realtime = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client);
    const seen = { url: String(realtime.url) };
    realtime.socket.on("open", () => {
      seen.protocol = realtime.socket.protocol;
      realtime.send({ type: "session.update", session: { type: "realtime" } });
    });
    realtime.on("event", (event) => {
      seen.type = event.type;
      realtime.close();
    });
    realtime.on("error", (error) => (seen.error = String(error.message)));
    realtime.socket.on("close", (code) => resolve({ ...seen, code }));
  });
}

function alone(options) {
  return new Promise((resolve) => {
    const socket = new WebSocket(`wss://${host}/v1/realtime?model=gpt-realtime`, ...options);
    const seen = {};
    socket.on("upgrade", (response) => (seen.requestId = response.headers["x-aperture-request-id"]));
    socket.on("unexpected-response", (_request, response) => resolve({ status: response.statusCode }));
    socket.on("open", () => socket.send("hello"));
    socket.on("message", (data) => {
      seen.message = String(data);
      seen.protocol = socket.protocol;
      socket.close(1000);
    });
    socket.on("close", (code) => resolve({ ...seen, code }));
  });
}

const found = {
  package: await throughThePackage(),
  header: await alone([{ headers: { Authorization: `Bearer ${key}` } }]),
  protocols: await alone([["realtime", `openai-insecure-api-key.${key}`]]),
  refused: await alone([{ headers: { Authorization: "Bearer sg-nothing" } }]),
};
console.log(JSON.stringify(found));
