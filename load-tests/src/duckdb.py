"""Answers queries with DuckDB: a line of JSON in, a line of JSON out. Started by duckdb.rs."""
import json
import sys
import time

import duckdb

connection = duckdb.connect()
for line in sys.stdin:
    request = json.loads(line)
    began = time.perf_counter()
    try:
        rows = connection.execute(request["sql"]).fetchall()
        seconds = time.perf_counter() - began
        answer = {"seconds": seconds, "rows": [["null" if value is None else str(value) for value in row] for row in rows]}
    except Exception as error:  # pylint: disable=broad-except
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
