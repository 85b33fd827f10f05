package topic

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, ca := selfSigned(t)
	caFile, password, empty, missing := file("ca", ca), file("password", "secret\n"), file("empty", "\n"), filepath.Join(dir, "missing")
	for name, test := range map[string]struct {
		change func(*Connection)
		want   error
	}{
		"good":                     {func(*Connection) {}, nil},
		"two brokers":              {func(c *Connection) { c.Brokers = []string{"a:1", "[::1]:65535"} }, nil},
		"no brokers":               {func(c *Connection) { c.Brokers = nil }, ErrBrokers},
		"an empty broker":          {func(c *Connection) { c.Brokers = []string{"a:1", ""} }, ErrBrokers},
		"a broker without port":    {func(c *Connection) { c.Brokers = []string{"a"} }, ErrBrokers},
		"a broker without host":    {func(c *Connection) { c.Brokers = []string{":9092"} }, ErrBrokers},
		"a port too high":          {func(c *Connection) { c.Brokers = []string{"a:65536"} }, ErrBrokers},
		"a port by name":           {func(c *Connection) { c.Brokers = []string{"a:kafka"} }, ErrBrokers},
		"no topic":                 {func(c *Connection) { c.Topic = "" }, ErrTopicName},
		"a topic with a space":     {func(c *Connection) { c.Topic = "a b" }, ErrTopicName},
		"the topic ..":             {func(c *Connection) { c.Topic = ".." }, ErrTopicName},
		"a long topic":             {func(c *Connection) { c.Topic = strings.Repeat("a", 250) }, ErrTopicName},
		"a topic of all kinds":     {func(c *Connection) { c.Topic = "A.b_c-9" }, nil},
		"TLS":                      {func(c *Connection) { c.TLS = true }, nil},
		"TLS with a CA":            {func(c *Connection) { c.TLS, c.CAFile = true, caFile }, nil},
		"a CA without TLS":         {func(c *Connection) { c.CAFile = caFile }, ErrCAFile},
		"a missing CA":             {func(c *Connection) { c.TLS, c.CAFile = true, missing }, ErrCAFile},
		"a CA of no certificate":   {func(c *Connection) { c.TLS, c.CAFile = true, password }, ErrCAFile},
		"SCRAM-SHA-512":            {func(c *Connection) { c.SASLMechanism, c.SASLUser, c.SASLPasswordFile = SCRAM512, "u", password }, nil},
		"SCRAM-SHA-256":            {func(c *Connection) { c.SASLMechanism, c.SASLUser, c.SASLPasswordFile = SCRAM256, "u", password }, nil},
		"PLAIN":                    {func(c *Connection) { c.SASLMechanism, c.SASLUser, c.SASLPasswordFile = Plain, "u", password }, nil},
		"another mechanism":        {func(c *Connection) { c.SASLMechanism, c.SASLUser, c.SASLPasswordFile = "scram", "u", password }, ErrSASLMechanism},
		"a mechanism, no user":     {func(c *Connection) { c.SASLMechanism, c.SASLPasswordFile = Plain, password }, ErrSASLUser},
		"a mechanism, no password": {func(c *Connection) { c.SASLMechanism, c.SASLUser = Plain, "u" }, ErrSASLPassword},
		"a missing password":       {func(c *Connection) { c.SASLMechanism, c.SASLUser, c.SASLPasswordFile = Plain, "u", missing }, ErrSASLPassword},
		"an empty password":        {func(c *Connection) { c.SASLMechanism, c.SASLUser, c.SASLPasswordFile = Plain, "u", empty }, ErrSASLPassword},
		"a user, no mechanism":     {func(c *Connection) { c.SASLUser = "u" }, ErrSASLUser},
		"a password, no mechanism": {func(c *Connection) { c.SASLPasswordFile = password }, ErrSASLPassword},
	} {
		t.Run(name, func(t *testing.T) {
			c := Connection{Brokers: []string{"127.0.0.1:9092"}, Topic: "seenby"}
			test.change(&c)
			if err := c.Validate(); !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Errorf("want %v, got %v", test.want, err)
			}
		})
	}
}

// TLS with one's own CA, and each mechanism with a password that is read anew
// for every connection.
func TestSecureConnection(t *testing.T) {
	certificate, ca := selfSigned(t)
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(7, "seenby"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}),
		kfake.EnableSASL(), kfake.Superuser(Plain, "p", "secret"), kfake.Superuser(SCRAM256, "s256", "secret"), kfake.Superuser(SCRAM512, "s512", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	dir := t.TempDir()
	caFile, password := filepath.Join(dir, "ca"), filepath.Join(dir, "password")
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(caFile, ca)
	for user, mechanism := range map[string]string{"p": Plain, "s256": SCRAM256, "s512": SCRAM512} {
		t.Run(mechanism, func(t *testing.T) {
			conn := Connection{Brokers: fake.ListenAddrs(), Topic: "seenby", TLS: true, CAFile: caFile, SASLMechanism: mechanism, SASLUser: user, SASLPasswordFile: password}
			write(password, "wrong")
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if _, err := Identify(ctx, conn); err == nil {
				t.Error("a wrong password will do")
			}
			write(password, "secret\n")
			if id := identityOf(t, conn); id.Partitions != 7 {
				t.Errorf("%+v", id)
			}
		})
	}
	t.Run("system roots", func(t *testing.T) {
		write(password, "secret")
		conn := Connection{Brokers: fake.ListenAddrs(), Topic: "seenby", TLS: true, SASLMechanism: Plain, SASLUser: "p", SASLPasswordFile: password}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if _, err := Identify(ctx, conn); err == nil {
			t.Error("a certificate of an unknown authority will do")
		}
	})
}

// selfSigned returns a certificate for 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
