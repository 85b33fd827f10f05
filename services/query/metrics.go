package query

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/contract"
)

// metrics is what query says of itself beside what every HTTP server does.
type metrics struct {
	pulls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	up      prometheus.Collector
}

func newMetrics(s *Service) *metrics {
	return &metrics{
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seenby_query_pulls_total",
			Help: "Questions by the projector node that was asked (none, if none could be) and what came of them; a batch is one for each node that has messages of it: answered, not_modified, refused (a problem that the owner tells), or the code of query's own problem.",
		}, []string{"node", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "seenby_query_owner_seconds",
			Help:    "Seconds that a projector node took to answer a pull, its wait for a presented position included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"node"}),
		up: &nodesUp{service: s, desc: prometheus.NewDesc("seenby_query_node_up",
			"1 if the projector node is asked for pulls, 0 if it is refused or does not answer.", []string{"node"}, nil)},
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.pulls), r.Register(m.seconds), r.Register(m.up))
}

// asked counts a question and its answer's status, or its problem.
func (m *metrics) asked(node, status int, problem *contract.Problem, took time.Duration) {
	label := "none"
	if node != noNode {
		label = strconv.Itoa(node)
		m.seconds.WithLabelValues(label).Observe(took.Seconds())
	}
	result := "refused"
	switch {
	case problem != nil:
		result = string(problem.Code)
	case status == http.StatusOK:
		result = "answered"
	case status == http.StatusNotModified:
		result = "not_modified"
	}
	m.pulls.WithLabelValues(label, result).Inc()
}

// nodesUp reads the routing when it is asked.
type nodesUp struct {
	service *Service
	desc    *prometheus.Desc
}

func (c *nodesUp) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *nodesUp) Collect(ch chan<- prometheus.Metric) {
	for i, n := range c.service.routing.Load().nodes {
		up := 0.0
		if n.refused == nil {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, up, strconv.Itoa(i))
	}
}
