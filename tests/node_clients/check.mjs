// Reads each gateway of standard input with the SDKs; exits 1 where one fails or reads otherwise.

import assert from "node:assert";
import fs from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

const rows = JSON.parse(fs.readFileSync(0, "utf8"));
const messages = [{ role: "user", content: "Say it, please." }];
const anyTool = () => tool({ inputSchema: jsonSchema({ type: "object", properties: {} }) });
const tools = { f: anyTool(), g: anyTool() };

function argumentsOf(text) {
  return JSON.parse(text || "{}");
}

function ofOpenAI(choice) {
  const calls = choice.message.tool_calls ?? [];
  return {
    text: choice.message.content ?? "",
    calls: calls.map((call) => [call.id, call.function.name, argumentsOf(call.function.arguments)]),
  };
}

function ofAI(text, calls) {
  return { text, calls: calls.map((call) => [call.toolCallId, call.toolName, call.input]) };
}

async function streamedByAI(model) {
  let failure;
  const onError = ({ error }) => (failure = error);
  const stream = streamText({ model, messages, tools, maxRetries: 0, onError });
  const text = await stream.text;
  if (failure) throw failure;
  return { ...ofAI(text, await stream.toolCalls), reasoning: await stream.reasoningText };
}

async function wholeByAI(model) {
  const answer = await generateText({ model, messages, tools, maxRetries: 0 });
  return { ...ofAI(answer.text, answer.toolCalls), reasoning: answer.reasoningText };
}

function readersOf(url) {
  const client = new OpenAI({ baseURL: url, apiKey: "x", maxRetries: 0 });
  const chat = createOpenAI({ baseURL: url, apiKey: "x" }).chat("m");
  const compatible = createOpenAICompatible({ name: "u", baseURL: url, apiKey: "x" })("m");
  return {
    "openai, whole": async () =>
      ofOpenAI((await client.chat.completions.create({ model: "m", messages })).choices[0]),
    "openai, streamed": async () => {
      const stream = client.chat.completions.stream({ model: "m", messages });
      return ofOpenAI((await stream.finalChatCompletion()).choices[0]);
    },
    "ai with openai, whole": () => wholeByAI(chat),
    "ai with openai, streamed": () => streamedByAI(chat),
    "ai with openai-compatible, whole": () => wholeByAI(compatible),
    "ai with openai-compatible, streamed": () => streamedByAI(compatible),
  };
}

let failed = 0;
let read = 0;
for (const { name, url, text, calls, reasoning } of rows) {
  for (const [reader, use] of Object.entries(readersOf(url))) {
    try {
      const got = await use();
      const named = got.calls.map(([id, ...rest], n) => [
        calls[n]?.[0] === true ? id.startsWith("call_") : id,
        ...rest,
      ]);
      const wanted = calls.map(([id, called, given]) => [id, called, argumentsOf(given)]);
      assert.deepStrictEqual({ text: got.text, calls: named }, { text, calls: wanted });
      // The OpenAI format has no reasoning; only the other reader looks for it.
      if (reader.includes("compatible")) assert.strictEqual(got.reasoning ?? "", reasoning);
      read += 1;
    } catch (error) {
      failed += 1;
      console.log(`${name}, ${reader}: ${error.stack ?? error}`);
    }
  }
}
console.log(`${read} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
