// cr-sqlite as WebAssembly, in memory, by the statements of its documentation; the plain statements run in the same build.
import { readFileSync } from 'node:fs';

globalThis.fetch = async (path) => new Response(readFileSync(path), { headers: { 'content-type': 'application/wasm' } });
const { default: load } = await import('@vlcn.io/crsqlite-wasm');
const folder = process.cwd() + '/node_modules/@vlcn.io/crsqlite-wasm';
const work = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const sqlite = await load((file) => `${folder}/dist/${file}`);
const found = {};

async function cpu(name, action) {
  const before = process.cpuUsage();
  const result = await action();
  const { user, system } = process.cpuUsage(before);
  found[name] = (user + system) / 1e6;
  return result;
}

async function run(db, sql, rows) {
  await db.exec('BEGIN');
  const statement = await db.prepare(sql);
  for (const row of rows) await statement.run(null, ...row);
  await statement.finalize(null);
  await db.exec('COMMIT');
}

// The first pass lets the machine make its code; the second counts.
for (const pass of [1, 2]) {
  const [plain, source, target] = await Promise.all([1, 2, 3].map(() => sqlite.open(':memory:')));
  for (const db of [plain, source, target]) await db.exec('PRAGMA temp_store = MEMORY'); // it has no temporary files
  for (const db of [plain, source, target]) await db.exec(work.schema.replace('PRIMARY KEY', 'PRIMARY KEY NOT NULL'));
  for (const db of [source, target]) await db.exec("SELECT crsql_as_crr('items')");
  let since = 0;
  for (const [verb, [sql, rows]] of Object.entries(work.statements)) {
    await cpu(`${verb}: plain`, () => run(plain, sql, rows));
    await cpu(`${verb}: captured`, () => run(source, sql, rows));
    const changes = await cpu(`${verb}: exported`, () => source.execA(
      'SELECT "table", pk, cid, val, col_version, db_version, site_id, cl, seq FROM crsql_changes WHERE db_version > ?', [since]));
    [[since]] = await source.execA('SELECT crsql_db_version()');
    found[`${verb}: bytes`] = changes.flat().reduce((sum, value) => sum + (value?.length ?? 4), 0);
    await cpu(`${verb}: imported`, () => run(target, 'INSERT INTO crsql_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)', changes));
    const [one, two] = await Promise.all([source, target].map((db) => db.execA(work.look)));
    if (JSON.stringify(one) !== JSON.stringify(two)) throw new Error(`the ${verb} did not arrive`);
  }
}
const { version } = JSON.parse(readFileSync(`${folder}/package.json`));
console.log(JSON.stringify({ name: `cr-sqlite ${version}, WebAssembly`, found }));
process.exit(0);
