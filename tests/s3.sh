#!/usr/bin/env bash
# Runs the tests of buckets against a real S3-compatible server (moto's, a package of Python's) on loopback. The server and what it
# needs are in a folder beside the build's; it ends with the script.
#   tests/s3.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-${CARGO_TARGET_DIR:-target}/s3-server}"
if [ ! -x "$folder/bin/moto_server" ]; then
    if ! { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.2.5'; }; then
        echo 'moto can not be installed: buckets are NOT tested against a real server' >&2
        exit 0
    fi
fi
port="$("$folder/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
"$folder/bin/moto_server" --host 127.0.0.1 --port "$port" >"$folder/server.log" 2>&1 &
server=$!
trap 'kill "$server"' EXIT
curl --silent --retry 50 --retry-delay 1 --retry-connrefused --output /dev/null "http://127.0.0.1:$port/"
"$folder/bin/python" - "http://127.0.0.1:$port" <<'END'
import boto3, sys
s3 = boto3.client("s3", "eu-central-1", endpoint_url=sys.argv[1], aws_access_key_id="AKIATEST", aws_secret_access_key="-")
s3.create_bucket(Bucket="inboxdb-test", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
END
INBOXDB_TEST_S3="http://127.0.0.1:$port" cargo test --test it storages:: -- --test-threads 1
