#!/bin/bash
# A first look at Purser, as any user: a mock identity service and the agent on
# loopback, and a credential through curl and through the AWS SDK for Go. Everything
# it starts it also stops, and the keys it shows open nothing.
#
# PORT and the next one are used for the agent. BIN is where the binaries are.
set -euo pipefail
bin=${BIN:-$(dirname "$0")/../../bin}
port=${PORT:-25772}
agent=http://127.0.0.1:$port

dir=$(mktemp -d)
chmod 755 "$dir"
stop() {
	local pid
	for pid in "${purser:-}" "${mock:-}"; do
		[[ -z $pid ]] || { kill "$pid" 2>/dev/null && wait "$pid"; } || true
	done
	rm -rf "$dir"
}
trap stop EXIT

step() { printf '\n# %s\n' "$*"; }
fail() {
	echo "demo: $1; the agent said:" >&2
	cat "$dir/agent.log" >&2
	exit 1
}

step 'An identity service that is none: one role, keys of an hour'
"$bin/purser-mock" --listen 127.0.0.1:0 >"$dir/url" 2>"$dir/mock.log" &
mock=$!
for ((i = 0; i < 100; i++)); do
	[[ -s $dir/url ]] && break
	sleep 0.05
done
url=$(cat "$dir/url")
echo "$url"

step 'The agent, and all the configuration it needs here'
mkdir "$dir/run"
tee "$dir/purser.yaml" <<END
listen: {main: {address: 127.0.0.1:$port}}
telemetry: {listen: 127.0.0.1:$((port + 1))}
admin: {socket: $dir/run/purser.sock}
user: nobody        # only root gives itself up
group: nogroup
aws:
  imds_v1: true     # off unless asked for
  metadata: {placement: {region: eu-central-1, availability-zone: eu-central-1a}}
upstreams:
  datacenter: {kind: ims, url: "$url"}
grants:
  everyone: {credentials: ["*"]}
END
"$bin/purser" serve --config "$dir/purser.yaml" >"$dir/agent.log" 2>&1 &
purser=$!
"$bin/purser" wait --timeout 20s --socket "$dir/run/purser.sock" || fail 'the agent did not get ready'
"$bin/purser" status --socket "$dir/run/purser.sock"

list=$agent/latest/meta-data/iam/security-credentials/
step 'Its answers are those of the metadata service, version 2:'
token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$agent/latest/api/token")
role=$(curl -fsS -H "X-aws-ec2-metadata-token: $token" "$list") || fail 'no role'
echo "$role"
curl -fsS -H "X-aws-ec2-metadata-token: $token" "$list$role" || fail 'no keys'
echo

step 'and version 1:'
curl -fsS "$list$role" | grep -E 'Code|AccessKeyId|Expiration' || fail 'no keys by version 1'

step 'So an unmodified AWS SDK finds its region and its keys:'
env -i HOME="$dir" AWS_EC2_METADATA_SERVICE_ENDPOINT="$agent" "$bin/purser-demo" || fail 'the SDK found nothing'

step 'The agent stops at once, and cleanly'
kill "$purser"
wait "$purser" || fail "it ended with $?"
purser=
echo 'done'
