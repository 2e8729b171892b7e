package main

// serveUnit is a systemd unit for serve: not root, with the one capability that low
// ports need, and nothing to write to but its own folder.
const serveUnit = `[Unit]
Description=Install machines over the network
Documentation=https://github.com/gpustrap/gpustrap
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/local/bin/gpustrap serve -c /etc/gpustrap/gpustrap.yaml --data /var/lib/gpustrap-serve --interface eth1 --iso /srv/gpustrap/ubuntu-24.04.3-live-server-amd64.iso
User=gpustrap
Group=gpustrap
StateDirectory=gpustrap-serve
StateDirectoryMode=0700
UMask=0077
Restart=on-failure
RestartSec=2
TimeoutStopSec=30
LimitNOFILE=65536

AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`
