package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seenby/seenby/services/standalone"
)

// metricsPage describes what the processes' registries hold.
func metricsPage() ([]byte, error) {
	registry := prometheus.NewRegistry()
	if err := withStandalone(registry, func(*standalone.Standalone) error { return nil }); err != nil {
		return nil, err
	}
	metrics, err := describe(registry)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# Metrics\n\n")
	b.WriteString("Made by `make docs` of what the code registers; not edited by hand.\n\n")
	b.WriteString("Every process serves them at `/metrics`, in Prometheus' format, with those of the Go runtime (`go_`) and of the process\n" +
		"(`process_`) beside them. The second part of a name says whose they are: `http` and `keys` are every process's, the others\n" +
		"of the process of that name. standalone has all of them.\n\n")
	b.WriteString("| metric | labels | meaning |\n| --- | --- | --- |\n")
	for _, m := range metrics {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.name, labelList(m.labels), cell(m.help))
	}
	return b.Bytes(), nil
}

type metric struct {
	name, help string
	labels     []string
}

var (
	descText  = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	labelName = regexp.MustCompile(`([a-zA-Z_]\w*)(?:="(?:[^"\\]|\\.)*")?`)
)

// describe lists a registry's metrics, by name. Prometheus tells their names only
// as text.
func describe(registry *prometheus.Registry) ([]metric, error) {
	descs := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descs)
		close(descs)
	}()
	byName := make(map[string]metric)
	var bad error
	for d := range descs {
		parts := descText.FindStringSubmatch(d.String())
		if parts == nil {
			bad = fmt.Errorf("a metric's description has another form: %s", d)
			continue
		}
		name, err1 := strconv.Unquote(parts[1])
		help, err2 := strconv.Unquote(parts[2])
		if err := errors.Join(err1, err2); err != nil {
			bad = err
			continue
		}
		m := metric{name: name, help: help}
		for _, found := range labelName.FindAllStringSubmatch(parts[3]+","+parts[4], -1) {
			m.labels = append(m.labels, found[1])
		}
		byName[name] = m
	}
	var all []metric
	for _, m := range byName {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	return all, bad
}

func labelList(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	return "`" + strings.Join(labels, "`, `") + "`"
}
