package protocol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
)

// Client asks a projector on its internal port, for an operator. It may be used by
// one goroutine at a time.
type Client struct {
	http     *http.Client
	base     string
	internal auth.Internal
	peer     auth.Peer
}

// NewClient returns one for an internal address. Roots sign its certificate; nil:
// the system's.
func NewClient(address string, internal auth.Internal, roots *x509.CertPool) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("must be like http://HOST:PORT, not %q", address)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &Client{http: &http.Client{Transport: transport}, base: strings.TrimSuffix(address, "/"), internal: internal}, nil
}

// Address is what it asks.
func (c *Client) Address() string { return c.base }

// maxInternalAnswer is more than a projector answers: 1000 records of 2 KiB in
// base64, or a message with its participants and receipts, and what is around them.
const maxInternalAnswer = 32 << 20

// Status asks how the node is, and takes over what a peer has to agree on. It fails
// while the node does not know its log.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	if err := c.Get(ctx, StatusPath, nil, &s); err != nil {
		return s, err
	}
	if s.Detail != "" {
		return s, fmt.Errorf("the projector %s is not there yet: %s", c.base, s.Detail)
	}
	c.peer = auth.Peer{
		Protocol: s.Protocol, Topic: s.Topic, TopicID: s.TopicID, Generation: s.Generation, Partitions: s.Partitions, Nodes: s.Nodes,
	}
	return s, nil
}

// Of are the parameters of a question about a partition.
func Of(partition int32) url.Values {
	return url.Values{"partition": {strconv.Itoa(int(partition))}}
}

// Get asks.
func (c *Client) Get(ctx context.Context, path string, params url.Values, into any) error {
	return c.do(ctx, http.MethodGet, path, params, into)
}

// Post has something begun.
func (c *Client) Post(ctx context.Context, path string, params url.Values, into any) error {
	return c.do(ctx, http.MethodPost, path, params, into)
}

func (c *Client) do(ctx context.Context, method, path string, params url.Values, into any) error {
	to := c.base + path
	if len(params) > 0 {
		to += "?" + params.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, to, nil)
	if err != nil {
		return fmt.Errorf("ask the projector: %w", err)
	}
	c.internal.Sign(r, nil, c.peer, contract.Caller{})
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask the projector: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // Nothing was written.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxInternalAnswer+1))
	if err != nil {
		return fmt.Errorf("ask the projector: %w", err)
	}
	if len(body) > maxInternalAnswer {
		return errors.New("ask the projector: its answer is too long")
	}
	if resp.StatusCode != http.StatusOK {
		says := strconv.QuoteToASCII(string(body[:min(len(body), 1000)]))
		return fmt.Errorf("ask the projector: %s: %s", resp.Status, strings.Trim(says, `"`))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("ask the projector: is %s its internal port? %w", c.base, err)
	}
	return nil
}
