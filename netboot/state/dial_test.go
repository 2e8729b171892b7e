package state

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// TestDial uses an etcd that others run as it uses its own.
func TestDial(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := url.URL{Scheme: "http", Host: probe.Addr().String()}
	_ = probe.Close()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(t.TempDir(), "etcd")
	cfg.ListenPeerUrls = nil
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{address}, []url.URL{address}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	<-server.Server.ReadyNotify()
	var stores []*Store
	for range 2 { // two servers on one etcd
		s, err := Dial(t.Context(), []string{address.String()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		stores = append(stores, s)
	}
	armed, err := stores[0].Arm(t.Context(), order("node01"))
	if err != nil {
		t.Fatal(err)
	}
	changes := stores[1].Watch(t.Context(), armed.Revision)
	step := Edge{Phase: Booting, Time: start}
	if _, err := stores[0].Advance(t.Context(), "node01", 1, []Phase{Armed}, step); err != nil {
		t.Fatal(err)
	}
	if _, err := stores[1].Advance(t.Context(), "node01", 1, []Phase{Armed}, step); !errors.Is(err, ErrConflict) {
		t.Errorf("both servers take the step: %v", err)
	}
	if r := <-changes; r.Phase != Booting {
		t.Errorf("%+v", r)
	}
	if _, err := Dial(t.Context(), nil, nil); err == nil {
		t.Error("a store without an address is opened")
	}
}
