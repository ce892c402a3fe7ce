// Runs statements on one DuckDB database, in a process of its own as a program that
// embeds it would: a line of JSON in, {"sql": text, "values": [...]}, a line of JSON
// out, {"rows": [...], "seconds": n, "processor": n} or {"error": text}. The times are
// those of the statement and of the reading of its rows: seconds on the clock, and of
// all threads on the processors.
//
//   node duckdb.mjs FILE
import { createInterface } from 'node:readline';
import { DuckDBInstance } from '@duckdb/node-api';

const instance = await DuckDBInstance.create(process.argv[2]);
const connection = await instance.connect();
const prepared = new Map();

async function run({ sql, values }) {
  if (!values) return (await connection.runAndReadAll(sql)).getRowsJson();
  if (!prepared.has(sql)) prepared.set(sql, await connection.prepare(sql));
  const statement = prepared.get(sql);
  statement.bind(values);
  return (await statement.runAndReadAll()).getRowsJson();
}

for await (const line of createInterface({ input: process.stdin })) {
  const start = performance.now();
  const used = process.cpuUsage();
  let answer;
  try {
    const rows = await run(JSON.parse(line));
    const seconds = (performance.now() - start) / 1e3;
    const { user, system } = process.cpuUsage(used);
    answer = { rows, seconds, processor: (user + system) / 1e6 };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
connection.closeSync();
instance.closeSync();
