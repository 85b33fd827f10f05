package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/projections/badgerstore"
	"github.com/seenby/seenby/projections/materialize"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// inspectCommand shows what a projector holds.
type inspectCommand struct {
	Message     inspectMessageCommand   `cmd:"" help:"Show all that is kept of a message."`
	Partition   inspectPartitionCommand `cmd:"" help:"Show how a partition is, and what it holds."`
	Undecodable undecodableCommand      `cmd:"" help:"Show the records that were skipped because they are no events, or lie in the wrong partition."`
}

// fromFlags say whom an inspection asks: a running projector, or the store of one
// that does not run.
type fromFlags struct {
	Projector string        `help:"The internal address of the projector that owns the partition." xor:"from" placeholder:"URL"`
	Data      string        `help:"The data directory of a projector that does not run (of a standalone: DIR/state)." xor:"from" type:"path" placeholder:"DIR"`
	Timeout   time.Duration `help:"How long the projector may take." default:"10s"`

	internalFlags `embed:""`
}

// internalFlags are what asking a projector takes.
type internalFlags struct {
	InternalSecretFile string `help:"With --projector: the secret that query and projectors share." type:"path" placeholder:"FILE"`
	InternalCAFile     string `help:"With --projector: certificates (PEM) that sign the projector's; without, the system's." type:"path" placeholder:"FILE" name:"internal-ca-file"`
}

// clients returns clients of projectors, or a usage error.
func (f internalFlags) clients(io IO, flag string, addresses ...string) (all []*protocol.Client, err error) {
	if f.InternalSecretFile == "" {
		return nil, usage(errors.New("--internal-secret-file must name the secret that query and projectors share"))
	}
	keys, err := openKeys("--internal-secret-file", f.InternalSecretFile)
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	if f.InternalCAFile != "" {
		pem, err := os.ReadFile(f.InternalCAFile)
		if err != nil {
			return nil, usage(fmt.Errorf("--internal-ca-file: %w", err))
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, usage(fmt.Errorf("--internal-ca-file: %s holds no certificate in PEM", f.InternalCAFile))
		}
	}
	for _, address := range addresses {
		client, err := protocol.NewClient(address, auth.Internal{Keys: keys, Now: io.Now}, roots)
		if err != nil {
			return nil, usage(fmt.Errorf("%s %w", flag, err))
		}
		all = append(all, client)
	}
	return all, nil
}

// inspect asks the running projector, or looks into the store.
func (f fromFlags) inspect(ctx context.Context, io IO, log logFlags, ask func(context.Context, *protocol.Client, protocol.Status) error, look func(*badgerstore.Offline) error) error {
	switch {
	case f.Projector != "":
		clients, err := f.clients(io, "--projector", f.Projector)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, f.Timeout)
		defer cancel()
		status, err := clients[0].Status(ctx)
		if err != nil {
			return err
		}
		return ask(ctx, clients[0], status)
	case f.Data != "":
		store, err := badgerstore.OpenOffline(f.Data, log.logger(io))
		if err != nil {
			return err
		}
		return errors.Join(look(store), store.Close())
	}
	return usage(errors.New("--projector or --data: name a running projector, or the directory of one that does not run"))
}

// undecodableCommand shows skipped records.
type undecodableCommand struct {
	Partition *int32 `help:"Of this partition alone; without, of all that the projector owns." placeholder:"N"`
	JSON      bool   `help:"Print JSON, keys and values in base64, one partition a line." name:"json"`

	fromFlags `embed:""`
}

// Run prints the records.
func (c *undecodableCommand) Run(ctx context.Context, io IO, log logFlags) error {
	var found []protocol.Undecodable
	err := c.inspect(ctx, io, log, func(ctx context.Context, client *protocol.Client, status protocol.Status) error {
		for _, owned := range status.Owned {
			if c.Partition != nil && *c.Partition != owned.Partition {
				continue
			}
			var u protocol.Undecodable
			if err := client.Get(ctx, protocol.UndecodablePath, protocol.Of(owned.Partition), &u); err != nil {
				return err
			}
			found = append(found, u)
		}
		return nil
	}, func(store *badgerstore.Offline) (err error) {
		found, err = undecodableIn(store)
		return err
	})
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

// undecodableIn reads the store of a projector that does not run.
func undecodableIn(store *badgerstore.Offline) (found []protocol.Undecodable, err error) {
	for _, p := range store.Partitions() {
		err := store.View(p, func(r badgerstore.Reader) error {
			saved, committed, err := r.Restore()
			if err != nil || !committed {
				return err
			}
			kept, err := r.Undecodable()
			found = append(found, undecodable(p, saved.Undecodable, kept))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func undecodable(partition int32, total int64, kept []materialize.Undecodable) protocol.Undecodable {
	u := protocol.Undecodable{Partition: partition, Total: total}
	for _, r := range kept {
		u.Records = append(u.Records, protocol.UndecodableRecord{
			Offset: r.Offset, Timestamp: r.Timestamp, Outcome: r.Outcome.String(), Reason: r.Reason,
			Key: r.Key, Value: r.Value, KeySize: r.KeySize, ValueSize: r.ValueSize,
		})
	}
	return u
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
