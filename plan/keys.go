package plan

import (
	"fmt"

	"github.com/gpustrap/gpustrap/config"
	"github.com/gpustrap/gpustrap/keys"
	"github.com/gpustrap/gpustrap/report"
)

// checkKeys holds every repository key given in the file against the
// fingerprint that goes with it.
func checkKeys(m *config.Machine) report.Report {
	var rep report.Report
	for _, s := range []struct {
		name   string
		source config.Source
	}{
		{"ubuntu", m.Sources.Ubuntu}, {"docker", m.Sources.Docker},
		{"toolkit", m.Sources.Toolkit}, {"cuda", m.Sources.CUDA},
	} {
		if len(s.source.Key) == 0 {
			continue
		}
		at := "sources." + s.name + ".key"
		complain := func(summary, detail string) {
			rep.Add(report.Diagnostic{
				Severity: report.Error, Path: at, Pos: m.Origin(at), Summary: summary, Detail: detail,
			})
		}
		ring, err := keys.Parse(s.source.Key)
		if err != nil {
			complain(fmt.Sprintf("the key is no OpenPGP public key: %v", err),
				"give the repository's public key, armored or binary")
			continue
		}
		if want := s.source.Fingerprint; want != "" && !ring.Has(want) {
			complain(fmt.Sprintf("the key has the fingerprint %s, not %s", ring.Fingerprints()[0], want),
				"compare both with what the repository's owner publishes")
		}
	}
	return rep
}
