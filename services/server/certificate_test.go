package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// writeCertificate writes a new self-signed pair for 127.0.0.1 with this serial
// number.
func writeCertificate(t *testing.T, dir string, serial int64) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "127.0.0.1"}, DNSNames: []string{"node"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func (c *certificate) serial(t *testing.T) int64 {
	t.Helper()
	pair, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed.SerialNumber.Int64()
}

func TestCertificateReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c, err := openCertificate(writeCertificate(t, dir, 1))
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			c.watch(ctx, slog.New(slog.NewTextHandler(&log, nil)))
			close(done)
		}()
		looks := func() {
			time.Sleep(3*certificateInterval + 1)
			synctest.Wait()
		}
		// Half of a new pair is not used, and told once.
		key, err := os.ReadFile(c.keyFile)
		if err != nil {
			t.Fatal(err)
		}
		writeCertificate(t, dir, 2)
		newKey, err := os.ReadFile(c.keyFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.keyFile, key, 0o600); err != nil {
			t.Fatal(err)
		}
		looks()
		if c.serial(t) != 1 || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "--tls-key") {
			t.Errorf("serial %d, log: %s", c.serial(t), log.String())
		}
		if err := os.WriteFile(c.keyFile, newKey, 0o600); err != nil {
			t.Fatal(err)
		}
		looks()
		if c.serial(t) != 2 || !strings.Contains(log.String(), "certificate reloaded") {
			t.Errorf("serial %d, log: %s", c.serial(t), log.String())
		}
		cancel()
		<-done
	})
}

func TestCertificateThatCannotBeUsed(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	_, otherKey := writeCertificate(t, t.TempDir(), 1)
	for _, files := range [][2]string{{certFile, otherKey}, {certFile, certFile}, {certFile + "x", keyFile}, {certFile, keyFile + "x"}} {
		if _, err := openCertificate(files[0], files[1]); err == nil || !strings.Contains(err.Error(), "--tls-") {
			t.Errorf("%v: got %v", files, err)
		}
	}
}

// With a certificate there is HTTP/2; and who speaks no TLS gets nothing.
func TestTLS(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	s, err := New(Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Ready: func() error { return nil }, CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "node"}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	answer, err := client.Get("https://" + s.Addr().String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 || answer.ProtoMajor != 2 {
		t.Errorf("got %s %s", answer.Proto, answer.Status)
	}
	if answer, err := client.Get("http://" + s.Addr().String() + "/livez"); err == nil {
		answer.Body.Close()
		if answer.StatusCode == 200 {
			t.Error("it is served without TLS too")
		}
	}
	transport.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
