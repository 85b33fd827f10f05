package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WatchInterval is how often a file of keys is looked at.
const WatchInterval = time.Second

// watching is a file of keys that is read again and again.
type watching struct {
	path string
	read func() ([]byte, error)
	// inForce is the content that was used last.
	inForce func() []byte
	use     func(content []byte) error
	note    func(error) (news bool)
	count   func() int
}

// watch takes over changes of the file until ctx ends, within two or three
// [WatchInterval]. It reads the whole file each time, as it is tiny, and as
// modification times miss changes and symbolic links swapped by Kubernetes. A
// change counts once two reads in a row agree, so that a file half written is
// not taken for a whole one. A file that cannot be used is logged once for each
// reason.
func watch(ctx context.Context, log *slog.Logger, w watching) {
	ticker := time.NewTicker(WatchInterval)
	defer ticker.Stop()
	var before []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		content, err := w.read()
		switch {
		case err != nil:
		case bytes.Equal(content, w.inForce()):
		case !bytes.Equal(content, before):
			before = content
			continue
		default:
			if err = w.use(content); err == nil {
				log.Info("keys reloaded", "file", w.path, "keys", w.count())
			}
		}
		if w.note(err) && err != nil {
			log.Error("the old keys stay in force", "err", err)
		}
		before = content
	}
}

// failure is what is wrong with a source of keys as it was last read.
type failure struct{ last atomic.Pointer[error] }

// Err is the last error, or nil.
func (f *failure) Err() error {
	if err := f.last.Load(); err != nil {
		return *err
	}
	return nil
}

// note keeps err for Err, and reports whether it differs from what was kept.
func (f *failure) note(err error) (news bool) {
	before := f.Err()
	if err == nil {
		f.last.Store(nil)
		return before != nil
	}
	f.last.Store(&err)
	return before == nil || before.Error() != err.Error()
}

// registerKeys adds the metrics of a source of keys to reg.
func registerKeys(reg prometheus.Registerer, file string, count func() int, failed func() error) error {
	labels := prometheus.Labels{"file": file}
	return errors.Join(
		reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "seenby_keys",
			Help:        "Keys in force, by source: auth and internal are key files, jwks is a key set.",
			ConstLabels: labels,
		}, func() float64 { return float64(count()) })),
		reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "seenby_keys_reload_failed",
			Help:        "1 while the source of keys as it is now cannot be used and older keys are in force, else 0.",
			ConstLabels: labels,
		}, func() float64 {
			if failed() != nil {
				return 1
			}
			return 0
		})),
	)
}
