// PouchDB on LevelDB: a store of its own, so there is no plain statement to compare it with. Its replication is both
// export and import; its bytes are the changes with their documents, as JSON.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { default: PouchDB } = await import('pouchdb-node');
const work = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const folder = mkdtempSync(join(tmpdir(), 'sync-bench-'));
const found = {};

async function cpu(name, action) {
  const before = process.cpuUsage();
  const result = await action();
  const { user, system } = process.cpuUsage(before);
  found[name] = (user + system) / 1e6;
  return result;
}

// The first pass lets the machine make its code; the second counts.
for (const pass of [1, 2]) {
  const [source, target] = ['source', 'target'].map((name) => new PouchDB(join(folder, `${name}-${pass}`)));
  const documents = new Map();
  const edits = {
    insert: ([id, title, body, amount, price]) => ({ _id: id, title, body, amount, price }),
    update: ([amount, id]) => ({ ...documents.get(id), amount }),
    delete: ([id]) => ({ ...documents.get(id), _deleted: true }),
  };
  let since = 0;
  for (const [verb, [, rows]] of Object.entries(work.statements)) {
    const changed = rows.map(edits[verb]);
    const answers = await cpu(`${verb}: captured`, () => source.bulkDocs(changed));
    answers.forEach(({ id, rev }, i) => documents.set(id, { ...changed[i], _rev: rev }));
    const { results, last_seq } = await source.changes({ since, include_docs: true });
    since = last_seq;
    found[`${verb}: bytes`] = Buffer.byteLength(JSON.stringify(results));
    await cpu(`${verb}: exported and imported`, () => source.replicate.to(target, { batch_size: 1000 }));
    const { total_rows: count } = await target.allDocs({ limit: 0 });
    if (count !== (await source.allDocs({ limit: 0 })).total_rows) throw new Error(`the ${verb} did not arrive`);
  }
}
const { version } = JSON.parse(readFileSync('node_modules/pouchdb-node/package.json'));
console.log(JSON.stringify({ name: `PouchDB ${version}`, found }));
rmSync(folder, { recursive: true });
process.exit(0);
