# Succeeds if each model named has an available version: bash probe.sh MODEL...
# The server's image has bash, and no curl. REST_PORT is 8501 unless it is set.
set -eu
for model in "$@"; do
    exec 3<>"/dev/tcp/127.0.0.1/${REST_PORT:-8501}"
    printf 'GET /v1/models/%s HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$model" >&3
    grep -q '"state": *"AVAILABLE"' <&3
    exec 3>&-
done
