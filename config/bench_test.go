package config

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bigFleet writes a configuration of n machines, each with its own match,
// address and disk.
func bigFleet(n int) []byte {
	var b strings.Builder
	b.WriteString(`version: 1
ubuntu: "24.04"
profiles:
  base:
    user: {name: ops, password_file: files/ops.hash, authorized_keys: [{file: files/team.pub}]}
    gpu: {model: h200, count: 8}
    docker: {log: {max_size: 10m}}
    network: {gateway: 10.255.255.254, nameservers: [10.0.0.53]}
  lab: {extends: base, packages: [htop, tmux]}
machines:
`)
	for i := range n {
		fmt.Fprintf(&b, `  - name: node%05d
    profile: lab
    match: {mac: "b8:ce:f6:%02x:%02x:%02x", serial: S%08d}
    network:
      addresses: [10.%d.%d.%d/8]
    storage: {disk: {serial: S6ESNX0W%06d}}
`, i, i>>16, i>>8&255, i&255, i, 1+i>>16, i>>8&255, i&255, i)
	}
	return []byte(b.String())
}

func BenchmarkLoad10000Machines(b *testing.B) {
	data := bigFleet(10_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		fleet, rep := Load("gpustrap.yaml", data, readTestdata)
		if fleet == nil || len(fleet.Machines) != 10_000 {
			b.Fatal(rep.Err())
		}
	}
}

// cpuTime returns the processor time of this process so far, which other
// processes on the machine do not lengthen as they do the time on the wall.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A file of ten thousand machines is checked in under two seconds, also where
// every machine is wrong in one way; what is held for it stays below 200 MB.
func TestTenThousandMachines(t *testing.T) {
	good := bigFleet(10_000)
	for name, data := range map[string][]byte{
		"good":       good,
		"one serial": regexp.MustCompile(`serial: S\d{8}\b`).ReplaceAll(good, []byte("serial: SAME")),
		"all wrong":  []byte(strings.ReplaceAll(string(good), "profile: lab", "profil: lab")),
		"one broken": append(append([]byte(nil), good...), "  - {name: x\n"...),
	} {
		t.Run(name, func(t *testing.T) {
			start := cpuTime(t)
			fleet, rep := Load("gpustrap.yaml", data, readTestdata)
			took := cpuTime(t) - start
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			t.Logf("%d bytes, %d problems, %v, %d MB held", len(data), len(rep.Diagnostics), took, mem.HeapAlloc>>20)
			if took > 2*time.Second {
				t.Errorf("took %v of processor time, more than 2 s", took)
			}
			if mem.HeapAlloc > 200<<20 {
				t.Errorf("holds %d MB", mem.HeapAlloc>>20)
			}
			runtime.KeepAlive(fleet)
			runtime.KeepAlive(rep)
		})
	}
}

func BenchmarkOrigin(b *testing.B) {
	fleet, rep := Load("gpustrap.yaml", bigFleet(1), readTestdata)
	if fleet == nil {
		b.Fatal(rep.Err())
	}
	b.ReportAllocs()
	for b.Loop() {
		if pos := fleet.Machines[0].Origin("gpu.driver"); pos.Line != 6 {
			b.Fatal(pos)
		}
	}
}
