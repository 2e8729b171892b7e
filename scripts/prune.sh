#!/bin/bash
# Has images that nobody uses removed: $PRUNE_EVERY (daily, weekly or monthly), those
# unused for $PRUNE_DAYS days.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

step "remove container images $PRUNE_EVERY that were unused for $PRUNE_DAYS days"
put /etc/systemd/system/gpustrap-prune.service 0644 <<END
[Unit]
Description=Remove container images that nobody uses
After=docker.service
ConditionPathExists=/var/run/docker.sock

[Service]
Type=oneshot
Nice=10
IOSchedulingClass=idle
ExecStart=/bin/bash $here/docker-prune.sh $PRUNE_DAYS
END
put /etc/systemd/system/gpustrap-prune.timer 0644 <<END
[Unit]
Description=Remove container images that nobody uses, $PRUNE_EVERY

[Timer]
OnCalendar=$PRUNE_EVERY
Persistent=true
RandomizedDelaySec=1h

[Install]
WantedBy=timers.target
END
enable_unit gpustrap-prune.timer
