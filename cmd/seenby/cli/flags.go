package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/seenby/seenby/events/topic"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/server"
)

// kafkaFlags say where the topic is.
type kafkaFlags struct {
	Brokers     []string `help:"Some of Kafka's brokers; the others are learnt from them." required:"" placeholder:"HOST:PORT"`
	brokerFlags `embed:""`
}

// connection returns what the flags say, or a usage error.
func (f kafkaFlags) connection() (topic.Connection, error) {
	return f.brokerFlags.connection(f.Brokers)
}

// brokerFlags say how brokers are talked to, and about what.
type brokerFlags struct {
	Topic      string `help:"The topic of the events." default:"seenby-events"`
	ClientID   string `help:"The name that the brokers' logs and quotas know this process by." default:"seenby" name:"client-id"`
	loginFlags `embed:""`
}

// loginFlags say how brokers are reached and logged in at.
type loginFlags struct {
	KafkaTLS         bool   `help:"Reach the brokers by TLS." name:"kafka-tls"`
	KafkaCAFile      string `help:"Certificates (PEM) that sign the brokers'; without, the system's." type:"path" placeholder:"FILE" name:"kafka-ca-file"`
	SASLMechanism    string `help:"How to log in at the brokers: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN; without, not at all." placeholder:"NAME" name:"sasl-mechanism"`
	SASLUser         string `help:"Whom to log in as." placeholder:"NAME" name:"sasl-user"`
	SASLPasswordFile string `help:"The file that holds the password. It is read at each login." type:"path" placeholder:"FILE" name:"sasl-password-file"`
}

// connection returns what the flags say of these brokers, or a usage error.
func (f brokerFlags) connection(brokers []string) (topic.Connection, error) {
	c := topic.Connection{
		Brokers: brokers, Topic: f.Topic, ClientID: f.ClientID, TLS: f.KafkaTLS, CAFile: f.KafkaCAFile,
		SASLMechanism: f.SASLMechanism, SASLUser: f.SASLUser, SASLPasswordFile: f.SASLPasswordFile,
	}
	err := c.Validate()
	for mistake, flag := range map[error]string{
		topic.ErrBrokers: "--brokers", topic.ErrTopicName: "--topic", topic.ErrCAFile: "--kafka-ca-file",
		topic.ErrSASLMechanism: "--sasl-mechanism", topic.ErrSASLUser: "--sasl-user", topic.ErrSASLPassword: "--sasl-password-file",
	} {
		if errors.Is(err, mistake) {
			err = fmt.Errorf("%s: %w", flag, err)
		}
	}
	return c, usage(err)
}

// agreedFlags are what all processes of a topic have to agree on.
type agreedFlags struct {
	Generation uint32        `help:"Raised after the log lost records; the same for ingest and all projectors." default:"1"`
	Retention  time.Duration `help:"How long after it was sent a message expires; the same for ingest and all projectors." default:"720h"`
}

// serverFlags are those of whatever serves HTTP.
type serverFlags struct {
	TLSCert        string        `help:"The server's certificate (PEM). It is read again when it changes." type:"path" placeholder:"FILE" name:"tls-cert"`
	TLSKey         string        `help:"Its key." type:"path" placeholder:"FILE" name:"tls-key"`
	RequestTimeout time.Duration `help:"How long a request may take." default:"10s"`
	MaxInFlight    int           `help:"How many requests may be in flight; more are answered overloaded." default:"4096"`
	DrainDelay     time.Duration `help:"At the end, how long requests are accepted after /readyz began to fail." default:"0s"`
	ShutdownGrace  time.Duration `help:"At the end, how long requests in flight have to end." default:"15s"`
}

// into sets what the flags say.
func (f serverFlags) into(c *server.Config) {
	c.CertFile, c.KeyFile = f.TLSCert, f.TLSKey
	c.RequestTimeout, c.MaxInFlight = f.RequestTimeout, f.MaxInFlight
	c.DrainDelay, c.ShutdownGrace = f.DrainDelay, f.ShutdownGrace
}

// within returns a usage error if what a flag allows a request to wait for does
// not end before the request does: the time-out would be told instead of what was
// waited for.
func (f serverFlags) within(flag string, wait time.Duration) error {
	if limit := cmp.Or(f.RequestTimeout, server.DefaultRequestTimeout); wait >= limit {
		return usage(fmt.Errorf("%s must be less than --request-timeout (%v), not %v", flag, limit, wait))
	}
	return nil
}

// userFlags bound what users may ask of a public process.
type userFlags struct {
	UserRate    float64  `help:"How many requests a second each user may send to this process; 0 for any number. Backends are not limited." default:"50"`
	UserBurst   int      `help:"How many of them at once; 0 for two seconds' worth." default:"0"`
	CORSOrigins []string `help:"Origins of pages that may ask, such as https://chat.example; * for any." placeholder:"ORIGIN" name:"cors-origins"`
}

// into sets what the flags say.
func (f userFlags) into(c *server.Config) {
	c.UserRate, c.UserBurst, c.Origins = f.UserRate, f.UserBurst, f.CORSOrigins
}

// authFlags say which bearer tokens are good.
type authFlags struct {
	AuthKeyFile string `help:"Keys of bearer tokens by HS256: base64url, each of 32 bytes or more, one a line; all verify. It is read again when it changes. This or a key set is required; with both, either will do." type:"path" placeholder:"FILE"`
	JWKSFile    string `help:"A JSON Web Key Set of tokens by RS256, ES256 or EdDSA. It is read again when it changes." type:"path" placeholder:"FILE" name:"jwks-file" xor:"jwks"`
	JWKSURL     string `help:"Where such a key set is: https, or http on loopback. It is fetched every 5 minutes, and when a token names a key that is not in it, but not more often than every 10 seconds." placeholder:"URL" name:"jwks-url" xor:"jwks"`
	Issuer      string `help:"What a token's iss must be; without, it is not checked." placeholder:"NAME"`
	Audience    string `help:"What a token's aud must have; without, it is not checked." placeholder:"NAME"`
}

// openKeys reads a file of keys that a flag names.
func openKeys(flag, file string) (*auth.Keys, error) {
	keys, err := auth.OpenKeys(file)
	if err != nil {
		return nil, usage(fmt.Errorf("%s: %w", flag, err))
	}
	return keys, nil
}

// size is a number of bytes, written like 64MiB, 1.5GB or 1048576.
type size int64

// UnmarshalText parses a size.
func (s *size) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n > 1<<62 {
		return fmt.Errorf("must be a size such as 64MiB, not %q", text)
	}
	*s = size(n)
	return nil
}

// skip is a record to pass over.
type skip projections.Skip

// UnmarshalText parses PARTITION@OFFSET.
func (s *skip) UnmarshalText(text []byte) error {
	partition, offset, _ := strings.Cut(string(text), "@")
	p, err1 := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if err1 != nil || err2 != nil || p < 0 || o < 0 {
		return fmt.Errorf("must be PARTITION@OFFSET, such as 7@123456, not %q", text)
	}
	*s = skip{Partition: int32(p), Offset: o}
	return nil
}
