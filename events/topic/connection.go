package topic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// What [Connection.Validate] returns wraps one of these.
var (
	ErrBrokers       = errors.New("brokers: one or more of host:port are needed")
	ErrTopicName     = errors.New("topic: a name of 1-249 of A-Z a-z 0-9 . _ -, and not just one dot or two")
	ErrCAFile        = errors.New("CA file: a readable file of PEM certificates, and only with TLS")
	ErrSASLMechanism = errors.New("SASL mechanism: none, SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN")
	ErrSASLUser      = errors.New("SASL user: needed with a SASL mechanism, and only then")
	ErrSASLPassword  = errors.New("SASL password file: a readable file that is not empty, with a SASL mechanism and only then")
)

// The SASL mechanisms of [Connection].
const (
	SCRAM256 = "SCRAM-SHA-256"
	SCRAM512 = "SCRAM-SHA-512"
	Plain    = "PLAIN"
)

// Connection says how to reach the topic.
type Connection struct {
	// Brokers are host:port of some brokers; the others are learnt from them.
	Brokers []string
	Topic   string
	// ClientID is the name that the brokers' logs and quotas know us by;
	// "seenby" if empty.
	ClientID string
	// TLS turns TLS on, with the system's roots, or those in CAFile if given.
	TLS    bool
	CAFile string
	// SASLMechanism is empty for none. The password is the file's content
	// without its trailing newline; it is read again for every authentication,
	// so that it can change without a restart.
	SASLMechanism    string
	SASLUser         string
	SASLPasswordFile string
	// Options are added last; for embedding (such as a dialer in memory).
	Options []kgo.Opt
}

// Validate returns nil, or an error that names the field that is wrong and says
// what it should be. It reads CAFile and SASLPasswordFile.
func (c Connection) Validate() error {
	if len(c.Brokers) == 0 {
		return ErrBrokers
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		if n, perr := strconv.Atoi(port); err != nil || host == "" || perr != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%w: not %q", ErrBrokers, b)
		}
	}
	if !validTopicName(c.Topic) {
		return fmt.Errorf("%w: not %q", ErrTopicName, c.Topic)
	}
	if _, err := c.tlsConfig(); err != nil {
		return err
	}
	_, err := c.sasl()
	return err
}

func validTopicName(s string) bool {
	legal := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	return s != "" && len(s) <= 249 && s != "." && s != ".." && strings.IndexFunc(s, func(r rune) bool { return !legal(r) }) < 0
}

// tlsConfig returns nil without TLS.
func (c Connection) tlsConfig() (*tls.Config, error) {
	if !c.TLS {
		if c.CAFile != "" {
			return nil, fmt.Errorf("%w: TLS is off", ErrCAFile)
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCAFile, err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s has no certificate", ErrCAFile, c.CAFile)
	}
	return config, nil
}

// sasl returns nil without SASL.
func (c Connection) sasl() (sasl.Mechanism, error) {
	if c.SASLMechanism == "" {
		if c.SASLUser != "" {
			return nil, fmt.Errorf("%w: there is no mechanism", ErrSASLUser)
		}
		if c.SASLPasswordFile != "" {
			return nil, fmt.Errorf("%w: there is no mechanism", ErrSASLPassword)
		}
		return nil, nil
	}
	var mechanism sasl.Mechanism
	switch c.SASLMechanism {
	case SCRAM256:
		mechanism = scram.Sha256(c.scramAuth)
	case SCRAM512:
		mechanism = scram.Sha512(c.scramAuth)
	case Plain:
		mechanism = plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := c.password()
			return plain.Auth{User: c.SASLUser, Pass: pass}, err
		})
	default:
		return nil, fmt.Errorf("%w: not %q", ErrSASLMechanism, c.SASLMechanism)
	}
	if c.SASLUser == "" {
		return nil, ErrSASLUser
	}
	_, err := c.password()
	return mechanism, err
}

func (c Connection) scramAuth(context.Context) (scram.Auth, error) {
	pass, err := c.password()
	return scram.Auth{User: c.SASLUser, Pass: pass}, err
}

func (c Connection) password() (string, error) {
	b, err := os.ReadFile(c.SASLPasswordFile)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSASLPassword, err)
	}
	pass := strings.TrimRight(string(b), "\r\n")
	if pass == "" {
		return "", fmt.Errorf("%w: %s is empty", ErrSASLPassword, c.SASLPasswordFile)
	}
	return pass, nil
}

// client returns a client that has not connected to anything yet.
func (c Connection) client(more ...kgo.Opt) (*kgo.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	id := c.ClientID
	if id == "" {
		id = "seenby"
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(id),
		kgo.MinVersions(minVersions()),
		// franz-go's defaults wait longer than a pull's patience: 5 s between
		// two looks at the metadata, and back-off up to 5 s.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.RetryBackoffFn(backoff),
		kgo.DialTimeout(5 * time.Second),
		kgo.RequestTimeoutOverhead(5 * time.Second),
	}
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	if config != nil {
		opts = append(opts, kgo.DialTLSConfig(config))
	}
	mechanism, err := c.sasl()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	opts = append(opts, more...)
	cl, err := kgo.NewClient(append(opts, c.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("setting up the Kafka client: %w", err)
	}
	return cl, nil
}

// minVersions has the requests fail, rather than be sent with less meaning, on
// brokers that do not know what we rely on.
func minVersions() *kversion.Versions {
	v := new(kversion.Versions)
	v.SetMaxKeyVersion(kmsg.Fetch.Int16(), 13)               // by topic ID, so never from a recreated topic
	v.SetMaxKeyVersion(kmsg.ListOffsets.Int16(), 5)          // OFFSET_NOT_AVAILABLE right after an election
	v.SetMaxKeyVersion(kmsg.OffsetForLeaderEpoch.Int16(), 2) // fenced by the current leader epoch
	v.SetMaxKeyVersion(kmsg.Metadata.Int16(), 10)            // topic IDs
	return v
}

// backoff is how long to wait after so many failures in a row: 50 ms to 1 s,
// give or take a fifth.
func backoff(failures int) time.Duration {
	d := time.Second
	if failures < 5 {
		d = min(d, 50*time.Millisecond<<max(failures, 0))
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// pause waits, and returns false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
