package state

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdLogger returns a logger for an etcd, which writes warnings to a file. Before etcd
// ends the process, as it does where it cannot write, ending is told why: the file may
// lie on the disk that is full.
func etcdLogger(file string, ending func(why string)) (*zap.Logger, error) {
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	c.OutputPaths, c.ErrorOutputPaths = []string{file}, []string{file}
	return c.Build(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewTee(core, endings{zap.FatalLevel, ending})
	}))
}

// endings tells what a process ends with.
type endings struct {
	zapcore.LevelEnabler
	tell func(why string)
}

// With returns the core as it is: what is true of all entries says nothing of the last.
func (e endings) With([]zapcore.Field) zapcore.Core { return e }

// Check adds the core to an entry that ends the process.
func (e endings) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Enabled(entry.Level) {
		return checked.AddCore(entry, e)
	}
	return checked
}

// Write tells of an entry, with the error that led to it.
func (e endings) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	found := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(found)
	}
	why := entry.Message
	if cause, ok := found.Fields["error"]; ok {
		why = fmt.Sprintf("%s: %v", why, cause)
	}
	e.tell(why)
	return nil
}

// Sync has nothing to do: nothing is kept back.
func (endings) Sync() error { return nil }
