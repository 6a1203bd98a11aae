// What one client does, by the official TypeScript client, which lies below the folder of the first
// argument; then `legacy` or `auto`, and `http URL TOKEN` or `stdio COMMAND ARG...`.
import { createRequire } from 'node:module';

const [folder, mode, transport, ...rest] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');

const open = () => {
  if (transport === 'stdio') {
    const [command, ...args] = rest;
    return new StdioClientTransport({ command, args, stderr: 'inherit' });
  }
  const [url, token] = rest;
  const headers = { Authorization: `Bearer ${token}` };
  return new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
};

const plain = (result) => ({
  error: result.isError ?? false,
  structured: result.structuredContent ?? null,
  texts: result.content.map((block) => block.text),
});

const client = new Client(
  { name: 'airssys-tests', version: '0.0.0' },
  { versionNegotiation: { mode } },
);
await client.connect(open());
const call = async (name, args = {}, options = {}) =>
  plain(await client.callTool({ name, arguments: args }, options));

const facts = {
  protocol: client.getNegotiatedProtocolVersion(),
  server: client.getServerVersion().name,
};
facts.tools = (await client.listTools()).tools.map((tool) => tool.name);
facts.answer = await call('calculator_divide', { dividend: 7, divisor: 2 });
facts.guest_error = await call('calculator_divide', { dividend: 7, divisor: 0 });
facts.trap = await call('crasher_trap');
facts.after_trap = await call('crasher_ping');
facts.progress = [];
facts.parked = await call('spinner_park-ms', { milliseconds: 500 }, {
  onprogress: (word) => facts.progress.push([word.progress, word.total ?? null, word.message]),
});
const began = performance.now();
const giveUp = new AbortController();
// Once it is at work, and not while it waits.
facts.given_up = await call('spinner_spin', {}, {
  signal: giveUp.signal,
  onprogress: () => giveUp.abort(),
}).then(
  () => false,
  () => true,
);
facts.after_giving_up = await call('spinner_ping');
facts.seconds_until_then = (performance.now() - began) / 1000;
await client.close();
console.log(JSON.stringify(facts));
process.exit(0);
