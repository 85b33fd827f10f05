package server

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/contract"
)

// metrics are those of the HTTP side. Routes are labelled as the contract
// writes them.
type metrics struct {
	requests *prometheus.CounterVec
	problems *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

// routeMetrics are those of one route, looked up once.
type routeMetrics struct {
	name     string
	method   string
	metrics  *metrics
	seconds  prometheus.Observer
	inFlight prometheus.Gauge
	// statuses are the counters of the statuses that a route is likely to have;
	// they are looked up here to keep maps and strings out of each request.
	statuses map[int]prometheus.Counter
}

var usualStatuses = []int{
	http.StatusOK, http.StatusAccepted, http.StatusNotModified, http.StatusBadRequest, http.StatusUnauthorized,
	http.StatusNotFound, http.StatusTooManyRequests, http.StatusServiceUnavailable,
}

func newMetrics(reg *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seenby_http_requests_total",
			Help: "Answered requests, by route, method and HTTP status. Route is \"none\" where there is no such route or method.",
		}, []string{"route", "method", "code"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seenby_http_problems_total",
			Help: "Requests answered with a problem document, by route and the document's code: failed authentication, rate limits and overload among them.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "seenby_http_request_seconds",
			Help:    "Time from a request's headers to the end of its answer, by route and method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "seenby_http_requests_in_flight",
			Help: "Requests being answered, by route and method.",
		}, []string{"route", "method"}),
	}
	return m, errors.Join(
		reg.Register(m.requests), reg.Register(m.problems), reg.Register(m.seconds), reg.Register(m.inFlight),
	)
}

func (m *metrics) route(method, name string) *routeMetrics {
	r := &routeMetrics{
		name:     name,
		method:   method,
		metrics:  m,
		seconds:  m.seconds.WithLabelValues(name, method),
		inFlight: m.inFlight.WithLabelValues(name, method),
		statuses: make(map[int]prometheus.Counter),
	}
	for _, status := range usualStatuses {
		r.statuses[status] = m.requests.WithLabelValues(name, method, strconv.Itoa(status))
	}
	return r
}

// unmatched are for a request that has no route. They count it only.
func (m *metrics) unmatched(method string) *routeMetrics {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		// A client can make up any number of methods.
		method = "other"
	}
	return &routeMetrics{name: "none", method: method, metrics: m}
}

func (r *routeMetrics) answered(status int) {
	counter, found := r.statuses[status]
	if !found {
		counter = r.metrics.requests.WithLabelValues(r.name, r.method, strconv.Itoa(status))
	}
	counter.Inc()
}

func (r *routeMetrics) problem(code contract.Code) {
	r.metrics.problems.WithLabelValues(r.name, string(code)).Inc()
}
