#!/bin/sh
# What an upgrade does about the Purser that runs: it restarts it, unless the new version
# would refuse the configuration, so that a mistake there is no outage. Nothing here waits
# for an upstream: Purser is ready again when they answer. purser.socket stays, so that
# clients wait meanwhile.
set -e

# refuses prints what is wrong with the configuration, if anything is. It is tried as the
# user of process $1, and with those variables of it that configure Purser or say where the
# files of LoadCredential= are: others may be secret, and arguments are for all to see.
refuses() {
	status=$(cat "/proc/$1/status") || return 0 # it has just ended
	uid=$(echo "$status" | awk '/^Uid:/ {print $2}')
	gid=$(echo "$status" | awk '/^Gid:/ {print $2}')
	groups=$(echo "$status" | awk '/^Groups:/ {$1 = ""; gsub(/^ +| +$/, ""); gsub(/ +/, ","); print}')
	# shellcheck disable=SC2016 # these are arguments of the inner shell
	said=$(grep --null-data --text --extended-regexp '^(PURSER_|CREDENTIALS_DIRECTORY=)' "/proc/$1/environ" |
		xargs --null setpriv --reuid="$uid" --regid="$gid" --groups="${groups:-$gid}" \
			sh -c 'exec env --ignore-environment "PATH=$PATH" "$@" purser check --offline' sh 2>&1) || printf '%s\n' "$said"
}

pid=$(systemctl show --value --property=MainPID purser.service)
if [ "${pid:-0}" != 0 ]; then
	wrong=$(refuses "$pid")
	if [ -n "$wrong" ]; then
		printf 'purser: not restarted, the old version goes on:\n%s\npurser: mend it and run: %s\n' \
			"$wrong" "systemctl restart purser 'purser-file@*'" >&2
		exit 0
	fi
fi
systemctl --no-block try-restart purser.service 'purser-file@*.service'
