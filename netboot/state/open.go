package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// privateFolder is the mode of the folder that the state lies in.
const privateFolder fs.FileMode = 0o700

// Embedded starts an etcd of one member in this process and opens its store. Its
// data lie in the folder, which is made with the mode 0700; its warnings go to the
// file log in there. It listens nowhere: there is no door to it but the Store. Where
// etcd cannot go on, on a disk without a free byte, it ends the process; ending is told
// why just before. What was acknowledged is whole then. It fails with ErrInUse where another
// process has the folder.
func Embedded(ctx context.Context, folder string, ending func(why string)) (*Store, error) {
	if err := os.MkdirAll(folder, privateFolder); err != nil {
		return nil, fmt.Errorf("cannot make the folder for the state: %w", err)
	}
	if err := os.Chmod(folder, privateFolder); err != nil {
		return nil, fmt.Errorf("cannot make the folder for the state private: %w", err)
	}
	held, err := lock(filepath.Join(folder, "lock"))
	if err != nil {
		return nil, err
	}
	s, err := startEmbedded(ctx, folder, ending)
	if err != nil {
		_ = held.Close() // nothing was written
		return nil, err
	}
	end := s.close
	s.close = func() error { return errors.Join(end(), held.Close()) }
	return s, nil
}

// startEmbedded does so in a folder that is this process's alone.
func startEmbedded(ctx context.Context, folder string, ending func(why string)) (*Store, error) {
	log := filepath.Join(folder, "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write to the folder for the state: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Name = "gpustrap"
	cfg.Dir = filepath.Join(folder, "etcd")
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	// The one member elects itself, and waits for nobody.
	cfg.TickMs, cfg.ElectionMs = 20, 100
	logger, err := etcdLogger(log, ending)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of the embedded etcd: %w", err)
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	// There is no other member that could want the log from the memory.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2000, 100
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot start the embedded etcd (%s says more): %w", log, err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("the embedded etcd does not start (%s says more): %w", log, err)
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("cannot start the embedded etcd: %w", ctx.Err())
	}
	client := v3client.New(server.Server)
	compacting, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		compact(compacting, client)
	}()
	return &Store{client: client, single: true, room: func() error { return room(folder) }, close: func() error {
		stop()
		<-ended
		err := client.Close()
		if errors.Is(err, context.Canceled) {
			err = nil // the in-process client has no connection to close
		}
		server.Close()
		return err
	}}, nil
}

// spare is what must be free on the disk for a step to be taken, in bytes. etcd ends its
// process when it cannot write: its log grows by 64 MiB at a time, its database as it
// needs.
const spare = 128 << 20

// room fails with ErrFull where the folder's disk has no spare room left.
func room(folder string) error {
	free, err := freeBytes(folder)
	if err != nil {
		return fmt.Errorf("cannot tell how full the disk of the server's state is: %w", err)
	}
	if free < spare {
		return fmt.Errorf("%w: %d MiB are free under %s, and %d MiB must be", ErrFull, free>>20, folder, spare>>20)
	}
	return nil
}

// Old revisions are of no use but to a Watch that is late, and a storm of installations
// makes thousands in a second: etcd's own compactor would come for them every five
// minutes only.
const (
	compactEvery  = 5 * time.Second
	keptRevisions = 1000
)

// compact drops old revisions until the context is done.
func compact(ctx context.Context, client *clientv3.Client) {
	every := time.NewTicker(compactEvery)
	defer every.Stop()
	for last := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		answer, err := client.Get(ctx, machinePrefix, clientv3.WithCountOnly())
		if err != nil || answer.Header.Revision-keptRevisions < last+keptRevisions {
			continue // where it fails, the next time will do
		}
		if _, err := client.Compact(ctx, answer.Header.Revision-keptRevisions); err == nil {
			last = answer.Header.Revision - keptRevisions
		}
	}
}

// dialTimeout is how long the first connection to a cluster may take.
const dialTimeout = 10 * time.Second

// Dial opens the store in an etcd cluster of the operator's own. tlsConfig may be
// nil where the addresses are http.
func Dial(ctx context.Context, endpoints []string, tlsConfig *tls.Config) (*Store, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: tlsConfig, DialTimeout: dialTimeout, Context: context.WithoutCancel(ctx),
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot reach etcd: %w", err)
	}
	probe, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.Get(probe, machinePrefix, clientv3.WithCountOnly()); err != nil {
		if probe.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no answer within %s: %w", dialTimeout, err)
		}
		return nil, errors.Join(fmt.Errorf("cannot read from etcd at %v: %w", endpoints, err), client.Close())
	}
	return &Store{client: client, close: client.Close}, nil
}
