package netboot

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// meters are what Prometheus reads. No label has a machine's name: ten thousand of
// them would be as many series each.
type meters struct {
	registry *prometheus.Registry
	edges    *prometheus.CounterVec
	events   prometheus.Counter
	dropped  prometheus.Counter
	wrong    prometheus.Counter
	renders  prometheus.Histogram
}

func newMeters(s *Server) *meters {
	m := &meters{
		registry: prometheus.NewRegistry(),
		edges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gpustrap_phase_entered_total", Help: "Machines that came into a phase.",
		}, []string{"phase"}),
		events:  prometheus.NewCounter(prometheus.CounterOpts{Name: "gpustrap_events_total", Help: "Events that installers posted."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "gpustrap_events_dropped_total", Help: "Events that are not in the logs, because of their cap or a full disk."}),
		wrong:   prometheus.NewCounter(prometheus.CounterOpts{Name: "gpustrap_wrong_tokens_total", Help: "Requests whose token opens nothing."}),
		renders: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gpustrap_seed_render_seconds", Help: "Time to render a seed.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
		}),
	}
	m.registry.MustRegister(m.edges, m.events, m.dropped, m.wrong, m.renders, phases{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *meters) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// phases counts the machines in each phase.
type phases struct{ s *Server }

var phaseDesc = prometheus.NewDesc("gpustrap_machines", "Machines by phase.", []string{"phase"}, nil)

// Describe implements prometheus.Collector.
func (p phases) Describe(out chan<- *prometheus.Desc) { out <- phaseDesc }

// Collect implements prometheus.Collector.
func (p phases) Collect(out chan<- prometheus.Metric) {
	counts := map[state.Phase]int{}
	for _, name := range p.s.board.names() {
		if r := p.s.board.record(name); r != nil {
			counts[r.Phase]++
		}
	}
	for _, phase := range state.Phases() {
		out <- prometheus.MustNewConstMetric(phaseDesc, prometheus.GaugeValue, float64(counts[phase]), string(phase))
	}
}
