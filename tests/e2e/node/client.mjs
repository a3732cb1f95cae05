// SPDX-License-Identifier: MIT
// What node-postgres does with a server; prints what it saw.   node client.mjs PORT
import pg from 'pg';

const where = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'agent',
  password: 'pw-of-agent', database: 'shop' };
const say = (...what) => console.log(JSON.stringify(what));

for (const binary of [false, true]) {
  const c = new pg.Client({ ...where, binary });
  await c.connect();
  for (let i = 0; i < 3; i++) {
    const r = await c.query({ name: 'one', text: 'SELECT $1::int AS a, $2::text AS b', values: [i, 'x'.repeat(i)] });
    say('prepared', r.rows, r.fields.map((f) => f.format));
  }
  try {
    await c.query('SELECT 1/0');
  } catch (e) {
    say('error', e.code, e.message);
  }
  say('many', (await c.query('SELECT 1 AS a; SELECT 2 AS b')).map((r) => r.rows));
  const heard = new Promise((resolve) => c.on('notification', (m) => resolve([m.channel, m.payload])));
  await c.query('LISTEN news');
  await c.query("NOTIFY news, 'hello'");
  say('notification', await heard);
  await c.query('BEGIN');
  await c.query('INSERT INTO notes (body) VALUES ($1)', ['gone']);
  await c.query('ROLLBACK');
  say('after', (await c.query("SELECT count(*)::int AS n FROM notes WHERE body = 'gone'")).rows);
  say('large', (await c.query("SELECT repeat('y', 1000000) AS s FROM generate_series(1, 5)")).rows.map((r) => r.s.length));
  await c.end();
}
const pool = new pg.Pool({ ...where, max: 5 });
const all = await Promise.all([...Array(50).keys()].map((i) => pool.query('SELECT $1::int AS i', [i])));
say('pool', all.map((r) => r.rows[0].i));
await pool.end();
