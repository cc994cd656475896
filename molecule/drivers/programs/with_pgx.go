// SPDX-License-Identifier: GPL-3.0-or-later
// with_pgx URL RUN ROWS: as with_psycopg.py. pgx prepares every statement that it is given.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v4"
)

func main() {
	run := os.Args[2]
	rows, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	nothing := context.Background()
	connection, err := pgx.Connect(nothing, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close(nothing)
	told := map[string]any{"errors": []string{}}
	for number := 1; number <= rows; number++ {
		if _, err := connection.Exec(nothing, "INSERT INTO clients VALUES ($1, $2)", run, number); err != nil {
			told["errors"] = []string{err.Error()}
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 2 {
		var standby bool
		var found int
		row := connection.QueryRow(nothing, "SELECT pg_is_in_recovery(), count(*) FROM clients WHERE run = $1", run)
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
