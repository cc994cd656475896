// SPDX-License-Identifier: GPL-3.0-or-later
// with_pq CONNINFO RUN ROWS: as with_psycopg.py, through database/sql.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	_ "github.com/lib/pq"
)

func main() {
	run := os.Args[2]
	rows, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	pool, err := sql.Open("postgres", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	told := map[string]any{"errors": []string{}}
	write, err := pool.Prepare("INSERT INTO clients VALUES ($1, $2)")
	if err != nil {
		log.Fatal(err)
	}
	for number := 1; number <= rows; number++ {
		if _, err := write.Exec(run, number); err != nil {
			told["errors"] = []string{err.Error()}
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 2 {
		var standby bool
		var found int
		row := pool.QueryRow("SELECT pg_is_in_recovery(), count(*) FROM clients WHERE run = $1", run)
		if err := row.Scan(&standby, &found); err != nil {
			log.Fatal(err)
		}
		told["standby"], told["rows"] = standby, found
	}
	text, err := json.Marshal(told)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}
