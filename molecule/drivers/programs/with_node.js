// SPDX-License-Identifier: GPL-3.0-or-later
// with_node.js OPTIONS RUN ROWS: as with_psycopg.py. A named statement is prepared by the protocol.
const { Client } = require('pg');

async function main(options, run, rows) {
  const told = { errors: [] };
  const client = new Client(JSON.parse(options));
  await client.connect();
  for (let number = 1; number <= rows; number += 1) {
    try {
      await client.query({
        name: 'write', text: 'INSERT INTO clients VALUES ($1, $2)', values: [run, number],
      });
    } catch (error) {
      told.errors.push(`${error.code}: ${error.message}`);
      break;
    }
    await new Promise((done) => { setTimeout(done, 20); });
  }
  for (let time = 0; time < 2; time += 1) {
    const { rows: [row] } = await client.query({
      name: 'read',
      text: 'SELECT pg_is_in_recovery() AS standby, count(*)::int AS rows FROM clients WHERE run = $1',
      values: [run],
    });
    Object.assign(told, row);
  }
  await client.end();
  console.log(JSON.stringify(told));
}

main(process.argv[2], process.argv[3], Number(process.argv[4]))
  .catch((error) => { console.error(error); process.exit(1); });
