package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificateInterval is how often the files of a certificate are looked at.
// Certificates are renewed days before they expire.
const certificateInterval = 10 * time.Second

// certificate is the server's, as its files last had it in good form.
type certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[certificatePair]
}

// certificatePair is one state of the files. It is immutable.
type certificatePair struct {
	cert, key []byte
	parsed    tls.Certificate
}

func openCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the files, and reports whether they changed. On an error the
// certificate stays as it was; files that do not match, as one of them was
// written and the other not yet, are such an error.
func (c *certificate) reload() (changed bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("--tls-cert: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("--tls-key: %w", err)
	}
	if p := c.current.Load(); p != nil && bytes.Equal(cert, p.cert) && bytes.Equal(key, p.key) {
		return false, nil
	}
	parsed, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("--tls-cert %s and --tls-key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&certificatePair{cert: cert, key: key, parsed: parsed})
	return true, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.current.Load().parsed, nil
}

// watch takes over changes until ctx ends. What cannot be used is logged once.
func (c *certificate) watch(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(certificateInterval)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := c.reload()
		switch {
		case err == nil && changed:
			log.Info("certificate reloaded", "file", c.certFile)
			said = ""
		case err == nil:
			said = ""
		case err.Error() != said:
			log.Error("the old certificate stays in use", "err", err)
			said = err.Error()
		}
	}
}
