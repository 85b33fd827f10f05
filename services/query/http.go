package query

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

const (
	// maxAnswer is more than the largest answer: 5,000 readers in a batch, each ID of
	// 128 bytes, and 200 messages with 100 that were asked for by name.
	maxAnswer = 32 << 20
	// maxIdlePerNode is how many connections to a node are kept open. One that is
	// not kept is dialled anew for each pull when the load is high.
	maxIdlePerNode = 512
	dialTimeout    = time.Second
)

// passed are the headers of an owner's answer that are the contract's, in
// canonical form. Nothing else of its headers reaches a client.
var passed = []string{"Content-Type", "Etag", "Seenby-Position", "Seenby-Lag-Ms", "Seenby-Poll", "Retry-After"}

var (
	errNotAnswer = errors.New("is this the internal port of a projector?")
	errRefused   = errors.New("the projector refused the request")
)

// HTTPConfig says how to reach projectors on their internal port.
type HTTPConfig struct {
	// Internal signs the requests.
	Internal auth.Internal
	// CAFile has the certificates that sign the projectors', for https addresses;
	// empty: the system's.
	CAFile string
}

// HTTPNodes returns the nodes at these addresses, in node order: http or https
// URLs without a path. They share a pool of connections, which close closes.
func HTTPNodes(addresses []string, c HTTPConfig) (nodes []Node, closeIdle func(), err error) {
	transport, err := newTransport(c.CAFile)
	if err != nil {
		return nil, nil, err
	}
	for _, address := range addresses {
		base, err := parseAddress(address)
		if err != nil {
			return nil, nil, err
		}
		owner := &httpOwner{base: base, nodes: len(addresses), transport: transport, internal: c.Internal}
		nodes = append(nodes, Node{Name: base, Owner: owner})
	}
	return nodes, transport.CloseIdleConnections, nil
}

func newTransport(caFile string) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("%w: --internal-ca-file: %w", ErrConfig, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: --internal-ca-file: %s holds no certificate in PEM", ErrConfig, caFile)
		}
	}
	// A request on a kept connection that the projector has closed meanwhile is
	// tried once more by the transport itself: it is a GET, or a batch that says by
	// an empty Idempotency-Key that it may be.
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    maxIdlePerNode,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         32 << 10,
	}, nil
}

func parseAddress(address string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%w: --projectors: %q must be like http://HOST:PORT", ErrConfig, address)
	}
	return u.Scheme + "://" + u.Host, nil
}

// httpOwner is a projector at an address.
type httpOwner struct {
	base      string
	nodes     int
	transport *http.Transport
	internal  auth.Internal
}

func (o *httpOwner) Status(ctx context.Context) (protocol.Status, error) {
	r, err := o.request(ctx, http.MethodGet, protocol.StatusPath, nil)
	if err != nil {
		return protocol.Status{}, err
	}
	o.internal.Sign(r, nil, auth.Peer{Nodes: o.nodes}, contract.Caller{})
	answer, err := o.do(r)
	if err != nil {
		return protocol.Status{}, err
	}
	var status protocol.Status
	if err := json.Unmarshal(answer.Body, &status); err != nil {
		return protocol.Status{}, fmt.Errorf("its status: %w", err)
	}
	return status, nil
}

func (o *httpOwner) Pull(ctx context.Context, ask *Ask) (contract.Answer, error) {
	path := protocol.ReceiptsPath
	if ask.Unread != nil {
		path = protocol.UnreadPath
	}
	r, err := o.request(ctx, http.MethodGet, path(ask.messageID()), nil)
	if err != nil {
		return contract.Answer{}, err
	}
	r.URL.RawQuery = ask.RawQuery
	if len(ask.IfNoneMatch) > 0 {
		r.Header["If-None-Match"] = ask.IfNoneMatch
	}
	o.internal.Sign(r, nil, o.peer(ask.Log), ask.Caller)
	return o.do(r)
}

func (o *httpOwner) Batch(ctx context.Context, ask *AskBatch) (*protocol.BatchAnswer, *contract.Problem, error) {
	body := ask.Batch.Append(nil)
	r, err := o.request(ctx, http.MethodPost, protocol.BatchPath, body)
	if err != nil {
		return nil, nil, err
	}
	r.URL.RawQuery = protocol.ReadersParameter + "=" + strconv.Itoa(ask.Readers)
	r.Header["Content-Type"] = []string{"application/json"}
	// It changes nothing, so that the transport may try it again on another connection.
	r.Header["Idempotency-Key"] = nil
	o.internal.Sign(r, body, o.peer(ask.Log), ask.Caller)
	answer, err := o.do(r)
	if err != nil {
		return nil, nil, err
	}
	if answer.Status != http.StatusOK {
		problem, err := contract.ParseProblem(answer)
		return nil, problem, err
	}
	results, err := protocol.ParseBatchAnswer(answer.Body)
	if err == nil && len(results.Results) != len(ask.Batch.Items) {
		err = fmt.Errorf("%d results for %d messages: %w", len(results.Results), len(ask.Batch.Items), errNotAnswer)
	}
	return results, nil, err
}

// peer is what the projector has to agree on.
func (o *httpOwner) peer(l Log) auth.Peer {
	return auth.Peer{Topic: l.Topic, TopicID: l.TopicID, Generation: l.Generation, Partitions: l.Partitions, Nodes: o.nodes}
}

// request returns a request for an escaped path. The URL is put together, not
// parsed, so that a client's query string stays what it is.
func (o *httpOwner) request(ctx context.Context, method, escaped string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, o.base, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.URL.RawPath = escaped
	r.URL.Path, err = url.PathUnescape(escaped)
	return r, err
}

// do returns an answer that the projector marked as its own, with the headers
// that may be passed on.
func (o *httpOwner) do(r *http.Request) (contract.Answer, error) {
	resp, err := o.transport.RoundTrip(r)
	if err != nil {
		return contract.Answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // It was read to its end, or its connection is of no more use.
	body, err := readBody(resp)
	if err != nil {
		return contract.Answer{}, err
	}
	if resp.Header.Get(protocol.AnswerHeader) == "" {
		return contract.Answer{}, refusal(resp, body)
	}
	answer := contract.Answer{Status: resp.StatusCode, Header: make(http.Header, len(passed)), Body: body}
	for _, name := range passed {
		if values := resp.Header[name]; len(values) > 0 {
			answer.Header[name] = values
		}
	}
	return answer, nil
}

func readBody(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n >= 0 && n <= maxAnswer {
		body := make([]byte, n)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("an answer over %d bytes: %w", maxAnswer, errNotAnswer)
	}
	return body, err
}

// refusal is what an answer comes to that is not the projector's own: its HTTP
// side refused the request, or something else listens there.
func refusal(resp *http.Response, body []byte) error {
	var problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(body, &problem); err != nil || problem.Code == "" {
		return fmt.Errorf("status %d: %w", resp.StatusCode, errNotAnswer)
	}
	return fmt.Errorf("%w: status %d, %s: %s", errRefused, resp.StatusCode, problem.Code, problem.Detail)
}
