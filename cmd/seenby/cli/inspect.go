package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// inspectCommand shows what a projector holds.
type inspectCommand struct {
	Undecodable undecodableCommand `cmd:"" help:"Show the records that were skipped because they are no events, or lie in the wrong partition."`
}

// undecodableCommand asks a running projector, or looks into the store of one that
// does not run.
type undecodableCommand struct {
	Projector          string        `help:"The internal address of the projector that owns the partition." xor:"from" placeholder:"URL"`
	InternalSecretFile string        `help:"With --projector: the secret that query and projectors share." type:"path" placeholder:"FILE"`
	InternalCAFile     string        `help:"With --projector: certificates (PEM) that sign the projector's; without, the system's." type:"path" placeholder:"FILE" name:"internal-ca-file"`
	Data               string        `help:"The data directory of a projector that does not run (of a standalone: DIR/state)." xor:"from" type:"path" placeholder:"DIR"`
	Partition          *int32        `help:"Of this partition alone; without, of all that the projector owns." placeholder:"N"`
	JSON               bool          `help:"Print JSON, keys and values in base64, one partition a line." name:"json"`
	Timeout            time.Duration `help:"How long the projector may take." default:"10s"`
}

// Run prints the records.
func (c *undecodableCommand) Run(ctx context.Context, io IO, log logFlags) error {
	var found []protocol.Undecodable
	var err error
	switch {
	case c.Projector != "":
		found, err = c.ask(ctx, io)
	case c.Data != "":
		found, err = c.look(log.logger(io))
	default:
		err = usage(errors.New("--projector or --data: name a running projector, or the directory of one that does not run"))
	}
	if err != nil {
		return err
	}
	if c.Partition != nil {
		found = slices.DeleteFunc(found, func(u protocol.Undecodable) bool { return u.Partition != *c.Partition })
		if len(found) == 0 {
			return fmt.Errorf("partition %d is not this projector's, or nothing of it was applied yet", *c.Partition)
		}
	}
	if c.JSON {
		return printUndecodableJSON(io.Stdout, found)
	}
	return printUndecodable(io.Stdout, found)
}

// ask asks the running projector for all that it owns.
func (c *undecodableCommand) ask(ctx context.Context, io IO) ([]protocol.Undecodable, error) {
	if c.InternalSecretFile == "" {
		return nil, usage(errors.New("--internal-secret-file must name the secret that query and projectors share"))
	}
	keys, err := openKeys("--internal-secret-file", c.InternalSecretFile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	client, err := c.client(auth.Internal{Keys: keys, Now: io.Now})
	if err != nil {
		return nil, err
	}
	var status protocol.Status
	if err := client.get(ctx, protocol.StatusPath, &status); err != nil {
		return nil, err
	}
	if status.Detail != "" {
		return nil, fmt.Errorf("the projector is not there yet: %s", status.Detail)
	}
	client.peer = auth.Peer{
		Protocol: status.Protocol, Topic: status.Topic, TopicID: status.TopicID,
		Generation: status.Generation, Partitions: status.Partitions, Nodes: status.Nodes,
	}
	var found []protocol.Undecodable
	for _, owned := range status.Owned {
		if c.Partition != nil && *c.Partition != owned.Partition {
			continue
		}
		var u protocol.Undecodable
		if err := client.get(ctx, fmt.Sprintf("%s?partition=%d", protocol.UndecodablePath, owned.Partition), &u); err != nil {
			return nil, err
		}
		found = append(found, u)
	}
	return found, nil
}

// look reads the store of a projector that does not run.
func (c *undecodableCommand) look(log *slog.Logger) ([]protocol.Undecodable, error) {
	kept, err := badgerstore.ReadUndecodable(c.Data, log)
	if err != nil {
		return nil, err
	}
	var found []protocol.Undecodable
	for _, k := range kept {
		u := protocol.Undecodable{Partition: k.Partition, Total: k.Total}
		for _, r := range k.Records {
			u.Records = append(u.Records, protocol.UndecodableRecord{
				Offset: r.Offset, Timestamp: r.Timestamp, Outcome: r.Outcome.String(), Reason: r.Reason,
				Key: r.Key, Value: r.Value, KeySize: r.KeySize, ValueSize: r.ValueSize,
			})
		}
		found = append(found, u)
	}
	return found, nil
}

func (c *undecodableCommand) client(internal auth.Internal) (*projectorClient, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if c.InternalCAFile != "" {
		pem, err := os.ReadFile(c.InternalCAFile)
		if err != nil {
			return nil, usage(fmt.Errorf("--internal-ca-file: %w", err))
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usage(fmt.Errorf("--internal-ca-file: %s holds no certificate in PEM", c.InternalCAFile))
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &projectorClient{
		http: &http.Client{Transport: transport}, base: strings.TrimSuffix(c.Projector, "/"), internal: internal,
	}, nil
}

func printUndecodableJSON(w io.Writer, found []protocol.Undecodable) error {
	for _, u := range found {
		// A null key is told from an empty one.
		if err := json.MarshalWrite(w, u, json.FormatNilSliceAsNull(true)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// printUndecodable prints a table. Whatever bytes a record has, they are quoted
// in ASCII: a terminal is never told what to do.
func printUndecodable(w io.Writer, found []protocol.Undecodable) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	total, kept := int64(0), 0
	fmt.Fprintln(t, "PARTITION\tOFFSET\tTIME\tWHAT\tREASON\tKEY\tVALUE")
	for _, u := range found {
		total += u.Total
		kept += len(u.Records)
		for _, r := range u.Records {
			fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t%s\t%s\n", u.Partition, r.Offset, contract.AppendTime(nil, r.Timestamp), r.Outcome,
				bare(r.Reason), quoted(r.Key, r.KeySize), quoted(r.Value, r.ValueSize))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "skipped in all: %d; kept and shown: %d\n", total, kept)
	return err
}

// shownBytes is how much of a key or value the table shows.
const shownBytes = 48

// quoted shows the beginning of bytes, of which there were size in all.
func quoted(b []byte, size int) string {
	if b == nil {
		return "null"
	}
	cut := ""
	if len(b) > shownBytes {
		b = b[:shownBytes]
	}
	if len(b) < size {
		cut = fmt.Sprintf("… (%d bytes)", size)
	}
	return strconv.QuoteToASCII(string(b)) + cut
}

// bare is text that may quote what a record says, in ASCII.
func bare(s string) string { return strings.Trim(strconv.QuoteToASCII(s), `"`) }

// projectorClient asks a projector on its internal port.
type projectorClient struct {
	http     *http.Client
	base     string
	internal auth.Internal
	peer     auth.Peer
}

// maxInternalAnswer is more than a projector answers: 1000 records of 2 KiB in
// base64, and what is around them.
const maxInternalAnswer = 16 << 20

func (c *projectorClient) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return usage(fmt.Errorf("--projector must be like http://HOST:PORT: %w", err))
	}
	c.internal.Sign(r, c.peer, contract.Caller{})
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
		return fmt.Errorf("ask the projector: %s: %s", resp.Status, bare(string(body[:min(len(body), 1000)])))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("ask the projector: is %s its internal port? %w", c.base, err)
	}
	return nil
}
