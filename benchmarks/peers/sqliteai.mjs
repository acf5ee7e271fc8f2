// sqlite-sync (sqliteai) as WebAssembly, in memory, by the functions of its documentation; the plain statements likewise.
import { readFileSync } from 'node:fs';

const { default: load } = await import('@sqliteai/sqlite-wasm');
const work = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const sqlite = await load({ print: () => {}, printErr: console.error });
const found = {};
const version = new sqlite.oo1.DB(':memory:', 'c').selectValue('SELECT cloudsync_version()');

function cpu(name, action) {
  const before = process.cpuUsage();
  const result = action();
  const { user, system } = process.cpuUsage(before);
  found[name] = (user + system) / 1e6;
  return result;
}

function run(db, sql, rows) {
  db.exec('BEGIN');
  const statement = db.prepare(sql);
  for (const row of rows) statement.bind(row).stepReset();
  statement.finalize();
  db.exec('COMMIT');
}

// The first pass lets the machine make its code; the second counts.
for (const pass of [1, 2]) {
  const [plain, source, target] = [1, 2, 3].map(() => new sqlite.oo1.DB(':memory:', 'c'));
  for (const db of [plain, source, target]) db.exec(work.schema.replace('PRIMARY KEY', 'PRIMARY KEY NOT NULL'));
  for (const db of [source, target]) db.selectValue("SELECT cloudsync_init('items')");
  let since = 0;
  for (const [verb, [sql, rows]] of Object.entries(work.statements)) {
    cpu(`${verb}: plain`, () => run(plain, sql, rows));
    cpu(`${verb}: captured`, () => run(source, sql, rows));
    const payload = cpu(`${verb}: exported`, () => source.selectValue(
      'SELECT cloudsync_payload_encode(tbl, pk, col_name, col_value, col_version, db_version, site_id, cl, seq) ' +
      'FROM cloudsync_changes WHERE db_version > ?', [since]));
    since = source.selectValue('SELECT cloudsync_db_version()');
    found[`${verb}: bytes`] = payload.length;
    cpu(`${verb}: imported`, () => target.selectValue('SELECT cloudsync_payload_decode(?)', [payload]));
    const [one, two] = [source, target].map((db) => JSON.stringify(db.selectArrays(work.look)));
    if (one !== two) throw new Error(`the ${verb} did not arrive`);
  }
}
console.log(JSON.stringify({ name: `sqlite-sync ${version}, WebAssembly`, found }));
process.exit(0);
