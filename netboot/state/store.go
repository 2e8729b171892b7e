package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The keys. A version of another form gets another prefix.
const (
	machinePrefix = "/gpustrap/v1/machine/"
	tokenPrefix   = "/gpustrap/v1/token/"
)

// maxHistory bounds the steps that a record keeps: a machine that somebody resets
// again and again does not grow.
const maxHistory = 64

// Store holds the records. Its methods may be called by several goroutines at a
// time, and by several servers on one etcd.
type Store struct {
	client *clientv3.Client
	close  func() error
	// single is set where the etcd has one member: what it acknowledged it has applied,
	// so its reads need not ask whether it still leads.
	single bool
	room   func() error // fails where no more may be written; nil: it may
}

// Close ends the store. What was acknowledged is on the disk.
func (s *Store) Close() error { return s.close() }

// Get returns a machine's record. It fails with ErrUnknown where there is none.
func (s *Store) Get(ctx context.Context, machine string) (*Record, error) {
	answer, err := s.get(ctx, machinePrefix+machine)
	if err != nil {
		return nil, fmt.Errorf("cannot read the state of %s: %w", machine, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, fmt.Errorf("%s: %w", machine, ErrUnknown)
	}
	return decode(answer.Kvs[0].Value, answer.Kvs[0].ModRevision)
}

// Latest returns the record that known has become: the very same where nothing has
// changed, which costs less than a Get.
func (s *Store) Latest(ctx context.Context, known *Record) (*Record, error) {
	answer, err := s.get(ctx, machinePrefix+known.Machine)
	if err != nil {
		return nil, fmt.Errorf("cannot read the state of %s: %w", known.Machine, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, fmt.Errorf("%s: %w", known.Machine, ErrUnknown)
	}
	if kv := answer.Kvs[0]; kv.ModRevision != known.Revision {
		return decode(kv.Value, kv.ModRevision)
	}
	return known, nil
}

// get reads what is at a key now.
func (s *Store) get(ctx context.Context, key string) (*clientv3.GetResponse, error) {
	if s.single {
		return s.client.Get(ctx, key, clientv3.WithSerializable())
	}
	return s.client.Get(ctx, key)
}

// listPage is how many records are read at a time.
const listPage = 500

// List returns all records, in the order of their machines' names, and the revision
// that a Watch goes on from.
func (s *Store) List(ctx context.Context) (records []*Record, revision int64, err error) {
	end := clientv3.GetPrefixRangeEnd(machinePrefix)
	for from := machinePrefix; ; {
		options := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(listPage)}
		if revision != 0 {
			options = append(options, clientv3.WithRev(revision))
		}
		answer, err := s.client.Get(ctx, from, options...)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read the machines' state: %w", err)
		}
		if revision == 0 { // the pages after the first are of its revision, too
			revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			r, err := decode(kv.Value, kv.ModRevision)
			if err != nil {
				return nil, 0, err
			}
			records = append(records, r)
		}
		if !answer.More {
			return records, revision, nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

// ByToken returns the record that a token belongs to, of the machine's present
// generation. It fails with ErrUnknown for any other token.
func (s *Store) ByToken(ctx context.Context, token Token, purpose Purpose) (*Record, error) {
	answer, err := s.get(ctx, tokenPrefix+token.Hash().String())
	if err != nil {
		return nil, fmt.Errorf("cannot look a token up: %w", err)
	}
	if len(answer.Kvs) == 0 {
		return nil, ErrUnknown
	}
	r, err := s.Get(ctx, string(answer.Kvs[0].Value))
	if err != nil {
		return nil, err
	}
	if !r.Hash(purpose).Is(token) {
		return nil, ErrUnknown
	}
	return r, nil
}

// Order is what a machine is armed with.
type Order struct {
	Machine   string
	Via       Via
	Reinstall bool // also where it is installed, or an installation is under way
	Now       time.Time
	Expires   time.Time
	Salt      string // of at least 128 random bits
	Key       Key
}

// Arm begins a generation of the machine, whose tokens take the place of the former
// ones. It fails with ErrActive or ErrInstalled unless the order says that the
// machine is to be installed again.
func (s *Store) Arm(ctx context.Context, o Order) (*Record, error) {
	for {
		old, err := s.read(ctx, o.Machine)
		if err != nil {
			return nil, err
		}
		next := &Record{
			Machine: o.Machine, Generation: 1, Phase: Armed, Via: o.Via, Reinstall: o.Reinstall, Salt: o.Salt,
			Armed: o.Now, Expires: o.Expires, Since: o.Now, History: []Edge{{Phase: Armed, Time: o.Now}},
		}
		var forget []clientv3.Op
		if old != nil {
			switch {
			case o.Reinstall:
			case old.Phase.Active() && old.Live(o.Now):
				return nil, fmt.Errorf("%s: %w", o.Machine, ErrActive)
			case old.Holds():
				return nil, fmt.Errorf("%s: %w", o.Machine, ErrInstalled)
			}
			next.Generation, next.Before = old.Generation+1, old.Holds()
			for _, h := range []Hash{old.SeedHash, old.MediumHash, old.ReportHash} {
				forget = append(forget, clientv3.OpDelete(tokenPrefix+h.String()))
			}
		}
		token := func(p Purpose) Hash { return o.Key.Token(next.Machine, next.Generation, next.Salt, p).Hash() }
		next.SeedHash, next.MediumHash, next.ReportHash = token(ForSeed), token(ForMedium), token(ForReport)
		for _, h := range []Hash{next.SeedHash, next.MediumHash, next.ReportHash} {
			forget = append(forget, clientv3.OpPut(tokenPrefix+h.String(), next.Machine))
		}
		if done, err := s.replace(ctx, old, next, forget...); err != nil || done {
			return next, err
		}
	}
}

// Change alters a record besides its phase. It must have no effect but on the record,
// as it may be called more than once.
type Change func(*Record)

// Advance takes a step of a generation: from one of the phases to another. Others
// may take it first, or begin another generation; then it fails with ErrConflict. The
// changes are made in the same transaction.
func (s *Store) Advance(ctx context.Context, machine string, generation uint64, from []Phase, step Edge, changes ...Change) (*Record, error) {
	for {
		old, err := s.read(ctx, machine)
		if err != nil {
			return nil, err
		}
		if old == nil || old.Generation != generation || !slices.Contains(from, old.Phase) || !slices.Contains(edges(old.Phase), step.Phase) {
			return old, fmt.Errorf("%s cannot become %s: %w", machine, step.Phase, ErrConflict)
		}
		next := old.after(step)
		for _, change := range changes {
			change(next)
		}
		if done, err := s.replace(ctx, old, next); err != nil || done {
			return next, err
		}
	}
}

// Disarm ends the machine's generation before it is installed: from then on its seed
// and its medium are closed. It fails with ErrIdle where there is nothing to end, and
// with ErrActive where the installation has begun, unless it is forced: a machine that
// has its seed goes on by itself.
func (s *Store) Disarm(ctx context.Context, machine string, force bool, now time.Time, why string) (*Record, error) {
	for {
		old, err := s.read(ctx, machine)
		switch {
		case err != nil:
			return nil, err
		case old == nil || old.Phase != Armed && !old.Phase.Active():
			return nil, fmt.Errorf("%s: %w", machine, ErrIdle)
		case old.Begun() && !force:
			return nil, fmt.Errorf("%s: %w", machine, ErrActive)
		}
		next := old.after(Edge{Phase: Disarmed, Time: now, Why: why})
		if done, err := s.replace(ctx, old, next); err != nil || done {
			return next, err
		}
	}
}

// Amend changes a generation's record within its phase. It fails with ErrConflict
// when another generation has begun.
func (s *Store) Amend(ctx context.Context, machine string, generation uint64, change Change) (*Record, error) {
	for {
		old, err := s.read(ctx, machine)
		if err != nil {
			return nil, err
		}
		if old == nil || old.Generation != generation {
			return old, fmt.Errorf("%s: %w", machine, ErrConflict)
		}
		next := old.copy()
		change(next)
		if done, err := s.replace(ctx, old, next); err != nil || done {
			return next, err
		}
	}
}

// Watch sends every change of a record that is made after a revision, until the
// context is done, and then closes the channel. It also closes it when the store
// cannot tell all of them any more: list the records, and watch again.
func (s *Store) Watch(ctx context.Context, revision int64) <-chan *Record {
	out := make(chan *Record)
	changes := s.client.Watch(clientv3.WithRequireLeader(ctx), machinePrefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	go func() {
		defer close(out)
		for answer := range changes {
			if answer.Err() != nil {
				return
			}
			for _, event := range answer.Events {
				r, err := decode(event.Kv.Value, event.Kv.ModRevision)
				if err != nil {
					continue // a deletion, or of another version
				}
				select {
				case out <- r:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// read returns a machine's record, or nil where there is none.
func (s *Store) read(ctx context.Context, machine string) (*Record, error) {
	if machine == "" || strings.ContainsAny(machine, "/\x00") {
		return nil, fmt.Errorf("%q is no machine's name", machine)
	}
	answer, err := s.get(ctx, machinePrefix+machine)
	if err != nil {
		return nil, fmt.Errorf("cannot read the state of %s: %w", machine, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, nil
	}
	return decode(answer.Kvs[0].Value, answer.Kvs[0].ModRevision)
}

// replace puts the next record in the place of the old one, which may be nil, and
// reports false when that one is not there any more.
func (s *Store) replace(ctx context.Context, old, next *Record, further ...clientv3.Op) (bool, error) {
	value, err := json.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("cannot write the state of %s: %w", next.Machine, err)
	}
	if err := s.roomLeft(); err != nil {
		return false, fmt.Errorf("cannot write the state of %s: %w", next.Machine, err)
	}
	key, revision := machinePrefix+next.Machine, int64(0)
	if old != nil {
		revision = old.Revision
	}
	answer, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(append(further, clientv3.OpPut(key, string(value)))...).
		Commit()
	if err != nil {
		return false, fmt.Errorf("cannot write the state of %s: %w", next.Machine, err)
	}
	next.Revision = answer.Header.Revision
	return answer.Succeeded, nil
}

// after returns a copy of the record that has taken a step.
func (r *Record) after(step Edge) *Record {
	next := r.copy()
	next.Phase, next.Since, next.Why = step.Phase, step.Time, step.Why
	next.History = append(next.History, step)
	if len(next.History) > maxHistory {
		next.History = append(next.History[:1], next.History[len(next.History)-maxHistory+1:]...)
	}
	return next
}

func (r *Record) copy() *Record {
	c := *r
	c.History = slices.Clone(r.History)
	return &c
}

func decode(value []byte, revision int64) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("cannot read a record of the store: %w", err)
	}
	r.Revision = revision
	return r, nil
}

// roomLeft fails with ErrFull where nothing more may be written.
func (s *Store) roomLeft() error {
	if s.room == nil {
		return nil
	}
	return s.room()
}

// Healthy reports whether the store answers and can be written. It fails with ErrFull
// where it can only be read.
func (s *Store) Healthy(ctx context.Context) error {
	if err := s.roomLeft(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := s.client.Get(ctx, machinePrefix, clientv3.WithCountOnly()); err != nil {
		return fmt.Errorf("the store does not answer: %w", err)
	}
	return nil
}
