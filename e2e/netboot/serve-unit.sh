#!/bin/sh
# Runs gpustrap serve by its systemd unit on a machine that the tests installed, and
# says how that went, for a test to read. The program, a medium and the configuration
# are there already.
#
#   serve-unit.sh    (as root)
data=/var/lib/gpustrap-serve
for device in /sys/class/net/*/device; do break; done
interface=$(basename "${device%/device}")
address=$(ip -4 -o addr show "$interface" | sed -n 's|.* inet \([0-9.]*\)/.*|\1|p')

main() { systemctl show -P MainPID gpustrap.service; }
# answers waits for the server, for as long as emulation may take.
answers() {
	for _ in $(seq 300); do
		! curl -fs "http://$address/healthz" >/dev/null || return 0
		sleep 1
	done
	journalctl --no-pager -u gpustrap.service | tail -n 20
	return 1
}
server() {
	command=$1
	shift
	gpustrap "$command" --server https://127.0.0.1:8443 --token-file $data/admin-token "$@"
}
phase() { server status --json spare | jq -r '.[0].record.phase'; }

report() {
	useradd --system --user-group --home-dir $data gpustrap
	chgrp gpustrap /etc/gpustrap /etc/gpustrap/gpustrap.yaml
	chmod g+rX /etc/gpustrap /etc/gpustrap/gpustrap.yaml
	gpustrap serve --print-unit >/etc/systemd/system/gpustrap.service
	sed -i "/^ExecStart=/s|eth1 --iso .*|$interface --iso /usr/local/lib/medium.iso|" /etc/systemd/system/gpustrap.service
	systemctl daemon-reload
	echo "verify $(systemd-analyze verify gpustrap.service 2>&1)"
	echo "exposure $(systemd-analyze --no-pager security gpustrap.service | sed -n 's/.*gpustrap.service: \([0-9.]*\).*/\1/p')"

	systemctl start gpustrap.service
	answers && echo "answers"
	pid=$(main)
	echo "user $(stat -c %U "/proc/$pid")"
	sed -n 's/:[[:space:]]*/ /; /^\(CapEff\|NoNewPrivs\|Seccomp\) /p' "/proc/$pid/status"
	echo "ports $(ss -Hltun | sed -n 's/.*:\(67\|69\|80\|4011\) .*/\1/p' | sort -nu | xargs)"
	nsenter -m -t "$pid" touch /etc/gpustrap/x /usr/x 2>&1 | sed 's/.*: //' | sort -u
	echo "home $(nsenter -m -t "$pid" ls /home 2>/dev/null)"
	echo "data $(stat -c '%a %U' $data) $(stat -c %a $data/admin-token)"

	server arm --yes spare >/dev/null 2>&1
	echo "armed $(phase)"
	systemctl restart gpustrap.service
	answers && echo "restarted $(phase)"
	kill -9 "$(main)"
	sleep 1
	answers && echo "killed $(phase)"
	began=$(date +%s)
	systemctl stop gpustrap.service
	[ $(($(date +%s) - began)) -ge 25 ] || echo "stopped in time"
	systemctl show -P Result gpustrap.service
	systemctl show -P ActiveState gpustrap.service
}

report >/run/serve-unit 2>&1
{
	echo
	echo "gpustrap-e2e begin serve-unit"
	cat /run/serve-unit
	echo "gpustrap-e2e end serve-unit"
} >/run/serve-unit.report
cat /run/serve-unit.report
