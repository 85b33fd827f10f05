package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/events"
)

// metrics are those of ingest, by kind of event: "sent", "read",
// "recalled", "erased".
type metrics struct {
	kinds map[events.Kind]kindMetrics
}

type kindMetrics struct {
	appended prometheus.Counter
	failures prometheus.Counter
	seconds  prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	labels := []string{"event"}
	appended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seenby_ingest_events_appended_total",
		Help: "Events that Kafka acknowledged, by kind. Those of \"read\" are the accepted receipts, duplicates included; an erasure is one in each partition.",
	}, labels)
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seenby_ingest_append_failures_total",
		Help: "Requests whose events Kafka did not acknowledge, all or in part, by kind of event.",
	}, labels)
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "seenby_ingest_append_seconds",
		Help:    "Time that a request waited for Kafka, by kind of event, failures included.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, labels)
	m := &metrics{kinds: make(map[events.Kind]kindMetrics)}
	for kind, name := range map[events.Kind]string{
		events.KindMessageSent: "sent", events.KindMessageRead: "read", events.KindMessageRecalled: "recalled",
		events.KindUserErased: "erased",
	} {
		m.kinds[kind] = kindMetrics{
			appended: appended.WithLabelValues(name),
			failures: failures.WithLabelValues(name),
			seconds:  seconds.WithLabelValues(name),
		}
	}
	return m, errors.Join(reg.Register(appended), reg.Register(failures), reg.Register(seconds))
}
