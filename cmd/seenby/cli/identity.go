package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/standalone"
)

// identityFlags say as whom a command asks the server: with a token from a file,
// or with one of its own making, where it has the key.
type identityFlags struct {
	TokenFile   string `help:"The file of a bearer token. It is read again when the server refuses the token." xor:"token" type:"path" placeholder:"FILE"`
	Data        string `help:"Make tokens with the key of the standalone in this directory." xor:"token" type:"path" placeholder:"DIR"`
	AuthKeyFile string `help:"Make tokens with the first key of this file." xor:"token" type:"path" placeholder:"FILE"`
	Subject     string `help:"With --data or --auth-key-file: whom to ask as; the message's sender may see its receipts." placeholder:"ID"`
}

// tokenSource returns the next token; refused is the one that the server has just
// refused, if it has.
type tokenSource func(ctx context.Context, refused string) (string, error)

// source returns where tokens come from, or a usage error.
func (f identityFlags) source(now func() time.Time) (tokenSource, error) {
	file := f.AuthKeyFile
	switch {
	case f.TokenFile != "":
		return fromFile(f.TokenFile), nil
	case f.Data != "":
		file = standalone.AuthKey(f.Data)
	case file == "":
		return nil, usage(errors.New("--token-file, --data or --auth-key-file: name a token, the directory of a standalone, or a file of keys"))
	}
	if f.Subject == "" {
		return nil, usage(errors.New("--subject must say whom to ask as"))
	}
	keys, err := auth.OpenKeys(file)
	if err != nil {
		return nil, usage(err)
	}
	return minted(keys, f.Subject, now), nil
}

// fromFile reads the token from a file, each time anew: others may renew it.
func fromFile(name string) tokenSource {
	return func(context.Context, string) (string, error) {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// mintedFor is how long a token of our own making is valid: longer than a look.
const mintedFor = 5 * time.Minute

// minted makes a token, and another one before it expires or when it is refused.
// One goroutine at a time may ask.
func minted(keys *auth.Keys, subject string, now func() time.Time) tokenSource {
	var token string
	var until time.Time
	return func(_ context.Context, refused string) (string, error) {
		if refused == "" && now().Before(until) {
			return token, nil
		}
		made, err := auth.Mint(keys, auth.Grant{Subject: subject, IssuedAt: now(), TTL: mintedFor})
		if err != nil {
			return "", err
		}
		token, until = made, now().Add(mintedFor-time.Minute)
		return token, nil
	}
}
