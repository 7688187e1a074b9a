# shellcheck shell=bash
# A server of S3 for the scripts that need one. Sourced; needs say.sh.

# start_minio FOLDER PORT: MinIO on this machine with an empty bucket `backups`, whose bytes
# lie in FOLDER/data/backups; the keys lie in FOLDER/credentials. Sets $minio, its process,
# which ends with the script at the latest.
start_minio() {
  local folder=$1 port=$2 program
  program=$(storage/s3/tests/s3/s3-server minio)/program
  mkdir -p "$folder/data/backups" "$folder/certs" "$folder/credentials"
  (
    umask 077
    printf accesskey >"$folder/credentials/accessKeyId"
    printf secretsecret >"$folder/credentials/secretAccessKey"
  )
  env "HOME=$folder" MINIO_ROOT_USER=accesskey MINIO_ROOT_PASSWORD=secretsecret MINIO_UPDATE=off MINIO_BROWSER=off \
    setpriv --pdeathsig=KILL "$program" server --quiet --address "127.0.0.1:$port" \
    --certs-dir "$folder/certs" "$folder/data" &>"$folder/minio.log" &
  # shellcheck disable=SC2034 # for the caller, who ends it
  minio=$!
  wait_until 30 answers "$port" || fail "MinIO does not start: $(tail -n 5 "$folder/minio.log")"
}

# answers PORT: whether a server of this machine takes connections there.
answers() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
